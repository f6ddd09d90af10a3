//! A pack could not be taken in.

use std::{io, path::PathBuf};

use bytesize::ByteSize;
use gix::ObjectId;

use crate::{
    base::fault::{Blame, Kind, kind_of_io},
    git::large::LARGE,
};

/// Objects in one pack. Each takes some 50 bytes while the pack is indexed: 200 MB in all.
pub(super) const MAX_OBJECTS: u32 = 4_000_000;

/// A pack could not be taken in.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("the remote sends {count} objects at once, more than {MAX_OBJECTS}")]
    #[diagnostic(help("fetch less of the history: set `depth`, for example to 1"))]
    Objects { count: u32 },
    #[error("the remote sends more than `max_pack`, which is {}", ByteSize(*limit))]
    #[diagnostic(help(
        "raise `max_pack` if the repository is that large, or set `depth` to fetch less of it"
    ))]
    Pack {
        /// `max_pack`, in bytes.
        limit: u64,
    },
    #[error("the remote sends a {kind} of {}, more than {}", ByteSize(*size), ByteSize(LARGE))]
    #[diagnostic(help("only files may be that large: find out who made it, and how"))]
    Object {
        kind: gix::objs::Kind,
        /// The object's size, in bytes.
        size: u64,
    },
    #[error("the remote sends a delta that comes to {}, more than `max_blob`, which is {}", ByteSize(*size), ByteSize(*limit))]
    #[diagnostic(help(
        "raise `max_blob` if the repository has files that large, or set `depth` to fetch less of its history"
    ))]
    Delta {
        /// What it comes to, in bytes.
        size: u64,
        /// `max_blob`, in bytes.
        limit: u64,
    },
    #[error("the remote sends deltas that are based on each other too deeply")]
    #[diagnostic(help("run `git repack -adf` in the remote repository"))]
    Depth,
    #[error("the remote sends a damaged pack: {reason}")]
    #[diagnostic(help("trigger again; if it stays, run `git fsck` in the remote repository"))]
    Damaged { reason: String },
    #[error("the remote sends a pack with a delta of {id}, which is neither in it nor here")]
    #[diagnostic(help("trigger again; if it stays, run `git fsck` in the remote repository"))]
    Base { id: ObjectId },
    #[error(
        "the disk that {path} is on has space for {}, and {} are needed: for the fetch, and as a reserve for others",
        ByteSize(*left),
        ByteSize(*needed)
    )]
    #[diagnostic(help("free space; `max_pack` bounds what one fetch may bring"))]
    Space {
        path: PathBuf,
        /// How much can still be written, in bytes.
        left: u64,
        /// How much has to be, in bytes.
        needed: u64,
    },
    #[error("cannot store the objects fetched into {path}: {source}")]
    #[diagnostic(help("free space, or make the git directory writable for the user that gitsocket runs as"))]
    Store { path: PathBuf, source: io::Error },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Objects { .. }
            | Self::Pack { .. }
            | Self::Object { .. }
            | Self::Delta { .. }
            | Self::Depth
            | Self::Base { .. } => Kind::Remote,
            Self::Damaged { .. } => Kind::Unreachable,
            Self::Space { .. } => Kind::Resources,
            Self::Store { source, .. } => kind_of_io(source),
        }
    }
}

pub(super) enum Fail {
    /// The connection broke: the transport knows more of it.
    Connection(io::Error),
    Ours(Error),
}

impl From<Error> for Fail {
    fn from(err: Error) -> Self {
        Self::Ours(err)
    }
}
