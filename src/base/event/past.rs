//! Runs as they are listed: those that go on or wait, and those that have ended.
//!
//! Times are seconds since 1970-01-01 UTC, by the daemon's clock.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{
    done::{Done, Ids},
    task::Task,
};
use crate::base::name::{Note, RunId, TriggerName};

/// A run that waits or goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoingOn {
    /// The trigger. A daemon of the version before does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TriggerName>,
    #[serde(default, skip_serializing_if = "Task::is_update")]
    pub task: Task,
    /// Who asked for the run first.
    pub peer: String,
    /// What those who asked for the run said of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    pub accepted: u64,
    /// When the run began, if it no longer waits for its target or a job.
    pub began: Option<u64>,
    /// For how many seconds the run should have been over, by the trigger's `run_timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    #[serde(default, skip_serializing_if = "Task::is_update")]
    pub task: Task,
    pub peer: String,
    /// What those who asked for the run said of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    pub accepted: u64,
    /// When the run began; how long it took is in `ms`.
    pub began: u64,
    pub ended: u64,
    /// How many milliseconds the run was in each [`Step`](super::Step), by its word, if that was measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phases_ms: BTreeMap<String, u64>,
    #[serde(flatten)]
    pub done: Done,
}

/// A run that waits or goes on, with its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    pub run: RunId,
    #[serde(flatten)]
    pub going_on: GoingOn,
}

/// A run that has ended, with its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    pub run: RunId,
    #[serde(flatten)]
    pub past: Past,
}

/// The time, in seconds since 1970-01-01 UTC.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// A clock may be set back by so many seconds, or be behind another host's, without meaning anything.
const SKEW: u64 = 60;

/// How long ago `since` is at the time `now`. `None`: it has not come yet, so it is not known: the clock was set back.
pub fn age(since: u64, now: u64) -> Option<Duration> {
    match now.checked_sub(since) {
        None if since - now > SKEW => None,
        age => Some(Duration::from_secs(age.unwrap_or(0))),
    }
}

/// A time for people: `2026-11-25T02:10:31Z`.
pub fn time(secs: u64) -> String {
    // What a year has more digits for than RFC 3339 has, no clock of a daemon says.
    const YEAR_9999: u64 = 253_402_300_799;
    let at = UNIX_EPOCH + Duration::from_secs(secs.min(YEAR_9999));
    humantime::format_rfc3339_seconds(at).to_string()
}

/// A duration for people: `12ms`, `1.2s`, `5s`, `3m 5s`, `2h 4m`, `3d 1h`.
pub fn duration(duration: Duration) -> String {
    let (ms, secs) = (duration.as_millis(), duration.as_secs());
    let two = |first: u64, unit, second: u64, smaller| match second {
        0 => format!("{first}{unit}"),
        _ => format!("{first}{unit} {second}{smaller}"),
    };
    match secs {
        0 => format!("{ms}ms"),
        1..60 if ms % 1000 == 0 => format!("{secs}s"),
        1..60 => format!("{secs}.{}s", ms / 100 % 10),
        60..3600 => two(secs / 60, "m", secs % 60, "s"),
        3600..86_400 => two(secs / 3600, "h", secs / 60 % 60, "m"),
        _ => two(secs / 86_400, "d", secs / 3600 % 24, "h"),
    }
}

/// What was said of a run, behind who asked for it; nothing if nothing was.
pub fn said(notes: &[Note]) -> String {
    let words: Vec<_> = notes.iter().map(Note::as_str).collect();
    if words.is_empty() {
        String::new()
    } else {
        format!(" ({})", words.join("; "))
    }
}

impl GoingOn {
    /// Half a line of a list, to go behind the run's id.
    pub fn line(&self) -> String {
        let trigger = self.trigger.as_ref().map(|trigger| format!("{trigger} "));
        let task = self.task.shown() + &trigger.unwrap_or_default();
        let (peer, notes) = (&self.peer, said(&self.notes));
        match self.began {
            Some(began) => {
                let overdue = self.overdue.map_or_else(String::new, |secs| {
                    format!(", overdue for {}", duration(Duration::from_secs(secs)))
                });
                format!("{} {task}by {peer}{notes}: running{overdue}", time(began))
            }
            None => format!("{} {task}by {peer}{notes}: waiting", time(self.accepted)),
        }
    }
}

impl Past {
    /// Half a line of a list, to go behind the run's id.
    pub fn line(&self) -> String {
        self.line_with(Ids::Short)
    }

    pub fn line_with(&self, ids: Ids) -> String {
        let took = duration(Duration::from_millis(self.done.ms));
        format!(
            "{} {}by {}{} took {took}: {}",
            time(self.began),
            self.task.shown(),
            self.peer,
            said(&self.notes),
            self.done.line_with(ids)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (ms, expected) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_001, "1.0s"),
            (59_960, "59.9s"),
            (60_000, "1m"),
            (185_000, "3m 5s"),
            (3_600_000, "1h"),
            (7_499_000, "2h 4m"),
            (86_400_000, "1d"),
            (263_000_000, "3d 1h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), expected);
        }
    }

    #[test]
    fn ages() {
        for (since, now, expected) in [
            (100, 100, Some(0)),
            (100, 3_700, Some(3_600)),
            (0, u64::MAX, Some(u64::MAX)),
            // Clocks that differ a little are no clocks that were set back.
            (160, 100, Some(0)),
            (161, 100, None),
            (u64::MAX, 0, None),
        ] {
            assert_eq!(
                age(since, now),
                expected.map(Duration::from_secs),
                "{since} {now}"
            );
        }
    }

    #[test]
    fn what_was_said_of_a_run_stands_behind_who_asked_for_it() {
        let mut run = GoingOn {
            task: Task::Hooks,
            peer: "uid=33 pid=7".into(),
            accepted: 0,
            began: None,
            overdue: None,
            trigger: None,
            notes: Vec::new(),
        };
        assert_eq!(run.line(), "1970-01-01T00:00:00Z hooks by uid=33 pid=7: waiting");
        run.notes = ["by alice", "delivery 7"]
            .map(|note| Note::new(note).unwrap())
            .into();
        assert_eq!(
            run.line(),
            "1970-01-01T00:00:00Z hooks by uid=33 pid=7 (by alice; delivery 7): waiting"
        );
    }

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_764_036_631), "2025-11-25T02:10:31Z");
        assert_eq!(time(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
