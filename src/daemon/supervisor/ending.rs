//! The ends of workers and hooks; and one for all that does not end by itself.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{
    Supervisor,
    hooks::HookId,
    worker::{Phase, Worker, order},
};
use crate::{
    base::{
        control::{Level, Order},
        watch,
    },
    config::Config,
};

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

    /// Wait for whoever has ended: workers, hooks, and orphans if this is process 1.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = fork::wait_any_nohang() {
            if let Some(at) = self
                .workers
                .iter()
                .position(|worker| worker.pid.as_raw_nonzero().get() == pid)
            {
                // What it said last.
                self.hear(self.workers[at].pid);
                let worker = self.workers.remove(at);
                self.ended(&worker, ExitStatus::from_raw(status));
            } else if let Some(HookId { worker, id }) = self.hooks.remove(&pid) {
                Pid::from_raw(pid)
                    .into_iter()
                    .for_each(|group| self.options.guard.remove(group));
                if let Some(worker) = self.workers.iter().find(|found| found.pid == worker) {
                    order(worker, Order::Ended { id, status });
                }
            }
        }
    }

    /// Have the worker that serves do what was left by those that did not end well; the next one, if none does.
    pub(super) fn tell_gone(&mut self) {
        let serving = self.workers.iter().find(|worker| worker.phase == Phase::Serving);
        if let Some(serving) = serving
            && std::mem::take(&mut self.has_leftovers)
        {
            order(serving, Order::WorkerGone);
        }
    }

    /// A worker has ended.
    pub(super) fn ended(&mut self, worker: &Worker, status: ExitStatus) {
        let left = self.hooks.iter().filter(|(_, hook)| hook.worker == worker.pid);
        for group in left.filter_map(|(pid, _)| Pid::from_raw(*pid)) {
            kill_process_group(group, Signal::KILL).ok();
            self.options.guard.remove(group);
        }
        self.hooks.retain(|_, hook| hook.worker != worker.pid);
        self.left.retain(|hook, _| hook.worker != worker.pid);
        // Those that it had started itself.
        self.options.guard.end_of(worker.pid);
        self.has_leftovers |= worker.phase >= Phase::Serving && status.code() != Some(0);
        self.tell_gone();
        self.hand_over();
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        match (worker.phase, code) {
            (_, Some(0)) if self.level > Level::Serve => {}
            (Phase::Closing | Phase::Leaving, Some(0)) => {
                tracing::debug!("the runs of the old configuration have ended")
            }
            (Phase::Starting | Phase::Prepared, _) if self.is_ready && self.level == Level::Serve => {
                let is_new = |old: &Arc<Config>| !Arc::ptr_eq(old, &worker.config);
                if self.in_force.as_ref().is_some_and(is_new) {
                    self.keep(&[format!(
                        "the worker for the new configuration ended with {status}"
                    )]);
                    if worker.phase == Phase::Prepared {
                        self.begin_again();
                    }
                } else {
                    self.not_renewed(&format!(
                        "the worker for the same configuration ended with {status}"
                    ));
                }
                if std::mem::take(&mut self.reload_again) {
                    self.reload();
                }
            }
            (_, code) => {
                if code.is_none() || self.level == Level::Serve && self.is_ready {
                    tracing::error!("the worker ended with {status}");
                }
                self.exit = code.filter(|code| *code != 0).unwrap_or(1);
            }
        }
        if matches!(worker.phase, Phase::Closing | Phase::Leaving) {
            // There may be room for another one now.
            self.watch.plan();
        }
        let may_serve =
            |worker: &Worker| matches!(worker.phase, Phase::Starting | Phase::Prepared | Phase::Serving);
        if self.level == Level::Serve && self.is_ready && !self.workers.iter().any(may_serve) {
            // Those that are left finish their runs, and nobody is to wait meanwhile for one that accepts.
            self.exit = self.exit.max(1);
            self.stop();
        }
    }
}
