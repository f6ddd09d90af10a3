//! A target could not be locked or recovered.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::base::{
    fault::{Blame, Kind, kind_of_io},
    watch::Early,
};

/// A lock file that is older is stale: git holds one while it writes an index or a ref, for seconds. In time.
pub(super) const OLD_LOCK: Duration = Duration::from_secs(10 * 60);

/// A target could not be locked or recovered.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// There is something else in its place.
    #[error("the path {path} is not a directory")]
    #[diagnostic(help("move it away, or let the trigger's `path` name another place"))]
    NotADirectory {
        /// The target's path.
        path: PathBuf,
    },
    /// There is a symlink in its place, and nothing at its end.
    #[error("the path {path} is a symlink that leads nowhere")]
    #[diagnostic(help("make the directory that it should lead to, or remove the symlink"))]
    Dangling {
        /// The symlink.
        path: PathBuf,
    },
    /// It could not be made.
    #[error("cannot create the directory {path}: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to write in {}", parent(path)))]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be opened or locked.
    #[error("cannot lock {path}: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to read and write it"))]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else has its name.
    #[error("{path} is a {what}, not the {wanted} that gitsocket makes there to lock it")]
    #[diagnostic(help("see who put it there, and remove it: the next run makes the {wanted}"))]
    Odd {
        /// The name.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// Another user could hold up every run.
    #[error("the lock file {path} belongs to the user {owner}, and gitsocket runs as the user {us}")]
    #[diagnostic(help(
        "run gitsocket as that user; or give the directory to this one, as root: chown -R {us} {}",
        dir.display()
    ))]
    Owned {
        /// The lock file.
        path: PathBuf,
        /// The directory that it is in.
        dir: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who would use it.
        us: u32,
    },
    /// Another process had it for as long as the run could wait.
    #[error("{path} is locked by another process")]
    #[diagnostic(help(
        "see which one it is: lslocks; another `gitsocket once` or daemon ends by itself, and the next trigger tries again"
    ))]
    Held {
        /// The lock file, or the directory that the version before locks.
        path: PathBuf,
    },
    /// The process stops, and another one had it.
    #[error("{path} is locked by another process, and the daemon stops")]
    #[diagnostic(help("trigger again once the daemon has been started"))]
    Stopping {
        /// The lock file, or the directory that the version before locks.
        path: PathBuf,
    },
    /// A file that must be written is locked by another program.
    #[error("{path} has been held by another program for {}", humantime::format_duration(*held_for))]
    #[diagnostic(help(
        "wait for the git that is at work there, and trigger again; if none is, delete that file, or wait: \
         a run removes it once it is {} old",
        humantime::format_duration(OLD_LOCK)
    ))]
    Foreign {
        /// The lock file.
        path: PathBuf,
        /// For how long it has been there.
        held_for: Duration,
    },
    /// A left-over file could not be removed.
    #[error("cannot remove {path}, which an interrupted run left: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to write there"))]
    Recover {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotADirectory { .. } | Self::Dangling { .. } | Self::Odd { .. } | Self::Owned { .. } => {
                Kind::Path
            }
            Self::Held { .. } => Kind::Timeout,
            Self::Stopping { .. } => Kind::Stopping,
            Self::Foreign { .. } => Kind::Repository,
            Self::Create { source, .. } | Self::Lock { source, .. } | Self::Recover { source, .. } => {
                kind_of_io(source)
            }
        }
    }
}

impl Error {
    pub(super) fn early(early: Early, path: &Path) -> Self {
        match early {
            Early::Over => Self::Held { path: path.into() },
            Early::Stopping => Self::Stopping { path: path.into() },
        }
    }
}

fn parent(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}
