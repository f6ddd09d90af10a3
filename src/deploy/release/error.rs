//! Why releases cannot be made, or gone back to.

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
    /// What is to lead to the live release was not made by gitsocket.
    #[error("{path} is {what}, so the live release cannot be put there; nothing was touched")]
    #[diagnostic(help(
        "move it away, type: mv {path} {path}.before; or let `live` of `releases` name something else"
    ))]
    Live {
        /// Its path.
        path: String,
        /// What it is.
        what: String,
    },
    /// A directory of ours is none.
    #[error("{path} is {what}, not a directory; nothing was touched")]
    #[diagnostic(help("move it away, type: mv {path} {path}.before"))]
    Odd {
        /// Its path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// Something has the name of a tree that is to get it back.
    #[error("{path} is in the way of a release that is to have that name again; nothing was touched")]
    #[diagnostic(help("move it away, type: mv {path} {path}.before"))]
    InTheWay {
        /// Its path.
        path: String,
    },
    /// What was made is not at its place.
    #[error(
        "the directory that the release was made in is not at {path} any more: a hook at Build has moved, replaced or removed it; what was live still is"
    )]
    #[diagnostic(help("let the hook leave its working directory where it is, and trigger again"))]
    Moved {
        /// Where it was.
        path: String,
    },
    /// There are too many names.
    #[error("{path} holds more than {limit} names")]
    #[diagnostic(help("remove what gitsocket has not made there"))]
    TooMany {
        /// The directory.
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
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Names of two file systems cannot be exchanged, or one be renamed to the other.
    #[error("{path} cannot change places with a directory in {releases}: {source}; nothing has changed")]
    #[diagnostic(help("{}", help_apart(path, name, *is_live)))]
    Apart {
        /// What was to be exchanged.
        path: String,
        /// Its name.
        name: String,
        /// The directory that releases are in.
        releases: String,
        /// Whether something is live there.
        is_live: bool,
        /// Why.
        source: io::Error,
    },
    /// Trees that can be neither used nor removed are too many.
    #[error(
        "{count} trees in {path} can be neither used again nor removed, so no other is made; of the last one: {source}"
    )]
    #[diagnostic(help(
        "as root, type: {command}; and let what runs as another user write to what is in `shared` only"
    ))]
    Stuck {
        /// The directory that they are in.
        path: String,
        /// How many.
        count: usize,
        /// Why the last one cannot be removed.
        source: Box<Self>,
        /// What removes them.
        command: String,
    },
    /// A tree more does not fit.
    #[error(
        "the disk that {path} is on has space for {left}, and another release takes about {needed}, as the live one does; nothing was written"
    )]
    #[diagnostic(help("make room there, or lower `keep` of `releases`; then trigger again"))]
    Room {
        /// The directory.
        path: String,
        /// What is needed.
        needed: ByteSize,
        /// What can be written.
        left: ByteSize,
    },
    /// A link to what is shared cannot be made.
    #[error("{path:?} of `shared` cannot be linked: in this commit, {at:?} is {what}")]
    #[diagnostic(help("take it out of the commit, or out of `shared` of `releases`"))]
    Shared {
        /// The path.
        path: PathBuf,
        /// What is in its way.
        at: PathBuf,
        /// What that is.
        what: &'static str,
    },
    /// What all releases share is in the way of what is to be shared.
    #[error("{path} is {what}, and `shared` of `releases` needs a directory there; nothing has changed")]
    #[diagnostic(help("move it away, or write its name without a slash at the end"))]
    NoDirectory {
        /// Its path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// There is no such release.
    #[error("there is no release {wanted:?} to go back to; there are: {there}")]
    #[diagnostic(help("name one of them, or its commit"))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: String,
    },
    /// No release can be gone back to: all are damaged.
    #[error("no older release is as it was when it was live: {what}")]
    #[diagnostic(help("repair what is named here, or push another commit: a new release is made of it"))]
    Damaged {
        /// Which, and why.
        what: String,
    },
    /// A commit cannot be held, or let go.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ref(Box<refs::Error>),
    /// The system refused.
    #[error("cannot {doing} {path}: {source}")]
    #[diagnostic(help(
        "make room if the disk is full, else let the user that gitsocket runs as write there; the next run goes on from here"
    ))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// What to do about directories that are not on one file system: or one is in a lower layer of overlayfs, which cannot rename it.
fn help_apart(path: &str, name: &str, is_live: bool) -> String {
    let away = typed(["mv".into(), path.into(), format!("{path}.before")]);
    let other = if is_live {
        // A copy is in the upper layer, and so is a new release.
        format!("if that is a layer of an overlay, move it away, type: {away}; then trigger again")
    } else {
        format!("write live: Symlink({name:?}) into `releases`")
    };
    format!("mount nothing below `path`, so that both are on one file system; or {other}")
}

impl Error {
    /// The system refused to do that on `path`.
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
