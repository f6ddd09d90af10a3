//! The process groups of running hooks: all of them can be killed at once. Those that the supervisor has started are out of
//! this process's reach: it is asked to.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::Guard;
use crate::base::{
    control::{Link, Report},
    mutex,
};

/// The process group of a hook.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) pid: Pid,
    /// The supervisor, if that has started it, and what it calls it.
    pub(super) outside: Option<(Arc<Link>, u64)>,
}

impl Group {
    /// Let it end: by SIGKILL, or so that it can see to what it has to. One that has just ended is no error.
    pub(super) fn end(&self, at_once: bool) {
        match &self.outside {
            Some((link, id)) => link.report(&Report::Kill { id: *id, at_once }),
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
    /// None yet. Those that this process starts itself are told to `guard`.
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

    /// Whether they were killed: that a hook ended then is not its fault.
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
