//! A connection failed: the errors of all transports.

use super::{http, local, ssh, tcp};
use crate::base::fault::{Blame, Kind};

/// A connection failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Network(#[from] tcp::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Http(#[from] http::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ssh(#[from] ssh::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Local(#[from] local::Error),
    #[error("{url} sends more than {limit} MiB of refs and capabilities, and no end")]
    #[diagnostic(help(
        "make sure that `repo` names the right server; if it really has so many refs, let it show fewer: \
         see transfer.hideRefs in git-config(1)"
    ))]
    TooLong {
        /// The repository, without secrets.
        url: String,
        /// What is read at most, in MiB.
        limit: u64,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Network(err) => err.kind(),
            Self::Http(err) => err.kind(),
            Self::Ssh(err) => err.kind(),
            Self::Local(err) => err.kind(),
            Self::TooLong { .. } => Kind::Remote,
        }
    }
}
