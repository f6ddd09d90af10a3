//! Releases, as a configuration describes them: how many are kept, how one becomes live, and when a deploy counts as good.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use super::Hook;
use crate::base::address::TcpAddr;

/// Each deployed commit has a tree of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Releases {
    /// Older releases to go back to, 1 to 100.
    pub keep: NonZeroU32,
    pub live: Live,
    pub shared: Vec<Shared>,
}

/// How a release becomes live, in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// A symlink of this name, in the trigger's path, leads to it.
    Symlink(String),
    /// A directory of this name, in the trigger's path, changes places with it.
    Exchange(String),
}

impl Live {
    /// The name in the trigger's path.
    pub fn name(&self) -> &str {
        match self {
            Self::Symlink(name) | Self::Exchange(name) => name,
        }
    }
}

/// What is in `shared`, with a link to it in every release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The path in a release and in `shared`: relative, without `.` and `..`.
    pub path: PathBuf,
    /// Whether it is a directory, which is made if it is missing.
    pub is_dir: bool,
}

/// When a deploy counts as good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub check: Check,
    /// How long an answer may take to be good, from the first question on.
    pub within: Duration,
    /// The time from one question to the next.
    pub every: Duration,
    /// The time before the first question.
    pub after: Duration,
    /// How often in a row the answer must be good.
    pub times: NonZeroU32,
}

/// What is asked whether a deploy is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A URL answers with a status of 200 to 399.
    Http {
        /// `http://` or `https://`.
        url: String,
        /// The Host header, and the name that the certificate has, if it is another one than the URL's.
        host: Option<String>,
    },
    /// A port accepts a connection.
    Tcp(TcpAddr),
    /// A program ends with exit status 0: `Hook::Exec`, its timeout included.
    Exec(Hook),
}

/// What happens when a deploy turns out not to be good: a hook after it failed, or its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The last good one is live again.
    Rollback,
    Keep,
}
