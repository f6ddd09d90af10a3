//! How a fetch fails, whose fault that is, and what to do.

use std::{io, path::PathBuf};

use super::complete::Missing;
use crate::base::fault::{Blame, Kind};

/// A fetch failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The transport failed: it says why, with repository or host.
    #[error("{message}")]
    #[diagnostic(help("{help}"))]
    Transport {
        kind: Kind,
        message: String,
        help: String,
    },
    #[error("fetching from {repo} took longer than {limit}")]
    #[diagnostic(help("if the remote is only slow, raise the trigger's `timeout`"))]
    Timeout { repo: String, limit: String },
    #[error("{repo} refuses: {said}")]
    #[diagnostic(help("see whether the repository is there and this host may read it"))]
    Refused { repo: String, said: String },
    /// The connection ended in the middle. Whether that is seen as its end or as a reset depends on what was underway, so
    /// the words are those of [`crate::git::transport::tcp::Error::Lost`].
    #[error("the connection to {repo} was lost: {reason}")]
    #[diagnostic(help("try again; if that does not help, the log of the server should say more"))]
    BrokenOff { repo: String, reason: String },
    #[error("the repository {repo} is empty")]
    #[diagnostic(help("push a commit to it first"))]
    Empty { repo: String },
    #[error("{repo} has no {what}")]
    #[diagnostic(help("{}", help_missing(what, others)))]
    Missing {
        repo: String,
        /// The branch or tag.
        what: String,
        /// The names that are there.
        others: Vec<String>,
    },
    #[error("{repo} gives no commit {id}: {reason}")]
    #[diagnostic(help("{}", help_commit(others)))]
    NoCommit {
        repo: String,
        id: gix::ObjectId,
        reason: String,
        /// The names that are there, if it was asked for them.
        others: Vec<String>,
    },
    #[error("{what} of {repo} is not a commit, but a {found}")]
    #[diagnostic(help("name a branch, or a tag of a commit"))]
    NotACommit {
        repo: String,
        what: String,
        found: String,
    },
    #[error("{repo} names objects by {theirs}, the repository of the worktree by {ours}")]
    #[diagnostic(help("move the worktree away, and the next run clones it again"))]
    ObjectFormat {
        repo: String,
        theirs: gix::hash::Kind,
        ours: gix::hash::Kind,
    },
    #[error("{repo} did not give all of the new commit: {missing}; nothing was deployed")]
    #[diagnostic(help(
        "the next run asks again; if it stays, run `git fsck` in the remote repository, and repair it there"
    ))]
    Incomplete {
        repo: String,
        missing: Box<Missing>,
        /// A pack was received. Otherwise, the remote was not asked for what is missing.
        received: bool,
    },
    #[error("{repo} sent a damaged pack: {reason}; nothing was deployed")]
    #[diagnostic(help(
        "the next run asks again; if it stays, run `git fsck` in the remote repository, and repair it there"
    ))]
    Damaged { repo: String, reason: String },
    /// What was here before is damaged, so that nothing can be fetched on top of it.
    #[error("objects of the repository are missing or damaged: {source}")]
    #[diagnostic(help("the next run fetches them again"))]
    Unsound { source: Box<Self> },
    /// Anything that git's protocol did not foresee.
    #[error("fetching from {repo} failed: {reason}")]
    #[diagnostic(help("trigger again; if it stays, look at the remote's log"))]
    Protocol { repo: String, reason: String },
    #[error("cannot store the objects fetched into {path}: {source}")]
    #[diagnostic(help("free space, or make the git directory writable for the user that gitsocket runs as"))]
    Store { path: PathBuf, source: io::Error },
}

impl Error {
    /// Whether damage of what was here before the fetch may be the reason.
    pub fn may_be_ours(&self) -> bool {
        match self {
            Self::Incomplete { .. } | Self::Damaged { .. } | Self::Protocol { .. } => true,
            Self::Store { source, .. } => source.kind() == io::ErrorKind::Other,
            _ => false,
        }
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Transport { kind, .. } => *kind,
            Self::Timeout { .. } => Kind::Timeout,
            Self::Refused { .. }
            | Self::Empty { .. }
            | Self::Missing { .. }
            | Self::NoCommit { .. }
            | Self::NotACommit { .. }
            | Self::Incomplete { .. }
            | Self::Damaged { .. } => Kind::Remote,
            Self::ObjectFormat { .. } | Self::Unsound { .. } => Kind::Repository,
            Self::BrokenOff { .. } | Self::Protocol { .. } => Kind::Unreachable,
            Self::Store { source, .. } => crate::base::fault::kind_of_io(source),
        }
    }
}

fn it_has(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("it has {}{more}", names[..names.len().min(SHOWN)].join(", "))
}

fn help_commit(others: &[String]) -> String {
    let help = "`rev` must be the full id of a commit that is in the repository; push it, or correct `rev`";
    match others {
        [] => help.into(),
        others => format!("{help}; {}", it_has(others)),
    }
}

fn help_missing(what: &str, others: &[String]) -> String {
    let wanted = what.split('"').nth(1).unwrap_or_default();
    let near = others
        .iter()
        .filter(|other| strsim::damerau_levenshtein(other, wanted) <= 2)
        .min_by_key(|other| strsim::damerau_levenshtein(other, wanted));
    match (near, others) {
        (Some(near), _) => format!("did you mean {near:?}?"),
        (None, []) => "name a branch or tag that is there".into(),
        (None, others) => it_has(others),
    }
}
