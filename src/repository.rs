//! Opens and makes repositories so that nothing but their own data counts.
//!
//! No system, global or environment configuration is read, no program that a configuration names is
//! ever run, and what a hostile `.git/config` could redirect (worktree, hooks, alternates of
//! configuration) is overridden. Everything that opens a repository goes through here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    fault::{Blame, Kind, kind_of_io},
    large::LARGE,
};

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
    #[error("cannot create a git repository at {path}: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to write there"))]
    Init {
        /// The git directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Open { .. } => Kind::Repository,
            Self::Init { source, .. } => kind_of_io(source),
        }
    }
}

/// Settings that no repository may change: they are read after its own configuration.
const OVERRIDES: [&str; 12] = [
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
    "index.skipHash=false",
    "gitoxide.userAgent=git/gitsocket",
];

/// How repositories are opened: isolated, and trusted as far as reading them goes.
fn options() -> gix::open::Options {
    gix::open::Options::isolated()
        .with(gix::sec::Trust::Full)
        .strict_config(false)
        .config_overrides(
            OVERRIDES
                .map(str::to_owned)
                .into_iter()
                // Whatever is larger is read by `large`.
                .chain([format!("gitoxide.objects.allocLimit={LARGE}")]),
        )
}

/// Open the repository whose git directory is exactly `git_dir`: nothing is searched for.
pub fn open(git_dir: &Path) -> Result<gix::Repository, Error> {
    let failed = |reason: String| Error::Open {
        path: git_dir.into(),
        reason,
    };
    let repo: gix::Repository = options()
        .object_store_slots(slots())
        .open_path_as_is(true)
        .open(git_dir)
        .map(Into::into)
        .map_err(|err| failed(reason(&err)))?;
    // gitoxide would only stumble over the first ref that it reads.
    match repo.config_snapshot().string("extensions.refStorage") {
        Some(format) if format.as_slice() != b"files" => Err(failed(format!(
            "it stores its refs as {format:?}, which is not supported"
        ))),
        _ => Ok(repo),
    }
}

/// The names in a git directory that make it one, see gitrepository-layout(5).
const LAYOUT: [&str; 6] = [
    "objects/info",
    "objects/pack",
    "refs/heads",
    "refs/tags",
    "info",
    "hooks",
];

/// Make an empty repository at `git_dir`, with `config` as its configuration.
///
/// No template is used, so it holds no sample hooks.
pub fn init(git_dir: &Path, config: &str) -> Result<gix::Repository, Error> {
    let failed = |source: std::io::Error| Error::Init {
        path: git_dir.into(),
        source,
    };
    for dir in LAYOUT {
        fs::create_dir_all(git_dir.join(dir)).map_err(failed)?;
    }
    fs::write(git_dir.join("config"), config).map_err(failed)?;
    // HEAD last: without it, this is no repository.
    fs::write(git_dir.join("HEAD"), "ref: refs/heads/main\n").map_err(failed)?;
    open(git_dir)
}

/// All messages of an error of gitoxide's, the outermost first, none twice.
pub fn reason(err: &gix::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for text in err.iter_errors().map(ToString::to_string) {
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// Open the repository to fetch from at `path`: a worktree, a bare repository, a `.git` directory or file.
/// Nothing is searched for above it, and it may be anybody's.
pub fn open_source(path: &Path) -> Result<gix::Repository, gix::Error> {
    options().object_store_slots(slots()).open(path).map(Into::into)
}

/// The directories that data of the repository at `path` is in, beside `path` itself: those of a `.git` file, of a linked
/// worktree's repository, and of alternates, see gitrepository-layout(5). What cannot be read has none.
pub fn storage(path: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let dot_git = path.join(".git");
    let mut git_dir = match fs::symlink_metadata(&dot_git) {
        Ok(meta) if meta.is_file() => match gix::discover::path::from_gitdir_file(&dot_git) {
            Ok(dir) => dir,
            Err(_) => return out,
        },
        Ok(_) => dot_git,
        Err(_) => path.into(),
    };
    out.push(git_dir.clone());
    if let Some(Ok(common)) = gix::discover::path::from_plain_file(&git_dir.join("commondir")) {
        git_dir.push(common);
        out.push(git_dir.clone());
    }
    out.extend(gix::odb::alternate::resolve(git_dir.join("objects"), path).unwrap_or_default());
    out
}

/// Room for packs that appear while a repository is read: gix fails once its slots are used up.
fn slots() -> gix::odb::store::init::Slots {
    gix::odb::store::init::Slots::AsNeededByDiskState {
        multiplier: 1.5,
        minimum: 256,
    }
}
