//! Why a run failed at its own repository: another user has been at work there, root most likely, and has left what this
//! process may not use.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{Error, error::is_denial};
use crate::{
    config::Target,
    git::{fetch, heal},
};

/// How many files and directories of a repository are looked at. This is after a failure, and one is enough.
const MAX_FILES: usize = 100_000;

/// `err`; if something that it needed belongs to another user, with that as its reason.
pub(super) fn blame(err: Error, target: &Target) -> Error {
    let us = rustix::process::geteuid().as_raw();
    if us == 0 || !may_be_denied(&err) {
        return err;
    }
    let git_dir = target.site.git_dir();
    let found = match &err {
        // That is the one; and what cannot be read for another reason is not a matter of ownership.
        Error::Heal(heal::Error::Unread { path, .. }) => foreign(path, us)
            .filter(|_| is_denial(&err))
            .filter(|(path, _)| path.starts_with(&git_dir)),
        _ => closed(&git_dir, us),
    };
    match found {
        Some((path, owner)) => Error::Owned {
            source: Box::new(err),
            path: path.display().to_string(),
            owner,
            us,
            git_dir: git_dir.display().to_string(),
        },
        None => err,
    }
}

/// gitoxide takes a pack that it may not read for one that is not there.
fn may_be_denied(err: &Error) -> bool {
    match err {
        Error::Refs(_) | Error::Heal(_) | Error::Repository(_) | Error::State(_) => true,
        Error::Fetch(err) => {
            matches!(err, fetch::Error::Unsound { .. } | fetch::Error::Store { .. }) || err.may_be_ours()
        }
        err => is_denial(err),
    }
}

/// `path`, if it is another user's than `us`, and who that is.
fn foreign(path: &Path, us: u32) -> Option<(PathBuf, u32)> {
    let owner = fs::symlink_metadata(path).ok()?.uid();
    (owner != us).then(|| (path.into(), owner))
}

/// What in the repository at `git_dir` another user has, and `us` may not use as git would, and who that is.
fn closed(git_dir: &Path, us: u32) -> Option<(PathBuf, u32)> {
    let mut dirs = vec![git_dir.to_owned()];
    let mut seen = 0;
    while let Some(path) = dirs.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        seen += 1;
        if seen > MAX_FILES {
            return None;
        }
        let wanted = if meta.is_dir() {
            Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK
        } else {
            Access::READ_OK
        };
        let is_closed = || accessat(CWD, &path, wanted, AtFlags::EACCESS).is_err();
        if meta.uid() != us && !meta.is_symlink() && is_closed() {
            return Some((path, meta.uid()));
        }
        if meta.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok);
            dirs.extend(entries.map(|entry| entry.path()));
        }
    }
    None
}
