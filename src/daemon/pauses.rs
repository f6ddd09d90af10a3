//! Which triggers are paused: a file each, which survives the daemon.
//!
//! The file is read for each question, so that two workers, and later ones, agree. A file or directory that cannot be read
//! counts as a pause: a deploy in a freeze is worse than one that comes later.
//!
//! That a trigger was refused is a file of its own, so a refusal does not restore what a `resume` beside it has removed.

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

/// A trigger could not be paused, or not be resumed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// There is nowhere to write it.
    #[error(
        "nothing is paused: a pause has to survive a restart, and this daemon has no directory to keep it in"
    )]
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
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be removed.
    #[error("it is still paused: cannot remove {path}: {source}")]
    #[diagnostic(help("{}", remedy(source)))]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
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
    /// When the first trigger since was refused.
    refused: Shelf,
    /// The same, as far as this process knows: a full disk takes no file.
    refused_here: Mutex<BTreeMap<String, u64>>,
    changing: Mutex<()>,
}

/// The peer of a pause that cannot be read.
const UNKNOWN: &str = "an unknown peer";

impl Pauses {
    /// Those of the daemon of `store`.
    pub fn new(store: &Store) -> Self {
        Self {
            paused: store.shelf(PAUSED, "json"),
            refused: store.shelf(PAUSED, "refused"),
            refused_here: Mutex::default(),
            changing: Mutex::default(),
        }
    }

    /// Since when `name` is paused, if it is.
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

    /// Whether there is something that may be the pause, or hide it: a link that leads nowhere, or a file instead of the directory.
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

    /// Pause `name`. One that is paused already stays paused since then, for the new `reason`.
    pub fn pause(&self, name: &TriggerName, peer: &str, reason: Option<Note>) -> Result<(), Error> {
        let _turn = mutex::lock(&self.changing);
        let path = self.paused.path(name.as_str()).ok_or(Error::Nowhere)?;
        let before = self.get(name);
        if before.is_none() {
            // It was refused in an earlier pause.
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
                // So that it is not paused again after a power cut.
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

    /// The paused `name` was triggered. The first time is remembered.
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

/// When what is at `path` was written, in seconds since 1970-01-01 UTC. `None`: that cannot be found out.
fn age_of(path: &Path) -> Option<u64> {
    let written = fs::symlink_metadata(path).ok()?.modified().ok()?;
    Some(written.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}
