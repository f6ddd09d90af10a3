//! Starts a new worker for the same configuration, after a file that the sandbox of the serving one is bound to was replaced.
//!
//! Rules of the sandbox are bound to inodes. Some are for single files, since their directory must stay closed: `/etc/passwd`, which
//! is replaced whenever a user is added, or a target in the directory of the configuration. A worker reports these paths, and this
//! process watches their directories with inotify(7).

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

/// How many paths of one worker are watched: more than a configuration can name.
const MAX_HELD: usize = 10_000;
/// How many bytes of events are read at a time; their content is not used.
const EVENTS: usize = 4096;

/// Replacements within this time lead to one new worker: a program that adds a user replaces several files.
const TOGETHER: Duration = Duration::from_millis(50);
/// A new worker is started at most once in this time, since any user can cause a replacement in `/etc` (chsh(1), for example).
const PACE: Duration = Duration::from_secs(1);
/// After how long another try follows, if a worker could not be started or failed before it served.
const AGAIN: Duration = Duration::from_secs(5);
/// While so many workers finish their runs, the serving one is not replaced.
const MAX_LEAVING: usize = 4;

/// Notices changes in the watched directories, and schedules a check.
#[derive(Debug, Default)]
pub(super) struct Watch {
    events: Option<OwnedFd>,
    /// When to check, if a check is scheduled.
    due: Option<Instant>,
    /// No check before this time, since a worker was just started.
    not_before: Option<Instant>,
}

impl Watch {
    pub(super) fn wakes(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(|fd| fd.as_fd())
    }

    /// When to check, if a check is scheduled.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Schedule a check as early as possible.
    pub(super) fn plan(&mut self) {
        let soon = Instant::now() + TOGETHER;
        let soon = self.not_before.map_or(soon, |then| then.max(soon));
        // Further events do not delay it.
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// Watch the directory of `path`. If that is not possible, a replacement takes effect at the next reload only.
    fn add(&mut self, path: &Path) {
        if self.events.is_none() {
            self.events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        }
        if let (Some(fd), Some(dir)) = (&self.events, path.parent()) {
            let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
            inotify::add_watch(fd, dir, flags).ok();
        }
    }

    /// Whether there were events since the last call.
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
    /// The sandbox of the worker `pid` is bound to the inode at `path`. Accepted only before the worker serves clients, since it may be
    /// compromised after that.
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

    /// Check whether a new worker is needed, if that is due.
    pub(super) fn look_after(&mut self) {
        if self.watch.has_changed() {
            self.watch.plan();
        }
        if self.watch.due.is_some_and(|due| due <= Instant::now()) {
            self.watch.due = None;
            self.renew();
        }
    }

    /// Start a new worker for the same configuration, if a file that the serving one's sandbox is bound to was replaced.
    fn renew(&mut self) {
        let is_leaving = |worker: &&Worker| worker.life.is_replaced();
        // There is another check when the next worker serves, or when one that finishes its runs has ended.
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
                "{} was replaced: a new worker with a new sandbox takes over",
                path.display()
            ),
            // The file is back, and a new worker clears the refusal that is still shown.
            None if self.is_renewal_refused => {}
            None => return,
        }
        let config = Arc::clone(&worker.config);
        self.watch.not_before = Some(Instant::now() + PACE);
        if let Err(err) = self.begin(config) {
            self.not_renewed(&Failure::of(&err).message);
        }
    }

    /// No worker could replace the serving one, which goes on, because of `why`. That is shown like a refused reload, until one
    /// can.
    pub(super) fn not_renewed(&mut self, why: &str) {
        tracing::error!("{why}");
        tracing::error!("the sandbox does not allow the file that was replaced yet; the daemon tries again");
        self.watch.due = Some(Instant::now() + AGAIN);
        if self.refused.is_none() {
            self.refused = Some(refused(why));
            self.is_renewal_refused = true;
            self.tell_refused();
        }
    }
}
