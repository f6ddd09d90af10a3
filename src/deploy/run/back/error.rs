//! Why a run does not roll back, or does not deploy the newest commit.

use crate::{
    base::{
        event::Held,
        fault::{Blame, Kind},
    },
    config::Target,
};

/// A run was refused.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The newest commit was rolled back.
    #[error(
        "{held}{}; push another commit, or: gitsocket retry {trigger}",
        done.as_ref().map(|done| format!("; {done}")).unwrap_or_default()
    )]
    #[diagnostic(help("without a daemon: {once}"))]
    Held {
        /// The commit, and why it is held.
        held: Box<Held>,
        /// What this run has done nevertheless.
        done: Option<String>,
        trigger: String,
        /// What to type without a daemon.
        once: String,
    },
    /// Nothing is deployed that could be rolled back.
    #[error("nothing has been deployed to {path} yet, so there is nothing to go back to")]
    #[diagnostic(help("trigger it first: gitsocket client {trigger}"))]
    NotDeployed { path: String, trigger: String },
    /// No earlier commit is known to be good.
    #[error("no good commit before {at} is known that {path} could be rolled back to")]
    #[diagnostic(help(
        "gitsocket log {trigger} lists the commits that were live: name one, as in gitsocket rollback {trigger} COMMIT; or \
         deploy the newest commit again: gitsocket retry {trigger}"
    ))]
    NothingEarlier {
        at: String,
        path: String,
        trigger: String,
    },
    /// No older release is good.
    #[error("there is no older release that was good: nothing to go back to")]
    #[diagnostic(help(
        "push a commit that fixes it; or, where the newest commit was rolled back, to deploy it all the same: gitsocket retry \
         {trigger}; `keep` of `releases` is how many are kept"
    ))]
    NothingOlder { trigger: String },
    /// The clone has no such commit.
    #[error("the clone has no commit {to}")]
    #[diagnostic(help("{there}"))]
    NoCommit {
        /// What was asked for.
        to: String,
        there: String,
    },
    /// The clone has several such commits.
    #[error("several commits begin with {to}: {which}")]
    #[diagnostic(help("write more digits"))]
    Ambiguous {
        /// What was asked for.
        to: String,
        which: String,
    },
    /// Objects of the commit are missing.
    #[error("the clone does not have all objects of the commit {to}: {missing}")]
    #[diagnostic(help("{there}"))]
    NotWhole {
        /// What was asked for.
        to: String,
        /// What is not there.
        missing: String,
        there: String,
    },
    /// The operator has named a release, and the target has none.
    #[error("{path} is deployed in place, so there is no release {to}")]
    #[diagnostic(help("{there}"))]
    NoRelease {
        /// What was asked for.
        to: String,
        path: String,
        /// Which commits there are.
        there: String,
    },
}

impl Error {
    pub(in crate::deploy::run) fn nothing_older(target: &Target) -> Self {
        Self::NothingOlder {
            trigger: target.trigger.to_string(),
        }
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Held { .. } => Kind::Held,
            Self::NotDeployed { .. } | Self::NothingEarlier { .. } | Self::NothingOlder { .. } => Kind::Path,
            Self::NoCommit { .. }
            | Self::Ambiguous { .. }
            | Self::NotWhole { .. }
            | Self::NoRelease { .. } => Kind::Repository,
        }
    }
}
