//! What the engine reports while it works: nothing else flows back from it.

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
    /// A pack was received, in whole or in part.
    Received {
        /// Its length.
        bytes: u64,
    },
    /// In a dry run: the change that a run would make to a path.
    Change {
        /// What would be done.
        action: Action,
        /// The path, relative to the worktree; that of a directory that would be removed ends with a slash.
        path: String,
        /// Why the change would lose something, if it would.
        local: Option<Local>,
    },
    /// A problem that does not stop the work, and that a person should look at.
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
    /// It is tracked, and was changed.
    Edited,
    /// It is not tracked.
    Untracked,
}

/// The first names of many, and how many more there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The first ones.
    pub names: Vec<String>,
    /// How many more there are.
    pub more: u64,
}

impl Named {
    /// How many names are shown; the rest is counted.
    pub const MAX: usize = 10;
    /// The longest name that is shown in full, in characters: all names go into one line of the log.
    const LONGEST: usize = 300;

    /// Add one.
    pub fn note(&mut self, name: impl ToString) {
        if self.names.len() >= Self::MAX {
            self.more += 1;
            return;
        }
        let mut name = name.to_string();
        if let Some((end, _)) = name.char_indices().nth(Self::LONGEST) {
            name.truncate(end);
            name.push('…');
        }
        self.names.push(name);
    }

    /// Add those of another thread. The first in alphabetical order are shown.
    pub fn add(&mut self, other: Self) {
        self.names.extend(other.names);
        self.names.sort();
        self.more += other.more + self.names.len().saturating_sub(Self::MAX) as u64;
        self.names.truncate(Self::MAX);
    }

    /// There is none.
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
    /// One more file.
    pub fn note(&mut self, local: Local, path: impl ToString) {
        match local {
            Local::Edited => self.edited.note(path),
            Local::Untracked => self.untracked.note(path),
        }
    }

    /// Add those of another thread.
    pub fn add(&mut self, other: Self) {
        self.edited.add(other.edited);
        self.untracked.add(other.untracked);
    }

    /// There is nothing.
    pub fn is_empty(&self) -> bool {
        self.edited.is_empty() && self.untracked.is_empty()
    }

    /// In words, to be added to a line; empty if there is nothing.
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
    /// It waits for the target's lock.
    Lock,
    /// It brings the remote's newest commit here.
    Fetch,
    /// It updates the files.
    Worktree,
    /// It writes refs and state.
    Publish,
    /// Hooks build the release.
    Build,
    /// It runs hooks.
    Hooks,
    /// It checks the health of what it has deployed.
    Health,
}

impl Step {
    /// The word, as in JSON.
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
