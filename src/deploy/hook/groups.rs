//! The process groups of running hooks: all of them can be killed at once. The sandbox keeps this process from killing those that
//! the supervisor has started, so it asks the supervisor to do it.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::Guard;
use crate::base::{
    control::{ToSupervisor, WorkerEnd},
    mutex,
};

/// The process group of a hook.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) pid: Pid,
    /// The supervisor, if that has started it, and the id that the supervisor knows it by.
    pub(super) outside: Option<(Arc<WorkerEnd>, u64)>,
}

impl Group {
    /// End it, by SIGKILL if `at_once`, else by SIGTERM. A group that has just ended is not an error.
    pub(super) fn end(&self, at_once: bool) {
        match &self.outside {
            Some((link, id)) => link.report(&ToSupervisor::Kill { id: *id, at_once }),
            None => {
                let signal = if at_once { Signal::KILL } else { Signal::TERM };
                kill_process_group(self.pid, signal).ok();
            }
        }
    }
}

/// The process groups of running hooks.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    running: Arc<Mutex<Vec<Group>>>,
    guard: Guard,
    are_killed: Arc<AtomicBool>,
}

impl Groups {
    /// No groups yet. `guard` gets those that this process starts itself.
    pub fn new(guard: Guard) -> Self {
        Self {
            running: Arc::default(),
            guard,
            are_killed: Arc::default(),
        }
    }

    /// Kill all of them.
    pub fn kill(&self) {
        self.are_killed.store(true, Ordering::Release);
        self.lock().iter().for_each(|group| group.end(true));
    }

    /// Whether they were killed: a hook that ended by that has not failed.
    pub fn are_killed(&self) -> bool {
        self.are_killed.load(Ordering::Acquire)
    }

    pub(super) fn add(&self, group: &Group) {
        self.lock().push(group.clone());
    }

    pub(super) fn remove(&self, group: &Group) {
        self.lock().retain(|running| running.pid != group.pid);
        self.guard.remove(group.pid);
    }

    /// This process has started `group` itself.
    pub(super) fn guard(&self, group: Pid) {
        self.guard.add(group);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Group>> {
        mutex::lock(&self.running)
    }
}
