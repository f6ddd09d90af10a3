//! Files of a git directory: listed, looked at, locked as git does, replaced and removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::Error;
use crate::base::{
    durable::{self, Access, Flush, Replace},
    fault::if_there,
};

/// The paths in `dir`, none if it is not there.
pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::io("list", dir, source);
    let entries = if_there(fs::read_dir(dir)).map_err(failed)?;
    let entries = entries.into_iter().flatten();
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}

/// The metadata of `path`, unless it is not there.
pub(super) fn metadata(path: &Path) -> Result<Option<fs::Metadata>, Error> {
    if_there(fs::symlink_metadata(path)).map_err(|err| Error::io("look at", path, err))
}

/// Remove a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let removed = durable::remove(path).map_err(|err| Error::io("remove", path, err));
    removed.map(drop)
}

/// Put `content` in the place of the file `path`. The caller holds the target's lock, and recovery removes what a
/// kill leaves.
pub(super) fn replace(git_dir: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = git_dir.join("gitsocket");
    fs::create_dir_all(&dir)?;
    Replace::by(&dir.join("maintenance.tmp"), Access::Same, Flush::Content).write(path, content)
}

/// A lock file of git's, removed again when this is dropped.
pub(super) struct Guard(PathBuf);

impl Guard {
    /// Take the lock, unless it is held.
    pub(super) fn take(path: PathBuf) -> Result<Option<Self>, Error> {
        // A ref that is packed has no directory of its own.
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|err| Error::io("create", parent, err))?;
        }
        match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(_) => Ok(Some(Self(path))),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(err) => Err(Error::io("lock", &path, err)),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Recovery removes it otherwise.
        drop(fs::remove_file(&self.0));
    }
}
