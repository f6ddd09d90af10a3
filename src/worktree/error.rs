//! Why a worktree could not be updated.

use std::{io, path::PathBuf};

use bytesize::ByteSize;

use crate::fault::{Blame, Kind, kind_of_io};

/// The worktree could not be updated.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The commit holds a path that must not be written.
    #[error("{commit} cannot be checked out: {path:?}: {reason}; nothing was written")]
    #[diagnostic(help("no git would make such a tree by accident: find out who pushed it"))]
    Tree {
        /// The commit.
        commit: gix::ObjectId,
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object is missing or damaged.
    #[error("object {id} (at {path:?}) cannot be read from the repository: {reason}")]
    #[diagnostic(help(
        "the repository is damaged: move its git directory away, and the next run fetches it anew"
    ))]
    Object {
        /// The object.
        id: gix::ObjectId,
        /// Where in the tree it is; empty for the root and the commit.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file is larger than `max_blob`.
    #[error("{path:?} has {}, more than `max_blob`, which is {}; nothing was written", ByteSize(*size), ByteSize(*limit))]
    #[diagnostic(help("raise `max_blob` of the trigger, or take the file out of the branch"))]
    TooLarge {
        /// The path.
        path: String,
        /// The size of its blob, in bytes.
        size: u64,
        /// `max_blob`, in bytes.
        limit: u64,
    },
    /// A file is too large for what its attributes ask for.
    #[error("{path:?} has {}, and its attributes ask to convert it: more than {} are not converted", ByteSize(*size), ByteSize(*limit))]
    #[diagnostic(help(
        "let its line in .gitattributes say `-text -ident -working-tree-encoding`, and it is written as it is"
    ))]
    Convert {
        /// The path.
        path: String,
        /// The size of its blob, in bytes.
        size: u64,
        /// The most that is converted, in bytes.
        limit: u64,
    },
    /// The new tree needs the place of something that must be kept.
    #[error("{path:?} cannot be written: {kept:?} is in its way and must be kept; nothing was written")]
    #[diagnostic(help("move {kept:?} elsewhere, or take its pattern out of `keep`"))]
    Kept {
        /// The path of the new tree.
        path: String,
        /// What is in its way.
        kept: String,
    },
    /// The system refused.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
        /// What to do.
        #[help]
        help: String,
    },
    /// The index could not be written. The files are right already.
    #[error("cannot write the index {path}: {reason}", path = path.display())]
    #[diagnostic(help(
        "make room, or let gitsocket's user write there; the next run tries again, and until then git shows the new files as modified"
    ))]
    Index {
        /// The index.
        path: PathBuf,
        /// What it amounts to.
        kind: Kind,
        /// Why.
        reason: String,
    },
    /// Attributes or ignore rules outside the worktree could not be read.
    #[error("cannot read the repository's settings: {reason}")]
    #[diagnostic(help("look at `config` and `info/` in the git directory"))]
    Settings {
        /// Why.
        reason: String,
    },
}

impl Error {
    /// The system refused to `action` `path`.
    pub(super) fn file(action: &'static str, path: PathBuf, source: io::Error) -> Self {
        let help = help(&source).into();
        Self::File {
            action,
            path,
            source,
            help,
        }
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Tree { .. }
            | Self::Object { .. }
            | Self::TooLarge { .. }
            | Self::Convert { .. }
            | Self::Settings { .. } => Kind::Repository,
            Self::Index { kind, .. } => *kind,
            Self::Kept { .. } => Kind::Path,
            Self::File { source, .. } => kind_of_io(source),
        }
    }
}

fn help(error: &io::Error) -> &'static str {
    use io::ErrorKind as E;
    match error.kind() {
        E::StorageFull => "the disk is full: make room, and the next run finishes the work",
        E::QuotaExceeded => "the disk quota is used up: make room, and the next run finishes the work",
        E::PermissionDenied => {
            "the user that gitsocket runs as must own the worktree, or be able to write all directories in it"
        }
        E::ReadOnlyFilesystem => "the file system is mounted read-only",
        E::InvalidFilename => "the file system does not take a name this long",
        E::NotFound | E::NotADirectory => {
            "something else changes the worktree at the same time; the next run tries again"
        }
        _ => "the next run tries again",
    }
}
