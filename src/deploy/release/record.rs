//! What is remembered of releases, in `gitsocket/releases.json` below the git directory. It is written under the target's
//! lock, before each step that changes what a tree is: so whatever is found on the disk, the record says what it was
//! to become.

use std::{io, os::unix::fs::MetadataExt as _, path::Path};

use serde::{Deserialize, Serialize};

use super::id::Id;
use crate::base::{
    bounded,
    durable::{Access, Flush, Replace},
};

/// The version of the file as it is written here.
const VERSION: u32 = 1;
/// The longest file, in bytes: 100 kept releases and 1,000 held commits take less than half of it.
const MAX_BYTES: u64 = 1 << 20;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    version: u32,
    /// How often a tree has become live.
    pub turn: u64,
    /// All trees, also those that are being made or removed.
    pub trees: Vec<Tree>,
}

/// A directory that is a release, or is to become one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Its name, unless a swap has given it another one that is not yet undone.
    pub id: Id,
    /// The commit that it is to hold, in full.
    pub commit: String,
    /// Which directory it is; unknown until it is made.
    pub dir: Option<Directory>,
    /// Whether it holds that commit whole, built and flushed.
    pub is_whole: bool,
    /// The last turn in which it became live; never, if that is 0.
    pub turn: u64,
    /// When that was, in seconds since 1970.
    pub live_since: Option<u64>,
    /// Whether its hooks and its health were good when it was live.
    pub is_good: bool,
    /// What its files take on the disk, in bytes.
    pub bytes: u64,
}

/// Which directory a tree is, as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    device: u64,
    inode: u64,
    /// In nanoseconds since 1970, where the file system says: the inode of a directory that was removed may be another's.
    born: Option<u128>,
}

impl Directory {
    /// The one at `path`; `None` if there is none. A link is not followed.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => Ok(Some(Self {
                device: meta.dev(),
                inode: meta.ino(),
                born: meta
                    .created()
                    .ok()
                    .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
                    .map(|since| since.as_nanos()),
            })),
            Ok(_) => Ok(None),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }
}

impl Record {
    /// What the file at `path` holds. One that is missing is empty. One that is damaged is an error: without it, no directory
    /// can be told from somebody's own.
    pub fn read(path: &Path) -> io::Result<Self> {
        match bounded::read(path, MAX_BYTES) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(err) => Err(err),
        }
    }

    /// Write it, so that a power cut does not take it.
    pub fn write(&mut self, path: &Path) -> io::Result<()> {
        self.version = VERSION;
        let text = serde_json::to_vec(self)?;
        Replace::by(&path.with_extension("json.tmp"), Access::Usual, Flush::Name).write(path, &text)
    }

    /// The tree that `dir` is.
    pub fn tree_at(&self, dir: Directory) -> Option<&Tree> {
        self.trees.iter().find(|tree| tree.dir == Some(dir))
    }

    /// The tree that is called `id`.
    pub fn tree(&self, id: &Id) -> Option<&Tree> {
        self.trees.iter().find(|tree| tree.id == *id)
    }
}
