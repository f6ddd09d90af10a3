//! Finds out whether a run failed because another user, most likely root, has left files in its repository that this process may
//! not use.

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

/// How many files and directories of a repository are looked at, after a failure.
const MAX_FILES: usize = 100_000;

/// `err`; or [`Error::Owned`] with `err` as its source, if a file that the run needs belongs to another user.
pub(super) fn blame(err: Error, target: &Target) -> Error {
    let us = rustix::process::geteuid().as_raw();
    if us == 0 || !may_be_denied(&err) {
        return err;
    }
    let git_dir = target.site.git_dir();
    let found = match &err {
        // The error names the file; if its owner is not the reason, no other file is looked for.
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

/// Whether the owner of a file may be the reason: gitoxide reports a pack that it may not read as missing objects.
fn may_be_denied(err: &Error) -> bool {
    match err {
        Error::Refs(_) | Error::Heal(_) | Error::Repository(_) | Error::State(_) => true,
        Error::Fetch(err) => {
            matches!(err, fetch::Error::Unsound { .. } | fetch::Error::Store { .. }) || err.may_be_ours()
        }
        err => is_denial(err),
    }
}

/// `path` and its owner, if that is another user than `us`.
fn foreign(path: &Path, us: u32) -> Option<(PathBuf, u32)> {
    let owner = fs::symlink_metadata(path).ok()?.uid();
    (owner != us).then(|| (path.into(), owner))
}

/// The first file in the repository at `git_dir` that belongs to another user and that `us` may not use, and its owner.
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
