//! What new files and directories get: permissions, and a group.
//!
//! The process has a umask of its own, so permissions are looked at once something is there, and put right if need be. A group
//! is given before that; where none is asked for, it is the kernel's choice, and costs nothing.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Gid, Mode, RenameFlags},
    io::Errno,
    process::{getegid, geteuid, getgroups},
};

use super::{
    bounded::{self, LIST},
    descent,
};

const GROUP: &str = "/etc/group";
const PASSWD: &str = "/etc/passwd";

/// What new files and directories get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Permission bits that new files and directories do not get.
    pub umask: u32,
    pub group: Option<u32>,
}

impl Rights {
    /// Rights without a group.
    pub fn of(umask: u32) -> Self {
        Self { umask, group: None }
    }

    pub fn dir(self) -> u32 {
        0o777 & !self.umask
    }

    pub fn file(self, is_executable: bool) -> u32 {
        let most = if is_executable { 0o777 } else { 0o666 };
        most & !self.umask
    }

    /// Whether the group `gid` is as good as the one that is asked for.
    pub fn has_group(self, gid: u32) -> bool {
        self.group.is_none_or(|group| group == gid)
    }

    pub fn give(self, fd: BorrowedFd<'_>) -> io::Result<()> {
        match self.group {
            None => Ok(()),
            Some(group) => Ok(rustix::fs::fchown(fd, None, Some(Gid::from_raw(group)))?),
        }
    }

    pub fn give_link(self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        let Some(group) = self.group else {
            return Ok(());
        };
        let group = Some(Gid::from_raw(group));
        Ok(rustix::fs::chownat(
            dir,
            name,
            None,
            group,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Let a directory of ours have what a new one gets. A set-group-id bit that it has from the one above stays.
    pub fn settle(self, dir: BorrowedFd<'_>) -> io::Result<()> {
        self.give(dir)?;
        let now = rustix::fs::fstat(dir)?.st_mode & 0o7777;
        let want = (now & 0o7000) | self.dir();
        if now == want {
            Ok(())
        } else {
            Ok(rustix::fs::fchmod(dir, Mode::from_raw_mode(want))?)
        }
    }

    /// Make the directory `name`; that it is there is an error. If it cannot get its group, it goes again.
    pub fn make_dir(self, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(self.dir()))?;
        let settled = descent::open_dir(parent, name).and_then(|fd| {
            self.settle(fd.as_fd())?;
            Ok(fd)
        });
        if settled.is_err() && self.group.is_some() {
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).ok();
        }
        settled
    }

    /// The same, where a kill must not leave a directory of another group, which no later run would look at: it is made with
    /// a `temporary` name, and renamed.
    pub fn make_dir_by<T: AsRef<[u8]>>(
        self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        temporary: impl FnOnce() -> T,
    ) -> io::Result<OwnedFd> {
        if self.group.is_none() {
            return self.make_dir(parent, name);
        }
        let temporary = temporary();
        let temporary = temporary.as_ref();
        let fd = self.make_dir(parent, temporary)?;
        let renamed = rustix::fs::renameat_with(parent, temporary, parent, name, RenameFlags::NOREPLACE);
        if renamed.is_err() {
            rustix::fs::unlinkat(parent, temporary, AtFlags::REMOVEDIR).ok();
        }
        match renamed {
            Ok(()) => Ok(fd),
            // This file system does not know it.
            Err(Errno::INVAL | Errno::NOSYS) => self.make_dir(parent, name),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The number of a group, from its number or from group(5). No name service is asked: a static binary has none.
pub fn group_id(group: &str) -> Option<u32> {
    group
        .parse()
        .ok()
        .or_else(|| field(GROUP, (0, group), 2)?.parse().ok())
}

/// The name of the group with the number `gid`, if /etc/group has one.
pub fn group_name(gid: u32) -> Option<String> {
    field(GROUP, (2, &gid.to_string()), 0)
}

/// Whether this process may give its files to the group `gid`, as far as that can be told without trying it.
pub fn may_give(gid: u32) -> bool {
    geteuid().is_root()
        || getegid().as_raw() == gid
        || getgroups().is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == gid))
}

/// What this process runs as: a name from passwd(5), or a number.
pub fn own_name() -> String {
    let uid = geteuid().as_raw().to_string();
    field(PASSWD, (2, &uid), 0).unwrap_or(uid)
}

/// The field `wanted` of the first line of `file` that has `known` in the field `by`.
fn field(file: &str, (by, known): (usize, &str), wanted: usize) -> Option<String> {
    let text = bounded::read(Path::new(file), LIST).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.get(by) == Some(&known))?;
    line.get(wanted).map(|field| (*field).to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    /// A group that this process may give, and that its files do not have by themselves; if there is one.
    fn another() -> Option<u32> {
        let own = getegid().as_raw();
        if geteuid().is_root() {
            Some(own + 4242)
        } else {
            getgroups()
                .ok()?
                .iter()
                .map(|gid| gid.as_raw())
                .find(|gid| *gid != own)
        }
    }

    #[test]
    fn a_directory_appears_with_its_group() {
        let dir = crate::machine::tempdir().unwrap();
        let parent = fs::File::open(dir.path()).unwrap();
        let rights = Rights {
            umask: 0o027,
            group: another(),
        };
        let names = || {
            let mut names: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        rights
            .make_dir_by(parent.as_fd(), b"by", || b"temporary")
            .unwrap();
        rights.make_dir(parent.as_fd(), b"plain").unwrap();
        for name in ["by", "plain"] {
            let meta = fs::metadata(dir.path().join(name)).unwrap();
            assert_eq!(meta.mode() & 0o7777, 0o750, "{name}");
            assert!(rights.has_group(meta.gid()), "{name}");
        }
        // One that is there stays, and nothing is left beside it.
        fs::write(dir.path().join("by/file"), "x").unwrap();
        for err in [
            rights
                .make_dir_by(parent.as_fd(), b"by", || b"temporary")
                .unwrap_err(),
            rights.make_dir(parent.as_fd(), b"by").unwrap_err(),
        ] {
            assert_eq!(err.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(names(), ["by", "plain"]);
        assert!(dir.path().join("by/file").exists());
    }

    #[test]
    fn groups_by_name_and_number() {
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("4242"), Some(4242));
        assert_eq!(group_id("no such group"), None);
        assert!(may_give(getegid().as_raw()));
        assert!(!own_name().is_empty());
    }
}
