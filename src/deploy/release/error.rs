//! Why a release could not be made, become live or be gone back to.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytesize::ByteSize;

use crate::{
    base::{
        fault::{Blame, Kind, kind_of_io},
        words::typed,
    },
    git::refs,
};

/// A release could not be made, become live or be gone back to.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The file or directory at the live name was not made by gitsocket.
    #[error(
        "{path} is {what} that gitsocket has not made, so the live release cannot be put there; nothing was touched"
    )]
    #[diagnostic(help(
        "move it away, type: mv {path} {path}.before; or let `live` of `releases` name something else"
    ))]
    Live { path: String, what: String },
    /// One of the directories of releases is not a directory.
    #[error("{path} is {what}, not a directory; nothing was touched")]
    #[diagnostic(help("move it away, type: mv {path} {path}.before"))]
    Odd { path: String, what: &'static str },
    /// A file or directory has the name of a tree that is to get it back.
    #[error("{path} is in the way of a release that has to be renamed to that; nothing was touched")]
    #[diagnostic(help("move it away, type: mv {path} {path}.before"))]
    InTheWay { path: String },
    /// The directory of the new release is not where it was made.
    #[error(
        "the directory of the new release is no longer at {path}: a hook at Build has moved, replaced or removed it; the release before it is still live"
    )]
    #[diagnostic(help("let the hook leave its working directory where it is, and trigger again"))]
    Moved { path: String },
    /// There are too many names.
    #[error("{path} holds more than {limit} entries")]
    #[diagnostic(help("remove what gitsocket has not made there"))]
    TooMany {
        path: String,
        /// How many are looked at.
        limit: usize,
    },
    /// The file system cannot exchange two names.
    #[error(
        "the file system that {path} is on cannot exchange two directories: {source}; nothing has changed"
    )]
    #[diagnostic(help("write live: Symlink({name:?}) into `releases`"))]
    Exchange {
        /// What was to be exchanged.
        path: String,
        name: String,
        source: io::Error,
    },
    /// Two directories are on two file systems, so that they cannot be exchanged, nor one be renamed to the other.
    #[error("{path} cannot change places with a directory in {releases}: {source}; nothing has changed")]
    #[diagnostic(help("{}", help_apart(path, name, *is_live)))]
    Apart {
        /// What was to be exchanged.
        path: String,
        name: String,
        /// The directory that releases are in.
        releases: String,
        /// Whether a release is live there.
        is_live: bool,
        source: io::Error,
    },
    /// There are too many trees that can be neither used nor removed.
    #[error(
        "{count} directories in {path} can be neither used again nor removed, so no release is made; the last one: {source}"
    )]
    #[diagnostic(help(
        "as root, type: {command}; and let what runs as another user write to what is in `shared` only"
    ))]
    Stuck {
        /// The directory that they are in.
        path: String,
        count: usize,
        /// Why the last one cannot be removed.
        source: Box<Self>,
        command: String,
    },
    /// The file system has no space for another tree.
    #[error(
        "the disk that {path} is on has space for {left}, and another release takes about {needed}, as the live one does; nothing was written"
    )]
    #[diagnostic(help("make room there, or lower `keep` of `releases`; then trigger again"))]
    Room {
        path: String,
        needed: ByteSize,
        /// What can be written.
        left: ByteSize,
    },
    /// A link to what is shared cannot be made.
    #[error("{path:?} of `shared` cannot be linked: in this commit, {at:?} is {what}")]
    #[diagnostic(help("take it out of the commit, or out of `shared` of `releases`"))]
    Shared {
        path: PathBuf,
        /// What is in its way.
        at: PathBuf,
        what: &'static str,
    },
    /// A file is in the directory `shared` where a directory has to be.
    #[error("{path} is {what}, and `shared` of `releases` needs a directory there; nothing has changed")]
    #[diagnostic(help("move it away, or write its name without a slash at the end"))]
    NoDirectory { path: String, what: &'static str },
    /// There is no such release.
    #[error("there is no release {wanted:?} to go back to; there are: {there}")]
    #[diagnostic(help("name one of them, or its commit"))]
    Unknown {
        /// What was asked for.
        wanted: String,
        there: String,
    },
    /// All releases that could be gone back to are damaged.
    #[error("all older releases have changed since they were live, and cannot be mended: {what}")]
    #[diagnostic(help("repair what is named here, or push another commit: a new release is made of it"))]
    Damaged { what: String },
    /// The ref that keeps a release's commit cannot be written or deleted.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ref(Box<refs::Error>),
    /// The system refused.
    #[error("cannot {doing} {path}: {source}")]
    #[diagnostic(help(
        "make room if the disk is full, else let the user that gitsocket runs as write there; the next run goes on from here"
    ))]
    Io {
        doing: &'static str,
        path: String,
        source: io::Error,
    },
}

/// What to do if two directories are not on one file system, or one is in a lower layer of overlayfs, which cannot rename it.
fn help_apart(path: &str, name: &str, is_live: bool) -> String {
    let away = typed(["mv".into(), path.into(), format!("{path}.before")]);
    let other = if is_live {
        // A directory that is made now is in the upper layer, as a new release is.
        format!("if that is a layer of an overlay, move it away, type: {away}; then trigger again")
    } else {
        format!("write live: Symlink({name:?}) into `releases`")
    };
    format!("mount nothing below `path`, so that both are on one file system; or {other}")
}

impl Error {
    /// A system call failed while `doing` that to `path`.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| Self::Io { doing, path, source }
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => kind_of_io(source),
            Self::Ref(err) => err.kind(),
            Self::Room { .. } => Kind::Resources,
            Self::Moved { .. } => Kind::Build,
            Self::Unknown { .. } => Kind::BadRequest,
            Self::Shared { .. } | Self::Damaged { .. } => Kind::Repository,
            Self::Live { .. }
            | Self::Odd { .. }
            | Self::InTheWay { .. }
            | Self::TooMany { .. }
            | Self::Exchange { .. }
            | Self::Stuck { .. }
            | Self::Apart { .. }
            | Self::NoDirectory { .. } => Kind::Path,
        }
    }
}
