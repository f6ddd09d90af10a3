//! Whether a directory is a repository of its own, by git's rule (`is_nonbare_repository_dir` in setup.c).
//!
//! Only reads: what is found here can make `clean` leave a directory alone, never more. Links are followed, as git does.
//! What git would wait for without end, or die of, may be one.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use gix::bstr::BStr;
use rustix::fs::{Access, AtFlags};

use super::dirs::{self, Kind, Meta};
use crate::base::bounded;

/// The largest file that can stand for a `.git` directory, in bytes, as git has it.
const MAX_DOT_GIT: u64 = 1 << 20;

/// Whether the directory `name` in `parent` has a `.git` that is a repository, or a file that leads to one.
pub(super) fn is_repository(parent: BorrowedFd<'_>, name: &BStr) -> bool {
    let dot_git = dirs::join(name, ".git".into());
    let Ok(stat) = rustix::fs::statat(parent, OsStr::from_bytes(&dot_git), AtFlags::empty()) else {
        return false;
    };
    let meta = Meta::from(stat);
    if !matches!(meta.kind, Kind::Dir | Kind::File) || meta.size > MAX_DOT_GIT && meta.kind == Kind::File {
        return false;
    }
    let Ok(dir) = dirs::open_dir(parent, name) else {
        return true;
    };
    let dot_git = Path::new(".git");
    match meta.kind {
        Kind::Dir => is_git_dir(dir.as_fd(), dot_git),
        _ => match bounded::read_at(dir.as_fd(), dot_git, MAX_DOT_GIT) {
            Ok(text) => linked(&text).is_some_and(|git_dir| is_git_dir(dir.as_fd(), &git_dir)),
            // As git: what cannot be read may be one.
            Err(err) => err.kind() != io::ErrorKind::NotFound,
        },
    }
}

/// The directory that a `.git` file names, see gitrepository-layout(5).
fn linked(text: &[u8]) -> Option<PathBuf> {
    let target = text.strip_prefix(b"gitdir: ")?;
    let end = target.iter().rposition(|byte| !b"\r\n".contains(byte))?;
    Some(OsStr::from_bytes(&target[..=end]).into())
}

/// As git's `is_git_directory`: a HEAD that names a ref or an object, `objects` and `refs`. `path` is seen from `dir`.
fn is_git_dir(dir: BorrowedFd<'_>, path: &Path) -> bool {
    let common = match bounded::read_at(dir, &path.join("commondir"), bounded::LINE) {
        Ok(text) => path.join(OsStr::from_bytes(text.trim_ascii_end())),
        Err(err) if is_no_file(&err) => path.into(),
        // Git dies of it.
        Err(_) => return true,
    };
    let is_accessible =
        |path: &Path| rustix::fs::accessat(dir, path, Access::EXEC_OK, AtFlags::empty()).is_ok();
    is_head(dir, &path.join("HEAD"))
        && is_accessible(&common.join("objects"))
        && is_accessible(&common.join("refs"))
}

fn is_head(dir: BorrowedFd<'_>, path: &Path) -> bool {
    if let Ok(target) = rustix::fs::readlinkat(dir, path, Vec::new()) {
        return target.as_bytes().starts_with(b"refs/");
    }
    let text = match bounded::read_at(dir, path, bounded::LINE) {
        Ok(text) => text,
        // A fifo, or longer than any HEAD: git would wait for the one, and read some of the other.
        Err(err) => return err.kind() == io::ErrorKind::InvalidData,
    };
    match text.strip_prefix(b"ref:") {
        Some(name) => name.trim_ascii_start().starts_with(b"refs/"),
        None => text
            .get(..40)
            .is_some_and(|id| id.iter().all(u8::is_ascii_hexdigit)),
    }
}

/// Nothing of that name can be read, however often it is tried.
fn is_no_file(err: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(err.kind(), E::NotFound | E::NotADirectory | E::InvalidFilename)
}
