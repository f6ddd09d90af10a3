//! A rate: so many at once, and then one in each span of time.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::base::mutex;

/// Turns, of which some may be taken at once after a rest.
#[derive(Debug)]
pub struct Pace {
    /// How much time all turns that may be taken at once stand for.
    burst: Duration,
    every: Duration,
    /// When the turns that were taken have all been made up for.
    even: Mutex<Option<Instant>>,
}

impl Pace {
    /// `burst` at once, and then one `every` so often.
    pub fn new(burst: u32, every: Duration) -> Self {
        Self {
            burst: every * burst,
            every,
            even: Mutex::default(),
        }
    }

    /// Take a turn: how long to wait for it. If that is more than `patience`, none is taken.
    pub fn turn(&self, now: Instant, patience: Duration) -> Option<Duration> {
        let mut even = mutex::lock(&self.even);
        let next = even.map_or(now, |even| even.max(now)) + self.every;
        let wait = (next - now).saturating_sub(self.burst);
        (wait <= patience).then(|| {
            *even = Some(next);
            wait
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let pace = Pace::new(3, Duration::from_secs(10));
        let start = Instant::now();
        for (at, patience, wait) in [
            (0, 0, Some(0)),
            (0, 0, Some(0)),
            (0, 0, Some(0)),
            (0, 9, None),
            (0, 10, Some(10)),
            (0, 19, None),
            (0, 20, Some(20)),
            (5, 14, None),
            (5, 25, Some(25)),
            // After a rest, the burst is there once more, and no more than that.
            (1000, 0, Some(0)),
            (1000, 0, Some(0)),
            (1000, 0, Some(0)),
            (1000, 0, None),
            (1010, 0, Some(0)),
            (1010, 0, None),
        ] {
            let (now, patience) = (start + Duration::from_secs(at), Duration::from_secs(patience));
            assert_eq!(pace.turn(now, patience), wait.map(Duration::from_secs), "{at}");
        }
    }
}
