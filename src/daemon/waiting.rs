//! Runs that have been accepted and have not ended, one file for each: if the daemon is killed, the next one does them.
//!
//! In the same way, the serving worker does the runs of another worker that was killed. The file of an update stays until its end,
//! since doing it twice does no harm; that of any other run only until its beginning. Files are not flushed: a power cut may lose
//! one, a kill cannot. No run fails because of these files: one that cannot be written or read is skipped.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
    process::{Pid, test_kill_process},
};
use serde::{Deserialize, Serialize};

use crate::{
    base::{
        durable::Flush,
        event::Task,
        mutex,
        name::{Note, RunId, TriggerName},
    },
    daemon::store::{Shelf, Store, WAITING},
};

/// A run that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub trigger: TriggerName,
    pub task: Task,
    /// The peer that asked for it first.
    pub peer: String,
    /// When, in seconds since 1970-01-01 UTC.
    pub accepted: u64,
    /// The notes of the clients that asked for it.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// The process that is to do it; 0 in a file of an older version.
    #[serde(default)]
    pub pid: u32,
}

impl Accepted {
    /// Whether the process that was to do it has ended.
    fn is_left(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
    }
}

/// The runs that have been accepted.
#[derive(Debug)]
pub struct Waiting {
    files: Shelf,
    /// Locked as long as a worker of this configuration lives.
    alive: Option<File>,
    /// Whether the last file could not be written, so that it is logged only once.
    failing: AtomicBool,
    claiming: Mutex<()>,
}

impl Waiting {
    /// The accepted runs in `store`.
    pub fn new(store: &Store) -> Self {
        let files = store.shelf(WAITING, "json");
        let alive = store.shelf(WAITING, "lock").path("daemon").map(|path| {
            let mut options = OpenOptions::new();
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
            options.write(true).create(true).mode(0o600);
            options.custom_flags(flags.bits() as i32).open(path)
        });
        let waiting = Self {
            files,
            alive: alive.and_then(Result::ok),
            failing: AtomicBool::new(false),
            claiming: Mutex::default(),
        };
        waiting.is_alive(FlockOperation::NonBlockingLockShared);
        waiting
    }

    /// The runs that an earlier daemon has left, in the order in which they were accepted. For the first worker of a daemon, before
    /// it accepts runs.
    pub fn left(&self) -> Vec<(RunId, Accepted)> {
        let is_alone = self.is_alive(FlockOperation::NonBlockingLockExclusive);
        let left = if is_alone {
            self.claim(|_| true)
        } else {
            Vec::new()
        };
        if self.alive.is_some() && !is_alone {
            tracing::warn!("another daemon has the same configuration: the runs that wait are left to it");
        }
        self.is_alive(FlockOperation::NonBlockingLockShared);
        left
    }

    /// The runs that workers that have ended have left, in the same order. For the worker that serves.
    pub fn left_by_gone(&self) -> Vec<(RunId, Accepted)> {
        self.claim(Accepted::is_left)
    }

    /// Take over the runs for which `is_left` is true, so that this process does not find them a second time.
    fn claim(&self, is_left: impl Fn(&Accepted) -> bool) -> Vec<(RunId, Accepted)> {
        let _turn = mutex::lock(&self.claiming);
        let names = self.files.names().unwrap_or_else(|err| {
            tracing::warn!("cannot look for runs that waited when their worker ended: {err}");
            Vec::new()
        });
        let mut left: Vec<_> = names
            .iter()
            .filter_map(|name| match (RunId::parse(name), self.files.read(name)) {
                (Ok(run), Ok(accepted)) => Some((run, accepted)),
                _ => {
                    self.files.remove(name).ok();
                    None
                }
            })
            .filter(|(_, accepted)| is_left(accepted))
            .collect();
        left.sort_by(|(a, one): &(RunId, Accepted), (b, other)| {
            (one.accepted, a.as_str()).cmp(&(other.accepted, b.as_str()))
        });
        for (run, accepted) in &mut left {
            accepted.pid = std::process::id();
            self.write(run, accepted);
        }
        left
    }

    /// Write the file of `run`.
    pub fn write(&self, run: &RunId, accepted: &Accepted) {
        let Some(dir) = &self.files.dir else { return };
        match self.files.write(run.as_str(), accepted, Flush::Nothing) {
            Ok(()) => self.failing.store(false, Ordering::Release),
            Err(err) if !self.failing.swap(true, Ordering::AcqRel) => tracing::warn!(
                "cannot write to {}: {err}; a run that waits is lost if this daemon is killed: \
                 make it writable, or set STATE_DIRECTORY to another directory",
                dir.display()
            ),
            Err(_) => {}
        }
    }

    /// Remove the file of `run`: it has ended, or must not be done twice.
    pub fn remove(&self, run: &RunId) {
        match self.files.remove(run.as_str()) {
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => {
                tracing::warn!("the run {run} is done again at the next start: cannot remove its file: {err}")
            }
        }
    }

    fn is_alive(&self, operation: FlockOperation) -> bool {
        self.alive
            .as_ref()
            .is_some_and(|file| flock(file, operation).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn accepted(at: u64) -> Accepted {
        Accepted {
            trigger: TriggerName::new("site").unwrap(),
            task: Task::Retry,
            peer: "uid=1 pid=2".into(),
            accepted: at,
            notes: Vec::new(),
            pid: std::process::id(),
        }
    }

    #[test]
    fn what_is_left_is_found_once_no_other_is_alive() {
        let dir = crate::machine::tempdir().unwrap();
        let store = Store::new(Some(dir.path().into()), Path::new("/c"));
        store.made();
        let first = Waiting::new(&store);
        assert_eq!(first.left(), []);
        let (late, early, over) = (RunId::new(), RunId::new(), RunId::new());
        for (run, at) in [(&late, 2), (&early, 1), (&over, 0)] {
            first.write(run, &accepted(at));
        }
        first.remove(&over);
        first.remove(&over);
        fs::write(dir.path().join(WAITING).join("0f-x.json"), "").unwrap();
        let damaged = store.shelf(WAITING, "json").path("0f").unwrap();
        fs::write(&damaged, "{").unwrap();
        let second = Waiting::new(&store);
        assert_eq!(second.left(), [], "the first one is alive");
        drop(first);
        let left = second.left();
        assert_eq!(left, [(early, accepted(1)), (late, accepted(2))]);
        assert!(!damaged.exists());
        assert_eq!(Waiting::new(&store).left(), [], "the second one is alive");
    }

    #[test]
    fn without_a_directory_nothing_is_left() {
        let waiting = Waiting::new(&Store::default());
        waiting.write(&RunId::new(), &accepted(1));
        waiting.remove(&RunId::new());
        assert_eq!(waiting.left(), []);
    }
}
