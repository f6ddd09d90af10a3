//! Why a run failed at its own repository: another user has been at work there, root most likely, and has left what this
//! process may not use.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{
    Error,
    error::{is_denial, user},
};
use crate::{config::Target, git::fetch};

/// How many files and directories of a repository are looked at. This is after a failure, and one is enough.
const MAX_FILES: usize = 100_000;

/// `err`; if something that it needed belongs to another user, with that as its reason.
pub(super) fn blame(err: Error, target: &Target) -> Error {
    let us = rustix::process::geteuid().as_raw();
    if us == 0 || !may_be_denied(&err) {
        return err;
    }
    let git_dir = target.site.git_dir();
    match closed(&git_dir, us) {
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

/// What another user has left in the repository of `target` that this process may not use, in words; if there is something.
pub(super) fn remark(target: &Target) -> Option<String> {
    let us = rustix::process::geteuid().as_raw();
    let git_dir = target.site.git_dir();
    let (path, owner) = closed(&git_dir, us).filter(|_| us != 0)?;
    Some(format!(
        "{} belongs to {}, and gitsocket runs as the user {us}: as root, type: chown -R {us} {}; and let no other user \
         deploy there",
        path.display(),
        user(owner),
        git_dir.display()
    ))
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

/// What in the repository at `git_dir` another user has, and `us` may not use as git would, and who that is.
fn closed(git_dir: &Path, us: u32) -> Option<(PathBuf, u32)> {
    let mut dirs = vec![git_dir.to_owned()];
    let mut seen = 0;
    while let Some(path) = dirs.pop() {
        let meta = fs::symlink_metadata(&path).ok()?;
        seen += 1;
        if seen > MAX_FILES {
            return None;
        }
        let wanted = match meta.is_dir() {
            true => Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
            false => Access::READ_OK,
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
