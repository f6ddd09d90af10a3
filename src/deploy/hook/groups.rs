//! The process groups of running hooks: all of them can be killed at once.

use std::sync::{Arc, Mutex, MutexGuard};

use rustix::process::{Pid, Signal, kill_process_group};

use super::Guard;
use crate::base::mutex;

/// The process groups of running hooks.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    running: Arc<Mutex<Vec<Pid>>>,
    guard: Guard,
}

impl Groups {
    /// None yet. Those that this process starts itself are told to `guard`.
    pub fn new(guard: Guard) -> Self {
        Self {
            running: Arc::default(),
            guard,
        }
    }

    /// Kill all of them.
    pub fn kill(&self) {
        for pid in self.lock().iter() {
            // A group that has just ended is no error.
            kill_process_group(*pid, Signal::KILL).ok();
        }
    }

    pub(super) fn add(&self, group: Pid) {
        self.lock().push(group);
    }

    pub(super) fn remove(&self, group: Pid) {
        self.lock().retain(|pid| *pid != group);
        self.guard.remove(group);
    }

    /// This process has started `group` itself.
    pub(super) fn guard(&self, group: Pid) {
        self.guard.add(group);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pid>> {
        mutex::lock(&self.running)
    }
}
