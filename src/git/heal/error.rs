//! A repository could not be healed.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    base::fault::{Blame, Kind, kind_of_io},
    git::{fetch, repository},
};

/// A repository could not be healed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("cannot {doing} {path} to heal the repository: {source}")]
    #[diagnostic(help(
        "free space, or make the git directory writable for the user that gitsocket runs as; the next run goes on"
    ))]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the repository cannot be healed while {path} cannot be read: {source}")]
    Unread {
        path: PathBuf,
        source: io::Error,
        #[help]
        help: String,
    },
    #[error(
        "{path}, which this repository borrows objects from, is not there, and {what}: nothing was given up"
    )]
    #[diagnostic(help(
        "mount it, or bring it back, and the next run goes on; if it is gone for good, remove its line from {}: then refs \
         that need what no other has go, by name",
        alternates.display()
    ))]
    Away {
        path: PathBuf,
        /// What needs it.
        what: String,
        /// The file that names it.
        alternates: PathBuf,
    },
    #[error("cannot write the index of {path} again: {reason}")]
    #[diagnostic(help("free space; the next run goes on"))]
    Index { path: PathBuf, reason: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Repository(#[from] repository::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fetch(#[from] fetch::Error),
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } | Self::Unread { source, .. } => kind_of_io(source),
            Self::Index { .. } | Self::Away { .. } => Kind::Repository,
            Self::Repository(err) => err.kind(),
            Self::Fetch(err) => err.kind(),
        }
    }
}
