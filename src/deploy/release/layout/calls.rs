//! Steps that need more than one system call, or more than one answer of it.

use std::{io, os::fd::BorrowedFd};

use rustix::{
    fs::{AtFlags, RenameFlags},
    io::Errno,
};

pub(super) fn rename_new(
    from: (BorrowedFd<'_>, &[u8]),
    to: (BorrowedFd<'_>, &[u8]),
) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
        // The file system does not know the flag. The lock keeps other runs from using the name meanwhile.
        Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::statat(to.0, to.1, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(_) => rustix::fs::renameat(from.0, from.1, to.0, to.1),
        },
        renamed => renamed,
    }
}

/// A missing file is not an error.
pub(super) fn gone(err: io::Error) -> io::Result<()> {
    match err.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(err),
    }
}
