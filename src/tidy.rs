//! Keeps a repository from filling up: packs are put together, and what nothing refers to any more goes.
//!
//! [`tidy`] comes after a run and does nothing most of the time. When many packs have come together, the small ones
//! become one, with all they hold. When packs have grown to twice what was alive in them, what is alive becomes
//! one pack, and the rest goes. Both read and write without the target's lock, which is only taken to
//! swap the packs, after a look at what has happened meanwhile.
//!
//! Invariant: what is not dropped has everything it refers to, at every moment. Nothing is dropped that refs, HEADs,
//! indices or reflogs lead to, or that somebody has touched within the grace. This room does not know what a run is.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use gix::ObjectId;
use rustix::fs::{FlockOperation, flock};

use crate::{
    event::Reporter,
    fault::{Blame, Kind, kind_of_io},
    lock,
    name::AbsPath,
    repository,
};

mod delta;
mod leave;
mod memory;
mod merge;
mod reach;
mod reflog;
mod roots;
mod similar;
mod stock;
mod swap;
#[cfg(test)]
mod tests;

pub use leave::Reason;

use memory::Memory;
use merge::Merged;
use reach::{Reach, Worth};
use reflog::Policy;
use roots::Roots;
use stock::{Pack, Stock, Work};

/// What is younger is not dropped, whoever wrote it: a git at work writes objects, or finds that they are there,
/// some time before a ref or the index names them.
pub const GRACE: Duration = Duration::from_secs(3600);

/// Below `objects`, so that a rename leads from here to `objects/pack`; `git prune` would remove it as well.
const TEMPORARY: &str = "tmp_gitsocket-tidy";

/// A repository could not be tidied. It is as usable as before.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The target could not be locked.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] lock::Error),
    /// The repository could not be opened.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Open(#[from] repository::Error),
    /// A file could not be read or written.
    #[error("cannot {doing} {path}: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to read and write the git directory"))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A part of the repository cannot be understood.
    #[error("cannot read {what}: {reason}")]
    #[diagnostic(help("run `git fsck` in it, and repair it; or remove it, and the next run clones it anew"))]
    Repository {
        /// The part.
        what: String,
        /// Why.
        reason: String,
    },
    /// Something needed is not there.
    #[error("object {id} is missing")]
    #[diagnostic(help("run `git fsck` in it, and repair it; or remove it, and the next run clones it anew"))]
    Missing {
        /// The object.
        id: ObjectId,
    },
    /// A pack is damaged.
    #[error("object {id} in {path} is damaged")]
    #[diagnostic(help("run `git fsck` in it, and repair it; or remove it, and the next run clones it anew"))]
    Corrupt {
        /// The pack.
        path: PathBuf,
        /// The object.
        id: ObjectId,
    },
    /// What was written is not what was to be written.
    #[error("the new pack's index {path} does not hold what it should; nothing was replaced")]
    #[diagnostic(help("if it happens again, look at the machine's memory and disk"))]
    Unequal {
        /// The index.
        path: PathBuf,
    },
    /// A pack counts its objects in 32 bits.
    #[error("there are more objects than a pack can hold")]
    #[diagnostic(help("set gc.auto to 0 in it, and tidy it with git"))]
    TooMany,
}

impl Error {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.into();
        Self::Io { doing, path, source }
    }

    fn object(id: &gix::oid, err: &gix::Error) -> Self {
        Self::repository(&format!("object {id}"), err)
    }

    fn pack(path: &Path, err: &gix::Error) -> Self {
        Self::repository(&path.display().to_string(), err)
    }

    fn repository(what: &str, err: &gix::Error) -> Self {
        Self::Repository {
            what: what.into(),
            reason: repository::reason(err),
        }
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Lock(err) => err.kind(),
            Self::Open(err) => err.kind(),
            Self::Io { source, .. } => kind_of_io(source),
            _ => Kind::Repository,
        }
    }
}

/// What to tidy.
pub struct Options<'a> {
    /// The target's path: what runs lock.
    pub path: &'a AbsPath,
    /// Its git directory.
    pub git_dir: &'a Path,
    /// Whether history is bounded by `depth`: then the reflog of a shallow repository keeps no deploy alive.
    pub is_bounded: bool,
    /// What is younger than that is not dropped; see [`GRACE`].
    pub grace: Duration,
    /// Commits that must stay though no ref names them, as they are when this is called.
    pub pinned: &'a dyn Fn() -> Vec<ObjectId>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to do.
    NotDue,
    /// Somebody is at it already.
    Busy,
    /// Somebody changed what it was about; the next time may have more luck.
    Overtaken,
    /// There was something to do, but not for us.
    LeftAlone(Reason),
    /// Small packs are one now.
    Merged(Change),
    /// Garbage is gone.
    Collected(Change),
}

/// Packs before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// How many there were, and are.
    pub packs: (usize, usize),
    /// Their bytes.
    pub bytes: (u64, u64),
}

/// Tidy if that is due. Waits for nobody, but for the target's lock at the end.
pub fn tidy(options: &Options<'_>) -> Result<Outcome, Error> {
    let now = SystemTime::now();
    let objects = options.git_dir.join("objects");
    let stock = Stock::read(&objects)?;
    let memory = Memory::read(options.git_dir);
    let has_rest = objects.join(TEMPORARY).exists();
    if let Some(memory) = &memory
        && !has_rest
        && (memory.is_paused(now) || stock.work(memory, now, options.grace) == Work::Nothing)
    {
        return Ok(Outcome::NotDue);
    }
    let Some(alone) = Alone::new(&objects)? else {
        return Ok(Outcome::Busy);
    };
    let memory = memory.unwrap_or(Memory {
        alive_bytes: stock.free_bytes(),
        loose: stock.loose,
        cuts: stock.cuts,
        paused_until: 0,
    });
    let outcome = Tidying {
        options,
        objects: &objects,
        now,
        memory: &memory,
        temporary: &alone.temporary,
    }
    .run();
    match &outcome {
        Ok(Outcome::NotDue) => memory.write(options.git_dir)?,
        // It may be the same for every run, and costs each of them a while.
        // If that cannot be written either, the first error says more.
        Err(_) | Ok(Outcome::LeftAlone(_)) => drop(memory.paused(now).write(options.git_dir)),
        Ok(_) => {}
    }
    outcome
}

/// The only one to tidy a repository: a lock on `objects/pack`, which dies with its holder; and a directory
/// for what is being written.
struct Alone {
    _lock: File,
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
        Ok(Some(Self {
            _lock: lock,
            temporary,
        }))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // What cannot be removed now is removed the next time.
        drop(clear(&self.temporary));
    }
}

fn clear(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", dir, err)),
        _ => Ok(()),
    }
}

struct Tidying<'a> {
    options: &'a Options<'a>,
    objects: &'a Path,
    now: SystemTime,
    memory: &'a Memory,
    temporary: &'a Path,
}

impl Tidying<'_> {
    fn run(&self) -> Result<Outcome, Error> {
        // Anew: whoever held the lock may have done it.
        let stock = Stock::read(self.objects)?;
        let work = stock.work(self.memory, self.now, self.options.grace);
        let packs = match &work {
            Work::Nothing => return Ok(Outcome::NotDue),
            Work::Merge(packs) | Work::Collect(packs) => packs,
        };
        let mut repo = repository::open(self.options.git_dir)?;
        if let Some(reason) = leave::reason(&repo, self.now)? {
            return Ok(Outcome::LeftAlone(reason));
        }
        if !self.has_room(packs)? {
            return Ok(Outcome::LeftAlone(Reason::Space));
        }
        // What is replaced is needed as much as what replaces it.
        repo.objects.ignore_replacements = true;
        repo.objects
            .set_pack_cache(|| Box::new(gix_pack::cache::lru::MemoryCappedHashmap::new(CACHE_BYTES)));
        fs::create_dir(self.temporary).map_err(|err| Error::io("create", self.temporary, err))?;
        match &work {
            Work::Collect(packs) => self.collect(&repo, &stock, packs),
            _ => self.merge(&repo, &stock, packs),
        }
    }

    /// Put `packs` together.
    fn merge(&self, repo: &gix::Repository, stock: &Stock, packs: &[Pack]) -> Result<Outcome, Error> {
        let db = repo.objects.clone().into_inner();
        let Some(merged) = merge::merge(
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
        let _lock = lock::acquire(self.options.path, &Reporter::new(|_| {}))?;
        if !swap::are_there(packs, false)? || leave::reason(repo, self.now)?.is_some() {
            return Ok(Outcome::Overtaken);
        }
        swap::age(&merged, packs)?;
        swap::install(&merged, &self.pack_dir())?;
        swap::remove_packs(packs, Some(&merged.name), &self.pack_dir())?;
        self.change(stock).map(Outcome::Merged)
    }

    /// Put together what is alive in `packs`, and drop the rest.
    fn collect(&self, repo: &gix::Repository, stock: &Stock, packs: &[Pack]) -> Result<Outcome, Error> {
        let db = repo.objects.clone().into_inner();
        let shallow = swap::shallow(self.options.git_dir)?;
        let policy = Policy::of(repo, self.now, self.options.is_bounded && !shallow.is_empty());
        let others: Vec<Pack> = stock
            .packs
            .iter()
            .filter(|pack| !packs.contains(pack))
            .cloned()
            .collect();
        let spared = Indices::open(&others, repo.object_hash())?;

        let mut reach = Reach::new(&db, shallow);
        let Some(roots) = self.follow(repo, policy, &mut reach, None)? else {
            return Ok(Outcome::LeftAlone(Reason::Index));
        };
        let loose = self.old_loose(repo, &reach)?;
        // These stay, and so does all they refer to.
        self.follow_loose(repo, &mut reach)?;
        spared.each(|id| reach.follow(id, Worth::Kept))?;
        let wanted = |id: &ObjectId| reach.has(id) && !spared.have(id);
        let merged = merge::merge(
            &db,
            repo.object_hash(),
            packs,
            &loose,
            &wanted,
            false,
            self.temporary,
        )?;

        let _lock = lock::acquire(self.options.path, &Reporter::new(|_| {}))?;
        if !swap::are_there(packs, true)?
            || !swap::are_there(&others, false)?
            || leave::reason(repo, self.now)?.is_some()
            || !self.catch_up(
                repo,
                policy,
                (&roots, &mut reach),
                (packs, &others),
                merged.as_ref(),
            )?
            || !self.expire_reflogs(policy, &reach)?
        {
            return Ok(Outcome::Overtaken);
        }
        let new = merged.as_ref().map(|merged| merged.name.as_str());
        if let Some(merged) = &merged {
            swap::install(merged, &self.pack_dir())?;
        }
        if Indices::open(packs, repo.object_hash())?.any(|id| !reach.has(id)) {
            swap::remove_commit_graph(self.objects)?;
        }
        swap::remove_packs(packs, new, &self.pack_dir())?;
        // Not by `db`, which remembers packs that are gone.
        let repo = repository::open(self.options.git_dir)?;
        let last = reach.beginning().filter(|_| self.options.is_bounded);
        swap::prune_shallow(self.options.git_dir, &|id| repo.has_object(id), last)?;
        self.prune_loose(&repo)?;
        let left = Stock::read(self.objects)?;
        let memory = Memory {
            alive_bytes: merged.map_or(0, |merged| merged.bytes),
            loose: left.loose,
            cuts: left.cuts,
            paused_until: 0,
        };
        memory.write(self.options.git_dir)?;
        self.change(stock).map(Outcome::Collected)
    }

    /// Follow all that keeps objects alive, as it is now, but for what was read `before`. `None`: an index is not
    /// understood.
    fn follow(
        &self,
        repo: &gix::Repository,
        policy: Policy,
        reach: &mut Reach<'_>,
        before: Option<&Roots>,
    ) -> Result<Option<Roots>, Error> {
        let Some(roots) = Roots::read(repo, policy, before)? else {
            return Ok(None);
        };
        roots.follow(reach)?;
        for id in (self.options.pinned)() {
            reach.follow(id, Worth::Kept)?;
        }
        Ok(Some(roots))
    }

    /// Nobody but git writes loose objects here: they stay, whatever they are for, until git prunes them.
    fn follow_loose(&self, repo: &gix::Repository, reach: &mut Reach<'_>) -> Result<(), Error> {
        for (id, _) in swap::loose(self.objects, repo.object_hash()) {
            reach.follow(id, Worth::Kept)?;
        }
        Ok(())
    }

    /// Follow what has come meanwhile. Whether all that needs is in the new pack, or in one that stays.
    fn catch_up(
        &self,
        repo: &gix::Repository,
        policy: Policy,
        (roots, reach): (&Roots, &mut Reach<'_>),
        (packs, others): (&[Pack], &[Pack]),
        merged: Option<&Merged>,
    ) -> Result<bool, Error> {
        if !reach.begin_again(swap::shallow(self.options.git_dir)?)
            || self.follow(repo, policy, reach, Some(roots))?.is_none()
        {
            return Ok(false);
        }
        self.follow_loose(repo, reach)?;
        let is_known = |pack: &Pack| packs.iter().chain(others).any(|other| other.path == pack.path);
        let mut come = Stock::read(self.objects)?.packs;
        come.retain(|pack| !is_known(pack));
        Indices::open(&come, repo.object_hash())?.each(|id| reach.follow(id, Worth::Kept))?;
        let going = Indices::open(packs, repo.object_hash())?;
        let mut new = Vec::new();
        if let Some(merged) = merged {
            new.push(merge::open_index(&merged.index, repo.object_hash())?);
        }
        let new = Indices(new);
        Ok(reach.fresh().iter().all(|id| !going.have(id) || new.have(id)))
    }

    /// Drop the lines of reflogs that refer to what goes; whether that could be done.
    fn expire_reflogs(&self, policy: Policy, reach: &Reach<'_>) -> Result<bool, Error> {
        for dir in roots::admin_dirs(self.options.git_dir)? {
            for log in reflog::all(&dir)? {
                if !log.expire(policy, self.options.git_dir, &|id| reach.has(id))? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Loose objects that are alive and older than the grace.
    fn old_loose(&self, repo: &gix::Repository, reach: &Reach<'_>) -> Result<Vec<ObjectId>, Error> {
        let mut old = Vec::new();
        for (id, path) in swap::loose(self.objects, repo.object_hash()) {
            if reach.has(&id) && self.is_old(&path)? {
                old.push(id);
            }
        }
        Ok(old)
    }

    /// Remove loose objects that are packed as well, as `git prune-packed` does.
    fn prune_loose(&self, repo: &gix::Repository) -> Result<(), Error> {
        let packs = Stock::read(self.objects)?.packs;
        let packed = Indices::open(&packs, repo.object_hash())?;
        for (id, path) in swap::loose(self.objects, repo.object_hash()) {
            if packed.have(&id) && self.is_old(&path)? {
                swap::remove(&path)?;
            }
        }
        Ok(())
    }

    fn is_old(&self, path: &Path) -> Result<bool, Error> {
        let meta = stock::metadata(path)?;
        Ok(meta.is_some_and(|meta| stock::is_older(stock::modified(&meta), self.now, self.options.grace)))
    }

    /// Whether a second copy of `packs` fits, and leaves some room to the runs.
    fn has_room(&self, packs: &[Pack]) -> Result<bool, Error> {
        let bytes: u64 = packs.iter().map(|pack| pack.bytes).sum();
        let room = rustix::fs::statvfs(self.objects)
            .map_err(|errno| Error::io("look at the room left at", self.objects, errno.into()))?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize) > bytes + bytes / 4 + (1 << 20))
    }

    fn pack_dir(&self) -> PathBuf {
        self.objects.join("pack")
    }

    fn change(&self, before: &Stock) -> Result<Change, Error> {
        let after = Stock::read(self.objects)?;
        let bytes = |stock: &Stock| stock.packs.iter().map(|pack| pack.bytes).sum();
        Ok(Change {
            packs: (before.packs.len(), after.packs.len()),
            bytes: (bytes(before), bytes(&after)),
        })
    }
}

/// How many bytes of unpacked objects are kept while trees are read.
const CACHE_BYTES: usize = 32 << 20;

/// Which objects are in some packs.
struct Indices(Vec<gix_pack::index::File>);

impl Indices {
    fn open(packs: &[Pack], hash: gix::hash::Kind) -> Result<Self, Error> {
        let open = |pack: &Pack| merge::open_index(&pack.path.with_extension("idx"), hash);
        packs.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    fn have(&self, id: &ObjectId) -> bool {
        self.0.iter().any(|index| index.lookup(id).is_some())
    }

    fn any(&self, mut f: impl FnMut(&ObjectId) -> bool) -> bool {
        self.0
            .iter()
            .any(|index| (0..index.num_objects()).any(|at| f(&index.oid_at_index(at).to_owned())))
    }

    fn each(&self, mut f: impl FnMut(ObjectId) -> Result<(), Error>) -> Result<(), Error> {
        for index in &self.0 {
            for at in 0..index.num_objects() {
                f(index.oid_at_index(at).to_owned())?;
            }
        }
        Ok(())
    }
}
