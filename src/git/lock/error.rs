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
    #[error("the path {path} is not a directory")]
    #[diagnostic(help("move it away, or let the trigger's `path` name another place"))]
    NotADirectory { path: PathBuf },
    #[error("the path {path} is a symlink that leads nowhere")]
    #[diagnostic(help("make the directory that it should lead to, or remove the symlink"))]
    Dangling { path: PathBuf },
    #[error("cannot create the directory {path}: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to write in {}", parent(path)))]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot lock {path}: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to read and write it"))]
    Lock { path: PathBuf, source: io::Error },
    #[error("{path} is a {what}, not the {wanted} that gitsocket makes there to lock it")]
    #[diagnostic(help("see who put it there, and remove it: the next run makes the {wanted}"))]
    Odd {
        path: PathBuf,
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
        path: PathBuf,
        dir: PathBuf,
        owner: u32,
        us: u32,
    },
    #[error("{path} is locked by another process")]
    #[diagnostic(help(
        "see which one it is: lslocks; another `gitsocket once` or daemon ends by itself, and the next trigger tries again"
    ))]
    Held {
        /// The lock file, or the directory that the version before locks.
        path: PathBuf,
    },
    #[error("{path} is locked by another process, and the daemon stops")]
    #[diagnostic(help("trigger again once the daemon has been started"))]
    Stopping {
        /// The lock file, or the directory that the version before locks.
        path: PathBuf,
    },
    #[error("{path} has been held by another program for {}", humantime::format_duration(*held_for))]
    #[diagnostic(help(
        "wait for the git that is at work there, and trigger again; if none is, delete that file, or wait: \
         a run removes it once it is {} old",
        humantime::format_duration(OLD_LOCK)
    ))]
    Foreign { path: PathBuf, held_for: Duration },
    #[error("cannot remove {path}, which an interrupted run left: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to write there"))]
    Recover { path: PathBuf, source: io::Error },
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
