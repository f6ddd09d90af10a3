//! Goes down into directories of any depth and up again: the stack stays flat, and only the last few are open.
//!
//! A directory that was closed on the way down is opened again by the `..` of the one below it. If that is another one
//! by now, the one below was moved while it was open, perhaps to a place outside: the way ends there, as an error.
//! Links are never followed, and no name of more than one component is given to the system.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir},
    io::Errno,
};

use crate::base::identity::Identity;

/// How many directories of one way down are open at a time, besides its beginning; in descriptors. Trees that are not
/// deeper than this cost no system call more. Each thread that writes files has a way of its own.
const OPEN: usize = 16;

/// A way down from a directory.
#[derive(Debug)]
pub struct Descent<D> {
    base: D,
    /// The directories below the base that are closed, the uppermost first.
    closed: Vec<Identity>,
    /// The directories below those. None is closed while there are few.
    open: VecDeque<OwnedFd>,
}

impl<D: AsFd> Descent<D> {
    pub fn new(base: D) -> Self {
        Self {
            base,
            closed: Vec::new(),
            open: VecDeque::new(),
        }
    }

    pub fn base(&self) -> BorrowedFd<'_> {
        self.base.as_fd()
    }

    /// The lowest directory. It can be listed when it has just been entered; after that, names can be looked up.
    pub fn here(&self) -> BorrowedFd<'_> {
        self.open.back().map_or(self.base.as_fd(), AsFd::as_fd)
    }

    /// How many directories there are below the base.
    pub fn depth(&self) -> usize {
        self.closed.len() + self.open.len()
    }

    /// Go down into the directory `name`, which is no link. An error leaves the way as it was.
    pub fn enter(&mut self, name: &[u8]) -> io::Result<()> {
        let fd = open_dir(self.here(), name)?;
        self.push(fd)
    }

    /// Go down into a directory that has just been opened here.
    pub fn push(&mut self, fd: OwnedFd) -> io::Result<()> {
        if self.open.len() >= OPEN
            && let Some(first) = self.open.front()
        {
            self.closed.push(identity(first.as_fd())?);
            self.open.pop_front();
        }
        self.open.push_back(fd);
        Ok(())
    }

    /// Go up by one. After an error, the way is back at its beginning.
    pub fn leave(&mut self) -> io::Result<()> {
        let left = self.open.pop_back();
        if self.open.is_empty()
            && let Some(left) = left
            && let Some(identity) = self.closed.pop()
        {
            match reopen(left.as_fd(), identity) {
                Ok(fd) => self.open.push_back(fd),
                Err(err) => {
                    self.restart();
                    return Err(err);
                }
            }
        }
        Ok(())
    }

    pub fn restart(&mut self) {
        self.closed.clear();
        self.open.clear();
    }
}

/// The directory above `dir`, if it is still the one with this `identity`.
fn reopen(dir: BorrowedFd<'_>, identity: Identity) -> io::Result<OwnedFd> {
    // Its list has been read, so it need not be readable any more.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, "..", flags, Mode::empty())?;
    if self::identity(fd.as_fd())? == identity {
        Ok(fd)
    } else {
        Err(io::Error::other(
            "a directory was moved elsewhere while it was being looked through",
        ))
    }
}

fn identity(fd: BorrowedFd<'_>) -> io::Result<Identity> {
    Ok(Identity::of_stat(&rustix::fs::fstat(fd)?))
}

/// Open the directory `name`, not following a link.
pub fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// The same in a tree that is ours alone: if its owner may not read it, it is opened for that.
pub fn open_own(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    match open_dir(dir, name) {
        Err(err) if is_denied(&err) && reach(dir, name, open_for_owner) => open_dir(dir, name),
        opened => opened,
    }
}

/// Remove what is at `path`, with all that is in it, whatever was put there. That nothing is there is an error.
pub fn remove_all(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = if parent == Path::new("") {
        Path::new(".")
    } else {
        parent
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
    match unlink(parent.as_fd(), name)? {
        Some(()) => Ok(()),
        None => remove_tree(parent.as_fd(), name.as_bytes()),
    }
}

/// Remove the directory `name` and all in it. That it is gone already is no error.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    remove_by(dir, name, |_| false, Err)
}

/// The same, for a tree that is ours alone: a directory in it that its owner may not write to is opened for that. What cannot be
/// removed does not keep the rest; the first of it is the error.
pub fn remove_own(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let mut first = None;
    remove_by(dir, name, open_for_owner, |err| {
        first.get_or_insert(err);
        Ok(())
    })?;
    first.map_or(Ok(()), Err)
}

/// Let its owner do everything in `dir`. Says whether that is so.
fn open_for_owner(dir: BorrowedFd<'_>) -> bool {
    let by_path = || rustix::fs::chmod(format!("/proc/self/fd/{}", dir.as_raw_fd()), Mode::RWXU);
    // What is opened as a path alone is changed by a path alone.
    rustix::fs::fchmod(dir, Mode::RWXU).or_else(|_| by_path()).is_ok()
}

/// Open the directory `name` for `open` to do something about it.
fn reach(dir: BorrowedFd<'_>, name: &[u8], open: impl Fn(BorrowedFd<'_>) -> bool) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty());
    fd.is_ok_and(|fd| open(fd.as_fd()))
}

/// Where something is not permitted in a directory, it is tried once more if `open` has done something about that. What cannot be
/// removed is `left`, which says whether that is the end.
fn remove_by(
    dir: BorrowedFd<'_>,
    name: &[u8],
    open: impl Fn(BorrowedFd<'_>) -> bool,
    mut left: impl FnMut(io::Error) -> io::Result<()>,
) -> io::Result<()> {
    let mut way = Descent::new(dir);
    // The directories that are being emptied, and what has not been looked at in each.
    let mut emptied = Vec::new();
    let mut next = Some(name.to_vec());
    loop {
        if let Some(name) = next.take() {
            let mut entered = way.enter(&name);
            if entered.as_ref().is_err_and(is_denied) && reach(way.here(), &name, &open) {
                entered = way.enter(&name);
            }
            match entered {
                Ok(()) => emptied.push((name, list(way.here())?.into_iter())),
                // An empty directory goes even if it cannot be read.
                Err(err) => remove_dir(way.here(), &name)
                    .map_err(|_| err)
                    .or_else(&mut left)?,
            }
        }
        let Some((_, names)) = emptied.last_mut() else {
            return Ok(());
        };
        match names.next() {
            Some((name, FileType::Directory)) => next = Some(name),
            Some((name, _)) => {
                let unlink = || unlink(way.here(), OsStr::from_bytes(&name));
                match unlink().or_else(|err| {
                    if is_denied(&err) && open(way.here()) {
                        unlink()
                    } else {
                        Err(err)
                    }
                }) {
                    Ok(Some(())) => {}
                    Ok(None) => next = Some(name),
                    Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                    Err(err) => left(err)?,
                }
            }
            None => {
                way.leave()?;
                if let Some((name, _)) = emptied.pop() {
                    let remove = || remove_dir(way.here(), &name);
                    // What it was begun from is not ours to open.
                    let may = || way.depth() > 0 && open(way.here());
                    remove()
                        .or_else(|err| {
                            if is_denied(&err) && may() {
                                remove()
                            } else {
                                Err(err)
                            }
                        })
                        .or_else(&mut left)?;
                }
            }
        }
    }
}

fn is_denied(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::PermissionDenied
}

/// What glibc and git read of a directory at a time, in bytes.
const LISTING: usize = 32 * 1024;

/// The names in `dir`, which has just been opened, without `.` and `..`, and what the file system says of their kinds.
/// It is not opened once more: where a sandbox looks at all directories above, that takes long far down.
pub fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    list_some(dir, usize::MAX)
}

/// The same, but no more names than `limit` and one.
pub fn list_some(dir: BorrowedFd<'_>, limit: usize) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(LISTING);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push((name.to_vec(), entry.file_type())),
        }
        if names.len() > limit {
            break;
        }
    }
    Ok(names)
}

/// The disk usage of what is below `dir`, in bytes. What goes while it is looked at does not count.
pub fn size(dir: BorrowedFd<'_>) -> io::Result<u64> {
    let mut way = Descent::new(open_dir(dir, b".")?);
    let mut rest = vec![list(way.base())?.into_iter()];
    let mut blocks: u64 = 0;
    while let Some(names) = rest.last_mut() {
        let Some((name, kind)) = names.next() else {
            rest.pop();
            way.leave()?;
            continue;
        };
        match rustix::fs::statat(way.here(), name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => blocks = blocks.saturating_add(u64::try_from(stat.st_blocks).unwrap_or_default()),
            Err(Errno::NOENT) => continue,
            Err(err) => return Err(err.into()),
        }
        if kind == FileType::Directory {
            match way.enter(&name) {
                Ok(()) => rest.push(list(way.here())?.into_iter()),
                // A program may have made it unreadable for others.
                Err(err)
                    if matches!(
                        err.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                    ) => {}
                Err(err) => return Err(err),
            }
        }
    }
    Ok(blocks.saturating_mul(512))
}

/// Unlink `name`, or do nothing if it is a directory.
fn unlink(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<()>> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => Ok(Some(())),
        Err(Errno::ISDIR) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

fn remove_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    /// A chain of `depth` directories `d` in `dir`, each with a file `f`.
    fn chain(dir: &Path, depth: usize) {
        let mut way = Descent::new(OwnedFd::from(File::open(dir).unwrap()));
        for _ in 0..depth {
            rustix::fs::mkdirat(way.here(), "d", Mode::RWXU).unwrap();
            way.enter(b"d").unwrap();
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(way.here(), "f", flags, Mode::RUSR).unwrap();
        }
        assert_eq!(way.depth(), depth);
        assert!(way.open.len() <= OPEN);
        let mut up = 0;
        while way.depth() > 0 {
            way.leave().unwrap();
            up += 1;
        }
        assert_eq!(up, depth);
    }

    #[test]
    fn any_depth_goes_down_and_up_and_away() {
        let dir = crate::machine::tempdir().unwrap();
        for depth in [0, 1, OPEN, OPEN + 1, 5000] {
            chain(dir.path(), depth);
            match remove_all(&dir.path().join("d")) {
                Ok(()) => assert!(depth > 0),
                Err(err) => assert_eq!((err.kind(), depth), (io::ErrorKind::NotFound, 0)),
            }
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_link_is_removed_and_what_it_names_stays() {
        let dir = crate::machine::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("outside/d")).unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("outside"), &link).unwrap();
        std::os::unix::fs::symlink("../outside", dir.path().join("tree/link")).unwrap();
        remove_all(&link).unwrap();
        remove_all(&dir.path().join("tree")).unwrap();
        assert!(!link.exists() && dir.path().join("outside/d").exists());
    }

    #[test]
    fn what_was_moved_meanwhile_does_not_lead_outside() {
        let dir = crate::machine::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("outside")).unwrap();
        chain(dir.path(), 2 * OPEN);
        let mut way = Descent::new(OwnedFd::from(File::open(dir.path()).unwrap()));
        for _ in 0..2 * OPEN {
            way.enter(b"d").unwrap();
        }
        let moved = dir.path().join("d/".repeat(OPEN + 1));
        fs::rename(moved, dir.path().join("outside/d")).unwrap();
        let failed = std::iter::repeat_with(|| way.leave())
            .take(2 * OPEN)
            .find(Result::is_err);
        assert!(failed.is_some());
        assert_eq!(way.depth(), 0);
        assert!(way.here().as_fd().try_clone_to_owned().is_ok());
    }
}
