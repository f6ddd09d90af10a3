//! One file: written whole beside its place, then renamed into it. No reader ever sees half a file.
//!
//! A file that is there is never opened for writing, so another name of it, or a program that reads it, never sees
//! a change. A kill here leaves a temporary file, which `clean` of the next run removes.

use std::{
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::entry::{Mode, Stat},
};
use rustix::{
    fs::{AtFlags, OFlags},
    io::Errno,
};

use super::dirs::{self, Kind, Meta};
use crate::base::{bounded, rights::Rights};

/// Write `bytes` to the file `name`, or make it a link to them.
pub(super) fn write(
    dir: BorrowedFd<'_>,
    name: &BStr,
    mode: Mode,
    rights: Rights,
    bytes: &[u8],
) -> io::Result<Stat> {
    if mode == Mode::SYMLINK {
        let temporary = Temporary::create(dir, |name| rustix::fs::symlinkat(bytes, dir, name))?.0;
        temporary.give(rights)?;
        temporary.rename(name)?;
        let stat = rustix::fs::statat(dir, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?;
        return Ok(Meta::from(stat).stat);
    }
    write_by(dir, name, mode, rights, |out| out.write_all(bytes))
}

/// Write what `fill` writes to the file `name`. If it fails, nothing is there but what was.
pub(super) fn write_by(
    dir: BorrowedFd<'_>,
    name: &BStr,
    mode: Mode,
    rights: Rights,
    fill: impl FnOnce(&mut std::fs::File) -> io::Result<()>,
) -> io::Result<Stat> {
    let permissions = permissions(mode, rights);
    let create = rustix::fs::Mode::from_raw_mode(permissions | 0o600);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (temporary, fd) = Temporary::create(dir, |name| rustix::fs::openat(dir, name, flags, create))?;
    let mut out = std::fs::File::from(fd);
    rights.give(out.as_fd())?;
    fill(&mut out)?;
    // The process has a umask of its own.
    if dirs::meta_of(out.as_fd())?.permissions != permissions {
        rustix::fs::fchmod(&out, rustix::fs::Mode::from_raw_mode(permissions))?;
    }
    temporary.rename(name)?;
    // After the rename, which changes the ctime.
    Ok(dirs::meta_of(out.as_fd())?.stat)
}

/// The content of the file `name`, or the target of the link. What cannot be read is as good as changed; the caller
/// knows that its size is one that is worth reading.
pub(super) fn read(dir: BorrowedFd<'_>, name: &BStr, there: &Meta) -> Option<Vec<u8>> {
    match there.kind {
        Kind::Symlink => {
            let target = rustix::fs::readlinkat(dir, name.as_bytes(), Vec::new()).ok()?;
            Some(target.into_bytes())
        }
        Kind::File => bounded::content(dirs::open_file(dir, name).ok()?, there.size).ok(),
        Kind::Dir | Kind::Other => None,
    }
}

/// The permissions that a file of `mode` gets.
pub(super) fn permissions(mode: Mode, rights: Rights) -> u32 {
    rights.file(mode == Mode::FILE_EXECUTABLE)
}

/// A file that is unlinked again unless it is renamed.
struct Temporary<'d> {
    dir: BorrowedFd<'d>,
    name: Option<BString>,
}

impl<'d> Temporary<'d> {
    /// Under the first name that is free.
    fn create<T>(
        dir: BorrowedFd<'d>,
        mut make: impl FnMut(&[u8]) -> rustix::io::Result<T>,
    ) -> io::Result<(Self, T)> {
        loop {
            let name = dirs::temporary();
            match make(&name) {
                Ok(made) => {
                    let name = Some(name);
                    return Ok((Self { dir, name }, made));
                }
                Err(Errno::EXIST) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    fn give(&self, rights: Rights) -> io::Result<()> {
        match &self.name {
            Some(name) => rights.give_link(self.dir, name),
            None => Ok(()),
        }
    }

    fn rename(mut self, to: &BStr) -> io::Result<()> {
        if let Some(name) = &self.name {
            rustix::fs::renameat(self.dir, name.as_bytes(), self.dir, to.as_bytes())?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What cannot be removed now is removed by the next run.
            let _ = dirs::unlink(self.dir, name.as_bstr());
        }
    }
}
