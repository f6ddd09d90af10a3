//! The group that a trigger's new files get.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::{fs::Gid, process::geteuid};

use crate::{
    base::{
        fault::{Blame, Kind},
        rights::{Rights, group_id, group_name, may_give, own_name},
        words::typed,
    },
    config::Site,
};

/// Files cannot be given the group.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// There is no such group.
    #[error("the trigger's `group` is {group:?}, and /etc/group has no such name")]
    #[diagnostic(help("name a group that is there, or its number"))]
    Unknown { group: String },
    /// It is not one of this process's.
    #[error(
        "files cannot be given to the trigger's `group` {group:?}: {user}, as which gitsocket runs, is not in it"
    )]
    #[diagnostic(help("{remedy}"))]
    NotIn {
        /// Its name or number.
        group: String,
        /// The user that gitsocket runs as.
        user: String,
        remedy: String,
    },
    /// The target's directory could not be given to the group.
    #[error("{path} cannot be given to the trigger's `group` {group:?}: {source}")]
    #[diagnostic(help("as root, type: {}", typed(["chgrp".into(), group.into(), path.into()])))]
    Root {
        path: String,
        group: String,
        source: io::Error,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        Kind::Path
    }
}

/// The group and mode of new files at `site`, in a process with `umask`. The group is looked up each time, since it may change.
pub fn rights(site: &Site, umask: u32) -> Result<Rights, Error> {
    let umask = site.umask.unwrap_or(umask);
    let Some(group) = &site.group else {
        return Ok(Rights::of(umask));
    };
    let gid = group_id(group).ok_or_else(|| Error::Unknown { group: group.clone() })?;
    // Below a directory with the setgid bit, the kernel gives new files its group.
    let hands_down =
        |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.gid() == gid && meta.mode() & 0o2000 != 0);
    if may_give(gid) || hands_down(site.root().as_path()) {
        Ok(Rights {
            umask,
            group: Some(gid),
        })
    } else {
        Err(Error::NotIn {
            group: group.clone(),
            user: own_name(),
            remedy: remedy(gid, group_name(gid), &own_name()),
        })
    }
}

/// The help that gets `user` into the group `gid`. usermod(8) knows only users and groups that have a name.
fn remedy(gid: u32, name: Option<String>, user: &str) -> String {
    if user.parse::<u32>().is_ok() {
        return format!(
            "start gitsocket with the group {gid}: by SupplementaryGroups= of systemd or --group-add of a container; the user {user} \
             has no name in /etc/passwd that could be added to a group"
        );
    }
    let line = |words: &[&str]| typed(words.iter().map(|word| (*word).to_owned()));
    let (made, group) = match name {
        Some(name) => (String::new(), name),
        None => {
            let name = format!("group{gid}");
            let made = line(&["groupadd", "-g", &gid.to_string(), &name]);
            (format!("{made}; "), name)
        }
    };
    let added = line(&["usermod", "-aG", &group, user]);
    format!("as root, type: {made}{added}; and start gitsocket again")
}

/// Before the first deploy to `site`, give its directory to the group, if the directory is ours: it counts as new.
pub fn take(site: &Site, rights: Rights) -> Result<(), Error> {
    let (Some(group), Some(gid)) = (&site.group, rights.group) else {
        return Ok(());
    };
    let path = site.root().as_path();
    let taken = fs::metadata(path).and_then(|meta| {
        let is_others = meta.gid() != gid && meta.uid() == geteuid().as_raw();
        if is_others {
            Ok(rustix::fs::chown(path, None, Some(Gid::from_raw(gid)))?)
        } else {
            Ok(())
        }
    });
    taken.map_err(|source| Error::Root {
        path: path.display().to_string(),
        group: group.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_typed_can_be_typed() {
        let named = remedy(7, Some("www".into()), "deploy");
        assert_eq!(
            named,
            "as root, type: usermod -aG www deploy; and start gitsocket again"
        );
        let nameless = remedy(4242, None, "deploy");
        assert_eq!(
            nameless,
            "as root, type: groupadd -g 4242 group4242; usermod -aG group4242 deploy; and start gitsocket again"
        );
        assert!(remedy(7, Some("www".into()), "54321").starts_with("start gitsocket with the group 7: "));
    }
}
