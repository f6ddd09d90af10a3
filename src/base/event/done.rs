//! How a run ended.

use serde::{Deserialize, Serialize};

use crate::base::fault::{Failure, Kind};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub trigger: String,
    pub outcome: Outcome,
    /// The commit that was deployed before.
    pub old: Option<String>,
    /// The commit that is deployed now, if this run found it out.
    pub new: Option<String>,
    /// Files written, deleted and cleaned.
    pub changed: u64,
    /// The exit status that `client` gives.
    pub exit: u8,
    #[serde(flatten)]
    pub failure: Option<Failure>,
    /// How long the run took, in milliseconds.
    pub ms: u64,
}

/// How a run ended, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The commit was deployed already. Local changes, if there were any, are undone.
    UpToDate,
    Updated,
    /// The run failed; `kind`, `message` and `help` say why.
    Failed,
    /// The commit before is live again, as the newest one turned out not to be good; `kind` and `message` say why.
    RolledBack,
    /// The run was accepted; the client did not want to wait for its end.
    Accepted,
    /// The question was answered.
    Answered,
}

/// How ids of commits are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    Short,
    Whole,
}

/// The exit status of a run that ended as [`Outcome::RolledBack`].
pub const ROLLED_BACK: u8 = 7;

impl Done {
    /// The end of an answer that is not the end of a run.
    pub fn answered(trigger: impl Into<String>, outcome: Outcome) -> Self {
        Self {
            trigger: trigger.into(),
            outcome,
            old: None,
            new: None,
            changed: 0,
            exit: 0,
            failure: None,
            ms: 0,
        }
    }

    pub fn kind(&self) -> Option<Kind> {
        self.failure.as_ref().map(|failure| failure.kind)
    }

    /// The end of a request that never became a run, or of a run that failed before it learned anything.
    pub fn failed(trigger: impl Into<String>, failure: Failure) -> Self {
        Self {
            exit: failure.kind.exit(),
            failure: Some(failure),
            ..Self::answered(trigger, Outcome::Failed)
        }
    }
}
