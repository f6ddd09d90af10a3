//! Opens and makes repositories so that nothing but their own data counts.
//!
//! No system, global or environment configuration is read, no program that a configuration names is
//! ever run, and what a hostile `.git/config` could redirect (worktree, hooks, alternates of
//! configuration) is overridden. Everything that opens a repository goes through here.

use std::path::{Path, PathBuf};

use crate::fault::{Blame, Kind};

/// A repository could not be opened or made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// There is something, but git would not call it a repository.
    #[error("{path} is not a usable git repository: {reason}")]
    #[diagnostic(help("move it away, and the next run clones it anew"))]
    Open {
        /// The git directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A new one could not be made.
    #[error("cannot create a git repository at {path}: {reason}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to write there"))]
    Init {
        /// The git directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Open { .. } => Kind::Repository,
            Self::Init { .. } => Kind::Path,
        }
    }
}

/// Settings that no repository may change: they are read after its own configuration.
const OVERRIDES: [&str; 11] = [
    "committer.name=gitsocket",
    "committer.email=gitsocket@localhost",
    "core.logAllRefUpdates=true",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.fsmonitor=false",
    "core.fileMode=true",
    "core.symlinks=true",
    "core.ignoreCase=false",
    "core.precomposeUnicode=false",
    "gitoxide.userAgent=git/gitsocket",
];

/// How repositories are opened: isolated, and trusted as far as reading them goes.
fn options() -> gix::open::Options {
    gix::open::Options::isolated()
        .with(gix::sec::Trust::Full)
        .strict_config(false)
        .config_overrides(OVERRIDES)
}

/// Open the repository whose git directory is exactly `git_dir`: nothing is searched for.
pub fn open(git_dir: &Path) -> Result<gix::Repository, Error> {
    options()
        .open_path_as_is(true)
        .open(git_dir)
        .map(Into::into)
        .map_err(|err| Error::Open {
            path: git_dir.into(),
            reason: err.to_string(),
        })
}

/// Open the repository to fetch from at `path`: a worktree, a bare repository, a `.git` directory or file.
/// Nothing is searched for above it, and it may be anybody's.
pub fn open_source(path: &Path) -> Result<gix::Repository, gix::Error> {
    // Room for packs that appear while it is read: gix fails once its slots are used up.
    let slots = gix::odb::store::init::Slots::AsNeededByDiskState {
        multiplier: 1.5,
        minimum: 256,
    };
    options().object_store_slots(slots).open(path).map(Into::into)
}
