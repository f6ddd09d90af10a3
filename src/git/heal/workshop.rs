//! Where healing happens, and how it changes files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gix::ObjectId;

use super::Error;
use crate::base::durable::{Access, Flush, Replace};

pub(super) const ALTERNATES: &str = "alternates";

/// Where healing happens, and what it has put aside.
pub(super) struct Workshop {
    pub(super) git_dir: PathBuf,
    pub(super) dir: PathBuf,
}

impl Workshop {
    pub(super) fn of(git_dir: &Path) -> Self {
        Self {
            git_dir: git_dir.into(),
            dir: git_dir.join("gitsocket/heal"),
        }
    }

    /// What was damaged, until a run has succeeded.
    pub(super) fn aside(&self) -> PathBuf {
        self.dir.join("damaged")
    }

    /// The repository that is fetched into.
    pub(super) fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }

    /// The file that says that nothing is left to be done here.
    pub(super) fn settled(&self) -> PathBuf {
        self.dir.join("settled")
    }

    pub(super) fn pack_dir(&self) -> PathBuf {
        self.git_dir.join("objects/pack")
    }

    /// The file that says which object directories are borrowed from.
    pub(super) fn alternates(&self) -> PathBuf {
        self.git_dir.join("objects/info").join(ALTERNATES)
    }

    pub(super) fn put_aside(&self, path: &Path, name: &str) -> Result<(), Error> {
        fs::rename(path, self.aside().join(name)).map_err(Error::io("move aside", path))
    }
}

/// Put `content` in the place of the file `path`, at once.
pub(super) fn replace(workshop: &Workshop, path: &Path, content: &[u8]) -> Result<(), Error> {
    let access = match fs::symlink_metadata(path) {
        Ok(_) => Access::Same,
        Err(_) => Access::Usual,
    };
    Replace::by(&workshop.dir.join("new"), access, Flush::Content)
        .write(path, content)
        .map_err(Error::io("write", path))
}

/// The id that a line begins with.
pub(super) fn id_of(word: &[u8]) -> Option<ObjectId> {
    ObjectId::from_hex(word).ok()
}
