//! One file: written whole beside its place, then renamed into it. Nobody ever sees half a file.
//!
//! A file that is there is never opened for writing, so another name of it, or a program that reads it, never sees
//! a change. A kill here leaves a temporary file, which `clean` of the next run removes.

use std::{
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicU64, Ordering},
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
use crate::base::bounded;

/// How the name of every temporary file begins.
pub(super) const TEMPORARY: &str = ".gitsocket-tmp-";

/// Write `bytes` to the file `name`, or make it a link to them.
pub(super) fn write(
    dir: BorrowedFd<'_>,
    name: &BStr,
    mode: Mode,
    umask: u32,
    bytes: &[u8],
) -> io::Result<Stat> {
    if mode == Mode::SYMLINK {
        let temporary = Temporary::create(dir, |name| rustix::fs::symlinkat(bytes, dir, name))?.0;
        temporary.rename(name)?;
        let stat = rustix::fs::statat(dir, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?;
        return Ok(Meta::from(stat).stat);
    }
    write_by(dir, name, mode, umask, |out| out.write_all(bytes))
}

/// Write what `fill` writes to the file `name`. If it fails, nothing is there but what was.
pub(super) fn write_by(
    dir: BorrowedFd<'_>,
    name: &BStr,
    mode: Mode,
    umask: u32,
    fill: impl FnOnce(&mut std::fs::File) -> io::Result<()>,
) -> io::Result<Stat> {
    let permissions = permissions(mode, umask);
    let create = rustix::fs::Mode::from_raw_mode(permissions | 0o600);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (temporary, fd) = Temporary::create(dir, |name| rustix::fs::openat(dir, name, flags, create))?;
    let mut out = std::fs::File::from(fd);
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
pub(super) fn permissions(mode: Mode, umask: u32) -> u32 {
    match mode {
        Mode::FILE_EXECUTABLE => 0o777 & !umask,
        _ => 0o666 & !umask,
    }
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
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{TEMPORARY}{:x}-{count:x}", std::process::id());
            match make(name.as_bytes()) {
                Ok(made) => {
                    let name = Some(name.into());
                    return Ok((Self { dir, name }, made));
                }
                Err(Errno::EXIST) => {}
                Err(err) => return Err(err.into()),
            }
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
