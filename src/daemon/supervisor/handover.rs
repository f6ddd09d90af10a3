//! The handover from one worker to the next at a reload.
//!
//! The configuration in force changes when the new worker reports that it serves. Until then the old worker, its sockets and its
//! configuration stay, in case the new worker fails.

use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Supervisor, systemd,
    worker::{Worker, refused, tell},
};
use crate::{
    base::{
        control::{Life, ToWorker},
        fault::Failure,
    },
    config::{Listener, reload},
    daemon::listen,
};

impl Supervisor<'_> {
    /// The worker `pid` is ready to serve. It may begin once the previous worker accepts no more connections: a client that connects
    /// after a reload must not get the old configuration.
    pub(super) fn prepared(&mut self, pid: Pid) {
        // A compromised worker may report this at any time, and must not replace the one that serves.
        let is_next = |worker: &Worker| worker.pid == pid && worker.life.is_next();
        if !self.workers.iter().any(is_next) {
            return;
        }
        // Only now: if the worker had failed before, connections to its sockets would never be accepted.
        for (listener, socket) in &self.opened {
            if let Err(err) = listen::listen(socket) {
                tracing::error!("cannot listen on {}: {err}", listener.address());
                // The old worker goes on: see `ended`.
                kill_process(pid, Signal::KILL).ok();
                return;
            }
        }
        for worker in &mut self.workers {
            if worker.pid == pid {
                worker.reach(Life::Prepared);
            } else if worker.life == Life::Serving {
                worker.order(Life::Draining);
            }
        }
        self.hand_over();
    }

    /// Let the next worker serve, if none does.
    pub(super) fn hand_over(&mut self) {
        if self.is_stopping() || self.workers.iter().any(|worker| worker.life.accepts()) {
            return;
        }
        let mut workers = self.workers.iter_mut();
        if let Some(next) = workers.find(|worker| worker.life == Life::Prepared) {
            // Close the other sockets: no worker accepts from them, and they may overlap one that stays.
            let stays = |open: &Listener| next.config.listen.iter().any(|wanted| wanted.is_at(open));
            self.listeners.retain(|(open, _)| stays(open));
            next.order(Life::Serving);
        }
    }

    /// The worker `pid` accepts no more connections.
    pub(super) fn closed(&mut self, pid: Pid) {
        self.reach(pid, Life::Finishing);
        self.hand_over();
    }

    /// The worker `pid` serves: its configuration is in force.
    pub(super) fn take_over(&mut self, pid: Pid) {
        if !self.reach(pid, Life::Serving) {
            return;
        }
        let Some(config) = self.config(pid) else { return };
        let mut open = std::mem::take(&mut self.listeners);
        open.append(&mut self.opened);
        for (before, mut socket) in open {
            let wanted = config.listen.iter().find(|listener| listener.is_at(&before));
            let Some(wanted) = wanted else { continue };
            if *wanted != before
                && let Err(err) = listen::adjust(&mut socket, wanted)
            {
                tracing::error!("{}", Failure::of(&err).message);
            }
            self.listeners.push((wanted.clone(), socket));
        }
        self.listeners
            .iter()
            .for_each(|(_, socket)| listen::alone(socket));
        if self
            .in_force
            .as_ref()
            .is_some_and(|old| Arc::ptr_eq(old, &config))
        {
            if std::mem::take(&mut self.is_renewal_refused) {
                self.refused = None;
            }
            // The new worker does not know of an earlier refused reload.
            self.tell_refused();
        } else {
            self.refused = None;
            self.is_renewal_refused = false;
        }
        self.in_force = Some(config);
        self.tell_gone();
        systemd::ready();
        if !std::mem::replace(&mut self.is_ready, true) {
            (self.options.ready)();
        }
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
        // Files may have been replaced after its sandbox was made and before they were watched.
        self.watch.plan();
    }

    /// SIGHUP: start a new worker with the configuration as it is now, if it is valid.
    pub(super) fn reload(&mut self) {
        if self.is_stopping() {
            return;
        }
        if self.workers.iter().any(|worker| worker.life.is_next()) {
            self.reload_again = true;
            return;
        }
        systemd::reloading();
        let failed = match (self.options.load)() {
            Ok(config) => {
                if let Some(old) = &self.in_force {
                    tracing::info!("configuration reloaded: {}", reload::changes(old, &config));
                }
                // Even without a change: files at its paths may have been replaced, and the sandbox's rules are bound to inodes.
                match self.begin(Arc::new(config)) {
                    Ok(()) => return,
                    Err(err) => vec![Failure::of(&err).message],
                }
            }
            Err(lines) => lines,
        };
        self.keep(&failed);
    }

    /// No worker accepts connections and the new one failed: start one with the previous configuration.
    pub(super) fn begin_again(&mut self) {
        let Some(config) = self.in_force.clone() else {
            return;
        };
        let is_serving = self.workers.iter().any(|worker| worker.life == Life::Serving);
        if !is_serving && let Err(err) = self.begin(config) {
            tracing::error!("{}", Failure::of(&err).message);
            self.exit = 1;
            self.stop();
        }
    }

    /// The old configuration stays in force.
    pub(super) fn keep(&mut self, because: &[String]) {
        self.opened.clear();
        self.listeners
            .iter()
            .for_each(|(_, socket)| listen::alone(socket));
        for line in because {
            tracing::error!("{line}");
        }
        tracing::error!("configuration rejected; still using the previous one");
        // Each line is one error, with its place and what to do.
        let why = match because {
            [] => "see the log".to_owned(),
            [only] => only.clone(),
            // The important part first, since `refused` may cut the text.
            [first, ..] => format!(
                "{} errors; see all: {}; the first: {first}",
                because.len(),
                self.options.check
            ),
        };
        self.refused = Some(refused(&why));
        self.is_renewal_refused = false;
        self.tell_refused();
        systemd::ready();
        systemd::status("configuration rejected, see the log; still using the previous one");
    }

    pub(super) fn tell_refused(&self) {
        if let Some(refused) = &self.refused {
            for worker in &self.workers {
                tell(worker, ToWorker::Refused(refused.clone()));
            }
        }
    }
}
