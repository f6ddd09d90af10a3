//! Why a repository on this machine cannot be fetched from.

use std::{io, path::PathBuf, time::Duration};

use crate::{
    base::fault::{Blame, Kind, kind_of_io},
    git::repository,
};

/// So many threads may be left behind in reading one source; another fetch from it waits for the end of one of them.
/// A thread that nothing holds up ends a moment after its client.
pub(super) const MAX_LEFT: usize = 3;

/// A local repository cannot be fetched from.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("there is no repository at {path}: no such file or directory")]
    #[diagnostic(help("{help}"))]
    Absent { path: PathBuf, help: String },
    #[error("the repository at {path} may not be read: permission denied")]
    #[diagnostic(help(
        "the user that gitsocket runs as must be able to read all of it; \
         what was made after the daemon's start is open to it after a reload (SIGHUP)"
    ))]
    Denied { path: PathBuf },
    #[error("{path} is a file, not a repository")]
    #[diagnostic(help("`repo` must name a worktree, a bare repository or a .git directory"))]
    File { path: PathBuf },
    #[error("{path} is not a usable git repository: {reason}")]
    #[diagnostic(help(
        "`repo` must name a worktree, a bare repository or a .git directory; none is searched for above it"
    ))]
    NotRepository { path: PathBuf, reason: String },
    #[error("{path} is not a usable git repository: {trap}")]
    #[diagnostic(help("see who put it there, and remove it, or let `repo` name another repository"))]
    Trap { path: PathBuf, trap: String },
    #[error("the repository at {path} could not be opened in {}", humantime::format_duration(*after))]
    #[diagnostic(help(
        "see whether its file system answers, and that no file in it is a fifo or a device; \
         if it is only slow, raise the trigger's `timeout`"
    ))]
    Slow { path: PathBuf, after: Duration },
    /// Earlier fetches from it were given up, but their threads cannot be.
    #[error("{MAX_LEFT} earlier fetches from {path} still hang in reading it")]
    #[diagnostic(help(
        "see whether its file system answers, and that no file in it is a fifo or a device; \
         then restart the daemon, if they do not end by themselves"
    ))]
    Hanging { path: PathBuf },
    #[error("the repository at {path} cannot be fetched from as a directory: {unsupported}")]
    #[diagnostic(help(
        "{}",
        unsupported.advice(
            "let its own git serve it: write an ssh:// or https:// URL; or let the git that wrote it undo that"
        )
    ))]
    Format {
        path: PathBuf,
        unsupported: repository::Unsupported,
    },
    #[error("cannot serve the repository at {path}")]
    #[diagnostic(help("the limits on processes, threads or open files may be reached"))]
    Serve {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Serve { source, .. } => match kind_of_io(source) {
                Kind::Path => Kind::Resources,
                kind => kind,
            },
            Self::Slow { .. } => Kind::Timeout,
            _ => Kind::Remote,
        }
    }
}
