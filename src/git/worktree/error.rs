//! Why a worktree could not be updated.

use std::{io, path::PathBuf};

use bytesize::ByteSize;
use rustix::io::Errno;

use crate::base::{
    fault::{Blame, Kind, kind_of_io},
    report::Lost,
};

/// The worktree could not be updated.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("{commit} cannot be checked out: {path:?}: {reason}; nothing was written")]
    #[diagnostic(help("no git would make such a tree by accident: find out who pushed it"))]
    Tree {
        commit: gix::ObjectId,
        path: String,
        reason: String,
    },
    #[error("object {id} (at {path:?}) cannot be read from the repository: {reason}")]
    #[diagnostic(help(
        "the next run fetches it again; if it stays, look at the disk, and at repositories that objects/info/alternates names"
    ))]
    Object {
        id: gix::ObjectId,
        /// Where in the tree it is; empty for the root and the commit.
        path: String,
        reason: String,
    },
    #[error("{path:?} has {}, more than `max_blob`, which is {}; nothing was written", ByteSize(*size), ByteSize(*limit))]
    #[diagnostic(help("raise `max_blob` of the trigger, or take the file out of the branch"))]
    TooLarge {
        path: String,
        /// The size of its blob, in bytes.
        size: u64,
        /// `max_blob`, in bytes.
        limit: u64,
    },
    #[error("{path:?} has {}, and its attributes ask to convert it: more than {} are not converted", ByteSize(*size), ByteSize(*limit))]
    #[diagnostic(help(
        "let its line in .gitattributes say `-text -ident !working-tree-encoding`, and it is written as it is"
    ))]
    Convert {
        path: String,
        /// The size of its blob, in bytes.
        size: u64,
        /// The most that is converted, in bytes.
        limit: u64,
    },
    #[error(
        "{path:?} cannot be written in the working-tree-encoding {name:?} of its attributes: {reason}; nothing was written"
    )]
    #[diagnostic(help(
        "let .gitattributes say another one, as UTF-16LE-BOM or windows-1252; or, where it may stay UTF-8, `!working-tree-encoding`"
    ))]
    Encoding {
        path: String,
        name: String,
        reason: String,
    },
    #[error("{path:?} cannot be written: {kept:?} is in its way and must be kept; nothing was written")]
    #[diagnostic(help("move {kept:?} elsewhere, or take its pattern out of `keep`"))]
    Kept { path: String, kept: String },
    #[error("{} is where another trigger deploys to, or has its git directory; nothing was written", path.display())]
    #[diagnostic(help(
        "let the `path` of one of them name another place, or take that directory out of the commit"
    ))]
    Others { path: PathBuf },
    #[error("the disk that {path} is on has space for {left}, and the new files need {needed}; nothing was written", path = path.display())]
    #[diagnostic(help("make room there, and trigger again"))]
    Space {
        path: PathBuf,
        /// What the new files need, beyond what they replace.
        needed: ByteSize,
        left: ByteSize,
    },
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
        #[help]
        help: &'static str,
    },
    #[error("{path:?} cannot be written: {reason}; nothing was changed")]
    #[diagnostic(help("take the link out of the branch, or let it point somewhere, and push that"))]
    Link { path: String, reason: String },
    /// Nothing can be written to, or deleted from, directories in which something has to be.
    #[error("{what}; nothing was changed")]
    Closed {
        /// Which, and for what.
        what: String,
        /// The first of the errors.
        source: io::Error,
        #[help]
        help: &'static str,
    },
    /// The system refused some of what was to be done. All else is done.
    #[error("{what}")]
    Unfinished {
        what: String,
        /// The error that the rest is judged by.
        source: io::Error,
        #[help]
        help: String,
    },
    /// The index could not be written. The files are right already.
    #[error("cannot write the index {path}: {reason}", path = path.display())]
    #[diagnostic(help(
        "make room, or let gitsocket's user write there; the next run tries again, and until then git shows the new files as modified"
    ))]
    Index {
        path: PathBuf,
        kind: Kind,
        reason: String,
    },
    #[error("cannot read {path}{named}: {source}; nothing was changed", path = path.display())]
    Rules {
        path: PathBuf,
        /// The setting that names it.
        named: String,
        source: io::Error,
        #[help]
        help: String,
    },
    #[error(
        "cannot use {setting} ({value:?}) of the repository's own configuration: {reason}; nothing was changed"
    )]
    #[diagnostic(help(
        "write a whole path, or one that begins at the top of the worktree; or take the setting out of `config` in the git directory"
    ))]
    Setting {
        setting: &'static str,
        value: String,
        reason: &'static str,
    },
    #[error("the files were still being compared; nothing was written")]
    Over,
}

impl Error {
    pub(super) fn file(action: &'static str, path: PathBuf, source: io::Error) -> Self {
        let help = help(&source);
        Self::File {
            action,
            path,
            source,
            help,
        }
    }
}

impl Error {
    /// The error, and what has gone all the same and is nowhere else.
    pub(super) fn with(mut self, lost: &Lost) -> Self {
        if let Self::Unfinished { what, .. } | Self::Index { reason: what, .. } = &mut self {
            what.push_str(&lost.line());
        }
        self
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Tree { .. }
            | Self::Object { .. }
            | Self::TooLarge { .. }
            | Self::Convert { .. }
            | Self::Encoding { .. } => Kind::Repository,
            Self::Index { kind, .. } => *kind,
            Self::Over => Kind::Timeout,
            Self::Space { .. } => Kind::Resources,
            Self::Kept { .. } | Self::Others { .. } | Self::Link { .. } | Self::Setting { .. } => Kind::Path,
            Self::File { source, .. }
            | Self::Rules { source, .. }
            | Self::Closed { source, .. }
            | Self::Unfinished { source, .. } => kind_of_io(source),
        }
    }
}

/// What to do about an error of the system's: a clause that another one can follow.
pub(super) fn help(error: &io::Error) -> &'static str {
    use io::ErrorKind as E;
    match error.kind() {
        E::StorageFull => "the disk is full: make room",
        E::QuotaExceeded => "the disk quota is used up: make room",
        E::PermissionDenied if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            "it is immutable (see lsattr and chattr -i), or belongs to another user in a sticky directory (chown it), \
             or the file system cannot have such a file, or not of the trigger's `group`"
        }
        E::PermissionDenied => {
            "let the user that gitsocket runs as read and write that directory, by chown or chmod"
        }
        E::ReadOnlyFilesystem => "the file system is mounted read-only: mount it so that it can be written",
        E::FileTooLarge => {
            "the file is larger than the file system takes, or than a limit lets it be (ulimit -f)"
        }
        E::ResourceBusy => "something is mounted there: unmount it, or take the path out of the branch",
        E::InvalidFilename => {
            "the file system does not take a name this long: shorten it in the branch, or deploy to another file system"
        }
        E::NotFound | E::NotADirectory | E::DirectoryNotEmpty => {
            "something else changes the worktree at the same time: stop it if this comes again"
        }
        _ if kind_of_io(error) == Kind::Resources => {
            "the system's resources are used up: see its limits (ulimit -a)"
        }
        _ => "see what the system's log says of that disk if this comes again",
    }
}
