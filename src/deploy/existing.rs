//! What exists at a target's path: nothing yet, a worktree to adopt, or files that are not ours.
//!
//! A git directory that holds only gitsocket's own files, in `gitsocket/`, counts as absent, since the lock is made there before
//! the clone.
//!
//! A target with releases has a bare repository, `repo.git` in its path, next to the releases: see `releases`.
//!
//! A git directory outside of the worktree names its worktree in `core.worktree`, so that no other target takes it for its own.
//! The worktree then has no `.git`.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use crate::{
    base::{
        fault::{Blame, Kind, if_there, kind_of_io},
        name::AbsPath,
    },
    config::Target,
    deploy::{release, state},
    git::repository,
};

mod building;
mod releases;
use building::Content;
pub use building::{Building, build, sweep};

/// The suffix of the directory in which the version before built a clone.
const OLD: &str = ".gitsocket-new";

/// What is at a target's path.
#[derive(Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing: clone.
    Nothing,
    /// A worktree, with its git directory.
    Worktree(PathBuf),
}

/// A target's path cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// It holds something that is not a git worktree.
    #[error("{path} holds files, such as {example:?}, but is not a git worktree; nothing was touched")]
    #[diagnostic(help(
        "move it aside, or let the trigger's `path` name another place; if it is one, move its git directory to {}: what is damaged in \
         it is fetched again",
        git_dir.as_ref().map_or_else(|| path.join(".git"), |dir| dir.as_path().into()).display()
    ))]
    Occupied {
        path: PathBuf,
        /// Where its git directory should be, if not in it.
        git_dir: Option<AbsPath>,
        /// One of the names in it.
        example: String,
    },
    /// Its git directory holds the rest of a killed clone, and other files.
    #[error(
        "{git_dir} holds files, such as {example:?}, that are not from the clone that was interrupted there; nothing was touched"
    )]
    #[diagnostic(help("move them away, or let the trigger's `path` name another place"))]
    Beside {
        git_dir: PathBuf,
        /// One of the names in it.
        example: PathBuf,
    },
    /// Its `.git` is a file or a symlink.
    #[error("{path} is a {what}: the git directory is elsewhere; nothing was touched")]
    #[diagnostic(help("deploy to a clone of its own, not to a linked worktree or submodule"))]
    Elsewhere { path: PathBuf, what: &'static str },
    /// The git directory is not a directory.
    #[error("the trigger's `git_dir` {path} is a {what}; nothing was touched")]
    #[diagnostic(help("let it name a directory, or a place where nothing is yet"))]
    NotADirectory { path: PathBuf, what: &'static str },
    /// The git directory belongs to another worktree.
    #[error(
        "the git directory {git_dir} belongs to {}, not to {path}; nothing was touched",
        owner(worktree)
    )]
    #[diagnostic(help(
        "let the trigger's `git_dir` name a place where nothing is yet; or, if it is this worktree's, type: \
         git --git-dir={git_dir} config {setting} {path}"
    ))]
    Foreign {
        git_dir: AbsPath,
        path: AbsPath,
        /// The worktree that it says it belongs to.
        worktree: Option<PathBuf>,
        /// What says so.
        setting: String,
    },
    /// There are two git directories.
    #[error("{path} has a .git, and the trigger's `git_dir` is {git_dir}; nothing was touched")]
    #[diagnostic(help("remove `git_dir`, or move the .git there and set its core.worktree to {path}"))]
    Two {
        path: AbsPath,
        /// The git directory that the configuration names.
        git_dir: AbsPath,
    },
    /// It is deployed in place, and the configuration has `releases`.
    #[error("{path} is deployed in place, and the trigger has `releases`; nothing was touched")]
    #[diagnostic(help(
        "to change to releases, type: {commands}; {then}; or remove `releases` from the trigger"
    ))]
    InPlace {
        path: AbsPath,
        commands: String,
        /// What becomes of the files.
        then: String,
    },
    /// It has releases, and the configuration has none.
    #[error("{path} has releases, and the trigger has no `releases`; nothing was touched")]
    #[diagnostic(help(
        "to change to a deploy in place, type: {commands}; then copy what is needed from {path}.releases/shared by hand; or write \
         `releases: ()` into the trigger again"
    ))]
    Releases { path: AbsPath, commands: String },
    /// The releases cannot be looked at.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Release(#[from] release::Error),
    /// It could not be read or written.
    #[error("cannot {doing} {path}: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to read and write it"))]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The git directory could not be made or opened.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Repository(#[from] repository::Error),
    /// The mark that a clone is ours could not be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    State(#[from] state::Error),
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Occupied { .. }
            | Self::Beside { .. }
            | Self::Elsewhere { .. }
            | Self::NotADirectory { .. }
            | Self::Foreign { .. }
            | Self::Two { .. }
            | Self::InPlace { .. }
            | Self::Releases { .. } => Kind::Path,
            Self::Release(err) => err.kind(),
            Self::Io { source, .. } => kind_of_io(source),
            Self::Repository(err) => err.kind(),
            Self::State(err) => err.kind(),
        }
    }
}

fn owner(worktree: &Option<PathBuf>) -> String {
    worktree
        .as_ref()
        .map_or_else(|| "no worktree".into(), |path| path.display().to_string())
}

/// Where the version before built the git directory of a clone: next to its final path.
fn old_site(git_dir: &Path) -> PathBuf {
    let mut path = git_dir.as_os_str().to_owned();
    path.push(OLD);
    path.into()
}

/// What a killed clone of the version before has left next to the git directory of `target`. A directory of that name counts only
/// if it belongs to this user, since others may be able to write there, and only if nothing is deployed.
pub fn old_clone(target: &Target) -> Option<PathBuf> {
    let old = old_site(&target.site.git_dir());
    let meta = fs::symlink_metadata(&old).ok()?;
    let is_ours = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
    (is_ours && outline(target).is_ok_and(|existing| existing == Existing::Nothing)).then_some(old)
}

/// Remove [`old_clone`]. The caller holds the target's lock, and its sandbox lets it write next to the git directory.
pub fn clear_old(target: &Target) -> Result<(), Error> {
    match old_clone(target) {
        Some(old) => building::remove(&old),
        None => Ok(()),
    }
}

/// Whether a run of `target` may lock it, as far as that is clear without reading a file.
pub fn is_known(target: &Target) -> bool {
    let is_locked_before = is_there(&target.site.lock_file()).is_ok_and(|kind| kind.is_some());
    let is_dir = is_there(&target.site.git_dir()).is_ok_and(|kind| kind.is_some_and(|kind| kind.is_dir()));
    is_dir && (target.site.git_dir.is_none() || is_locked_before)
}

/// Check that a run of `target` may lock it, since the lock is made in its git directory, which must be ours. The caller is inside
/// the run's sandbox, since the repository is opened.
pub fn look(target: &Target) -> Result<(), Error> {
    match find(target) {
        // The lock reports it with a better message.
        Ok(_) | Err(Error::Io { .. }) => Ok(()),
        Err(err) => Err(err),
    }
}

/// Look at the path of `target`, and remove what a killed clone left. The caller holds the target's lock.
pub fn inspect(target: &Target) -> Result<Existing, Error> {
    let existing = find(target)?;
    if existing == Existing::Nothing {
        building::clear(&target.site.git_dir())?;
    }
    Ok(existing)
}

/// Look at the path of `target`, and change nothing.
pub fn find(target: &Target) -> Result<Existing, Error> {
    let existing = outline(target)?;
    if let (Existing::Worktree(_), Some(apart)) = (&existing, &target.site.git_dir) {
        owned(apart, target)?;
    }
    Ok(existing)
}

/// What exists at the path of `target`, by names alone. A `git_dir` may still belong to another worktree.
fn outline(target: &Target) -> Result<Existing, Error> {
    let root = target.site.root();
    let git_dir = target.site.git_dir();
    let apart = target.site.git_dir.as_ref();
    if let Some(releases) = &target.site.releases {
        releases::check(target, releases, &git_dir)?;
    } else if let Some(apart) = apart
        && is_there(&root.as_path().join(".git"))?.is_some()
    {
        return Err(Error::Two {
            path: root.clone(),
            git_dir: apart.clone(),
        });
    }
    if target.site.releases.is_none() {
        // Whatever the git directory says, since a deploy in place would see all releases as untracked files.
        releases::check_none(target)?;
    }
    let kind = is_there(&git_dir)?;
    if let Some(kind) = kind.filter(|kind| !kind.is_dir()) {
        let (path, what) = (git_dir, what(kind));
        return Err(match apart {
            Some(_) => Error::NotADirectory { path, what },
            None => Error::Elsewhere { path, what },
        });
    }
    if kind.is_some() && building::content(&git_dir)? == Content::Something {
        return Ok(Existing::Worktree(git_dir));
    }
    let occupant = match target.site.releases {
        // Other files next to releases are left alone.
        Some(_) => None,
        None => occupant(target)?,
    };
    match occupant {
        None => Ok(Existing::Nothing),
        Some(name) => Err(Error::Occupied {
            path: root.as_path().into(),
            git_dir: target.site.git_dir.clone(),
            example: name.to_string_lossy().into_owned(),
        }),
    }
}

/// One of the names at the path of `target` that are not of gitsocket's making.
fn occupant(target: &Target) -> Result<Option<OsString>, Error> {
    let is_ours = |name: &OsString| {
        target.site.git_dir.is_none()
            && (name == ".git" || name.as_bytes() == [".git", OLD].concat().as_bytes())
    };
    let mut names = building::entries(target.site.root().as_path())?.into_iter();
    Ok(names.find(|name| !is_ours(name)))
}

fn is_there(path: &Path) -> Result<Option<fs::FileType>, Error> {
    let meta = if_there(fs::symlink_metadata(path)).map_err(|source| Error::Io {
        doing: "look at",
        path: path.into(),
        source,
    })?;
    Ok(meta.map(|meta| meta.file_type()))
}

fn what(kind: fs::FileType) -> &'static str {
    if kind.is_symlink() { "symlink" } else { "file" }
}

/// Whether the git directory `apart` is that of the worktree of `target`.
fn owned(apart: &AbsPath, target: &Target) -> Result<(), Error> {
    let repo = repository::open(apart.as_path())?;
    if releases::owned(&repo, target)? {
        return Ok(());
    }
    let worktree = repo.config_snapshot().string("core.worktree");
    let worktree = worktree.map(|path| apart.as_path().join(OsStr::from_bytes(&path)));
    let same = |found: &Path| {
        let [a, b] = [found, target.site.root().as_path()].map(|path| fs::canonicalize(path).ok());
        a.is_some() && a == b
    };
    match worktree {
        Some(found) if same(&found) => Ok(()),
        worktree => Err(Error::Foreign {
            git_dir: apart.clone(),
            path: target.site.root().clone(),
            worktree,
            setting: match target.site.releases {
                Some(_) => releases::SETTING.join("."),
                None => "core.worktree".into(),
            },
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
