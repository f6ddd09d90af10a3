//! A conversation ended before the client was done.

use std::io;

use gix::ObjectId;

use super::request;
use crate::base::fault::{Blame, Kind};

/// A conversation ended before the client was done.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("the client broke off the fetch")]
    Gone(#[source] io::Error),
    /// The client is gone, or the process is ending.
    #[error("the fetch was stopped")]
    Stopped,
    #[error(transparent)]
    #[diagnostic(transparent)]
    Request(#[from] request::Error),
    #[error("the repository's object format is {ours}, but the client uses {theirs}")]
    #[diagnostic(help("clone the repository again: an object format cannot be changed"))]
    ObjectFormat {
        ours: gix::hash::Kind,
        theirs: gix::hash::Kind,
    },
    #[error("upload-pack: not our ref {id}")]
    #[diagnostic(help("the object may have been removed by a force-push; fetch again"))]
    NotOurs { id: ObjectId },
    #[error("object {id} is missing in the source repository")]
    #[diagnostic(help("run `git fsck` in the source repository, and repair it"))]
    Missing { id: ObjectId },
    #[error("object {id} of the source repository cannot be read")]
    #[diagnostic(help("run `git fsck` in the source repository, and repair it"))]
    Object {
        id: ObjectId,
        #[source]
        source: gix::Error,
    },
    #[error("{id} is a tag of a tag of a tag, and more so than is followed")]
    #[diagnostic(help("delete that tag in the source repository"))]
    Tags {
        /// The outermost.
        id: ObjectId,
    },
    #[error("cannot read {what} of the source repository")]
    #[diagnostic(help("the user that gitsocket runs as must be able to read all of it"))]
    Repository {
        what: &'static str,
        #[source]
        source: gix::Error,
    },
    /// More objects than fit into memory. The client is told no more than this line.
    #[error(
        "the source has more than {limit} objects to look through for one fetch: fetch less of the history, set `depth`, \
         for example to 1"
    )]
    TooMany { limit: usize },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Gone(_) | Self::Stopped => Kind::Unreachable,
            Self::Request(_) => Kind::BadRequest,
            _ => Kind::Remote,
        }
    }
}

impl Error {
    /// The error and its causes in one line, as the client is told.
    pub(super) fn text(&self) -> String {
        let mut text = crate::base::fault::Failure::of(self).message;
        // A packet must hold it, whatever it quotes.
        text.truncate(text.floor_char_boundary(1000));
        text
    }
}
