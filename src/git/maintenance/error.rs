//! Why maintenance of a repository failed.

use std::{
    io,
    path::{Path, PathBuf},
};

use gix::ObjectId;

use crate::{
    base::fault::{Blame, Kind, kind_of_io},
    git::{lock, repository},
};

/// Maintenance of a repository failed. It is as usable as before.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] lock::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Open(#[from] repository::Error),
    #[error("cannot {doing} {path}: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to read and write the git directory"))]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot read {what}: {reason}")]
    #[diagnostic(help(
        "the next run that needs what is damaged fetches it again; until then this repository has no maintenance"
    ))]
    Repository { what: String, reason: String },
    #[error("object {id} is missing")]
    #[diagnostic(help(
        "the next run that needs what is damaged fetches it again; until then this repository has no maintenance"
    ))]
    Missing { id: ObjectId },
    #[error("object {id} in {path} is damaged")]
    #[diagnostic(help(
        "the next run that needs what is damaged fetches it again; until then this repository has no maintenance"
    ))]
    Corrupt { path: PathBuf, id: ObjectId },
    #[error("the new pack's index {path} does not hold what it should; nothing was replaced")]
    #[diagnostic(help("if it happens again, look at the machine's memory and disk"))]
    Unequal { path: PathBuf },
    /// More objects than fit into memory. The log has no more than this line.
    #[error(
        "there are more than {limit} objects: run `git gc` in the repository now and then, and set gc.auto to 0 in it"
    )]
    TooMany { limit: usize },
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.into();
        Self::Io { doing, path, source }
    }

    pub(super) fn object(id: &gix::oid, err: &gix::Error) -> Self {
        Self::repository(&format!("object {id}"), err)
    }

    pub(super) fn pack(path: &Path, err: &gix::Error) -> Self {
        Self::repository(&path.display().to_string(), err)
    }

    pub(super) fn repository(what: &str, err: &gix::Error) -> Self {
        Self::Repository {
            what: what.into(),
            reason: repository::reason(err),
        }
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Lock(err) => err.kind(),
            Self::Open(err) => err.kind(),
            Self::Io { source, .. } => kind_of_io(source),
            _ => Kind::Repository,
        }
    }
}
