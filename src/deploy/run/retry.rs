//! How long to wait before a failed fetch is tried again.

use std::time::Duration;

/// The wait before the second attempt.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// The waits between attempts: each is about twice as long as the one before, and random, so that daemons do not retry together.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next wait: a random time between half of the whole and the whole.
    pub(super) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        let wait = whole / 2 + (whole / 2).mul_f64(fastrand::f64());
        // More digits are of no interest.
        Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
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
}
