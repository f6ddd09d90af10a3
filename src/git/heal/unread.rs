//! What cannot be read is not damaged: it may be whole, and the only copy. Before anything changes, healing looks whether all
//! that it goes by can be read; an object directory that is borrowed from, and has gone, is known to it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::Error;
use crate::{
    base::{
        bounded,
        fault::{Kind, kind_of_io},
    },
    git::repository,
};

/// What healing goes by, in a git directory.
const NEEDED: [&str; 8] = [
    "HEAD",
    "config",
    "packed-refs",
    "shallow",
    "index",
    "refs",
    "logs",
    "objects",
];

/// Whether all of the repository at `git_dir` that healing goes by can be read, if it is there; also what it borrows.
pub(super) fn check(git_dir: &Path) -> Result<(), Error> {
    let own = NEEDED.map(|name| git_dir.join(name));
    let mut left: Vec<PathBuf> = own.into_iter().chain(repository::lenders(git_dir)).collect();
    while let Some(path) = left.pop() {
        match below(&path) {
            Ok(entries) => left.extend(entries),
            Err(err) if is_damage(&err) => {}
            Err(err) => return Err(unread(git_dir, &path, err)),
        }
    }
    Ok(())
}

/// What is below a directory; of a file, whether it can be opened.
fn below(path: &Path) -> io::Result<Vec<PathBuf>> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
    } else {
        if fs::metadata(path)?.is_dir() {
            fs::read_dir(path).map(|_| Vec::new())
        } else {
            bounded::open(path).map(|_| Vec::new())
        }
    }
}

/// Whether a file that gave `err` is damaged or not there, rather than out of reach for now.
pub(super) fn is_damage(err: &io::Error) -> bool {
    use io::ErrorKind as E;
    let is_out_of_reach = matches!(
        err.kind(),
        E::PermissionDenied | E::StaleNetworkFileHandle | E::NotConnected | E::HostUnreachable | E::TimedOut
    );
    !is_out_of_reach && kind_of_io(err) != Kind::Resources
}

/// What can be `read` of the file at `path`; `None` if that is damaged or not there.
pub(super) fn or_damaged<T>(git_dir: &Path, path: &Path, read: io::Result<T>) -> Result<Option<T>, Error> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(err) if is_damage(&err) => Ok(None),
        Err(err) => Err(unread(git_dir, path, err)),
    }
}

/// Whether the file at `path`, which could not be used, can be read at all.
pub(super) fn check_one(git_dir: &Path, path: &Path) -> Result<(), Error> {
    or_damaged(git_dir, path, bounded::open(path)).map(drop)
}

fn unread(git_dir: &Path, path: &Path, source: io::Error) -> Error {
    let us = rustix::process::geteuid().as_raw();
    let is_ours = || fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() == us);
    let help = match source.kind() {
        io::ErrorKind::PermissionDenied if path.starts_with(git_dir) && is_ours() => {
            format!("type: chmod -R u+rwX {}", git_dir.display())
        }
        io::ErrorKind::PermissionDenied => {
            "let the user that gitsocket runs as read it, see chmod and chgrp; the next run goes on".into()
        }
        _ if kind_of_io(&source) == Kind::Resources => {
            "raise the limit on open files: LimitNOFILE in a systemd unit, or ulimit -n; the next run goes on"
                .into()
        }
        _ => "once it can be read again, the next run goes on".into(),
    };
    Error::Unread {
        path: path.into(),
        source,
        help,
    }
}

/// The first of these object directories that is not there. What is to be mounted there may be empty until then.
pub(super) fn away(lenders: &[PathBuf]) -> Option<&Path> {
    let is_away = |dir: &Path| fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    lenders.iter().map(PathBuf::as_path).find(|dir| is_away(dir))
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_is_damage() {
        for (errno, is) in [
            (Errno::ACCESS, false),
            (Errno::PERM, false),
            (Errno::MFILE, false),
            (Errno::NFILE, false),
            (Errno::NOMEM, false),
            (Errno::STALE, false),
            (Errno::IO, true),
            (Errno::NOENT, true),
            (Errno::ISDIR, true),
        ] {
            assert_eq!(is_damage(&errno.into()), is, "{errno}");
        }
    }
}
