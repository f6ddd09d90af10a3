//! The process groups of running hooks: all of them can be killed at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// The process groups of running hooks.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    running: Arc<Mutex<Vec<Pid>>>,
}

impl Groups {
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
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
