//! Another worker, where what the sandbox of this one rests on has been replaced.
//!
//! The rules of a sandbox are about files and directories as they were when it was closed. Some are opened alone, since
//! nothing beside them may be: `/etc/passwd`, which is replaced whenever a user is added, or a target beside the
//! configuration. A worker tells which, and this process watches the directories that they are in.

use std::{
    ffi::OsString,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    process::Pid,
};

use super::{
    Supervisor,
    worker::{Phase, Worker},
};
use crate::base::{fault::Failure, identity::Identity};

/// How many files and directories of one worker are watched: as many as there can be triggers in a configuration of a size
/// that is read, by far.
const MAX_HELD: usize = 10_000;
/// Bytes of events that are read at a time. What they say does not matter.
const EVENTS: usize = 4096;

/// Tells that something has come into, or has left, a directory that is watched.
#[derive(Debug, Default)]
pub(super) struct Watch(Option<OwnedFd>);

impl Watch {
    pub(super) fn wakes(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|fd| fd.as_fd())
    }

    /// Watch the directory of `path`. Where that is not possible, a reload has to be asked for.
    fn add(&mut self, path: &Path) {
        if self.0.is_none() {
            self.0 = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        }
        if let (Some(fd), Some(dir)) = (&self.0, path.parent()) {
            let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
            inotify::add_watch(fd, dir, flags).ok();
        }
    }

    /// Whether there was something since the last time.
    fn has_changed(&self) -> bool {
        let mut events = [0; EVENTS];
        let mut read = || {
            matches!(
                self.0.as_ref().map(|fd| rustix::io::read(fd, &mut events)),
                Some(Ok(_))
            )
        };
        let has_changed = read();
        while has_changed && read() {}
        has_changed
    }
}

impl Supervisor<'_> {
    /// The sandbox of the worker `pid` rests on `path`. It says so before it serves anybody, and is not listened to later.
    pub(super) fn hold(&mut self, pid: Pid, path: OsString, identity: Option<(u64, u64)>) {
        let starting = |worker: &&mut Worker| worker.pid == pid && worker.phase == Phase::Starting;
        if let Some(worker) = self.workers.iter_mut().find(starting)
            && worker.held.len() < MAX_HELD
        {
            let path = PathBuf::from(path);
            self.watch.add(&path);
            worker.held.push((path, identity.map(Identity::from)));
        }
    }

    /// Look whether another worker is needed, if something has happened.
    pub(super) fn look_after(&mut self) {
        if self.watch.has_changed() {
            self.renew();
        }
    }

    /// Start another worker for the same configuration, if what the sandbox of this one rests on has been replaced.
    pub(super) fn renew(&mut self) {
        let is_next = |worker: &Worker| matches!(worker.phase, Phase::Starting | Phase::Prepared);
        // One that is on its way is looked at when it serves.
        if self.level > crate::base::control::Level::Serve || self.workers.iter().any(is_next) {
            return;
        }
        let serving = self.workers.iter().find(|worker| worker.phase == Phase::Serving);
        let Some((worker, path)) = serving.and_then(|worker| Some((worker, worker.has_lost()?))) else {
            return;
        };
        tracing::info!(
            "{} was replaced: the sandbox is closed around what is there now",
            path.display()
        );
        let config = Arc::clone(&worker.config);
        if let Err(err) = self.begin(config) {
            tracing::error!("{}", Failure::of(&err).message);
        }
    }
}
