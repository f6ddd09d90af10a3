//! From one worker to the next: a reload, and what becomes of it.
//!
//! The configuration in force changes when the new worker says that it serves. Until then the old one, its sockets and
//! its configuration are there to go back to.

use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Supervisor, systemd,
    worker::{Phase, Worker, order, refused},
};
use crate::{
    base::{
        control::{Level, Order},
        fault::Failure,
    },
    config::{Listener, reload},
    daemon::listen,
};

impl Supervisor<'_> {
    /// The worker `pid` could serve. It may, once the one before it accepts no more connections: nobody who comes after
    /// a reload must meet the old configuration.
    pub(super) fn prepared(&mut self, pid: Pid) {
        // Not before: a worker that ends before this would leave connections that no worker accepts.
        for (listener, socket) in &self.opened {
            if let Err(err) = listen::listen(socket) {
                tracing::error!("cannot listen on {}: {err}", listener.address());
                // The old one serves on: see `ended`.
                kill_process(pid, Signal::KILL).ok();
                return;
            }
        }
        for worker in &mut self.workers {
            match worker.phase {
                Phase::Starting if worker.pid == pid => worker.phase = Phase::Prepared,
                Phase::Serving => {
                    worker.phase = Phase::Closing;
                    order(worker, Order::Level(Level::Drain));
                }
                _ => {}
            }
        }
        self.hand_over();
    }

    /// Let the next worker serve, if none does.
    pub(super) fn hand_over(&mut self) {
        let accepts = |worker: &Worker| matches!(worker.phase, Phase::Serving | Phase::Closing);
        if self.level != Level::Serve || self.workers.iter().any(accepts) {
            return;
        }
        let next = self.workers.iter().find(|worker| worker.phase == Phase::Prepared);
        if let Some(next) = next {
            // No worker accepts what comes by the others any more, where it could have come by one that overlaps.
            let stays = |open: &Listener| next.config.listen.iter().any(|wanted| wanted.is_at(open));
            self.listeners.retain(|(open, _)| stays(open));
            order(next, Order::Level(Level::Serve));
        }
    }

    /// The worker `pid` accepts no more connections.
    pub(super) fn closed(&mut self, pid: Pid) {
        let closing = self.workers.iter_mut().filter(|worker| worker.pid == pid);
        closing.for_each(|worker| worker.phase = Phase::Leaving);
        self.hand_over();
    }

    /// The worker `pid` serves: its configuration is in force.
    pub(super) fn take_over(&mut self, pid: Pid) {
        let next = self.workers.iter_mut().filter(|worker| worker.pid == pid);
        next.for_each(|worker| worker.phase = Phase::Serving);
        let Some(config) = self.config(pid) else { return };
        let mut open = std::mem::take(&mut self.listeners);
        open.append(&mut self.opened);
        for (before, mut socket) in open {
            let wanted = config.listen.iter().find(|listener| listener.is_at(&before));
            let Some(wanted) = wanted.filter(|_| self.level == Level::Serve) else {
                continue;
            };
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
            // It has taken the place of one that was to be, and is not.
            self.tell_refused();
        } else {
            self.refused = None;
            self.is_renewal_refused = false;
        }
        self.in_force = Some(config);
        self.tell_gone();
        if self.level == Level::Serve {
            systemd::ready();
            if !std::mem::replace(&mut self.is_ready, true) {
                (self.options.ready)();
            }
        }
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
        // What it holds may have been replaced before it was watched.
        self.watch.plan();
    }

    /// SIGHUP: another worker with the configuration as it is now, if that is right.
    pub(super) fn reload(&mut self) {
        if self.level > Level::Serve {
            return;
        }
        let is_next = |worker: &Worker| matches!(worker.phase, Phase::Starting | Phase::Prepared);
        if self.workers.iter().any(is_next) {
            self.reload_again = true;
            return;
        }
        systemd::reloading();
        let failed = match (self.options.load)() {
            Ok(config) => {
                if let Some(old) = &self.in_force {
                    tracing::info!("configuration read anew: {}", reload::changes(old, &config));
                }
                // Also if nothing has changed in it: what is at its paths may have, and the sandbox is about that.
                match self.begin(Arc::new(config)) {
                    Ok(()) => return,
                    Err(err) => vec![Failure::of(&err).message],
                }
            }
            Err(lines) => lines,
        };
        self.keep(&failed);
    }

    /// Nobody accepts connections any more, and the one who was to does not: a worker for the old configuration does.
    pub(super) fn begin_again(&mut self) {
        let accepts = |worker: &Worker| worker.phase == Phase::Serving;
        let Some(config) = self.in_force.clone() else {
            return;
        };
        if !self.workers.iter().any(accepts)
            && let Err(err) = self.begin(config)
        {
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
        // The first line says where it is wrong, with what is to be done.
        self.refused = Some(refused(because.first().map_or("see the log", String::as_str)));
        self.is_renewal_refused = false;
        self.tell_refused();
        systemd::ready();
        systemd::status("configuration rejected, see the log; still using the previous one");
    }

    pub(super) fn tell_refused(&self) {
        if let Some(refused) = &self.refused {
            for worker in &self.workers {
                order(worker, Order::Refused(refused.clone()));
            }
        }
    }
}
