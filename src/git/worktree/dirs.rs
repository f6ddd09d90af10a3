//! Every access to the worktree: through file descriptors of directories, one component at a time, no link followed.
//!
//! The invariant of the module: whatever the tree or other processes put below the root, nothing outside of it can be
//! written or deleted, because no path of more than one component is ever given to the system.
//! It must not know what is tracked or why something is removed.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::entry,
};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags},
    io::Errno,
};

pub(super) use crate::base::descent::remove_tree;
use crate::base::{
    descent::{self, Descent},
    identity::Identity,
    report::Named,
    rights::Rights,
};

/// The directories of the worktree. The way to the last one used is kept, with some of it open: paths come sorted.
pub(super) struct Dirs {
    way: Descent<OwnedFd>,
    names: Vec<BString>,
    rights: Rights,
    /// What was unlinked as a directory had to be in its place.
    displaced: Named,
}

/// What is there in place of a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) kind: Kind,
    /// The lower twelve bits of the mode.
    pub(super) permissions: u32,
    pub(super) uid: u32,
    pub(super) links: u64,
    pub(super) size: u64,
    pub(super) identity: Identity,
    /// What git's index remembers.
    pub(super) stat: entry::Stat,
}

/// How every temporary name begins. What a kill has left with one, `clean` of the next run removes.
pub(super) const TEMPORARY: &str = ".gitsocket-tmp-";

/// The longest path that git can use, in bytes: Linux takes 4,096 with the NUL. What is deeper is no file of a tree.
pub(super) const MAX_PATH: usize = 4095;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Symlink,
    Dir,
    /// Fifo, socket, device.
    Other,
}

impl Dirs {
    /// The worktree at `root`, whose new directories get `rights`.
    pub(super) fn open(root: &Path, rights: Rights) -> io::Result<Self> {
        let root = rustix::fs::openat(
            CWD,
            root,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self::from(root, rights))
    }

    /// The worktree that is open as `root`.
    pub(super) fn within(root: BorrowedFd<'_>, rights: Rights) -> io::Result<Self> {
        Ok(Self::from(open_dir(root, ".".into())?, rights))
    }

    fn from(root: OwnedFd, rights: Rights) -> Self {
        Self {
            way: Descent::new(root),
            names: Vec::new(),
            rights,
            displaced: Named::default(),
        }
    }

    /// The same worktree, for another thread.
    pub(super) fn again(&self) -> io::Result<Self> {
        Ok(Self::from(self.root()?, self.rights))
    }

    pub(super) fn root(&self) -> io::Result<OwnedFd> {
        open_dir(self.way.base(), ".".into())
    }

    /// The directory `dir`, or nothing if it is not there, or not reached through directories alone.
    pub(super) fn get(&mut self, dir: &BStr) -> io::Result<Option<BorrowedFd<'_>>> {
        let kept = self.keep_common(dir);
        for name in components(dir).skip(kept) {
            match open_dir_if_there(self.way.here(), name)? {
                Some(fd) => self.enter(fd, name)?,
                None => return Ok(None),
            }
        }
        Ok(Some(self.way.here()))
    }

    /// The directory `dir`, made if it is not there. What is in its way and is no directory is unlinked.
    pub(super) fn make(&mut self, dir: &BStr) -> io::Result<BorrowedFd<'_>> {
        let kept = self.keep_common(dir);
        for name in components(dir).skip(kept) {
            let fd = match open_dir_if_there(self.way.here(), name)? {
                Some(fd) => fd,
                None => {
                    let (fd, displaced) = make_dir(self.way.here(), name, self.rights)?;
                    if displaced {
                        let mut path = BString::default();
                        let above = self.names.iter().map(|name| name.as_bstr());
                        above.chain([name]).for_each(|name| push(&mut path, name));
                        self.displaced.note(path);
                    }
                    fd
                }
            };
            self.enter(fd, name)?;
        }
        Ok(self.way.here())
    }

    pub(super) fn displaced(&mut self) -> Named {
        std::mem::take(&mut self.displaced)
    }

    /// The directory `path` is about to be removed or replaced.
    pub(super) fn forget(&mut self, path: &BStr) {
        let wanted = components(path).count();
        if self.common(path) == wanted {
            self.keep(wanted.saturating_sub(1));
        }
    }

    /// Any directory may have been removed or replaced.
    pub(super) fn forget_all(&mut self) {
        self.keep(0);
    }

    fn enter(&mut self, fd: OwnedFd, name: &BStr) -> io::Result<()> {
        self.way.push(fd)?;
        self.names.push(name.into());
        Ok(())
    }

    /// Drop what is not on the way to `dir`, and say how many components of it are left.
    fn keep_common(&mut self, dir: &BStr) -> usize {
        self.keep(self.common(dir))
    }

    /// How many components of `dir` are on the way.
    fn common(&self, dir: &BStr) -> usize {
        let same = self.names.iter().zip(components(dir));
        same.take_while(|(have, want)| have.as_bstr() == *want).count()
    }

    /// Keep the first `count` directories of the way. None, if they are no longer where they were: names will tell.
    fn keep(&mut self, count: usize) -> usize {
        if count == 0 {
            self.way.restart();
        }
        while self.way.depth() > count {
            if self.way.leave().is_err() {
                break;
            }
        }
        self.names.truncate(self.way.depth());
        self.names.len()
    }
}

/// `a/b/c` is `c` in `a/b`.
pub(super) fn split(path: &BStr) -> (&BStr, &BStr) {
    match path.rfind_byte(b'/') {
        Some(pos) => (path[..pos].as_bstr(), path[pos + 1..].as_bstr()),
        None => ("".into(), path),
    }
}

pub(super) fn join(dir: &BStr, name: &BStr) -> BString {
    let mut path = dir.to_owned();
    push(&mut path, name);
    path
}

/// Go on from `path` to `name` in it.
pub(super) fn push(path: &mut BString, name: &BStr) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// As much of `path` as can be shown.
pub(super) fn shown(path: &BStr) -> BString {
    if path.len() <= MAX_PATH {
        return path.into();
    }
    let end = path[..MAX_PATH].rfind_byte(b'/').unwrap_or_default();
    [&path[..end], "/…".as_bytes()].concat().into()
}

/// The parents of `path`, the deepest first, without the root.
pub(super) fn parents(path: &BStr) -> impl Iterator<Item = &BStr> {
    std::iter::successors(Some(split(path).0), |dir| Some(split(dir).0)).take_while(|dir| !dir.is_empty())
}

/// The directory `dir` and those above it, the root last.
pub(super) fn chain(dir: &BStr) -> impl Iterator<Item = &BStr> {
    std::iter::successors(
        Some(dir),
        |dir| if dir.is_empty() { None } else { Some(split(dir).0) },
    )
}

/// Whether `path` is `dir` or below it.
pub(super) fn is_in(path: &BStr, dir: &BStr) -> bool {
    let rest = path.strip_prefix(dir.as_bytes());
    dir.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// What `name` is, if it is there.
pub(super) fn meta(dir: BorrowedFd<'_>, name: &BStr) -> io::Result<Option<Meta>> {
    match rustix::fs::statat(dir, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Open the directory `name`, not following a link.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &BStr) -> io::Result<OwnedFd> {
    descent::open_dir(dir, name)
}

/// Open the directory `name`, or nothing if there is none of that name: nothing at all, or something else.
pub(super) fn open_dir_if_there(dir: BorrowedFd<'_>, name: &BStr) -> io::Result<Option<OwnedFd>> {
    match open_dir(dir, name) {
        Ok(fd) => Ok(Some(fd)),
        Err(err) if is_absent(&err) => Ok(None),
        Err(err) => Err(err),
    }
}

pub(super) fn meta_of(fd: BorrowedFd<'_>) -> io::Result<Meta> {
    Ok(rustix::fs::fstat(fd)?.into())
}

/// Open the regular file `name` for reading, not following a link and not waiting for the writer of a fifo.
pub(super) fn open_file(dir: BorrowedFd<'_>, name: &BStr) -> io::Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file: std::fs::File = rustix::fs::openat(dir, name.as_bytes(), flags, Mode::empty())?.into();
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// What is in the directory `fd`, which has just been opened, sorted, without `.` and `..`.
pub(super) fn entries(fd: BorrowedFd<'_>) -> io::Result<Vec<BString>> {
    let names = descent::list(fd)?;
    let mut names: Vec<BString> = names.into_iter().map(|(name, _)| name.into()).collect();
    names.sort();
    Ok(names)
}

/// Unlink `name`, which is no directory. That it is gone already is no error; says whether it was there.
pub(super) fn unlink(dir: BorrowedFd<'_>, name: &BStr) -> io::Result<bool> {
    gone(rustix::fs::unlinkat(dir, name.as_bytes(), AtFlags::empty()))
}

pub(super) fn remove_dir(dir: BorrowedFd<'_>, name: &BStr) -> io::Result<bool> {
    gone(rustix::fs::unlinkat(dir, name.as_bytes(), AtFlags::REMOVEDIR))
}

/// A name for something that is about to be renamed.
pub(super) fn temporary() -> BString {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{TEMPORARY}{:x}-{count:x}", std::process::id()).into()
}

/// Make the directory `name`, in place of a file or link if there is one; says whether there was. Another thread may do so,
/// too.
fn make_dir(parent: BorrowedFd<'_>, name: &BStr, rights: Rights) -> io::Result<(OwnedFd, bool)> {
    let mut displaced = false;
    loop {
        match rights.make_dir_by(parent, name, temporary) {
            Ok(fd) => return Ok((fd, displaced)),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(err),
        }
        if let Some(fd) = open_dir_if_there(parent, name)? {
            return Ok((fd, displaced));
        }
        match rustix::fs::unlinkat(parent, name.as_bytes(), AtFlags::empty()) {
            Ok(()) => displaced = true,
            Err(Errno::NOENT | Errno::ISDIR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

fn components(path: &BStr) -> impl Iterator<Item = &BStr> {
    path.split_str("/")
        .map(ByteSlice::as_bstr)
        .filter(|name| !name.is_empty())
}

/// There is no directory of that name, or no file: nothing, or something else, as a link.
pub(super) fn is_absent(err: &io::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP]
        .iter()
        .any(|errno| err.raw_os_error() == Some(errno.raw_os_error()))
}

fn gone(result: rustix::io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

impl From<rustix::fs::Stat> for Meta {
    // The widths of these fields differ between platforms; git truncates them to 32 bits, too.
    #[allow(clippy::unnecessary_cast)]
    fn from(stat: rustix::fs::Stat) -> Self {
        let time = |secs: i64, nsecs: u64| entry::stat::Time {
            secs: secs as u32,
            nsecs: nsecs as u32,
        };
        Self {
            kind: match FileType::from_raw_mode(stat.st_mode as _) {
                FileType::RegularFile => Kind::File,
                FileType::Symlink => Kind::Symlink,
                FileType::Directory => Kind::Dir,
                _ => Kind::Other,
            },
            permissions: stat.st_mode as u32 & 0o7777,
            uid: stat.st_uid as u32,
            links: stat.st_nlink as u64,
            size: stat.st_size as u64,
            identity: Identity::of_stat(&stat),
            stat: entry::Stat {
                mtime: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
                ctime: time(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
                dev: stat.st_dev as u32,
                ino: stat.st_ino as u32,
                uid: stat.st_uid as u32,
                gid: stat.st_gid as u32,
                size: stat.st_size as u32,
            },
        }
    }
}

/// What the file at the absolute `path` is, links followed.
pub(super) fn identity(path: &Path) -> Option<Identity> {
    Some(Identity::of_stat(&rustix::fs::stat(path).ok()?))
}
