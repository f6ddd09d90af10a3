//! What the engine says while it works: the one thing that flows back from it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It waits for another process to finish with the target.
    Waiting {
        /// What it waits for.
        on: String,
    },
    /// Work that can be counted goes on. Sent a few times a second at most.
    Progress {
        /// What is being done.
        phase: Phase,
        /// How much of it is done.
        done: u64,
        /// How much there is, if that is known.
        total: Option<u64>,
        /// What is counted.
        unit: Unit,
    },
    /// A line that the remote sent for people.
    Remote {
        /// The line.
        line: String,
    },
    /// In a dry run: what would be done to a path.
    Change {
        /// What would be done.
        action: Action,
        /// The path, relative to the worktree.
        path: String,
    },
    /// Something that does not stop the work, and that a person should look at.
    Warning {
        /// What.
        message: String,
    },
}

/// Takes reports to a listener. Cheap to clone; never blocks for long.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(Report) + Send + Sync>);

impl Reporter {
    /// Reports go to `listener`.
    pub fn new(listener: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    /// Send `report`.
    pub fn emit(&self, report: Report) {
        (self.0)(report);
    }

    /// Report something to look at.
    pub fn warn(&self, message: impl Into<String>) {
        self.emit(Report::Warning {
            message: message.into(),
        });
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

/// Work that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The remote prepares the pack.
    Remote,
    /// Objects arrive.
    Fetch,
    /// Received objects are resolved and indexed.
    Index,
    /// Files are written.
    Checkout,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Git objects.
    Objects,
    /// Bytes.
    Bytes,
    /// Files.
    Files,
    /// Whatever the remote counts.
    Steps,
}

/// What a run does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A tracked file is written.
    Write,
    /// A file that is no longer tracked is deleted.
    Delete,
    /// An untracked file or directory is removed.
    Clean,
}

/// What a run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It waits for the target's lock.
    Lock,
    /// It brings the remote's newest commit here.
    Fetch,
    /// It updates the files.
    Worktree,
    /// It writes refs and state.
    Publish,
    /// It runs hooks.
    Hooks,
}

impl Step {
    /// The word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Fetch => "fetch",
            Self::Worktree => "worktree",
            Self::Publish => "publish",
            Self::Hooks => "hooks",
        }
    }
}

/// A worktree whose files are not all those of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixed {
    /// The commit that it was to be brought to.
    pub commit: String,
    /// The first paths that are not as in that commit.
    pub left: Vec<String>,
    /// How many more there are.
    pub more: u64,
}

impl Mixed {
    /// What is left, in words, all on one line.
    pub fn line(&self) -> String {
        let left = match (self.left.join(", "), self.more) {
            (left, _) if left.is_empty() => "its index".into(),
            (left, 0) => left,
            (left, more) => format!("{left} and {more} more"),
        };
        crate::base::fault::one_line(&format!(
            "left of {}: {left}",
            crate::base::name::short(&self.commit)
        ))
    }
}
