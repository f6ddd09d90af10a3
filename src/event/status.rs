//! How a trigger is: the answer to `status`.

use serde::{Deserialize, Serialize};

use super::Done;
use crate::name::{RunId, TriggerName};

/// How a trigger is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The trigger.
    pub trigger: TriggerName,
    /// What its target does.
    pub state: State,
    /// The commit that is deployed, if the last run found it out.
    pub commit: Option<String>,
    /// The last run that ended, since the daemon was started.
    pub last: Option<Last>,
}

/// What a target does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing.
    Idle,
    /// A run waits for a free job.
    Waiting,
    /// A run goes on.
    Running,
    /// A run goes on, and another one follows.
    RunningThenQueued,
}

impl State {
    /// The word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::RunningThenQueued => "running-then-queued",
        }
    }
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Its id.
    pub run: RunId,
    /// When it ended, in seconds since 1970-01-01 UTC.
    pub ended: u64,
    /// How it ended.
    #[serde(flatten)]
    pub done: Done,
}
