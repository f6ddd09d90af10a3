//! Whether the file system can exchange two directories: two are made for a trial, and removed again.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};

use crate::base::descent;

/// Exchange two new directories in a new directory `own` in `path`. Nothing is tried where `path` does not exist yet, or belongs
/// to another user. A directory `own` that a killed process has left is removed.
pub fn tried(path: &Path, own: &str) -> io::Result<()> {
    match own_dir(CWD, path)? {
        Some(dir) => with_new(dir.as_fd(), own, || exchange(dir.as_fd(), own)),
        None => Ok(()),
    }
}

/// Move a new directory `own` from `path` into its subdirectory `below`, which may be on another file system, and back.
pub fn moves(path: &Path, below: &str, own: &str) -> io::Result<()> {
    let Some(dir) = own_dir(CWD, path)? else {
        return Ok(());
    };
    let Some(below) = own_dir(dir.as_fd(), Path::new(below))? else {
        return Ok(());
    };
    with_new(dir.as_fd(), own, || {
        rustix::fs::renameat(&dir, own, &below, own)?;
        Ok(rustix::fs::renameat(&below, own, &dir, own)?)
    })
}

/// Open the directory `path`, if it exists and belongs to this user.
fn own_dir(at: BorrowedFd<'_>, path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::openat(at, path, flags, Mode::empty()) else {
        return Ok(None);
    };
    let is_ours = rustix::fs::fstat(&dir)?.st_uid == rustix::process::geteuid().as_raw();
    Ok(is_ours.then_some(dir))
}

/// Call `tried` while there is a new directory `own` in `dir`.
fn with_new(dir: BorrowedFd<'_>, own: &str, tried: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    clear(dir, own);
    match rustix::fs::mkdirat(dir, own, Mode::RWXU) {
        Ok(()) => {}
        // Another check reports that it cannot be written.
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NOSPC | Errno::DQUOT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    let tried = tried();
    clear(dir, own);
    tried
}

/// Remove the directory `own` in `dir`, if it exists. A second try follows, since a file system may fail once.
pub fn clear(dir: BorrowedFd<'_>, own: &str) {
    for _ in 0..2 {
        let Ok(left) = descent::open_dir(dir, own.as_bytes()) else {
            continue;
        };
        for name in NAMES {
            rustix::fs::unlinkat(&left, name, AtFlags::REMOVEDIR).ok();
        }
        if rustix::fs::unlinkat(dir, own, AtFlags::REMOVEDIR).is_ok() {
            return;
        }
    }
}

const NAMES: [&str; 2] = ["a", "b"];

fn exchange(dir: BorrowedFd<'_>, own: &str) -> io::Result<()> {
    let own = descent::open_dir(dir, own.as_bytes())?;
    let made = NAMES.map(|name| rustix::fs::mkdirat(&own, name, Mode::RWXU));
    made.into_iter().collect::<Result<(), _>>()?;
    let [a, b] = NAMES;
    Ok(rustix::fs::renameat_with(
        &own,
        a,
        &own,
        b,
        RenameFlags::EXCHANGE,
    )?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left() {
        let dir = crate::machine::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("own/a")).unwrap();
        tried(dir.path(), "own").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        tried(&dir.path().join("none"), "own").unwrap();
        moves(dir.path(), "below", "own").unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        moves(dir.path(), "below", "own").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(dir.path().join("below")).unwrap().count(), 0);
    }
}
