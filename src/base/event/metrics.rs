//! The numbers of a daemon: the answer to `metrics`.
//!
//! What is counted of a trigger takes the same room however many runs it has. It is written with each run that is
//! remembered, so it survives a reload and a restart wherever runs do.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    done::Outcome,
    past::{Last, duration},
    status::State,
};
use crate::base::{name::TriggerName, report::Step, vitals::Vitals};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    pub trigger: TriggerName,
    pub state: State,
    /// Runs that go on: none, or one.
    pub running: u64,
    pub waiting: u64,
    pub failing_since: Option<u64>,
    /// Whether hooks have not yet succeeded for what is deployed.
    #[serde(rename = "hooks_owed")]
    pub hooks_pending: bool,
    /// How many commits are held, as they were rolled back.
    pub held: u64,
    /// How many polls in a row its remote has not answered, if it is polled.
    #[serde(default)]
    pub polls_unanswered: Option<u64>,
    #[serde(default)]
    pub paused: bool,
    /// When the present commit was deployed, if that is known.
    pub deployed: Option<u64>,
    #[serde(flatten)]
    pub tally: Tally,
}

/// What has been counted of a trigger's runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    pub runs: Runs,
    /// When the last run that succeeded ended.
    pub succeeded: Option<u64>,
    /// The bytes of packs that were received, those of fetches that failed included.
    pub fetched_bytes: u64,
    pub took: Histogram,
    /// How long each [`Step`] took, by its word: of those runs that came to it.
    pub phases: BTreeMap<String, Histogram>,
}

/// Runs by their outcome. All of them are in the log, or were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Runs {
    pub updated: u64,
    pub up_to_date: u64,
    pub failed: u64,
    pub rolled_back: u64,
}

/// How long something took, in buckets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Histogram {
    /// How many took no longer than each of [`BUCKETS`], and longer than the one before; the last are longer than all.
    pub counts: [u64; BUCKETS.len() + 1],
    /// The sum, in microseconds.
    pub us: u64,
}

/// As it stands in a file, which another version may have written.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    counts: Vec<u64>,
    #[serde(default)]
    us: u64,
}

/// From a run that finds nothing new to a hook that has its ten minutes. In milliseconds.
pub const BUCKETS: [u64; 8] = [10, 50, 250, 1_000, 5_000, 30_000, 120_000, 600_000];

/// What a run took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Took {
    pub steps: Vec<(Step, Duration)>,
    /// The bytes of packs that the run received.
    pub fetched_bytes: u64,
}

impl Took {
    /// The milliseconds of each step, by its word.
    pub fn phases_ms(&self) -> impl Iterator<Item = (String, u64)> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.steps
            .iter()
            .map(move |(step, time)| (step.as_str().into(), ms(*time)))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    pub version: String,
    /// How many runs may go on at a time.
    pub jobs: u64,
    /// When a reload was refused, if none has succeeded since.
    pub reload_refused: Option<u64>,
    /// The bounds of all buckets, in milliseconds: [`BUCKETS`].
    pub buckets_ms: Vec<u64>,
    pub process: Vitals,
}

impl Tally {
    /// One more run; `took` if that was measured.
    pub fn add(&mut self, last: &Last, took: Option<&Took>) {
        let done = &last.past.done;
        *self.runs.of(done.outcome) += 1;
        if done.failure.is_none() {
            self.succeeded = Some(last.past.ended);
        }
        let Some(took) = took else { return };
        self.fetched_bytes = self.fetched_bytes.saturating_add(took.fetched_bytes);
        self.took.add(took.steps.iter().map(|(_, time)| *time).sum());
        for (step, time) in &took.steps {
            self.phases.entry(step.as_str().into()).or_default().add(*time);
        }
    }
}

impl Runs {
    fn of(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Updated => &mut self.updated,
            Outcome::UpToDate => &mut self.up_to_date,
            Outcome::RolledBack => &mut self.rolled_back,
            // The others are no ends of a run.
            Outcome::Failed | Outcome::Accepted | Outcome::Answered => &mut self.failed,
        }
    }

    /// Each outcome, in the word that JSON has for it, and how many there were.
    pub fn by_outcome(&self) -> [(&'static str, u64); 4] {
        [
            ("updated", self.updated),
            ("up-to-date", self.up_to_date),
            ("failed", self.failed),
            ("rolled-back", self.rolled_back),
        ]
    }
}

impl Histogram {
    pub fn add(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = BUCKETS.partition_point(|ms| ms * 1_000 < us);
        self.counts[at] += 1;
        self.us = self.us.saturating_add(us);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Counts of other buckets cannot be used: the histogram begins empty.
impl From<Written> for Histogram {
    fn from(written: Written) -> Self {
        match written.counts.try_into() {
            Ok(counts) => Self {
                counts,
                us: written.us,
            },
            Err(_) => Self::default(),
        }
    }
}

impl Numbers {
    /// One line, which begins with the name.
    pub fn line(&self) -> String {
        let tally = &self.tally;
        let runs = tally.runs.by_outcome();
        let runs = runs
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .join(", ");
        let mut line = format!(
            "{}: {runs}; took {}; fetched {} bytes; {} running, {} waiting",
            self.trigger,
            duration(Duration::from_micros(tally.took.us)),
            tally.fetched_bytes,
            self.running,
            self.waiting
        );
        if self.failing_since.is_some() {
            line += "; failing";
        }
        if self.hooks_pending {
            line += "; hooks pending";
        }
        line
    }
}

impl Daemon {
    pub fn line(&self) -> String {
        let Vitals {
            cpu_us,
            resident_bytes,
            open_fds,
            ..
        } = &self.process;
        let mut line = format!(
            "gitsocket {}: {} jobs; {} of processor time",
            self.version,
            self.jobs,
            duration(Duration::from_micros(*cpu_us))
        );
        if let Some(bytes) = resident_bytes {
            line += &format!("; {bytes} bytes of memory");
        }
        if let Some(open) = open_fds {
            line += &format!("; {open} descriptors");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        event::{Done, Past, Task},
        fault::{Failure, Kind},
        name::RunId,
    };

    fn last(ended: u64, outcome: Outcome) -> Last {
        let is_good = matches!(outcome, Outcome::Updated | Outcome::UpToDate);
        Last {
            run: RunId::new(),
            past: Past {
                task: Task::Update,
                peer: "uid=0".into(),
                notes: Vec::new(),
                accepted: ended,
                began: ended,
                ended,
                phases_ms: Default::default(),
                done: Done {
                    failure: (!is_good).then(|| Failure::new(Kind::Hook, "it failed", None)),
                    ..Done::answered("site", outcome)
                },
            },
        }
    }

    #[test]
    fn buckets() {
        let mut histogram = Histogram::default();
        for (us, bucket) in [
            (0, 0),
            (10_000, 0),
            (10_001, 1),
            (1_000_000, 3),
            (600_000_000, 7),
            (600_000_001, 8),
            (u64::MAX, 8),
        ] {
            let before = histogram.counts[bucket];
            histogram.add(Duration::from_micros(us));
            assert_eq!(histogram.counts[bucket], before + 1, "{us}");
        }
        assert_eq!((histogram.count(), histogram.us), (7, u64::MAX));
    }

    #[test]
    fn runs_are_counted() {
        let mut tally = Tally::default();
        let took = Took {
            steps: vec![
                (Step::Lock, Duration::from_micros(30)),
                (Step::Fetch, Duration::from_millis(20)),
            ],
            fetched_bytes: 500,
        };
        tally.add(&last(10, Outcome::Updated), Some(&took));
        tally.add(&last(20, Outcome::Failed), Some(&took));
        // It was killed: how long it took is not known.
        tally.add(&last(30, Outcome::Failed), None);
        tally.add(&last(40, Outcome::RolledBack), Some(&Took::default()));
        assert_eq!(
            tally.runs.by_outcome(),
            [
                ("updated", 1),
                ("up-to-date", 0),
                ("failed", 2),
                ("rolled-back", 1)
            ]
        );
        assert_eq!(
            (tally.succeeded, tally.fetched_bytes, tally.took.count()),
            (Some(10), 1000, 3)
        );
        assert_eq!(tally.took.us, 40_060);
        let phases: Vec<_> = tally
            .phases
            .iter()
            .map(|(name, of)| (name.as_str(), of.us))
            .collect();
        assert_eq!(phases, [("fetch", 40_000), ("lock", 60)]);
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally, "{text}");
    }

    /// What another version has counted is no reason to pass over a run.
    #[test]
    fn other_versions_count_otherwise() {
        let text = r#"{"runs":{"updated":3,"paused":1},"took":{"counts":[1,2],"us":9},"phases":{"notify":{}},"more":1}"#;
        let tally: Tally = serde_json::from_str(text).unwrap();
        assert_eq!(tally.runs.updated, 3);
        assert_eq!(tally.took, Histogram::default());
    }
}
