//! One maintenance: what it is given, what comes of it, and what its kinds share.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use gix::ObjectId;

use super::{
    Error, Reason,
    checkpoint::Checkpoint,
    packs::{Inventory, Pack},
};
use crate::{
    base::{
        durable,
        report::Reporter,
        watch::{Stop, Watch},
    },
    git::{lock, origin::Depth},
};

/// How long to wait until the new pack can be installed: the next run has the target for seconds, as a rule, and if it needs
/// longer, what was done is overtaken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Marks what a kill would leave while packs are replaced, as a run marks what it writes.
pub trait Mark {
    fn begin(&self) -> std::io::Result<()>;
    fn end(&self);
}

/// What to maintain.
pub struct Options<'a> {
    /// The root of the target's worktree.
    pub root: &'a Path,
    pub git_dir: &'a Path,
    /// How much history there is to be: if that is bounded, reflogs keep no deploy alive.
    pub depth: Depth,
    /// The age below which nothing is dropped; see [`GRACE`](super::GRACE).
    pub grace: Duration,
    /// Commits that must stay though no ref names them, as they are when this is called.
    pub pinned: &'a dyn Fn() -> Vec<ObjectId>,
    pub mark: Option<&'a dyn Mark>,
}

/// What came of a maintenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    NotDue,
    /// Another process is at it already.
    Busy,
    /// Another process changed the repository meanwhile; the next time may have more luck.
    Overtaken,
    /// There was something to do, but not for us.
    LeftAlone(Reason),
    Repacked(Change),
    Collected(Change),
    /// History is cut at so many commits no more.
    Uncut(u64),
}

/// Packs before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// How many there were, and are.
    pub packs: (usize, usize),
    /// Their bytes.
    pub bytes: (u64, u64),
}

/// The most commits of history that may be here.
pub(super) fn bound(depth: Depth) -> Option<NonZeroU32> {
    match depth {
        Depth::Commits(depth) => Some(depth),
        Depth::Same | Depth::All => None,
    }
}

/// One maintenance: what its kinds share.
pub(super) struct Maintenance<'a> {
    pub(super) options: &'a Options<'a>,
    pub(super) objects: &'a Path,
    pub(super) now: SystemTime,
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) temporary: &'a Path,
}

impl Maintenance<'_> {
    /// Whether a second copy of `packs` fits, and leaves some room to the runs.
    pub(super) fn has_space(&self, packs: &[Pack]) -> Result<bool, Error> {
        let bytes: u64 = packs.iter().map(|pack| pack.bytes).sum();
        let space = durable::free_space(self.objects)
            .map_err(|err| Error::io("look at the free space at", self.objects, err))?;
        Ok(space.is_none_or(|space| space.left > bytes + bytes / 4 + (1 << 20)))
    }

    /// Mark the target, whose lock is held, until the value is dropped.
    pub(super) fn mark(&self) -> Result<Marked<'_>, Error> {
        if let Some(run) = self.options.mark {
            run.begin()
                .map_err(|err| Error::io("mark", self.options.git_dir, err))?;
        }
        Ok(Marked(self.options.mark))
    }

    /// Lock the target: no run is at work then.
    pub(super) fn lock(&self) -> Result<lock::Lock, Error> {
        let Options { git_dir, root, .. } = *self.options;
        // How long a run of the target is waited for.
        let patience = Watch::new(PATIENCE, Stop::default(), None);
        let silent = Reporter::new(|_| {});
        Ok(lock::acquire(&lock::file(git_dir), root, &patience, &silent)?)
    }

    pub(super) fn pack_dir(&self) -> PathBuf {
        self.objects.join("pack")
    }

    pub(super) fn change(&self, before: &Inventory) -> Result<Change, Error> {
        let after = Inventory::read(self.objects)?;
        let bytes = |inventory: &Inventory| inventory.packs.iter().map(|pack| pack.bytes).sum();
        Ok(Change {
            packs: (before.packs.len(), after.packs.len()),
            bytes: (bytes(before), bytes(&after)),
        })
    }
}

/// Ends with the replacement, before the lock.
pub(super) struct Marked<'a>(Option<&'a dyn Mark>);

impl Drop for Marked<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.0 {
            run.end();
        }
    }
}
