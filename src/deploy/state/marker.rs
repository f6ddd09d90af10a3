//! `run.json`: the run that is under way. It is written before the run's first write, and removed at its end.
//!
//! A run writes it while it holds the target's lock. So a process that holds the lock and finds the file knows that a run was
//! interrupted: by a kill, a power cut or a fault. Files that are younger may be from that run.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{DIR, Error, create, make};
use crate::{
    base::{
        bounded, durable,
        event::now,
        mutex,
        name::{RunId, TriggerName},
    },
    config::Target,
    git::maintenance,
};

const NAME: &str = "run.json";

/// A run that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub run: RunId,
    pub trigger: TriggerName,
    /// The peer that asked for it.
    pub peer: String,
    /// When it began, in seconds since 1970-01-01 UTC.
    pub began: u64,
    pub pid: u32,
    /// Its time limit, in seconds.
    pub limit: u64,
    /// Whether it is a dry run, which leaves nothing to finish.
    pub dry_run: bool,
}

/// What is left of a run that was interrupted.
#[derive(Debug)]
pub struct Left {
    /// The run; `None` if it was killed while it wrote the file, or a power cut has damaged it.
    pub marker: Option<Marker>,
    /// The files of the run were written in this time, by the clock of their file system.
    pub span: (SystemTime, SystemTime),
}

/// How long after its time limit a run may still write: hooks get some seconds to end.
const SLACK: Duration = Duration::from_secs(60);
/// The time limit that is assumed for a run whose marker cannot be read.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The mark of an interrupted run in the repository at `git_dir`. Without the target's lock, the run may still be going on.
pub fn left(git_dir: &Path) -> Option<Left> {
    let path = file(git_dir);
    let since = match fs::symlink_metadata(&path) {
        Ok(meta) => meta.modified().unwrap_or_else(|_| SystemTime::now()),
        Err(_) => return None,
    };
    let text = bounded::read_own(git_dir, [DIR, NAME], bounded::LINE).unwrap_or_default();
    let marker: Option<Marker> = serde_json::from_slice(&text).ok();
    let limit = marker.as_ref().map(|marker| Duration::from_secs(marker.limit));
    let limit = limit.unwrap_or(LONGEST).min(10 * LONGEST);
    Some(Left {
        marker,
        span: (since, since + limit + SLACK),
    })
}

/// Remove the mark that [`left`] has found.
pub fn forget(git_dir: &Path) -> Result<(), Error> {
    let path = file(git_dir);
    let removed = durable::remove(&path).map_err(|source| Error { path, source });
    removed.map(drop)
}

fn file(git_dir: &Path) -> PathBuf {
    git_dir.join(DIR).join(NAME)
}

/// A run, which is marked before it begins to write; one that writes nothing needs no mark.
#[derive(Debug)]
pub struct Run {
    git_dir: PathBuf,
    marker: Marker,
    fsync: bool,
    progress: Mutex<Advance>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Advance {
    Nothing,
    Begun,
    /// The mark survives a power cut.
    Settled,
}

impl Run {
    /// The run `run` of `target`, asked for by `peer`, in the repository at `git_dir`.
    pub fn new(git_dir: &Path, target: &Target, run: &RunId, peer: &str, dry_run: bool) -> Self {
        Self {
            git_dir: git_dir.into(),
            marker: Marker {
                run: run.clone(),
                trigger: target.trigger.clone(),
                peer: peer.into(),
                began: now(),
                pid: std::process::id(),
                limit: target.run_timeout.as_secs(),
                dry_run,
            },
            fsync: target.site.fsync,
            progress: Mutex::new(Advance::Nothing),
        }
    }

    /// Where its repository is.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// Mark the run, before its first write.
    pub fn begin(&self) -> Result<(), Error> {
        self.advance(Advance::Begun)
    }

    /// Mark the run with a mark that survives a power cut, before hooks run or objects are fetched.
    pub fn settle(&self) -> Result<(), Error> {
        let to = if self.fsync {
            Advance::Settled
        } else {
            Advance::Begun
        };
        self.advance(to)
    }

    fn advance(&self, to: Advance) -> Result<(), Error> {
        let mut progress = mutex::lock(&self.progress);
        if *progress >= to {
            return Ok(());
        }
        let path = file(&self.git_dir);
        let written = match *progress {
            Advance::Nothing => self.write(&path, to == Advance::Settled),
            _ => durable::files([path.as_path()]),
        };
        if written.is_err() && *progress == Advance::Nothing {
            // A damaged mark would count as a run of a day.
            fs::remove_file(&path).ok();
        }
        written.map_err(|source| Error { path, source })?;
        *progress = to;
        Ok(())
    }

    /// Written without a rename: an incomplete file also tells that a run was interrupted.
    fn write(&self, path: &Path, settled: bool) -> io::Result<()> {
        let dir = make(&self.git_dir)?;
        let mut file = create(path)?;
        file.write_all(&serde_json::to_vec(&self.marker)?)?;
        if settled {
            file.sync_all()?;
            durable::dir(&dir)?;
        }
        Ok(())
    }

    /// Whether it is marked.
    pub fn has_begun(&self) -> bool {
        *mutex::lock(&self.progress) > Advance::Nothing
    }

    /// Remove the mark: the run has ended, with or without success.
    pub fn end(&self) -> Result<(), Error> {
        if self.has_begun() {
            forget(&self.git_dir)
        } else {
            Ok(())
        }
    }
}

/// While maintenance replaces packs, the repository has the mark of a run.
impl maintenance::Mark for Run {
    fn begin(&self) -> io::Result<()> {
        Self::begin(self).map_err(|err| io::Error::other(err.to_string()))
    }

    fn end(&self) {
        // If it stays, the next run only does more checks than necessary.
        Self::end(self).ok();
    }
}
