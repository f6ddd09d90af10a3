//! What is remembered of releases, in `gitsocket/releases.json` below the git directory. It is written under the target's
//! lock, before each step that changes a tree: so for whatever a killed run has left, the record says what it was to become.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::id::Id;
use crate::base::{
    bounded,
    durable::{Access, Flush, Replace},
};

/// The directory below the git directory, and the file in it.
const PARTS: [&str; 2] = ["gitsocket", "releases.json"];

/// The version of the file as it is written here.
const VERSION: u32 = 1;
/// The longest file, in bytes. 102 trees take some 300 bytes each; this is for many more.
const MAX_BYTES: u64 = 1 << 20;

/// The limit of the counters: more than can have happened, and far from an overflow.
const MAX_COUNT: u64 = 1 << 48;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    version: u32,
    /// How many times a tree has become live.
    pub turn: u64,
    /// How many trees were begun.
    pub made: u64,
    /// The live names: the one that the configuration has, and earlier ones that may still lead to a release.
    pub names: Vec<String>,
    /// All trees, also those that are being made or removed.
    pub trees: Vec<Tree>,
}

/// A directory that is a release, or is to become one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Its name; after an exchange that was interrupted, its directory may have another one.
    pub id: Id,
    /// The commit that it is to hold, in full.
    pub commit: String,
    /// Its number in the order of making, since clocks may be set back.
    pub made: u64,
    /// Which directory it is; unknown until it is made.
    pub dir: Option<Directory>,
    /// Whether it holds that commit whole, built and flushed.
    pub is_whole: bool,
    /// The number of the last switch that made it live; 0 if there was none.
    pub turn: u64,
    /// When that was, in seconds since 1970.
    pub live_since: Option<u64>,
    /// Whether its hooks and its health check succeeded while it was live.
    pub is_good: bool,
    /// Whether it was rolled back, and has not been good again since.
    #[serde(default)]
    pub is_rejected: bool,
    /// Whether a link leads to it at a live name that the configuration had earlier.
    #[serde(default)]
    pub is_linked: bool,
    /// Whether it could not be brought to a commit, and is only to be removed.
    #[serde(default)]
    pub is_stuck: bool,
    /// What its files take on the disk, in bytes.
    pub bytes: u64,
}

/// The identity of a tree's directory. It does not include the device, whose number may differ after a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// See inode(7).
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970, where the file system records it: after a removal, a new directory may get
    /// the same inode.
    pub born: Option<u64>,
}

impl Tree {
    /// A tree that is to hold `commit`, and does not exist yet.
    pub fn new(id: Id, commit: String, made: u64) -> Self {
        Self {
            id,
            commit,
            made,
            dir: None,
            is_whole: false,
            turn: 0,
            live_since: None,
            is_good: false,
            is_rejected: false,
            is_linked: false,
            is_stuck: false,
            bytes: 0,
        }
    }
}

impl Record {
    /// The record of the repository at `git_dir`, and whether it is damaged. A missing record is empty; and so is a damaged one,
    /// which a power cut may leave without `fsync`: all trees then count as foreign, and stay.
    pub fn read(git_dir: &Path) -> io::Result<(Self, bool)> {
        match bounded::read_own(git_dir, PARTS, MAX_BYTES) {
            Ok(text) => Ok(match serde_json::from_slice(&text) {
                Ok(record) if Self::can_count(&record) => (record, false),
                _ => (Self::default(), true),
            }),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok((Self::default(), false)),
            Err(err) if err.kind() == io::ErrorKind::InvalidData => Ok((Self::default(), true)),
            Err(err) => Err(err),
        }
    }

    /// Whether no counter can overflow.
    fn can_count(&self) -> bool {
        let counts = self.trees.iter().flat_map(|tree| [tree.turn, tree.made]);
        let mut counts = counts.chain([self.turn, self.made]);
        counts.all(|count| count < MAX_COUNT)
    }

    /// Write it; with `fsync`, so that it survives a power cut.
    pub fn write(&mut self, git_dir: &Path, fsync: bool) -> io::Result<()> {
        self.version = VERSION;
        let (path, text) = (Self::file(git_dir), serde_json::to_vec(self)?);
        let flush = if fsync { Flush::Name } else { Flush::Nothing };
        Replace::by(&path.with_extension("json.tmp"), Access::Usual, flush).write(&path, &text)
    }

    /// Its path.
    pub fn file(git_dir: &Path) -> PathBuf {
        git_dir.join(PARTS[0]).join(PARTS[1])
    }

    /// The tree whose directory is `dir`.
    pub fn tree_at(&self, dir: Directory) -> Option<&Tree> {
        self.trees.iter().find(|tree| tree.dir == Some(dir))
    }

    /// The tree that is called `id`.
    pub fn tree(&self, id: &Id) -> Option<&Tree> {
        self.trees.iter().find(|tree| tree.id == *id)
    }

    /// The tree that is called `id`, to be changed.
    pub fn tree_mut(&mut self, id: &Id) -> Option<&mut Tree> {
        self.trees.iter_mut().find(|tree| tree.id == *id)
    }
}
