//! Whether a directory is a repository of its own, by git's rule (`is_nonbare_repository_dir` in setup.c).
//!
//! Only reads, and by path: what is found here can make `clean` leave a directory alone, never more.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Whether the directory at `dir` has a `.git` that is a repository, or a file that leads to one.
pub(super) fn is_repository(dir: &Path) -> bool {
    let dot_git = dir.join(".git");
    match fs::metadata(&dot_git) {
        Ok(meta) if meta.is_dir() => is_git_dir(&dot_git),
        Ok(meta) if meta.is_file() => match fs::read(&dot_git) {
            Ok(text) => linked(dir, &text).is_some_and(|git_dir| is_git_dir(&git_dir)),
            // As git: what cannot be read may be one.
            Err(err) => err.kind() != io::ErrorKind::NotFound,
        },
        _ => false,
    }
}

/// The directory that a `.git` file names, see gitrepository-layout(5).
fn linked(dir: &Path, text: &[u8]) -> Option<PathBuf> {
    let target = text.strip_prefix(b"gitdir: ")?;
    let end = target.iter().rposition(|byte| !b"\r\n".contains(byte))?;
    Some(dir.join(OsStr::from_bytes(&target[..=end])))
}

/// As git's `is_git_directory`: a HEAD that names a ref or an object, `objects` and `refs`.
fn is_git_dir(dir: &Path) -> bool {
    let common = match fs::read(dir.join("commondir")) {
        Ok(text) => dir.join(OsStr::from_bytes(text.trim_ascii_end())),
        Err(_) => dir.into(),
    };
    is_head(&dir.join("HEAD"))
        && is_accessible(&common.join("objects"))
        && is_accessible(&common.join("refs"))
}

fn is_accessible(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::EXEC_OK).is_ok()
}

fn is_head(path: &Path) -> bool {
    if let Ok(target) = fs::read_link(path) {
        return target.as_os_str().as_bytes().starts_with(b"refs/");
    }
    let Ok(text) = fs::read(path) else { return false };
    match text.strip_prefix(b"ref:") {
        Some(name) => name.trim_ascii_start().starts_with(b"refs/"),
        None => text
            .get(..40)
            .is_some_and(|id| id.iter().all(u8::is_ascii_hexdigit)),
    }
}
