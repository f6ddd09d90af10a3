//! What is remembered of releases, in `gitsocket/releases.json` below the git directory. It is written under the target's
//! lock, before each step that changes what a tree is: so whatever is found on the disk, the record says what it was
//! to become.

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
/// The longest file, in bytes: of 102 trees, which take some 300 bytes each, and twenty times as many.
const MAX_BYTES: u64 = 1 << 20;

/// How often a tree may have become live, or been begun: more than can have happened, and far from what a number can hold.
const MAX_COUNT: u64 = 1 << 48;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    version: u32,
    /// How often a tree has become live.
    pub turn: u64,
    /// How often one was begun.
    pub made: u64,
    /// The names at which there may be something that leads to a release: the one that the configuration has, and earlier ones.
    pub names: Vec<String>,
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
    /// The how manieth it is: clocks are set back.
    pub made: u64,
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
    /// Whether it was taken back, and has not been good again since.
    #[serde(default)]
    pub is_rejected: bool,
    /// Whether a link leads to it that was the live one until the configuration named another.
    #[serde(default)]
    pub is_linked: bool,
    /// It could not be brought to a commit, and only goes.
    #[serde(default)]
    pub is_stuck: bool,
    /// What its files take on the disk, in bytes.
    pub bytes: u64,
}

/// Which directory a tree is, as long as it exists. The device does not count: its number may be another one tomorrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// See inode(7).
    pub inode: u64,
    /// In nanoseconds since 1970, where the file system says: the inode of a directory that was removed may be another's.
    pub born: Option<u64>,
}

impl Tree {
    /// One that is to hold `commit`, of which there is nothing yet.
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
    /// That of the repository at `git_dir`. One that is missing is empty; and so is one that is damaged, as a power cut may leave it
    /// without `fsync`: the trees are foreign then, and stay. Says whether it was damaged.
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

    /// Whether one more is still a number.
    fn can_count(&self) -> bool {
        let counts = self.trees.iter().flat_map(|tree| [tree.turn, tree.made]);
        let mut counts = counts.chain([self.turn, self.made]);
        counts.all(|count| count < MAX_COUNT)
    }

    /// Write it; with `fsync`, so that a power cut does not take it.
    pub fn write(&mut self, git_dir: &Path, fsync: bool) -> io::Result<()> {
        self.version = VERSION;
        let (path, text) = (Self::file(git_dir), serde_json::to_vec(self)?);
        let flush = if fsync { Flush::Name } else { Flush::Nothing };
        Replace::by(&path.with_extension("json.tmp"), Access::Usual, flush).write(&path, &text)
    }

    /// Where it is.
    pub fn file(git_dir: &Path) -> PathBuf {
        git_dir.join(PARTS[0]).join(PARTS[1])
    }

    /// The tree that `dir` is.
    pub fn tree_at(&self, dir: Directory) -> Option<&Tree> {
        self.trees.iter().find(|tree| tree.dir == Some(dir))
    }

    /// The tree that is called `id`.
    pub fn tree(&self, id: &Id) -> Option<&Tree> {
        self.trees.iter().find(|tree| tree.id == *id)
    }

    /// The same, to be changed.
    pub fn tree_mut(&mut self, id: &Id) -> Option<&mut Tree> {
        self.trees.iter_mut().find(|tree| tree.id == *id)
    }
}
