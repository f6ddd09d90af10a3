//! What the engine reports while it works: nothing else flows back from it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::words::cut;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The run waits for another process to finish with the target.
    Waiting { on: String },
    /// Work that can be counted goes on. Sent a few times a second at most.
    Progress {
        phase: Phase,
        done: u64,
        /// How much there is, if that is known.
        total: Option<u64>,
        unit: Unit,
    },
    /// A line that the remote sent for people.
    Remote { line: String },
    /// A pack was received, in whole or in part.
    Received { bytes: u64 },
    /// In a dry run: the change that a run would make to a path.
    Change {
        action: Action,
        /// The path, relative to the worktree; that of a directory that would be removed ends with a slash.
        path: String,
        /// Why the change would lose something, if it would.
        local: Option<Local>,
    },
    /// A problem that does not stop the work, and that a person should look at.
    Warning { message: String },
}

/// Takes reports to a listener. Cheap to clone; never blocks for long.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(Report) + Send + Sync>);

impl Reporter {
    pub fn new(listener: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    pub fn emit(&self, report: Report) {
        (self.0)(report);
    }

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The remote prepares the pack.
    Remote,
    /// Objects arrive.
    Fetch,
    /// Received objects are resolved and indexed.
    Index,
    Checkout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    Objects,
    Bytes,
    Files,
    /// What the remote counts.
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

/// Why a file is not just a copy of what is in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Local {
    Edited,
    Untracked,
}

/// The first names of many, and how many more there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub names: Vec<String>,
    pub more: u64,
}

impl Named {
    /// How many names are shown; the rest is counted.
    pub const MAX: usize = 10;
    /// The longest name that is shown in full, in characters: all names go into one line of the log.
    const LONGEST: usize = 300;

    pub fn note(&mut self, name: impl ToString) {
        if self.names.len() >= Self::MAX {
            self.more += 1;
            return;
        }
        self.names.push(cut(&name.to_string(), Self::LONGEST));
    }

    /// Add those of another thread. The first in alphabetical order are shown.
    pub fn add(&mut self, other: Self) {
        self.names.extend(other.names);
        self.names.sort();
        self.more += other.more + self.names.len().saturating_sub(Self::MAX) as u64;
        self.names.truncate(Self::MAX);
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.more == 0
    }

    /// All of them, in words, on one line.
    pub fn line(&self) -> String {
        let names = self.names.join(", ");
        let line = match self.more {
            0 => names,
            more => format!("{names} and {more} more"),
        };
        crate::base::fault::one_line(&line)
    }
}

/// What an update loses, or would lose: it is nowhere else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// Tracked files that were changed.
    pub edited: Named,
    /// Files that were not tracked, and directories with such files.
    pub untracked: Named,
}

impl Lost {
    pub fn note(&mut self, local: Local, path: impl ToString) {
        match local {
            Local::Edited => self.edited.note(path),
            Local::Untracked => self.untracked.note(path),
        }
    }

    pub fn add(&mut self, other: Self) {
        self.edited.add(other.edited);
        self.untracked.add(other.untracked);
    }

    pub fn is_empty(&self) -> bool {
        self.edited.is_empty() && self.untracked.is_empty()
    }

    /// The loss in words, to be added to a line; empty if there is none.
    pub fn line(&self) -> String {
        [
            ("edits undone in", &self.edited),
            ("untracked files gone", &self.untracked),
        ]
        .iter()
        .filter(|(_, named)| !named.is_empty())
        .map(|(what, named)| format!("; {what}: {}", named.line()))
        .collect()
    }
}

/// The step that a run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The run waits for the target's lock.
    Lock,
    /// The run brings the remote's newest commit here.
    Fetch,
    Worktree,
    /// The run writes refs and state.
    Publish,
    Build,
    Hooks,
    /// The run checks the health of what it has deployed.
    Health,
}

impl Step {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Fetch => "fetch",
            Self::Worktree => "worktree",
            Self::Publish => "publish",
            Self::Build => "build",
            Self::Hooks => "hooks",
            Self::Health => "health",
        }
    }
}

/// A worktree whose files are not all of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixed {
    /// The commit that the files should be of.
    pub commit: String,
    /// The first paths that are not as in that commit.
    pub left: Vec<String>,
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
