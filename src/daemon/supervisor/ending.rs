//! An end for all that does not end by itself.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    time::{Duration, Instant},
};

use rustix::process::{Signal, kill_process};

use super::{
    Supervisor,
    worker::{Phase, Worker},
};
use crate::base::{control::Level, watch};

/// How long workers get, beyond the longest run, to give up on what hangs and to answer their clients.
const FAREWELL: Duration = watch::GRACE.saturating_add(Duration::from_secs(45));

impl Supervisor<'_> {
    /// When runs that go on now must be over, and their clients answered.
    pub(super) fn last_moment(&self) -> Instant {
        let configs = self.workers.iter().map(|worker| &worker.config);
        let targets = configs.flat_map(|config| config.triggers.values());
        let longest = targets.map(|target| target.run_timeout).max();
        Instant::now() + longest.unwrap_or_default() + FAREWELL
    }

    /// Wait no longer for workers whose time is over: the kernel may hold a thread of theirs for ever.
    pub(super) fn leave_behind(&mut self) {
        let now = Instant::now();
        if self.gone_by.is_some_and(|at| at <= now) {
            self.gone_by = None;
            tracing::error!("what still goes on is killed: it had as long as the longest `run_timeout`");
            self.exit = 1;
            for worker in &mut self.workers {
                kill_process(worker.pid, Signal::KILL).ok();
                worker.silent.get_or_insert(now);
            }
        }
        let is_over = |worker: &Worker| worker.gone_at().is_some_and(|at| at <= now);
        while let Some(at) = self.workers.iter().position(is_over) {
            let worker = self.workers.remove(at);
            let pid = worker.pid.as_raw_nonzero();
            tracing::error!(
                "the worker {pid} is left behind: it ends when the kernel lets go of its threads"
            );
            kill_process(worker.pid, Signal::KILL).ok();
            // Its status will never be known. It closes its channel where it ends well.
            let is_well =
                self.level > Level::Serve || matches!(worker.phase, Phase::Closing | Phase::Leaving);
            let status = if is_well { 0 } else { Signal::KILL.as_raw() };
            self.ended(&worker, ExitStatus::from_raw(status));
        }
    }
}
