//! The ends of workers and hooks, also of those that do not end by themselves.

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
    worker::{Worker, tell},
};
use crate::{
    base::{
        control::{Life, ToWorker},
        watch,
    },
    config::Config,
};

/// How long workers get, beyond the longest run, to abandon runs that hang and to answer their clients.
const FAREWELL: Duration = watch::GRACE.saturating_add(Duration::from_secs(45));

impl Supervisor<'_> {
    /// When the runs that go on now must have ended, and their clients have their answers.
    pub(super) fn last_moment(&self) -> Instant {
        let configs = self.workers.iter().map(|worker| &worker.config);
        let targets = configs.flat_map(|config| config.triggers.values());
        let longest = targets.map(|target| target.run_timeout).max();
        Instant::now() + longest.unwrap_or_default() + FAREWELL
    }

    /// Stop waiting for workers whose time is over: one of their threads may hang in the kernel for ever.
    pub(super) fn leave_behind(&mut self) {
        let now = Instant::now();
        if self.gone_by.is_some_and(|at| at <= now) {
            self.gone_by = None;
            tracing::error!(
                "runs that still go on are killed: they had as long as the longest `run_timeout`"
            );
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
            // Its exit status is not known. But a worker closes its channel only at its regular end.
            let is_well = self.is_stopping() || worker.life.is_replaced();
            let status = if is_well { 0 } else { Signal::KILL.as_raw() };
            self.ended(&worker, ExitStatus::from_raw(status));
        }
    }

    /// Reap the processes that have ended: workers, hooks, and orphans if this is process 1.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = fork::wait_any_nohang() {
            if let Some(at) = self
                .workers
                .iter()
                .position(|worker| worker.pid.as_raw_nonzero().get() == pid)
            {
                // Read its last messages.
                self.hear(self.workers[at].pid);
                let worker = self.workers.remove(at);
                self.ended(&worker, ExitStatus::from_raw(status));
            } else if let Some(HookId { worker, id }) = self.hooks.remove(&pid) {
                Pid::from_raw(pid)
                    .into_iter()
                    .for_each(|group| self.options.guard.remove(group));
                if let Some(worker) = self.workers.iter().find(|found| found.pid == worker) {
                    tell(worker, ToWorker::Ended { id, status });
                }
            }
        }
    }

    /// Let the serving worker finish the work of workers that failed. If none serves, the next one does that.
    pub(super) fn tell_gone(&mut self) {
        let serving = self.workers.iter().find(|worker| worker.life == Life::Serving);
        if let Some(serving) = serving
            && std::mem::take(&mut self.has_leftovers)
        {
            tell(serving, ToWorker::WorkerGone);
        }
    }

    pub(super) fn ended(&mut self, worker: &Worker, status: ExitStatus) {
        let left = self.hooks.iter().filter(|(_, hook)| hook.worker == worker.pid);
        for group in left.filter_map(|(pid, _)| Pid::from_raw(*pid)) {
            kill_process_group(group, Signal::KILL).ok();
            self.options.guard.remove(group);
        }
        self.hooks.retain(|_, hook| hook.worker != worker.pid);
        self.left.retain(|hook, _| hook.worker != worker.pid);
        // Kills the hooks that the worker had started itself.
        self.options.guard.end_of(worker.pid);
        self.has_leftovers |= worker.life >= Life::Serving && status.code() != Some(0);
        self.tell_gone();
        self.hand_over();
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        match code {
            Some(0) if self.is_stopping() => {}
            Some(0) if worker.life.is_replaced() => {
                tracing::debug!("the runs of the old configuration have ended");
            }
            _ if worker.life.is_next() && self.is_ready && !self.is_stopping() => {
                let is_new = |old: &Arc<Config>| !Arc::ptr_eq(old, &worker.config);
                if self.in_force.as_ref().is_some_and(is_new) {
                    self.keep(&[format!(
                        "the worker for the new configuration ended with {status}"
                    )]);
                    if worker.life == Life::Prepared {
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
            code => {
                if code.is_none() || !self.is_stopping() && self.is_ready {
                    tracing::error!("the worker ended with {status}");
                }
                self.exit = code.filter(|code| *code != 0).unwrap_or(1);
            }
        }
        if worker.life.is_replaced() {
            // A renewal may have waited for this end, see `MAX_LEAVING`.
            self.watch.plan();
        }
        let may_serve = |worker: &Worker| worker.life <= Life::Serving;
        if !self.is_stopping() && self.is_ready && !self.workers.iter().any(may_serve) {
            // The other workers finish their runs. Meanwhile no worker accepts, so clients must not wait in the backlog.
            self.exit = self.exit.max(1);
            self.stop();
        }
    }
}
