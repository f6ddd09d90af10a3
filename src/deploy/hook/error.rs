//! Why a hook failed, and what to do.

use std::io;

use crate::base::fault::{Blame, Kind};

/// A hook failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// It could not be started.
    #[error("cannot start the hook {hook}: {source}")]
    #[diagnostic(help("{}", help_start(source)))]
    Start { hook: String, source: io::Error },
    /// It ended with a status other than 0, or by a signal.
    #[error("the hook {hook} ended with {status}")]
    #[diagnostic(help("see what it printed; it runs again at the next trigger"))]
    Failed {
        hook: String,
        /// `exit status 2` or `signal 9`.
        status: String,
    },
    /// The run's time was over before the hook had ended.
    #[error("the hook {hook} was killed")]
    #[diagnostic(help("it runs again at the next trigger"))]
    Late { hook: String },
    /// It took too long.
    #[error("the hook {hook} was killed after {limit}")]
    #[diagnostic(help("raise the hook's `timeout` if it needs longer; it runs again at the next trigger"))]
    Timeout { hook: String, limit: String },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Late { .. } => Kind::Timeout,
            Self::Start { .. } | Self::Failed { .. } | Self::Timeout { .. } => Kind::Hook,
        }
    }
}

fn help_start(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "the program, or the interpreter in its first line, is not there",
        io::ErrorKind::PermissionDenied => {
            "it must be executable for the user that gitsocket runs as: chmod +x"
        }
        _ if source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            "no shell is used: a script needs a first line such as #!/bin/sh"
        }
        io::ErrorKind::WouldBlock => "raise the daemon's limit of tasks, or lower `jobs`",
        _ => "try it by hand as the user that gitsocket runs as",
    }
}
