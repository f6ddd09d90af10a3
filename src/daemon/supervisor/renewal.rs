//! Another worker for the same configuration, when something that the sandbox of the serving one holds on to was replaced.
//!
//! A sandbox is closed around files and directories as they were at that time. Some are opened one by one, since nothing
//! beside them may be opened: `/etc/passwd`, which is replaced whenever a user is added, or a target beside the
//! configuration. A worker says which, and this process watches the directories that they are in.

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
    worker::{Worker, refused},
};
use crate::base::{control::Life, fault::Failure, identity::Identity};

/// How many files and directories of one worker are watched: far more than a configuration can name.
const MAX_HELD: usize = 10_000;
/// Bytes of events that are read at a time. Their content does not matter.
const EVENTS: usize = 4096;

/// What is replaced within this time leads to one new worker: a program that adds a user replaces several files.
const TOGETHER: Duration = Duration::from_millis(50);
/// A new worker is started at most once in this time: any user can have a file of `/etc` replaced.
const PACE: Duration = Duration::from_secs(1);
/// When a worker that could not be started, or did not come to serve, is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How many workers may be finishing their runs. While there are that many, the serving one is not replaced.
const MAX_LEAVING: usize = 4;

/// Notices that something has come into, or has left, a watched directory, and says when to look at that.
#[derive(Debug, Default)]
pub(super) struct Watch {
    events: Option<OwnedFd>,
    /// When to look, if a look is due.
    due: Option<Instant>,
    /// No look is due before this, as a worker was started.
    not_before: Option<Instant>,
}

impl Watch {
    pub(super) fn wakes(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(|fd| fd.as_fd())
    }

    /// When a look is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Have a look, as soon as that is allowed.
    pub(super) fn plan(&mut self) {
        let soon = Instant::now() + TOGETHER;
        let soon = self.not_before.map_or(soon, |then| then.max(soon));
        // Further events do not put it off.
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// Watch the directory of `path`. Where that is not possible, only a reload notices a replacement.
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
    /// The sandbox of the worker `pid` holds on to `path`. Only a worker that has not yet had a client is believed.
    pub(super) fn hold(&mut self, pid: Pid, path: OsString, identity: Option<(u64, u64)>) {
        let starting = |worker: &&mut Worker| worker.pid == pid && worker.life == Life::Starting;
        if let Some(worker) = self.workers.iter_mut().find(starting)
            && worker.held.len() < MAX_HELD
        {
            let path = PathBuf::from(path);
            self.watch.add(&path);
            worker.held.push((path, identity.map(Identity::from)));
        }
    }

    /// Look whether another worker is needed, if that is due.
    pub(super) fn look_after(&mut self) {
        if self.watch.has_changed() {
            self.watch.plan();
        }
        if self.watch.due.is_some_and(|due| due <= Instant::now()) {
            self.watch.due = None;
            self.renew();
        }
    }

    /// Start another worker for the same configuration, if something that the serving one holds on to was replaced.
    fn renew(&mut self) {
        let is_leaving = |worker: &&Worker| worker.life.is_replaced();
        // There is another look when the next worker serves, or when one of those that are leaving has ended.
        if self.is_stopping()
            || self.workers.iter().any(|worker| worker.life.is_next())
            || self.workers.iter().filter(is_leaving).count() >= MAX_LEAVING
        {
            return;
        }
        let serving = self.workers.iter().find(|worker| worker.life == Life::Serving);
        let Some(worker) = serving else { return };
        match worker.has_lost() {
            Some(path) => tracing::info!(
                "{} was replaced: the sandbox is closed around what is there now",
                path.display()
            ),
            // What was replaced is back in its place, but the refusal is still shown.
            None if self.is_renewal_refused => {}
            None => return,
        }
        let config = Arc::clone(&worker.config);
        self.watch.not_before = Some(Instant::now() + PACE);
        if let Err(err) = self.begin(config) {
            self.not_renewed(&Failure::of(&err).message);
        }
    }

    /// No worker could replace the serving one, which goes on, because of `why`. That is shown like a refused reload, until a
    /// worker can.
    pub(super) fn not_renewed(&mut self, why: &str) {
        tracing::error!("{why}");
        tracing::error!("the sandbox is still closed around what was replaced; the daemon tries again");
        self.watch.due = Some(Instant::now() + AGAIN);
        if self.refused.is_none() {
            self.refused = Some(refused(why));
            self.is_renewal_refused = true;
            self.tell_refused();
        }
    }
}
