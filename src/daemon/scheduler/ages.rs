//! How long triggers have been failing, by a monotonic clock.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::base::{event, name::TriggerName};

/// The age of each failure when this process first saw it.
#[derive(Debug, Default)]
pub(super) struct Ages(BTreeMap<TriggerName, Seen>);

#[derive(Debug)]
struct Seen {
    since: u64,
    age: Duration,
    at: Instant,
}

impl Ages {
    /// How long ago `since` is, for the trigger `name`; `None` if the clock was set back since. `now` counts only the first
    /// time.
    pub(super) fn of(
        &mut self,
        name: &TriggerName,
        since: u64,
        now: u64,
        clock: Instant,
    ) -> Option<Duration> {
        if let Some(seen) = self.0.get(name)
            && seen.since == since
        {
            return Some(seen.age + clock.saturating_duration_since(seen.at));
        }
        let age = event::age(since, now)?;
        let seen = Seen {
            since,
            age,
            at: clock,
        };
        self.0.insert(name.clone(), seen);
        Some(age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_changes_no_age() {
        let name = TriggerName::new("site").unwrap();
        let mut ages = Ages::default();
        let begin = Instant::now();
        let after = |secs| begin + Duration::from_secs(secs);
        let secs = |secs| Some(Duration::from_secs(secs));
        assert_eq!(ages.of(&name, 1_000, 1_010, begin), secs(10));
        // Back, and forward by a year.
        for now in [10, 1_010 + 31_536_000] {
            assert_eq!(ages.of(&name, 1_000, now, after(5)), secs(15), "{now}");
        }
        assert_eq!(ages.of(&name, 2_000, 2_000, after(7)), secs(0), "another failure");
        // What was written before a restart, and lies in the future since.
        assert_eq!(Ages::default().of(&name, 90_000, 1_000, begin), None);
    }
}
