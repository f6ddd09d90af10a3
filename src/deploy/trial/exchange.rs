//! Whether two directories can be exchanged: tried on two that are made for that, and removed again.

use std::{io, os::fd::AsFd as _, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};

use crate::base::{descent, name::RunId};

/// Exchange two new directories in `path`; nothing is tried where it is not there yet, or belongs to another user.
pub(super) fn tried(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else {
        return Ok(());
    };
    if rustix::fs::fstat(&dir)?.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    // One in `path` at a time, so that a kill leaves no more than that.
    let own = format!(".gitsocket-check-{}", RunId::new());
    match rustix::fs::mkdirat(&dir, &own, Mode::RWXU) {
        Ok(()) => {}
        // Whether it can be written is another question.
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NOSPC | Errno::DQUOT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    let exchanged = exchange(dir.as_fd(), &own);
    rustix::fs::unlinkat(&dir, &own, AtFlags::REMOVEDIR)?;
    exchanged
}

fn exchange(dir: std::os::fd::BorrowedFd<'_>, own: &str) -> io::Result<()> {
    let own = descent::open_dir(dir, own.as_bytes())?;
    let names = ["a", "b"];
    let made = names.map(|name| rustix::fs::mkdirat(&own, name, Mode::RWXU));
    let exchanged = made.into_iter().collect::<Result<(), _>>().and_then(|()| {
        let [a, b] = names;
        rustix::fs::renameat_with(&own, a, &own, b, RenameFlags::EXCHANGE)
    });
    for name in names {
        rustix::fs::unlinkat(&own, name, AtFlags::REMOVEDIR).ok();
    }
    exchanged.map_err(Into::into)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        tried(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        tried(&dir.path().join("none")).unwrap();
    }
}
