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
    /// Something could not be written, moved or read.
    #[error("cannot {doing} {path} to heal the repository: {source}")]
    #[diagnostic(help(
        "free space, or make the git directory writable for the user that gitsocket runs as; the next run goes on"
    ))]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What may be whole cannot be read.
    #[error("the repository cannot be healed while {path} cannot be read: {source}")]
    Unread {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
        /// What to do.
        #[help]
        help: String,
    },
    /// Refs need what may be in a lender that is not there.
    #[error(
        "{path}, which this repository borrows objects from, is not there, and {what}: nothing was given up"
    )]
    #[diagnostic(help(
        "mount it, or bring it back, and the next run goes on; if it is gone for good, remove its line from {}: then refs \
         that need what no other has go, by name",
        alternates.display()
    ))]
    Away {
        /// The object directory.
        path: PathBuf,
        /// What needs it.
        what: String,
        /// The file that names it.
        alternates: PathBuf,
    },
    /// The index of a pack could not be written again.
    #[error("cannot write the index of {path} again: {reason}")]
    #[diagnostic(help("free space; the next run goes on"))]
    Index {
        /// The pack.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It could not be opened.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Repository(#[from] repository::Error),
    /// The remote did not give what is missing.
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
