//! Trying again: how long to wait before, and when to give that up.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// The wait before the first attempt that is not the first.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// The waits between attempts: each about twice as long as the one before, and no two daemons agree on one.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait now: between half of the whole and the whole.
    pub(super) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        let wait = whole / 2 + (whole / 2).mul_f64(fastrand::f64());
        // Nobody wants to read more digits.
        Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Whether the process is stopping: then runs end as soon as they can do so well. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// The process is stopping.
    pub fn set(&self) {
        let (stopping, bell) = &*self.0;
        *stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        bell.notify_all();
    }

    /// Whether it is.
    pub fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait for `time`, or until the process is stopping, which is the value.
    pub fn wait(&self, time: Duration) -> bool {
        let (stopping, bell) = &*self.0;
        let stopping = stopping.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopping, _) = bell
            .wait_timeout_while(stopping, time, |stopping| !*stopping)
            .unwrap_or_else(PoisonError::into_inner);
        *stopping
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Instant};

    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        let waits = || {
            let mut backoff = Backoff::new();
            (0..10).map(move |_| backoff.wait()).collect::<Vec<_>>()
        };
        let (a, b) = (waits(), waits());
        assert_ne!(a, b);
        for (wait, whole) in a
            .iter()
            .chain(&b)
            .zip([1, 2, 4, 8, 16, 30, 30, 30, 30, 30].iter().cycle())
        {
            let whole = Duration::from_secs(*whole);
            assert!(*wait >= whole / 2 && *wait <= whole, "{wait:?} of {whole:?}");
        }
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let stop = Stop::default();
        assert!(!stop.wait(Duration::from_millis(20)));
        let begin = Instant::now();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| stop.wait(Duration::from_secs(60)));
            stop.set();
            assert!(waiting.join().is_ok_and(|stopped| stopped));
        });
        assert!(stop.wait(Duration::from_secs(60)), "from now on at once");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
