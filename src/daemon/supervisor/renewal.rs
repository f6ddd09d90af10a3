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
    time::{Duration, Instant},
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    process::Pid,
};

use super::{
    Supervisor,
    worker::{Phase, Worker, refused},
};
use crate::base::{control::Level, fault::Failure, identity::Identity};

/// How many files and directories of one worker are watched: as many as there can be triggers in a configuration of a size
/// that is read, by far.
const MAX_HELD: usize = 10_000;
/// Bytes of events that are read at a time. What they say does not matter.
const EVENTS: usize = 4096;

/// What is replaced within this time is replaced together: a program that adds a user does so with several files.
const TOGETHER: Duration = Duration::from_millis(50);
/// How often there is another worker because of what was replaced, at most: any user may have a file of `/etc` replaced.
const PACE: Duration = Duration::from_secs(1);
/// When another worker is tried that could not be made, or did not come to serve, if nothing happens before.
const AGAIN: Duration = Duration::from_secs(5);
/// How many workers may be left that finish their runs. While there are as many, the one that serves stays.
const MAX_LEAVING: usize = 4;

/// Tells that something has come into, or has left, a directory that is watched, and when that is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Watch {
    events: Option<OwnedFd>,
    /// When it is looked at, if it is to be.
    due: Option<Instant>,
    /// Not before, since a worker was made.
    not_before: Option<Instant>,
}

impl Watch {
    pub(super) fn wakes(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(|fd| fd.as_fd())
    }

    /// When it wakes by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Let it be looked at, as soon as may be.
    pub(super) fn plan(&mut self) {
        let soon = Instant::now() + TOGETHER;
        let soon = self.not_before.map_or(soon, |then| then.max(soon));
        // What goes on happening does not put it off.
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// Watch the directory of `path`. Where that is not possible, a reload has to be asked for.
    fn add(&mut self, path: &Path) {
        if self.events.is_none() {
            self.events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        }
        if let (Some(fd), Some(dir)) = (&self.events, path.parent()) {
            let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
            inotify::add_watch(fd, dir, flags).ok();
        }
    }

    /// Whether there was something since the last time.
    fn has_changed(&self) -> bool {
        let mut events = [0; EVENTS];
        let mut read = || {
            matches!(
                self.events.as_ref().map(|fd| rustix::io::read(fd, &mut events)),
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
            self.watch.plan();
        }
        if self.watch.due.is_some_and(|due| due <= Instant::now()) {
            self.watch.due = None;
            self.renew();
        }
    }

    /// Start another worker for the same configuration, if what the sandbox of this one rests on has been replaced.
    fn renew(&mut self) {
        let is_next = |worker: &Worker| matches!(worker.phase, Phase::Starting | Phase::Prepared);
        let is_leaving = |worker: &&Worker| matches!(worker.phase, Phase::Closing | Phase::Leaving);
        // One that is on its way is looked at when it serves, and the one that serves when another has left.
        if self.level > Level::Serve
            || self.workers.iter().any(is_next)
            || self.workers.iter().filter(is_leaving).count() >= MAX_LEAVING
        {
            return;
        }
        let serving = self.workers.iter().find(|worker| worker.phase == Phase::Serving);
        let Some(worker) = serving else { return };
        match worker.has_lost() {
            Some(path) => tracing::info!(
                "{} was replaced: the sandbox is closed around what is there now",
                path.display()
            ),
            // It is back in its place; that there was no other worker is still told.
            None if self.is_renewal_refused => {}
            None => return,
        }
        let config = Arc::clone(&worker.config);
        self.watch.not_before = Some(Instant::now() + PACE);
        if let Err(err) = self.begin(config) {
            self.not_renewed(&Failure::of(&err).message);
        }
    }

    /// No worker takes the place of the one that serves, which goes on: because of `why`. That is told like a reload that was
    /// refused, until there is one.
    pub(super) fn not_renewed(&mut self, why: &str) {
        tracing::error!("{why}");
        tracing::error!("the sandbox is still closed around what was replaced; that is tried again");
        self.watch.due = Some(Instant::now() + AGAIN);
        if self.refused.is_none() {
            self.refused = Some(refused(why));
            self.is_renewal_refused = true;
            self.tell_refused();
        }
    }
}
