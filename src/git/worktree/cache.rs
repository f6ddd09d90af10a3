//! What a daemon remembers of worktrees from one run to the next: the index as it was read, and which directories
//! held nothing but tracked files.
//!
//! It is never believed without a look: the index must be the same file as then, a directory must have the same
//! times as then. A run takes what is remembered, and gives back what it found once it has succeeded.
//! It is bounded, and it may be empty at any time.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use gix::bstr::{BStr, BString};

use super::{
    Others,
    dirs::{self, Meta},
    stored::Stored,
};
use crate::base::{
    identity::{Identity, Stamp},
    mutex,
};

/// What is remembered of all worktrees is no more than this.
const MAX_BYTES: usize = 64 << 20;

/// A directory that has changed this shortly before it was listed may have changed again without a trace.
/// Some file systems count in steps of two seconds. Tests have no time for them.
const SETTLED: Duration = if cfg!(debug_assertions) {
    Duration::from_millis(20)
} else {
    Duration::from_secs(3)
};

/// What is remembered of the worktrees of one process. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Cache {
    worktrees: Arc<Mutex<HashMap<PathBuf, Remembered>>>,
    others: Others,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cache")
    }
}

/// What is remembered of one worktree.
#[derive(Default)]
pub(super) struct Remembered {
    /// All of this goes with the file that this was read from.
    pub(super) index: Option<Stored>,
    pub(super) quiet: Quiet,
}

/// The directories in which every name was tracked, and what they were like then.
pub(super) type Quiet = HashMap<BString, DirStamp>;

/// What changes with the names in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirStamp {
    dir: Identity,
    times: [gix::index::entry::stat::Time; 2],
}

impl DirStamp {
    pub(super) fn of(dir: &Meta) -> Self {
        Self {
            dir: dir.identity,
            times: [dir.stat.mtime, dir.stat.ctime],
        }
    }

    /// Whether the next change will leave a trace, if all was seen at `now`.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let settled = |time: &gix::index::entry::stat::Time| {
            Duration::new(time.secs.into(), time.nsecs) + SETTLED < since
        };
        self.times.iter().all(settled)
    }
}

impl Cache {
    /// An empty cache that knows where other targets are.
    pub fn beside(others: Others) -> Self {
        Self {
            others,
            ..Self::default()
        }
    }

    pub fn others(&self) -> &Others {
        &self.others
    }

    /// What is known of the worktree at `root`, if its index is still the same file.
    pub(super) fn take(&self, root: &Path, index: &Path) -> Remembered {
        let known = self.lock().remove(root).unwrap_or_default();
        let now = fs::metadata(index).ok().map(|meta| Stamp::of(&meta));
        if now.is_some() && now == known.file() {
            known
        } else {
            Remembered::default()
        }
    }

    /// Remember `known`. If it is too much, all else is forgotten, or it is.
    pub(super) fn put(&self, root: &Path, known: Remembered) {
        if known.file().is_none() || known.bytes() > MAX_BYTES {
            return;
        }
        let mut all = self.lock();
        all.insert(root.into(), known);
        while all.values().map(Remembered::bytes).sum::<usize>() > MAX_BYTES {
            let Some(other) = all.keys().find(|other| *other != root).cloned() else {
                break;
            };
            all.remove(&other);
        }
    }

    /// How many directories are known to be quiet.
    #[cfg(test)]
    pub(super) fn quiet(&self) -> usize {
        self.lock().values().map(|known| known.quiet.len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Remembered>> {
        mutex::lock(&self.worktrees)
    }
}

impl Remembered {
    /// These paths are no longer tracked: what is left there after their deletion must be seen.
    pub(super) fn forget_parents<'p>(&mut self, paths: impl Iterator<Item = &'p BStr>) {
        for path in paths {
            for dir in dirs::parents(path) {
                self.quiet.remove(&dirs::join(dir, "".into()));
            }
            self.quiet.remove(BStr::new(""));
        }
    }

    fn file(&self) -> Option<Stamp> {
        self.index.as_ref()?.file
    }

    /// About what it takes.
    fn bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, Stored::bytes);
        let paths: usize = self.quiet.keys().map(|path| path.len()).sum();
        index + paths + self.quiet.capacity() * (size_of::<(BString, DirStamp)>() + 1)
    }
}
