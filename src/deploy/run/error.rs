//! Why a run failed, and what to do.

use std::io;

use super::back;
use crate::{
    base::{
        fault::{Blame, Kind},
        report::Step,
        watch::{self, Watch},
    },
    deploy::{existing, group, health, hook, links::Planted, release, sandbox, state},
    git::{fetch, heal, lock, refs, repository, worktree},
};

/// A run failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The target could not be locked or recovered.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] lock::Error),
    /// Its path leads through a link that a hook may have put there.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Planted(#[from] Planted),
    /// It could not be shut in.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// Its path cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Existing(#[from] existing::Error),
    /// New files cannot be given their group.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Group(#[from] group::Error),
    /// A release could not be made, or become live.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Release(#[from] release::Error),
    /// Its repository cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Repository(#[from] repository::Error),
    /// What was missing or damaged in it could not be had again.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Heal(#[from] heal::Error),
    /// The remote's newest commit could not be had.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fetch(#[from] fetch::Error),
    /// The files could not be updated.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Worktree(#[from] worktree::Error),
    /// Refs or state could not be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Refs(#[from] refs::Error),
    /// Its worktree is not ours.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NotOurs(#[from] Refused),
    /// Something in its repository belongs to another user.
    #[error("{source}; {path} belongs to {}, and gitsocket runs as the user {us}", user(*owner))]
    #[diagnostic(help("as root, type: chown -R {us} {git_dir}; and let no other user deploy there"))]
    Owned {
        /// What that led to.
        source: Box<Self>,
        /// The file or directory.
        path: String,
        /// Its owner.
        owner: u32,
        /// The user that gitsocket runs as.
        us: u32,
        /// The git directory.
        git_dir: String,
    },
    /// There was no time left for a step.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Over(#[from] watch::Over),
    /// It was not over in time.
    #[error("the run was not over after {limit} (`run_timeout`), in the step {step}: {source}", step = step.as_str())]
    Late {
        /// How long it could take.
        limit: String,
        /// What it was at.
        step: Step,
        /// What ended it.
        source: Box<Self>,
        /// What to do.
        #[help]
        help: String,
    },
    /// What is to be remembered could not be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    State(#[from] state::Error),
    /// There is no way back, or the newest commit is held.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Back(#[from] back::Refused),
    /// What was deployed was not good, and what was before it is live again.
    #[error("{at} is live again: {why}")]
    #[diagnostic(help("push another commit; or, to have this one tried again: gitsocket retry {trigger}"))]
    RolledBack {
        /// What is live.
        at: String,
        /// Why, in a word,
        kind: Kind,
        /// and in full; with what failed then, if anything did.
        why: String,
        /// The trigger.
        trigger: String,
    },
    /// What was deployed was not good, and there was no way back.
    #[error("{why}; then the rollback to {at} failed: {source}")]
    #[diagnostic(help("the next run tries the rollback again"))]
    Stranded {
        /// Why.
        why: String,
        /// The commit that was to be live.
        at: String,
        /// What was in the way.
        source: Box<Self>,
    },
    /// A hook failed, after the update.
    #[error("{source}; the worktree is at {at}")]
    #[diagnostic(forward(source))]
    Hook {
        /// Why.
        source: hook::Error,
        /// The commit that is deployed.
        at: String,
    },
    /// A hook failed that was to build a release.
    #[error("{source}; nothing has changed")]
    #[diagnostic(forward(source))]
    Build {
        /// Why.
        source: hook::Error,
    },
    /// What runs on what was deployed is not well.
    #[error("{source}; the worktree is at {at}")]
    #[diagnostic(forward(source))]
    Unwell {
        /// Why.
        source: health::Error,
        /// The commit that is deployed.
        at: String,
    },
}

impl Error {
    /// Whether there was nothing to do: the newest commit is held, or what an operator wants is not to be had.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Back(_) | Self::Release(release::Error::Unknown { .. })
        )
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Lock(err) => err.kind(),
            Self::Planted(err) => err.kind(),
            Self::Sandbox(err) => err.kind(),
            Self::Existing(err) => err.kind(),
            Self::Group(err) => err.kind(),
            Self::Release(err) => err.kind(),
            Self::Repository(err) => err.kind(),
            Self::Heal(err) => err.kind(),
            Self::Fetch(err) => err.kind(),
            Self::Worktree(err) => err.kind(),
            Self::Refs(err) => err.kind(),
            Self::State(err) => err.kind(),
            Self::NotOurs(err) => err.kind(),
            Self::Owned { .. } => Kind::Path,
            Self::Back(err) => err.kind(),
            Self::RolledBack { kind, .. } => *kind,
            Self::Stranded { source, .. } => source.kind(),
            Self::Hook { source, .. } => source.kind(),
            Self::Build { source } => match source.kind() {
                Kind::Hook => Kind::Build,
                kind => kind,
            },
            Self::Unwell { source, .. } => source.kind(),
            Self::Over(_) | Self::Late { .. } => Kind::Timeout,
        }
    }
}

/// A run has stopped at a worktree that is not ours.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Refused {
    /// It would lose something.
    #[error(
        "{path} is not gitsocket's yet, and a run would lose what is nowhere else: {what}; nothing was changed"
    )]
    Loses {
        /// The worktree.
        path: String,
        /// What would be lost.
        what: String,
        /// What to do.
        #[help]
        help: String,
    },
    /// Its repository is damaged. To mend it deletes refs that need what is lost.
    #[error(
        "{path} is not gitsocket's yet, and objects of its repository are missing or damaged; nothing was changed"
    )]
    Damaged {
        /// The worktree.
        path: String,
        /// What to do.
        #[help]
        help: String,
    },
}

impl Blame for Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::Loses { .. } => Kind::Path,
            Self::Damaged { .. } => Kind::Repository,
        }
    }
}

/// The user `number`, in words.
pub(super) fn user(number: u32) -> String {
    match number {
        0 => "root".into(),
        number => format!("the user {number}"),
    }
}

/// `err`; if the run's time is over, that is why, whatever it led to.
pub(super) fn in_time(err: Error, watch: &Watch) -> Error {
    if !watch.is_over() {
        return err;
    }
    let help = match &err {
        Error::Lock(_) => miette::Diagnostic::help(&err).map(|help| help.to_string()),
        _ => None,
    };
    Error::Late {
        limit: humantime::format_duration(watch.limit()).to_string(),
        step: watch.step(),
        help: help.unwrap_or_else(|| LATE.into()),
        source: Box::new(err),
    }
}

/// What to do about a run that takes too long.
const LATE: &str =
    "raise the trigger's `run_timeout` if it needs longer; the next run finishes what this one has begun";

/// A hint for an administrator who finds that the permissions of files are not the reason.
pub(super) const SHUT_OUT: &str = "if permissions look right: the sandbox covers paths that existed at the last start or reload; reload the \
                        daemon (systemctl reload gitsocket, or SIGHUP)";

/// Whether the system said that something is not permitted.
pub(super) fn is_denial(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    })
}
