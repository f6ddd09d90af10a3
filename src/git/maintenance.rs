//! Keeps a repository from filling up: packs are put together, and what nothing refers to any more goes.
//!
//! [`maintain`] comes after a run and does nothing most of the time. When many packs have come together, the small ones
//! become one, with all they hold. When packs have grown to twice what was alive in them, what is alive becomes
//! one pack, and the rest goes. Both read and write without the target's lock, which is only taken to
//! install the new pack in their place, after a look at what has happened meanwhile.
//!
//! Invariant: what is not dropped has everything it refers to, at every moment. Nothing is dropped that refs, HEADs,
//! indices or reflogs lead to, or that was touched within the grace. This module does not know what a run is.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    base::{descent, fault::if_there},
    git::{
        fetch::depth,
        repository::{self, Sharing},
    },
};

mod checkpoint;
mod cuts;
mod delta;
mod error;
mod exempt;
mod files;
mod gc;
mod install;
mod output;
mod packs;
mod reach;
mod reflog;
mod repack;
mod roots;
mod similar;
mod task;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use exempt::Reason;
pub use task::{Change, Mark, Options, Outcome};

use checkpoint::Checkpoint;
use packs::{Inventory, Pack, Work};
use task::Maintenance;

/// What is younger is not dropped: a git at work writes objects, or finds that they are there,
/// some time before a ref or the index names them.
pub const GRACE: Duration = Duration::from_secs(3600);

/// Below `objects`, so that a rename leads from here to `objects/pack`; `git prune` would remove it as well. The name is
/// that of older versions, so that each removes what the other left.
const TEMPORARY: &str = "tmp_gitsocket-tidy";

/// Do what is due. Waits for nothing but the target's lock at the end.
pub fn maintain(options: &Options<'_>) -> Result<Outcome, Error> {
    let now = SystemTime::now();
    let objects = options.git_dir.join("objects");
    if !objects.join("pack").is_dir() {
        // No repository, whatever it is: the run has said so.
        return Ok(Outcome::NotDue);
    }
    let inventory = Inventory::read(&objects)?;
    let checkpoint = Checkpoint::read(options.git_dir).map(|checkpoint| checkpoint.bounded_by(options.depth));
    let has_rest = objects.join(TEMPORARY).exists();
    if let Some(checkpoint) = &checkpoint
        && !has_rest
        && (checkpoint.is_paused(now) || inventory.work(checkpoint, now, options.grace) == Work::Nothing)
    {
        return Ok(Outcome::NotDue);
    }
    let Some(alone) = Alone::new(&objects)? else {
        return Ok(Outcome::Busy);
    };
    let checkpoint = checkpoint.unwrap_or_else(|| {
        let first = Checkpoint {
            alive_bytes: inventory.free_bytes(),
            loose: inventory.loose,
            cuts: 0,
            looked: 0,
            depth: task::bound(options.depth).filter(|_| !depth::has_changed(options.git_dir)),
            paused_until: 0,
        };
        first.bounded_by(options.depth)
    });
    let outcome = Maintenance {
        options,
        objects: &objects,
        now,
        checkpoint: &checkpoint,
        temporary: &alone.temporary,
    }
    .run();
    match &outcome {
        Ok(Outcome::NotDue) => checkpoint.write(options.git_dir)?,
        // It may be the same for every run, and costs each of them a while.
        // If that cannot be written either, the first error says more.
        Err(_) | Ok(Outcome::LeftAlone(_)) => drop(checkpoint.paused(now).write(options.git_dir)),
        Ok(_) => {}
    }
    outcome
}

/// The only one at the maintenance of a repository: a lock on `objects/pack`, which dies with its holder; and a directory
/// for what is being written.
struct Alone {
    lock: File,
    temporary: PathBuf,
}

impl Alone {
    fn new(objects: &Path) -> Result<Option<Self>, Error> {
        let pack_dir = objects.join("pack");
        let failed = |err| Error::io("lock", &pack_dir, err);
        let lock = File::open(&pack_dir).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        }
        let temporary = objects.join(TEMPORARY);
        clear(&temporary)?;
        Ok(Some(Self { lock, temporary }))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // What cannot be removed now is removed the next time.
        drop(clear(&self.temporary));
        // Closing would not do: a hook that is about to be started elsewhere has a copy of it until then.
        flock(&self.lock, FlockOperation::Unlock).ok();
    }
}

fn clear(dir: &Path) -> Result<(), Error> {
    let removed = if_there(descent::remove_all(dir)).map_err(|err| Error::io("remove", dir, err));
    removed.map(drop)
}

impl Maintenance<'_> {
    fn run(&self) -> Result<Outcome, Error> {
        // Read again: the process that held the lock may have done it.
        let inventory = Inventory::read(self.objects)?;
        let work = inventory.work(self.checkpoint, self.now, self.options.grace);
        let packs = match &work {
            Work::Nothing => return Ok(Outcome::NotDue),
            Work::Cuts => &Vec::new(),
            Work::Repack(packs) | Work::Collect(packs) => packs,
        };
        let mut repo = repository::open(self.options.git_dir)?;
        if let Some(reason) = exempt::reason(&repo, self.now)? {
            return Ok(Outcome::LeftAlone(reason));
        }
        if !self.has_space(packs)? {
            return Ok(Outcome::LeftAlone(Reason::Space));
        }
        if work == Work::Cuts {
            return self.uncut(&repo, &inventory);
        }
        repo.objects
            .set_pack_cache(|| Box::new(gix_pack::cache::lru::MemoryCappedHashmap::new(CACHE_BYTES)));
        fs::create_dir(self.temporary).map_err(|err| Error::io("create", self.temporary, err))?;
        match &work {
            Work::Collect(packs) => self.collect(&repo, &inventory, packs),
            _ => self.repack(&repo, &inventory, packs),
        }
    }

    fn repack(
        &self,
        repo: &gix::Repository,
        inventory: &Inventory,
        packs: &[Pack],
    ) -> Result<Outcome, Error> {
        let db = repo.objects.clone().into_inner();
        let Some(merged) = repack::repack(
            &db,
            repo.object_hash(),
            packs,
            &[],
            &|_| true,
            true,
            self.temporary,
        )?
        else {
            return Ok(Outcome::NotDue);
        };
        let _lock = self.lock()?;
        let _mark = self.mark()?;
        if !install::are_there(packs, false)? || exempt::reason(repo, self.now)?.is_some() {
            return Ok(Outcome::Overtaken);
        }
        install::age(&merged, packs)?;
        install::install(&merged, &self.pack_dir(), Sharing::of(repo))?;
        install::remove_packs(packs, Some(&merged.name), &self.pack_dir())?;
        self.change(inventory).map(Outcome::Repacked)
    }
}

/// How many bytes of unpacked objects are kept while trees are read.
const CACHE_BYTES: usize = 32 << 20;
