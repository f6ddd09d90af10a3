//! A pack comes in: it is written beside the others and indexed, in bounded memory, whatever it holds.
//!
//! gitoxide would do it, too, but keeps each entry as it is packed in memory, and every object that others are deltas of
//! until the last of them is undone. So gitoxide is given an empty pack in the place of the one that comes ([`Receiving`]).
//! Straight on: entries are written, measured and hashed while they arrive (`stream`), deltas are undone (`resolve`),
//! the index is written (`index`), and only then do pack and index get their names.
//!
//! What is above a bound is an error, and what was written of the pack is removed at once.

use std::{
    fs::File,
    io::{self, BufRead},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use gix::ObjectId;

use crate::{
    base::{
        mutex,
        report::{Phase, Report, Reporter},
    },
    git::{large::Scratch, repository::Sharing, transport::Deadline},
};

mod counted;
mod error;
mod index;
mod names;
mod resolve;
mod store;
mod stream;
mod table;
mod transport;

use counted::Counted;
pub use error::Error;
use error::Fail;
use names::Names;
pub use names::Whole;
pub use store::Limits;
use store::{Progress, Store, Temporary};
pub use transport::Receiving;

/// What has come.
#[derive(Debug, Default)]
pub struct Taken {
    /// The pack's `.keep`, if a pack has come and it is new.
    pub keep: Option<PathBuf>,
    /// The pack, if it is new and lacks nothing.
    pub whole: Option<Whole>,
}

/// Takes in the pack of one fetch.
pub struct Intake {
    repo: Mutex<gix::Repository>,
    limits: Limits,
    report: Reporter,
    outcome: Mutex<Option<Result<Taken, Error>>>,
}

impl Intake {
    pub fn new(repo: &gix::Repository, limits: Limits, report: &Reporter) -> Self {
        Self {
            repo: Mutex::new(repo.clone()),
            limits,
            report: report.clone(),
            outcome: Mutex::default(),
        }
    }

    /// What has come, or why it could not be taken in.
    pub fn outcome(&self) -> Result<Taken, Error> {
        let mut outcome = mutex::lock(&self.outcome);
        outcome.take().unwrap_or(Ok(Taken::default()))
    }

    /// Take in the pack that `from` is at the beginning of. Gives the hash it is known by.
    fn take(&self, from: &mut dyn BufRead) -> io::Result<()> {
        let repo = mutex::lock(&self.repo).clone();
        let outcome = match self.receive(&repo, from) {
            Err(Fail::Connection(err)) => return Err(err),
            Err(Fail::Ours(err)) => Err(err),
            Ok(taken) => Ok(taken),
        };
        let failed = outcome.is_err();
        *mutex::lock(&self.outcome) = Some(outcome);
        if failed {
            Err(io::Error::other("the pack was not taken in"))
        } else {
            Ok(())
        }
    }

    fn receive(&self, repo: &gix::Repository, from: &mut dyn BufRead) -> Result<Taken, Fail> {
        let dir = repo.objects.store_ref().path().join("pack");
        let store = Store {
            hash: repo.object_hash(),
            scratch: Scratch::new(&dir),
            dir: &dir,
            limits: self.limits,
            names: Names::new(),
            sharing: Sharing::of(repo),
        };
        let mut pack = Temporary::new(&dir, "pack")?;
        let progress = Progress::new(&self.report, Phase::Fetch);
        let mut from = Counted { from, bytes: 0 };
        let table = stream::read(&mut from, &mut pack.file, &store, Some(progress));
        self.report.emit(Report::Received { bytes: from.bytes });
        let mut table = table?;
        if table.offsets.is_empty() {
            return Ok(Taken::default());
        }
        let progress = Progress::new(&self.report, Phase::Index);
        resolve::all(Some(repo), &mut table, &mut pack.file, &store, Some(&progress))?;
        let mut index = Temporary::new(&dir, "idx")?;
        index::write(&table, &mut index.file).map_err(|err| store.failed(err))?;
        let path = dir.join(format!("pack-{}.pack", table.checksum));
        let keep = store.place(&path, pack, index).map_err(|err| store.failed(err))?;
        // One that was here may be damaged since.
        let whole = keep.as_ref().and_then(|_| store.names.whole(&mut table));
        Ok(Taken { keep, whole })
    }
}

/// Write the index of the pack at `path` to `index`. Gives the pack's checksum and the number of its objects.
pub fn index(path: &Path, index: &Path, hash: gix::hash::Kind) -> io::Result<(ObjectId, usize)> {
    let dir = path.parent().unwrap_or(path);
    let store = Store {
        hash,
        scratch: Scratch::new(dir),
        dir,
        limits: Limits {
            max_pack: u64::MAX,
            max_blob: u64::MAX,
            deadline: Deadline::new(Duration::from_secs(u32::MAX.into())),
        },
        names: Names::none(),
        sharing: Sharing::default(),
    };
    let failed = |fail| match fail {
        Fail::Connection(err) => err,
        Fail::Ours(err) => io::Error::other(err),
    };
    let mut file = File::open(path)?;
    let mut from = io::BufReader::with_capacity(1 << 16, file.try_clone()?);
    let mut table = stream::read(&mut from, &mut io::sink(), &store, None).map_err(failed)?;
    resolve::all(None, &mut table, &mut file, &store, None).map_err(failed)?;
    let mut options = File::options();
    options.write(true).create_new(true).mode(store::PACK_MODE);
    index::write(&table, &mut options.open(index)?)?;
    Ok((table.checksum, table.offsets.len()))
}
