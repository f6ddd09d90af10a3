//! The directories that releases are in. Each is opened once, without following links, and all system calls are relative to
//! that descriptor, with names of one component only.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, StatxFlags},
    io::Errno,
};

use super::{DIR, Error, exchange, id::Id, record::Directory};
use crate::base::{descent, rights::Rights};

mod calls;
use calls::{gone, rename_new};

/// How many names in `releases` are looked at; gitsocket itself makes no more than 102 trees.
const MAX_NAMES: usize = 10_000;
/// The prefix of a new link's name, before it is renamed to the live name.
const NEW: &str = ".gitsocket-new-";

/// The trigger's path, and `releases` in it.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    root: OwnedFd,
    dir: OwnedFd,
    device: (u32, u32),
}

/// A directory in `releases`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub name: OsString,
    /// Its identity; none if it is on another file system, where no tree can be.
    pub dir: Option<Directory>,
}

/// What is at the live name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// Nothing.
    Nothing,
    /// A link to the release of that name, whether or not that exists.
    Link(Id),
    /// A directory.
    Dir(Directory),
    /// Something else.
    Other(String),
}

impl Layout {
    /// Open the directories at `path`; none, if there are no releases yet.
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            root => root.map_err(|errno| Error::io("open", path)(errno.into()))?,
        };
        let at = path.join(DIR);
        let dir = match rustix::fs::openat(&root, DIR, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let meta = rustix::fs::statat(&root, DIR, AtFlags::SYMLINK_NOFOLLOW);
                let what = meta.map_or("no directory", |meta| what(FileType::from_raw_mode(meta.st_mode)));
                let path = at.display().to_string();
                return Err(Error::Odd { path, what });
            }
            dir => dir.map_err(|errno| Error::io("open", &at)(errno.into()))?,
        };
        let stat = rustix::fs::statx(&dir, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
            .map_err(|errno| Error::io("look at", &at)(errno.into()))?;
        Ok(Some(Self {
            path: path.into(),
            root,
            dir,
            device: (stat.stx_dev_major, stat.stx_dev_minor),
        }))
    }

    /// Open the directories at `path`; `releases` is made with `rights` if it is missing.
    pub fn make(path: &Path, rights: Rights) -> Result<Self, Error> {
        let at = path.join(DIR);
        let lost = || Error::io("open", &at)(io::ErrorKind::NotFound.into());
        if let Some(layout) = Self::open(path)? {
            return Ok(layout);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| Error::io("open", path)(errno.into()))?;
        let made = rights.make_dir(root.as_fd(), DIR.as_bytes());
        made.map_err(Error::io("make", &at))?;
        Self::open(path)?.ok_or_else(lost)
    }

    /// The trigger's path.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Where the release `id` is, unless it was exchanged for the live directory.
    pub fn at(&self, id: &Id) -> PathBuf {
        self.path.join(DIR).join(id.as_str())
    }

    /// The directories in `releases`.
    pub fn list(&self) -> Result<Vec<Found>, Error> {
        let at = self.path.join(DIR);
        let here = descent::open_dir(self.dir.as_fd(), b".").map_err(Error::io("open", &at))?;
        let names = descent::list_some(here.as_fd(), MAX_NAMES).map_err(Error::io("list", &at))?;
        if names.len() > MAX_NAMES {
            let (path, limit) = (at.display().to_string(), MAX_NAMES);
            return Err(Error::TooMany { path, limit });
        }
        let mut found = Vec::new();
        for (name, kind) in names {
            // Some file systems do not give the kind here.
            if !matches!(kind, FileType::Directory | FileType::Unknown) {
                continue;
            }
            let name = OsString::from_vec(name);
            let seen = self.look(self.dir.as_fd(), name.as_bytes());
            match seen.map_err(Error::io("look at", &at.join(&name)))? {
                Seen::Dir(dir) => found.push(Found { name, dir: Some(dir) }),
                Seen::Foreign => found.push(Found { name, dir: None }),
                Seen::Nothing | Seen::Other(_) => {}
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The directory of the release `id`, under its name.
    pub fn find(&self, id: &Id) -> Result<Option<Directory>, Error> {
        let seen = self.look(self.dir.as_fd(), id.as_str().as_bytes());
        Ok(match seen.map_err(Error::io("look at", &self.at(id)))? {
            Seen::Dir(dir) => Some(dir),
            _ => None,
        })
    }

    /// Whether nothing has the name `id`.
    pub fn is_free(&self, id: &Id) -> bool {
        rustix::fs::statat(&self.dir, id.as_str(), AtFlags::SYMLINK_NOFOLLOW).err() == Some(Errno::NOENT)
    }

    /// An error if a file that is not ours is at the name `live` in `path`, where there are no releases.
    pub fn check_live(path: &Path, live: &str) -> Result<(), Error> {
        let at = path.join(live);
        let kind = match rustix::fs::lstat(&at) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(Error::io("look at", &at)(errno.into())),
        };
        let target = rustix::fs::readlink(&at, Vec::new()).unwrap_or_default();
        match linked(target.as_bytes()) {
            Some(_) => Ok(()),
            None => Err(Error::Live {
                path: at.display().to_string(),
                what: what(kind).into(),
            }),
        }
    }

    /// What is at the name `live`.
    pub fn current(&self, live: &str) -> Result<Current, Error> {
        current(self.root.as_fd(), &self.path, live, |name| {
            self.look(self.root.as_fd(), name)
        })
    }

    fn look(&self, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Seen> {
        let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = match rustix::fs::statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, flags) {
            Err(Errno::NOENT) => return Ok(Seen::Nothing),
            stat => stat?,
        };
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        if kind != FileType::Directory {
            return Ok(Seen::Other(kind));
        }
        if (stat.stx_dev_major, stat.stx_dev_minor) != self.device {
            return Ok(Seen::Foreign);
        }
        let is_known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = is_known.then(|| {
            let seconds = u64::try_from(stat.stx_btime.tv_sec).unwrap_or_default();
            seconds.saturating_mul(1_000_000_000) + u64::from(stat.stx_btime.tv_nsec)
        });
        Ok(Seen::Dir(Directory {
            inode: stat.stx_ino,
            born,
        }))
    }

    /// Open the tree `id` by its name in `releases`, or by the name `live` if that is given.
    pub fn tree(&self, id: &Id, live: Option<&str>) -> Result<OwnedFd, Error> {
        let opened = match live {
            Some(live) => descent::open_dir(self.root.as_fd(), live.as_bytes()),
            None => descent::open_dir(self.dir.as_fd(), id.as_str().as_bytes()),
        };
        let path = live.map_or_else(|| self.at(id), |live| self.path.join(live));
        opened.map_err(Error::io("open", &path))
    }

    /// Give its owner access to the tree `id`, whose files are about to be replaced: a hook may have taken it away.
    pub fn open_up(&self, id: &Id) -> Result<(), Error> {
        let opened = descent::open_own(self.dir.as_fd(), id.as_str().as_bytes());
        opened.map(drop).map_err(Error::io("open", &self.at(id)))
    }

    /// Make the tree `id`.
    pub fn begin(&self, id: &Id, rights: Rights) -> Result<(), Error> {
        let made = rights.make_dir(self.dir.as_fd(), id.as_str().as_bytes());
        made.map(drop).map_err(Error::io("make", &self.at(id)))
    }

    /// Whether the directory called `id` is empty, and belongs to this user.
    pub fn is_blank(&self, id: &Id) -> bool {
        let Ok(fd) = descent::open_dir(self.dir.as_fd(), id.as_str().as_bytes()) else {
            return false;
        };
        let is_ours =
            rustix::fs::fstat(&fd).is_ok_and(|stat| stat.st_uid == rustix::process::geteuid().as_raw());
        is_ours && descent::list_some(fd.as_fd(), 1).is_ok_and(|names| names.is_empty())
    }

    /// Rename the tree `from` to `to`. False if that name is taken.
    pub fn rename(&self, from: &[u8], to: &Id) -> Result<bool, Error> {
        let renamed = rename_new(
            (self.dir.as_fd(), from),
            (self.dir.as_fd(), to.as_str().as_bytes()),
        );
        match renamed {
            Ok(()) => Ok(true),
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
            Err(errno) => Err(Error::io("rename a release to", &self.at(to))(errno.into())),
        }
    }

    /// Remove the tree `id`.
    pub fn remove(&self, id: &Id) -> Result<(), Error> {
        descent::remove_own(self.dir.as_fd(), id.as_str().as_bytes())
            .or_else(gone)
            .map_err(Error::io("remove", &self.at(id)))
    }

    /// Let the link `live` lead to `id`: a new link is renamed over it.
    pub fn link(&self, id: &Id, live: &str, rights: Rights) -> Result<(), Error> {
        let at = self.path.join(live);
        let new = self.new_link(id, live, rights)?;
        let renamed = rustix::fs::renameat(&self.root, new.as_str(), &self.root, live);
        if renamed.is_err() {
            // If it stays, the next run removes it.
            rustix::fs::unlinkat(&self.root, new.as_str(), AtFlags::empty()).ok();
        }
        renamed.map_err(|errno| Error::io("replace the link", &at)(errno.into()))
    }

    /// Exchange a link to `id` for the directory `live`, which was live and gets the name `old` in `releases`.
    pub fn link_for_directory(&self, (id, old): (&Id, &Id), live: &str, rights: Rights) -> Result<(), Error> {
        let new = self.new_link(id, live, rights)?;
        let exchanged = self.exchange((self.root.as_fd(), new.as_bytes()), live);
        if exchanged.is_err() {
            rustix::fs::unlinkat(&self.root, new.as_str(), AtFlags::empty()).ok();
        }
        exchanged?;
        self.name_exchanged(live, old)
    }

    /// Give the name `old` to the tree that was live as a directory, and was exchanged for a link.
    pub fn name_exchanged(&self, live: &str, old: &Id) -> Result<(), Error> {
        let new = format!("{NEW}{live}");
        let to = (self.dir.as_fd(), old.as_str().as_bytes());
        rename_new((self.root.as_fd(), new.as_bytes()), to)
            .map_err(|errno| Error::io("rename a release to", &self.at(old))(errno.into()))
    }

    /// Remove a new link that a killed run has left. Gives the directory that was exchanged for it, if there is one instead.
    pub fn left(&self, live: &str) -> Result<Option<Directory>, Error> {
        let new = format!("{NEW}{live}");
        let at = self.path.join(&new);
        match self
            .look(self.root.as_fd(), new.as_bytes())
            .map_err(Error::io("look at", &at))?
        {
            Seen::Dir(dir) => Ok(Some(dir)),
            Seen::Other(FileType::Symlink) => {
                let removed = rustix::fs::unlinkat(&self.root, new.as_str(), AtFlags::empty());
                removed.map_err(|errno| Error::io("remove", &at)(errno.into()))?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Remove the trial directories that a killed run has left.
    pub fn clear_tried(&self, live: &str) {
        exchange::clear(self.root.as_fd(), &format!("{NEW}{live}"));
    }

    fn new_link(&self, id: &Id, live: &str, rights: Rights) -> Result<String, Error> {
        let new = format!("{NEW}{live}");
        let at = self.path.join(&new);
        match rustix::fs::unlinkat(&self.root, new.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::io("remove", &at)(errno.into())),
        }
        let target = format!("{DIR}/{id}");
        rustix::fs::symlinkat(target, &self.root, new.as_str())
            .map_err(|errno| Error::io("make the link", &at)(errno.into()))?;
        rights
            .give_link(self.root.as_fd(), new.as_bytes())
            .map_err(Error::io("give its group to", &at))?;
        Ok(new)
    }

    /// Exchange the tree `id` for what is at `live`.
    pub fn swap(&self, id: &Id, live: &str) -> Result<(), Error> {
        self.exchange((self.dir.as_fd(), id.as_str().as_bytes()), live)
    }

    fn exchange(&self, (dir, name): (BorrowedFd<'_>, &[u8]), live: &str) -> Result<(), Error> {
        let exchanged = rustix::fs::renameat_with(dir, name, &self.root, live, RenameFlags::EXCHANGE);
        exchanged.map_err(|errno| self.not_exchanged((live, true), errno.into()))
    }

    /// Check that the file system can exchange directories.
    pub fn try_exchange(&self, live: &str) -> Result<(), Error> {
        exchange::tried(&self.path, &format!("{NEW}{live}"))
            .map_err(|err| self.not_exchanged((live, false), err))
    }

    fn not_exchanged(&self, (live, is_live): (&str, bool), source: io::Error) -> Error {
        let path = self.path.join(live);
        let is = |errno: Errno| source.raw_os_error() == Some(errno.raw_os_error());
        if is(Errno::XDEV) {
            return Error::Apart {
                path: path.display().to_string(),
                name: live.into(),
                releases: self.path.join(DIR).display().to_string(),
                is_live,
                source,
            };
        }
        if [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP].into_iter().any(is) {
            Error::Exchange {
                path: path.display().to_string(),
                name: live.into(),
                source,
            }
        } else {
            Error::io("exchange a release for", &path)(source)
        }
    }

    /// Move the tree `id` to `live`, where nothing is.
    pub fn appear(&self, id: &Id, live: &str) -> Result<(), Error> {
        let to = (self.root.as_fd(), live.as_bytes());
        rename_new((self.dir.as_fd(), id.as_str().as_bytes()), to).map_err(|errno| match errno {
            Errno::XDEV => self.not_exchanged((live, false), errno.into()),
            errno => Error::io("move a release to", &self.path.join(live))(errno.into()),
        })
    }

    /// Remove the link that has the name `id` in `releases`, since it was exchanged for that release.
    pub fn unlink(&self, id: &Id) -> Result<(), Error> {
        match rustix::fs::readlinkat(&self.dir, id.as_str(), Vec::new()) {
            Ok(target) if linked(target.as_bytes()).is_some() => {
                let removed = rustix::fs::unlinkat(&self.dir, id.as_str(), AtFlags::empty());
                removed.map_err(|errno| Error::io("remove", &self.at(id))(errno.into()))
            }
            _ => Ok(()),
        }
    }

    /// Flush the switch to the disk.
    pub fn sync(&self) -> Result<(), Error> {
        [&self.dir, &self.root]
            .into_iter()
            .try_for_each(|dir| File::from(dir.try_clone()?).sync_all())
            .or_else(|err| match err.kind() {
                // Some file systems cannot do it for directories, and need not.
                io::ErrorKind::InvalidInput => Ok(()),
                _ => Err(err),
            })
            .map_err(Error::io("flush the switch to the disk in", &self.path))
    }
}

enum Seen {
    Nothing,
    Dir(Directory),
    /// A directory of another file system.
    Foreign,
    Other(FileType),
}

fn current(
    root: BorrowedFd<'_>,
    path: &Path,
    live: &str,
    look: impl FnOnce(&[u8]) -> io::Result<Seen>,
) -> Result<Current, Error> {
    let at = path.join(live);
    Ok(match look(live.as_bytes()).map_err(Error::io("look at", &at))? {
        Seen::Nothing => Current::Nothing,
        Seen::Dir(dir) => Current::Dir(dir),
        Seen::Foreign => Current::Other("a directory of another file system".into()),
        Seen::Other(FileType::Symlink) => {
            let target = rustix::fs::readlinkat(root, live, Vec::new())
                .map_err(|errno| Error::io("read the link", &at)(errno.into()))?;
            match linked(target.as_bytes()) {
                Some(id) => Current::Link(id),
                None => Current::Other(format!("a link to {:?}", target.to_string_lossy())),
            }
        }
        Seen::Other(kind) => Current::Other(what(kind).into()),
    })
}

/// The release that a link of ours leads to.
fn linked(target: &[u8]) -> Option<Id> {
    let target = std::str::from_utf8(target).ok()?;
    let name = target.strip_prefix(DIR)?.strip_prefix('/')?;
    Id::try_from(name.to_owned()).ok()
}

fn what(kind: FileType) -> &'static str {
    match kind {
        FileType::Symlink => "a link",
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        _ => "something special",
    }
}
