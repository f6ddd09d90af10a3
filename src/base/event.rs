//! What a run reports while it goes, and how it ends: the one vocabulary of progress.
//!
//! Rooms above the engine emit [`Event`]s into a [`Sink`]; they do not know the listeners. The engine's [`Report`]s become
//! events there. The same events become JSON Lines, lines for people, progress bars and log records.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

mod done;
mod held;
mod line;
mod metrics;
mod past;
mod status;
mod task;

pub use crate::base::name::short;
pub use crate::base::report::{Action, Local, Mixed, Named, Phase, Step, Unit};
pub use done::{Done, Ids, Outcome, ROLLED_BACK};
pub use held::{Held, Why};
pub use metrics::{BUCKETS, Daemon, Histogram, Numbers, Runs, Tally, Took};
pub use past::{Current, GoingOn, Last, Past, age, duration, now, said, time};
pub use status::{Failing, Paused, Polled, Refused, Release, Standing, State, Status, Stuck, Unasked};
pub use task::{May, Task};

use crate::base::{
    name::{RunId, TriggerName},
    report::{Report, Reporter},
};

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The trigger was accepted; the run begins as soon as the target and a job are free.
    Queued {
        trigger: TriggerName,
    },
    Started {
        trigger: TriggerName,
        /// The repository, without secrets.
        repo: String,
        /// The branch, tag or id asked for; empty for the remote's HEAD.
        #[serde(rename = "branch")]
        revision: String,
        path: String,
    },
    /// The run waits for another process to finish with the target.
    Waiting {
        on: String,
    },
    /// Work that can be counted goes on. Sent a few times a second at most.
    Progress {
        phase: Phase,
        done: u64,
        /// How much there is, if that is known.
        total: Option<u64>,
        unit: Unit,
    },
    /// A line that the remote sent for people.
    Remote {
        line: String,
    },
    /// The remote's newest commit is here.
    Fetched {
        /// The commit that was deployed, if any.
        old: Option<String>,
        new: String,
        /// The newest commit does not contain what was deployed: the branch was rewound, as by a forced push.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rewound: bool,
        /// The commits that are no longer in it.
        #[serde(default, skip_serializing_if = "Named::is_empty")]
        dropped: Named,
    },
    /// In a dry run: what would be done to a path.
    Change {
        action: Action,
        /// The path, relative to the worktree; that of a directory that would be removed ends with a slash.
        path: String,
        /// What is there and nowhere else, if anything is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        local: Option<Local>,
    },
    Updated {
        written: u64,
        deleted: u64,
        /// Untracked files and directories removed.
        cleaned: u64,
        /// Tracked files that had been changed, and whose changes are gone.
        #[serde(default, skip_serializing_if = "Named::is_empty")]
        edited: Named,
        /// Files that were not tracked and are gone, and directories with such files.
        #[serde(default, skip_serializing_if = "Named::is_empty")]
        untracked: Named,
    },
    /// Something that does not stop the run, but that a user should look at.
    Warning {
        message: String,
    },
    HookStarted {
        /// The hook, as the configuration calls it.
        hook: String,
        /// Which one it is, where another has the same name.
        #[serde(flatten)]
        nth: Option<Nth>,
    },
    HookLine {
        stream: Stream,
        /// The line, without its end.
        line: String,
    },
    HookEnded {
        /// The hook, as the configuration calls it.
        hook: String,
        /// Which one it is, where another has the same name.
        #[serde(flatten)]
        nth: Option<Nth>,
        /// The hook's end: `exit status 0`, `signal 9`, `timed out after 5m`.
        status: String,
        success: bool,
    },
    /// Hooks have built a release, which is not live yet.
    Built {
        release: String,
    },
    Live {
        release: String,
        commit: String,
    },
    /// What runs on the deployed commit was asked whether it is well. Sent when the answer changes, and a few times a minute
    /// at most.
    Health {
        /// The answer, in words: `503 Service Unavailable`.
        answer: String,
        good: bool,
        /// The milliseconds until the next question; not there: no other follows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again_ms: Option<u64>,
    },
    /// An older commit is live again; its hooks come next.
    RolledBack {
        /// The commit that was left.
        old: String,
        new: String,
    },
    /// Events are missing here: this client was too slow, or there are more than are kept.
    Lagged {
        lost: u64,
    },
    /// How a trigger is: the answer to `status`.
    Status(Box<Status>),
    /// A run that goes on or waits: in the answer to `log`.
    GoingOn(GoingOn),
    /// A run that has ended: in the answer to `log`.
    Past(Past),
    /// The numbers of a trigger: in the answer to `metrics`.
    Metrics(Box<Numbers>),
    /// The numbers of the daemon itself, before those of triggers.
    Daemon(Box<Daemon>),
    /// The daemon is there: the answer to `ping`.
    Pong,
    /// The run has ended, or the question is answered. Always the last event.
    Done(Done),
}

impl Event {
    /// Whether something has gone, or is about to go, that may be nowhere else: edits, untracked files, commits.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Fetched { rewound, .. } => *rewound,
            Self::Updated {
                edited, untracked, ..
            } => !edited.is_empty() || !untracked.is_empty(),
            _ => false,
        }
    }
}

/// The position of a hook among those of its trigger, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nth {
    pub number: usize,
    pub of: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// An event with the id of its run, as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub run: RunId,
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// The record as a line for people, see [`Event::line`]. In a list, the run's id comes first.
    pub fn line(&self) -> Option<String> {
        self.line_with(Ids::Short)
    }

    /// As [`Self::line`]; in a list, with `ids` of commits.
    pub fn line_with(&self, ids: Ids) -> Option<String> {
        match &self.event {
            Event::GoingOn(going_on) => Some(format!("{} {}", self.run, going_on.line())),
            Event::Past(past) => Some(format!("{} {}", self.run, past.line_with(ids))),
            event => event.line(),
        }
    }
}

impl Event {
    /// What `report` is to the listeners of a run; nothing if it is only counted.
    pub fn of(report: Report) -> Option<Self> {
        Some(match report {
            Report::Waiting { on } => Self::Waiting { on },
            Report::Progress {
                phase,
                done,
                total,
                unit,
            } => Self::Progress {
                phase,
                done,
                total,
                unit,
            },
            Report::Remote { line } => Self::Remote { line },
            Report::Received { .. } => return None,
            Report::Change { action, path, local } => Self::Change { action, path, local },
            Report::Warning { message } => Self::Warning { message },
        })
    }
}

/// Takes the events of one run to its listeners. Cheap to clone; never blocks for long.
#[derive(Clone)]
pub struct Sink {
    emit: Arc<dyn Fn(Event) + Send + Sync>,
    reporter: Reporter,
    received: Arc<AtomicU64>,
}

impl Sink {
    pub fn new(emit: impl Fn(Event) + Send + Sync + 'static) -> Self {
        let emit: Arc<dyn Fn(Event) + Send + Sync> = Arc::new(emit);
        let received = Arc::<AtomicU64>::default();
        let (reports, counted) = (emit.clone(), received.clone());
        Self {
            emit,
            reporter: Reporter::new(move |report| {
                if let Report::Received { bytes } = report {
                    counted.fetch_add(bytes, Ordering::Relaxed);
                }
                if let Some(event) = Event::of(report) {
                    reports(event);
                }
            }),
            received,
        }
    }

    pub fn emit(&self, event: Event) {
        (self.emit)(event);
    }

    pub fn warn(&self, message: impl Into<String>) {
        self.reporter.warn(message);
    }

    /// What the engine reports to; its reports become events.
    pub fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// The bytes of all packs that the engine has received.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::{Failure, Kind};

    #[test]
    fn records_survive_json() {
        let done = Done::failed(
            "site",
            Failure::new(Kind::Busy, "all places are taken", Some("try again")),
        );
        for event in [
            Event::Queued {
                trigger: TriggerName::new("site").unwrap(),
            },
            Event::Progress {
                phase: Phase::Fetch,
                done: 1,
                total: None,
                unit: Unit::Objects,
            },
            Event::Fetched {
                old: Some("1a2b".into()),
                new: "3c4d".into(),
                rewound: true,
                dropped: Named {
                    names: vec!["1a2b old".into()],
                    more: 1,
                },
            },
            Event::HookStarted {
                hook: "make".into(),
                nth: None,
            },
            Event::HookStarted {
                hook: "make".into(),
                nth: Some(Nth { number: 2, of: 3 }),
            },
            Event::Done(done),
        ] {
            let record = Record {
                run: RunId::new(),
                event,
            };
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
        }
    }

    /// A daemon of the version before knows less.
    #[test]
    fn what_the_version_before_does_not_say_is_nothing() {
        let text = r#"{"event":"updated","written":1,"deleted":2,"cleaned":3}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), text);
        let text = r#"{"event":"fetched","old":null,"new":"3c4d"}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), text);
    }
}
