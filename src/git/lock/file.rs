//! The lock file, `gitsocket/lock` in a git directory: opened without following links, for its owner alone.
//!
//! A user who may open a file may lock it, and so stop all runs; so no other user may.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid},
    io::Errno,
};

use super::{error::Error, made::Made};
use crate::base::identity::Identity;

/// The lock file's directory, below the git directory.
const DIR: &str = "gitsocket";
const NAME: &str = "lock";
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The file that runs of the target at `git_dir` lock.
pub fn file(git_dir: &Path) -> PathBuf {
    git_dir.join(DIR).join(NAME)
}

/// Open the lock file at `path`, which is made if there is a git directory; `None` if there is none.
pub(super) fn open(path: &Path, made: &mut Made) -> Result<Option<File>, Error> {
    match LockDir::open(path, Some(made))? {
        Some(place) => place.file(),
        None => Ok(None),
    }
}

/// Open the lock file at `path` to look at it; `None` if it is not there, or cannot be opened.
pub(super) fn peek(path: &Path) -> Option<File> {
    let place = LockDir::open(path, None).ok()??;
    place.existing(OFlags::RDONLY).ok().map(File::from)
}

pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    Ok(fs::symlink_metadata(path).is_ok_and(|now| Identity::of(&now) == Identity::of(&held)))
}

struct LockDir<'a> {
    path: &'a Path,
    dir_path: &'a Path,
    dir: OwnedFd,
}

impl<'a> LockDir<'a> {
    /// Open the directory; `None` if it is not there. With a list of what is `made`, it is made in the git directory.
    fn open(path: &'a Path, made: Option<&mut Made>) -> Result<Option<Self>, Error> {
        let dir_path = path.parent().unwrap_or(path);
        let git_dir = dir_path.parent().unwrap_or(dir_path);
        let Some(above) = directory(CWD, git_dir, git_dir)? else {
            return Ok(None);
        };
        let mut dir = directory(above.as_fd(), Path::new(DIR), dir_path)?;
        if let (None, Some(made)) = (&dir, made) {
            match new_dir(above.as_fd()) {
                Ok(()) => made.push(dir_path),
                // It is there by now, or the git directory is no more.
                Err(Errno::EXIST | Errno::NOENT) => {}
                Err(errno) => {
                    return Err(Error::Create {
                        path: dir_path.into(),
                        source: errno.into(),
                    });
                }
            }
            dir = directory(above.as_fd(), Path::new(DIR), dir_path)?;
        }
        Ok(dir.map(|dir| Self { path, dir_path, dir }))
    }

    /// The file, made if need be; `None` if the directory is no more.
    fn file(&self) -> Result<Option<File>, Error> {
        loop {
            let existing = match self.existing(OFlags::RDWR) {
                Err(Errno::ROFS) => self.existing(OFlags::RDONLY),
                other => other,
            };
            match existing {
                Ok(fd) => return self.checked(fd).map(Some),
                Err(Errno::NOENT) => match self.new_file() {
                    Ok(fd) => return Ok(Some(fd.into())),
                    // It is there by now.
                    Err(Errno::EXIST) => {}
                    Err(Errno::NOENT) => return Ok(None),
                    Err(errno) => return Err(self.failed(errno)),
                },
                Err(Errno::ACCESS) if self.is_ours_and_shut()? => {
                    // Only its owner may change what is in there.
                    rustix::fs::chmodat(&self.dir, NAME, MODE, AtFlags::empty())
                        .map_err(|errno| self.failed(errno))?;
                }
                Err(errno) => return Err(self.refused(errno)),
            }
        }
    }

    fn existing(&self, access: OFlags) -> Result<OwnedFd, Errno> {
        // What is there may be a fifo or a terminal.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dir, NAME, flags, Mode::empty())
    }

    fn new_file(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, NAME, flags, MODE)?;
        if let Some((uid, gid)) = heir(self.dir.as_fd())? {
            // Root in a container may not be allowed to: then it is root's.
            rustix::fs::fchown(&fd, Some(uid), Some(gid)).ok();
        }
        Ok(fd)
    }

    /// Check a file that was there before.
    fn checked(&self, fd: OwnedFd) -> Result<File, Error> {
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.failed(errno))?;
        // There is never anything in it, nor has it another name: such a file is one that was moved here.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || stat.st_size > 0
            || stat.st_nlink > 1
        {
            return Err(self.odd(stat));
        }
        if !self.may_be_used(stat)? {
            return Err(self.owned(stat));
        }
        if Mode::from_raw_mode(stat.st_mode) != MODE {
            // A file system without modes has none to set.
            rustix::fs::fchmod(&fd, MODE).ok();
        }
        Ok(fd.into())
    }

    /// Whether its owner may hold up runs: that is ourselves, and for root the user that the directory belongs to.
    fn may_be_used(&self, stat: Stat) -> Result<bool, Error> {
        let us = rustix::process::geteuid();
        if stat.st_uid == us.as_raw() {
            return Ok(true);
        }
        let dir = rustix::fs::fstat(&self.dir).map_err(|errno| self.failed(errno))?;
        Ok(us.is_root() && stat.st_uid == dir.st_uid)
    }

    fn look(&self) -> Result<Stat, Errno> {
        rustix::fs::statat(&self.dir, NAME, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Whether its mode keeps its owner, who we are, from opening it.
    fn is_ours_and_shut(&self) -> Result<bool, Error> {
        let stat = self.look().map_err(|errno| self.failed(errno))?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == rustix::process::geteuid().as_raw()
            && !Mode::from_raw_mode(stat.st_mode).contains(MODE))
    }

    fn refused(&self, errno: Errno) -> Error {
        match self.look() {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => self.odd(stat),
            Ok(stat) if stat.st_uid != rustix::process::geteuid().as_raw() => self.owned(stat),
            _ => self.failed(errno),
        }
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::Lock {
            path: self.path.into(),
            source: errno.into(),
        }
    }

    fn odd(&self, stat: Stat) -> Error {
        Error::Odd {
            path: self.path.into(),
            what: kind(stat),
            wanted: "file",
        }
    }

    fn owned(&self, stat: Stat) -> Error {
        Error::Owned {
            path: self.path.into(),
            dir: self.dir_path.into(),
            owner: stat.st_uid,
            us: rustix::process::geteuid().as_raw(),
        }
    }
}

/// Make the directory in a git directory.
fn new_dir(git_dir: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::mkdirat(git_dir, DIR, Mode::RWXU | Mode::RWXG | Mode::RWXO)?;
    if let Some((uid, gid)) = heir(git_dir)? {
        // What bears the name now may be something else of root's, put there by the owner of the git directory.
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(git_dir, DIR, flags, Mode::empty())?;
        if is_new(&dir)? {
            rustix::fs::fchown(&dir, Some(uid), Some(gid)).ok();
        }
    }
    Ok(())
}

/// Whether there is nothing in a directory of root's.
fn is_new(dir: &OwnedFd) -> Result<bool, Errno> {
    let is_roots = rustix::fs::fstat(dir)?.st_uid == 0;
    let mut names = rustix::fs::Dir::read_from(dir)?;
    let is_empty =
        names.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")));
    Ok(is_roots && is_empty)
}

/// Whom something new in `dir` is for, if root makes it for another user: a command that was typed once as root must not
/// shut out the daemon that the repository belongs to.
fn heir(dir: BorrowedFd<'_>) -> Result<Option<(Uid, Gid)>, Errno> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let stat = rustix::fs::fstat(dir)?;
    Ok((stat.st_uid != 0).then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))))
}

/// The directory `name` in `dir`, known as `path`; `None` if nothing is there.
fn directory(dir: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<Option<OwnedFd>, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => Err(Error::Odd {
                path: path.into(),
                what: kind(stat),
                wanted: "directory",
            }),
            // Something else is where a directory above it should be: the code that makes that says so.
            _ if matches!(errno, Errno::NOTDIR | Errno::LOOP) => Ok(None),
            _ => Err(Error::Lock {
                path: path.into(),
                source: errno.into(),
            }),
        },
    }
}

fn kind(stat: Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => "symlink",
        FileType::Directory => "directory",
        FileType::RegularFile => "file that holds something or has another name",
        _ => "fifo, socket or device",
    }
}
