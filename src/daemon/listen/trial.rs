//! Checks whether a listener could be opened, without opening it.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use super::Error;
use crate::{
    base::{
        access,
        fault::Failure,
        rights::{group_id, may_give},
    },
    config::Listener,
    git::transport::{self, Unusable},
};

/// Why a daemon of this user could not open `listener`.
pub fn unusable(listener: &Listener) -> Vec<Unusable> {
    match listener {
        Listener::Unix { path, group, .. } => unusable_unix(path.as_path(), group.as_deref()),
        Listener::Tcp { token_file, .. } => {
            let file = token_file.as_ref();
            let found = file.and_then(|file| transport::unusable_secret("token_file", file));
            found.into_iter().collect()
        }
    }
}

/// Why a process of this user could not make a Unix socket at `path` that belongs to `group`.
pub fn unusable_unix(path: &Path, group: Option<&str>) -> Vec<Unusable> {
    let place = place(path).err().map(|err| ("path", err));
    let group = group.and_then(|group| give(path, group).err());
    let found = place.into_iter().chain(group.map(|err| ("group", err)));
    found.map(|(field, err)| (field, Failure::of(&err))).collect()
}

/// The service manager makes directories in these when it starts the daemon, so they may be missing now.
const RUN: [&str; 2] = ["/run", "/var/run"];

/// Check that a socket could be made at `path`. One that exists in a directory that cannot be written was made by systemd.
fn place(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Bind {
        addr: path.display().to_string(),
        source,
    };
    let is_there = match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => return Err(Error::NotASocket { path: path.into() }),
        meta => meta.is_ok(),
    };
    let dir = path.parent().unwrap_or(path);
    match access::fill(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound && RUN.iter().any(|run| dir.starts_with(run)) => {
            Ok(())
        }
        Err(err) if !is_there => Err(failed(err)),
        _ => Ok(()),
    }
}

/// Check that the socket at `path` could be given to `group`.
fn give(path: &Path, group: &str) -> Result<(), Error> {
    let gid = group_id(group).ok_or_else(|| Error::Group {
        path: path.into(),
        group: group.into(),
    })?;
    let meta = fs::symlink_metadata(path).ok();
    let dir = path.parent().unwrap_or(path);
    // It belongs to the group already, or systemd has made it and sets its group.
    let is_settled = meta.is_some_and(|meta| meta.gid() == gid || access::fill(dir).is_err());
    if may_give(gid) || is_settled {
        return Ok(());
    }
    Err(Error::Permissions {
        what: "the group",
        path: path.into(),
        source: rustix::io::Errno::PERM.into(),
    })
}
