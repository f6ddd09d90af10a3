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
    /// Its sandbox could not be enforced.
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
    /// Missing or damaged objects could not be fetched again.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Heal(#[from] heal::Error),
    /// The remote's newest commit could not be fetched.
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
        /// The error that this led to.
        source: Box<Self>,
        /// The file or directory.
        path: String,
        owner: u32,
        /// The user that gitsocket runs as.
        us: u32,
        git_dir: String,
    },
    /// There was no time left for a step.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Over(#[from] watch::Over),
    /// It was not over in time.
    #[error("the run was not over after {limit} (`run_timeout`), in the step {step}: {source}", step = step.as_str())]
    Late {
        limit: String,
        /// The step that it had reached.
        step: Step,
        /// The error that ended it.
        source: Box<Self>,
        #[help]
        help: String,
    },
    /// The state file could not be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    State(#[from] state::Error),
    /// A rollback is not possible, or the newest commit is held.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Back(#[from] back::Refused),
    /// The new commit was bad, and the one before it is live again.
    #[error("{at} is live again: {why}")]
    #[diagnostic(help("push another commit; or, to deploy this one again: gitsocket retry {trigger}"))]
    RolledBack {
        /// The commit that is live.
        at: String,
        /// The kind of the failure.
        kind: Kind,
        /// The failure, and what failed after the rollback, if anything did.
        why: String,
        trigger: String,
    },
    /// The new commit was bad, and the rollback failed.
    #[error("{why}; then the rollback to {at} failed: {source}")]
    #[diagnostic(help("the next run tries the rollback again"))]
    Stranded {
        why: String,
        /// The commit that was to be live.
        at: String,
        /// Why the rollback failed.
        source: Box<Self>,
    },
    /// A hook failed, after the update.
    #[error("{source}; the worktree is at {at}")]
    #[diagnostic(forward(source))]
    Hook {
        source: hook::Error,
        /// The commit that is deployed.
        at: String,
    },
    /// A hook at Build failed.
    #[error("{source}; nothing has changed")]
    #[diagnostic(forward(source))]
    Build { source: hook::Error },
    /// The health check failed.
    #[error("{source}; the worktree is at {at}")]
    #[diagnostic(forward(source))]
    Unwell {
        source: health::Error,
        /// The commit that is deployed.
        at: String,
    },
}

impl Error {
    /// Whether the run was refused rather than failed: the newest commit is held, or the wanted release does not exist.
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
        path: String,
        /// What would be lost.
        what: String,
        #[help]
        help: String,
    },
    /// Its repository is damaged. Mending deletes refs whose objects are lost, which only the owner may decide.
    #[error(
        "{path} is not gitsocket's yet, and objects of its repository are missing or damaged; nothing was changed"
    )]
    Damaged {
        path: String,
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

/// `err`; if the run's time is over, [`Error::Late`] with `err` as its source, since the steps fail in different ways by that.
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

/// A hint for an administrator who finds no fault in the permissions of files.
pub(super) const SHUT_OUT: &str = "if permissions look right: the sandbox covers paths that existed at the last start or reload; reload the \
                        daemon (systemctl reload gitsocket, or SIGHUP)";

/// Whether a cause of `error` is that the system denied permission.
pub(super) fn is_denial(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    })
}
