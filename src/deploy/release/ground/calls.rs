//! What the ground does by more than one system call.

use std::{io, os::fd::BorrowedFd};

use rustix::{
    fs::{AtFlags, Mode, RenameFlags},
    io::Errno,
};

use crate::base::descent;

/// Make the directory `name` with all permissions but those in `umask`; that it is there is an error.
pub(in crate::deploy::release) fn make_dir(
    parent: BorrowedFd<'_>,
    name: &[u8],
    umask: u32,
) -> io::Result<()> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o777 & !umask))?;
    let fd = descent::open_dir(parent, name)?;
    let now = rustix::fs::fstat(&fd)?.st_mode & 0o7777;
    // The process has a umask of its own. A set-group-id bit that the parent handed down stays.
    let want = (now & 0o7000) | (0o777 & !umask);
    if now != want {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(want))?;
    }
    Ok(())
}

/// Rename, and replace nothing.
pub(super) fn rename_new(
    from: (BorrowedFd<'_>, &[u8]),
    to: (BorrowedFd<'_>, &[u8]),
) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
        // A file system that does not know it. Under the lock, nobody else puts something there.
        Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::statat(to.0, to.1, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(_) => rustix::fs::renameat(from.0, from.1, to.0, to.1),
        },
        renamed => renamed,
    }
}

/// That there is nothing is no error.
pub(super) fn gone(err: io::Error) -> io::Result<()> {
    match err.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(err),
    }
}
