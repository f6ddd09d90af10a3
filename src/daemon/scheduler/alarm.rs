//! A timer that can be moved to an earlier time, for threads that look at runs or polls.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Instant,
};

use crate::base::mutex;

/// When to look next. `None`: only when a time is set.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    at: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Alarm {
    /// A look begins: times that are set from now on are for the next one.
    pub(super) fn clear(&self) {
        *mutex::lock(&self.at) = None;
    }

    /// Look at `time` at the latest.
    pub(super) fn set(&self, time: Instant) {
        let mut at = mutex::lock(&self.at);
        if at.is_none_or(|at| time < at) {
            *at = Some(time);
            self.changed.notify_all();
        }
    }

    /// Wait until the time that is set, or until `next` if that is earlier.
    pub(super) fn wait(&self, next: Option<Instant>) {
        next.into_iter().for_each(|next| self.set(next));
        let at = mutex::lock(&self.at);
        match at.map(|at| at.saturating_duration_since(Instant::now())) {
            None => drop(self.changed.wait(at).unwrap_or_else(PoisonError::into_inner)),
            Some(left) => {
                let woken = self.changed.wait_timeout(at, left);
                drop(woken.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}
