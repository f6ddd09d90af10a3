//! Which triggers are paused: one file for each, which survives a restart.
//!
//! The file is read each time, so that all workers agree. A file or directory that cannot be read counts as a pause, since a late
//! deploy does less harm than one during a freeze.
//!
//! Refused triggers are recorded in a second file, so that a refusal cannot restore a pause that a `resume` removes at the same time.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::UNIX_EPOCH,
};

use crate::{
    base::{
        durable::{self, Flush},
        event::{Paused, now},
        fault::{Blame, Failure, Kind},
        mutex,
        name::{Note, TriggerName},
    },
    daemon::store::{PAUSED, Shelf, Store},
};

/// A trigger could not be paused or resumed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The daemon has no state directory.
    #[error("nothing is paused: a pause has to survive a restart, and this daemon has no state directory")]
    #[diagnostic(help("set STATE_DIRECTORY to a directory that it may write to, and restart it"))]
    Nowhere,
    /// It cannot be written there.
    #[error("{}: cannot write {path}: {source}", if *is_new {
        "nothing is paused"
    } else {
        "it stays paused as it was, for the reason before"
    })]
    #[diagnostic(help("free space there, or make that directory writable for the daemon"))]
    Write {
        /// Whether it was not paused before.
        is_new: bool,
        path: PathBuf,
        source: io::Error,
    },
    /// It cannot be removed.
    #[error("it is still paused: cannot remove {path}: {source}")]
    #[diagnostic(help("{}", remedy(source)))]
    Remove { path: PathBuf, source: io::Error },
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotADirectory => "remove the file that is there instead of a directory",
        _ => "make that directory writable for the daemon, or remove that file",
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        Kind::Resources
    }
}

/// The triggers that are paused.
#[derive(Debug)]
pub struct Pauses {
    paused: Shelf,
    /// When the first trigger was refused during the pause.
    refused: Shelf,
    /// The same in memory, in case the disk is full.
    refused_here: Mutex<BTreeMap<String, u64>>,
    changing: Mutex<()>,
}

/// The peer of a pause that cannot be read.
const UNKNOWN: &str = "an unknown peer";

impl Pauses {
    /// The pauses in `store`.
    pub fn new(store: &Store) -> Self {
        Self {
            paused: store.shelf(PAUSED, "json"),
            refused: store.shelf(PAUSED, "refused"),
            refused_here: Mutex::default(),
            changing: Mutex::default(),
        }
    }

    /// The pause of `name`, if there is one.
    pub fn get(&self, name: &TriggerName) -> Option<Paused> {
        let name = name.as_str();
        let paused = match self.paused.read::<Paused>(name) {
            Ok(paused) => paused,
            Err(_) if !self.is_there(name) => return None,
            Err(_) => Paused {
                since: self
                    .paused
                    .path(name)
                    .and_then(|path| age_of(&path))
                    .unwrap_or_else(now),
                peer: UNKNOWN.into(),
                reason: None,
                refused: None,
            },
        };
        let here = || mutex::lock(&self.refused_here).get(name).copied();
        Some(Paused {
            refused: self.refused.read(name).ok().or_else(here),
            ..paused
        })
    }

    /// Whether a file that cannot be read may be the pause, or hide it: a dangling link, or a file instead of the directory.
    fn is_there(&self, name: &str) -> bool {
        let Some(path) = self.paused.path(name) else {
            return false;
        };
        let Err(err) = fs::symlink_metadata(&path) else {
            return true;
        };
        match err.kind() {
            io::ErrorKind::NotFound => false,
            io::ErrorKind::NotADirectory => {
                path.parent().is_some_and(|dir| fs::symlink_metadata(dir).is_ok())
            }
            _ => true,
        }
    }

    /// Pause `name`. If it is paused already, the reason changes, and the time stays.
    pub fn pause(&self, name: &TriggerName, peer: &str, reason: Option<Note>) -> Result<(), Error> {
        let _turn = mutex::lock(&self.changing);
        let path = self.paused.path(name.as_str()).ok_or(Error::Nowhere)?;
        let before = self.get(name);
        if before.is_none() {
            // A refusal of an earlier pause does not count.
            self.forget_refused(name);
        }
        let is_new = before.is_none();
        let paused = Paused {
            since: before.map_or_else(now, |before| before.since),
            peer: peer.into(),
            reason,
            refused: None,
        };
        let written = self.paused.write(name.as_str(), &paused, Flush::Name);
        written.map_err(|source| Error::Write { is_new, path, source })
    }

    /// Resume `name`. Gives the pause that this ends, if there was one.
    pub fn resume(&self, name: &TriggerName) -> Result<Option<Paused>, Error> {
        let _turn = mutex::lock(&self.changing);
        let Some(path) = self.paused.path(name.as_str()) else {
            return Ok(None);
        };
        let before = self.get(name);
        let removed = self.paused.remove(name.as_str()).and_then(|was_there| {
            match (was_there, path.parent()) {
                // Flushed, so that a power cut does not bring the pause back.
                (true, Some(dir)) => durable::dir(dir),
                _ => Ok(()),
            }
        });
        removed.map_err(|source| Error::Remove { path, source })?;
        self.forget_refused(name);
        Ok(before)
    }

    fn forget_refused(&self, name: &TriggerName) {
        self.refused.remove(name.as_str()).ok();
        mutex::lock(&self.refused_here).remove(name.as_str());
    }

    /// The failure of a trigger of the paused `name`. The first refusal is recorded.
    pub fn refuse(&self, name: &TriggerName, paused: &Paused) -> Failure {
        if paused.refused.is_none() {
            let _turn = mutex::lock(&self.changing);
            let now = now();
            self.refused.write(name.as_str(), &now, Flush::Nothing).ok();
            mutex::lock(&self.refused_here).insert(name.to_string(), now);
        }
        Failure::new(
            Kind::Paused,
            paused.line(),
            Some(&format!("to let it go on: gitsocket resume {name}")),
        )
    }
}

/// When `path` was written, in seconds since 1970-01-01 UTC, if that can be found out.
fn age_of(path: &Path) -> Option<u64> {
    let written = fs::symlink_metadata(path).ok()?.modified().ok()?;
    Some(written.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}
