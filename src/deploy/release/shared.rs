//! What all releases share: each release has links to files and directories in `shared`, at any depth.
//!
//! The links are relative: in `releases/ID` they lead to `../../shared`. With `Exchange`, the same tree is first in `releases/ID`
//! and then at the live name, one level higher; the link `releases/shared` makes `../shared` right in both.

use std::{
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use gix::bstr::BString;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::{DIR, Error, SHARED};
use crate::{
    base::{descent, rights::Rights},
    config::{Live, Releases, Shared},
};

/// The paths of what is shared, in ascending order.
pub fn paths(releases: &Releases) -> Vec<BString> {
    let mut paths: Vec<BString> = releases
        .shared
        .iter()
        .map(|shared| shared.path.as_os_str().as_bytes().into())
        .collect();
    paths.sort();
    paths
}

/// What happens to a file or directory that is where a link is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// It is removed: in a new tree, it comes from the commit.
    Goes,
    /// It stays: in a release that was live, it may exist nowhere else.
    Stays,
}

/// Make the links of the tree that is open as `tree`. The trigger's path is `path`, open as `root`. `other` decides what happens to
/// what is in their place; gives the paths where it has stayed.
pub fn link<'r>(
    releases: &'r Releases,
    (path, root): (&Path, BorrowedFd<'_>),
    (tree, other): (BorrowedFd<'_>, Other),
    rights: Rights,
) -> Result<Vec<&'r Path>, Error> {
    let mut stayed = Vec::new();
    if releases.shared.is_empty() {
        return Ok(stayed);
    }
    let common = common(path, root, rights)?;
    let up = match &releases.live {
        Live::Symlink(_) => "../../",
        Live::Exchange(_) => {
            link_in_releases(path, root, rights)?;
            "../"
        }
    };
    for shared in &releases.shared {
        if shared.is_dir {
            make(path, common.as_fd(), shared, rights)?;
        } else if let Some(parent) = shared.path.parent() {
            make_all(path, common.as_fd(), parent, rights)?;
        }
        let to = format!(
            "{}{up}{SHARED}",
            "../".repeat(shared.path.components().count() - 1)
        );
        let to = Path::new(&to).join(&shared.path);
        match place((tree, other), &shared.path, &to, rights) {
            Ok(true) => {}
            Ok(false) => stayed.push(shared.path.as_path()),
            Err(Error::Shared { .. }) if other == Other::Stays => stayed.push(shared.path.as_path()),
            Err(err) => return Err(err),
        }
    }
    Ok(stayed)
}

/// The paths that the tree open as `tree` does not share: there is no link to `shared` there.
pub fn missing<'r>(releases: &'r Releases, tree: BorrowedFd<'_>) -> Vec<&'r Path> {
    let paths = releases.shared.iter().map(|shared| shared.path.as_path());
    let is_linked = |at: &Path| {
        let link = rustix::fs::readlinkat(tree, at, Vec::new());
        link.is_ok_and(|to| is_ours(to.as_bytes(), at))
    };
    paths.filter(|at| !is_linked(at)).collect()
}

/// Open the directory `shared`, or make it. It may be a link that an administrator has made.
fn common(path: &Path, root: BorrowedFd<'_>, rights: Rights) -> Result<OwnedFd, Error> {
    let at = path.join(SHARED);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(root, SHARED, flags, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {
            let made = rights.make_dir(root, SHARED.as_bytes());
            made.map_err(Error::io("make", &at))?;
            open().map_err(|errno| Error::io("open", &at)(errno.into()))
        }
        Err(Errno::NOTDIR) => Err(Error::Odd {
            path: at.display().to_string(),
            what: "a file",
        }),
        opened => opened.map_err(|errno| Error::io("open", &at)(errno.into())),
    }
}

/// Let `releases/shared` lead to `shared`.
fn link_in_releases(path: &Path, root: BorrowedFd<'_>, rights: Rights) -> Result<(), Error> {
    let at = path.join(DIR).join(SHARED);
    let target = format!("../{SHARED}");
    let dir = descent::open_dir(root, DIR.as_bytes()).map_err(Error::io("open", &path.join(DIR)))?;
    match rustix::fs::readlinkat(&dir, SHARED, Vec::new()) {
        Ok(there) if there.as_bytes() == target.as_bytes() => Ok(()),
        Err(Errno::NOENT) => {
            rustix::fs::symlinkat(target.as_str(), &dir, SHARED)
                .map_err(|errno| Error::io("make the link", &at)(errno.into()))?;
            let given = rights.give_link(dir.as_fd(), SHARED.as_bytes());
            given.map_err(Error::io("give its group to", &at))
        }
        Ok(_) | Err(Errno::INVAL) => Err(Error::InTheWay {
            path: at.display().to_string(),
        }),
        Err(errno) => Err(Error::io("read the link", &at)(errno.into())),
    }
}

/// Make the directory that `shared` names, unless it exists.
fn make(path: &Path, common: BorrowedFd<'_>, shared: &Shared, rights: Rights) -> Result<(), Error> {
    let at = path.join(SHARED).join(&shared.path);
    match rustix::fs::statat(common, &shared.path, AtFlags::empty()) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(()),
        Ok(_) => Err(Error::NoDirectory {
            path: at.display().to_string(),
            what: "no directory",
        }),
        Err(Errno::NOENT | Errno::NOTDIR) => make_all(path, common, &shared.path, rights),
        Err(errno) => Err(Error::io("look at", &at)(errno.into())),
    }
}

/// Make the directory `below` in `shared`, and its parents. No link is followed: a hook may have made it.
fn make_all(path: &Path, common: BorrowedFd<'_>, below: &Path, rights: Rights) -> Result<(), Error> {
    let mut here: Option<OwnedFd> = None;
    let mut at = PathBuf::new();
    for name in below.iter() {
        at.push(name);
        let parent = here.as_ref().map_or(common, |fd| fd.as_fd());
        let failed = Error::io("make", &path.join(SHARED).join(&at));
        let opened = match descent::open_dir(parent, name.as_encoded_bytes()) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                rights.make_dir(parent, name.as_encoded_bytes())
            }
            // The directory that a link leads to is made by the user who made the link.
            Err(err) if is_link(&err) => return Ok(()),
            opened => opened,
        };
        here = Some(opened.map_err(failed)?);
    }
    Ok(())
}

/// Make `at` in the tree a link to `to`. False if something else is there, and stays.
fn place(
    (tree, other): (BorrowedFd<'_>, Other),
    at: &Path,
    to: &Path,
    rights: Rights,
) -> Result<bool, Error> {
    let mut here: Option<OwnedFd> = None;
    let mut above = PathBuf::new();
    let Some(name) = at.file_name() else {
        return Ok(true);
    };
    for name in at.parent().into_iter().flat_map(Path::iter) {
        above.push(name);
        let parent = here.as_ref().map_or(tree, |fd| fd.as_fd());
        let name = name.as_encoded_bytes();
        let opened = match descent::open_dir(parent, name) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => rights.make_dir(parent, name),
            Err(err) if is_link(&err) => {
                let meta = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
                let is_link =
                    meta.is_ok_and(|meta| FileType::from_raw_mode(meta.st_mode) == FileType::Symlink);
                return Err(Error::Shared {
                    path: at.into(),
                    at: above,
                    what: if is_link { "a link" } else { "a file" },
                });
            }
            opened => opened,
        };
        here = Some(opened.map_err(Error::io("make", &above))?);
    }
    let parent = here.as_ref().map_or(tree, |fd| fd.as_fd());
    match rustix::fs::readlinkat(parent, name, Vec::new()) {
        Ok(there) if there.as_bytes() == to.as_os_str().as_encoded_bytes() => return Ok(true),
        Err(Errno::NOENT) => {}
        Ok(there) if other == Other::Stays && !is_ours(there.as_bytes(), at) => return Ok(false),
        Err(Errno::INVAL) if other == Other::Stays => return Ok(false),
        Ok(_) | Err(Errno::INVAL) => {
            let removed = match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => descent::remove_tree(parent, name.as_encoded_bytes()),
                removed => removed.map_err(io::Error::from),
            };
            removed.map_err(Error::io("remove", at))?;
        }
        Err(errno) => return Err(Error::io("read the link", at)(errno.into())),
    }
    let linked = rustix::fs::symlinkat(to, parent, name).map_err(io::Error::from);
    let linked = linked.and_then(|()| rights.give_link(parent, name.as_encoded_bytes()));
    linked.map_err(Error::io("make the link", at))?;
    Ok(true)
}

/// Whether `to` is the target of a link to what is shared as `at`. The number of `..` does not count: it was another one if the
/// release was made while `live` was of the other kind.
fn is_ours(to: &[u8], at: &Path) -> bool {
    let mut left = Path::new(std::ffi::OsStr::from_bytes(to));
    while let Ok(below) = left.strip_prefix("..") {
        left = below;
    }
    left.strip_prefix(SHARED).is_ok_and(|path| path == at)
}

fn is_link(err: &io::Error) -> bool {
    [Errno::LOOP, Errno::NOTDIR]
        .iter()
        .any(|errno| err.raw_os_error() == Some(errno.raw_os_error()))
}
