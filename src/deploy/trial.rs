//! Checks what a run of a trigger needs of this machine, before there is a run. Nothing is locked or sent, and nothing is written
//! except some temporary directories, where directories are to be exchanged.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    existing, group, hook,
    release::{self, exchange},
    target_dirs::TargetDirs,
};
use crate::{
    base::{
        access,
        fault::{Blame, Failure, Kind, one_line},
        name::RunId,
    },
    config::{Hook, Live, Site, Target},
    git::transport::{self, Unusable},
};

/// A path of a trigger cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum Error {
    /// It exists, but cannot be written.
    #[error("{path} cannot be written: {source}")]
    #[diagnostic(help("{}", help_write(source)))]
    Write { path: PathBuf, source: io::Error },
    /// It does not exist, and cannot be made.
    #[error("{path} does not exist, and cannot be made in {above}: {source}")]
    #[diagnostic(help("{}", help_write(source)))]
    Make {
        path: PathBuf,
        /// The nearest parent that exists.
        above: PathBuf,
        source: io::Error,
    },
    /// It cannot be looked at.
    #[error("cannot look at {path}: {source}")]
    #[diagnostic(help(
        "the user that gitsocket runs as must be able to enter the directories that it is in"
    ))]
    Look { path: PathBuf, source: io::Error },
    /// Its file system cannot exchange directories.
    #[error("two directories in {path} cannot be exchanged, which live: Exchange({live:?}) needs: {source}")]
    #[diagnostic(help(
        "write live: Symlink({live:?}), or let `path` name a place on ext4, XFS, Btrfs or tmpfs"
    ))]
    Exchange {
        path: PathBuf,
        /// The name of what is live.
        live: String,
        source: io::Error,
    },
    /// The releases are on another file system.
    #[error(
        "a directory in {path} cannot be moved to {releases}, which live: Exchange({live:?}) needs: {source}"
    )]
    #[diagnostic(help(
        "mount nothing there, so that both are on one file system; or write live: Symlink({live:?})"
    ))]
    Apart {
        path: PathBuf,
        releases: PathBuf,
        /// The name of what is live.
        live: String,
        source: io::Error,
    },
    /// The repository to fetch from cannot be read.
    #[error("the repository {path} cannot be read: {source}")]
    #[diagnostic(help("it must be there, and readable for the user that gitsocket runs as"))]
    Source { path: PathBuf, source: io::Error },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Source { .. } => Kind::Remote,
            _ => Kind::Path,
        }
    }
}

fn help_write(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount its file system for writing; in a systemd unit, name it in ReadWritePaths="
        }
        _ => "make it, and let it belong to the user that gitsocket runs as",
    }
}

/// What a run of `target` in this process could not use. `target_dirs` are the directories of all targets.
pub fn unusable(target: &Target, target_dirs: &TargetDirs) -> Vec<Unusable> {
    let mut found = transport::unusable(&target.origin);
    found.extend(source(target).map(|failure| ("repo", failure)));
    match target_dirs.links().look(target) {
        Ok(()) => found.extend(of_site(target)),
        Err(planted) => found.push(("path", Failure::of(&planted))),
    }
    let hooks = target.hooks.iter().map(|hook| ("hooks", hook));
    let asked = target.asked().map(|hook| ("health", hook));
    let programs = hooks.chain(asked);
    found.extend(programs.filter_map(|(field, hook)| Some((field, program(hook, target)?))));
    found
}

fn source(target: &Target) -> Option<Failure> {
    let path = target.origin.repo.local_path()?.as_path();
    let source = access::list(path).err()?;
    let path = path.into();
    Some(Failure::of(&Error::Source { path, source }))
}

fn of_site(target: &Target) -> Vec<Unusable> {
    let site = &target.site;
    let mut found = Vec::new();
    let mut add = |field, tried: Result<(), Error>| {
        found.extend(tried.err().map(|err| (field, Failure::of(&err))));
    };
    add("path", directory(site.root().as_path()));
    let field = if site.git_dir.is_some() { "git_dir" } else { "path" };
    let git_dir = site.git_dir();
    if site.git_dir.is_some() || git_dir.exists() {
        add(field, directory(&git_dir));
    }
    add(field, lock(site));
    if !found.is_empty() {
        return found;
    }
    if let Err(err) = group::rights(site, 0) {
        found.push(("group", Failure::of(&err)));
    }
    if let Err(err) = existing::find(target) {
        found.push((field, Failure::of(&err)));
    } else if let Err(err) = exchanged(site) {
        found.push(("releases", Failure::of(&err)));
    }
    found
}

/// Whether releases can become live in the configured way.
fn exchanged(site: &Site) -> Result<(), Error> {
    let Some(Live::Exchange(live)) = site.releases.as_ref().map(|releases| &releases.live) else {
        return Ok(());
    };
    let path = site.root().as_path();
    // A name of its own: a run may try it at the same time.
    let own = format!(".gitsocket-check-{}", RunId::new());
    exchange::tried(path, &own).map_err(|source| Error::Exchange {
        path: path.into(),
        live: live.clone(),
        source,
    })?;
    exchange::moves(path, release::DIR, &own).map_err(|source| Error::Apart {
        path: path.into(),
        releases: path.join(release::DIR),
        live: live.clone(),
        source,
    })
}

/// Whether the directory `path` can be written, or made.
fn directory(path: &Path) -> Result<(), Error> {
    let mut above = path;
    let meta = loop {
        match (fs::metadata(above), above.parent()) {
            (Ok(meta), _) => break meta,
            (Err(err), Some(parent)) if err.kind() == io::ErrorKind::NotFound => above = parent,
            (Err(source), _) => {
                let path = path.into();
                return Err(Error::Look { path, source });
            }
        }
    };
    match access::fill(above) {
        // `existing` reports a path that is not a directory.
        _ if !meta.is_dir() => Ok(()),
        Ok(()) => Ok(()),
        Err(source) if above == path => Err(Error::Write {
            path: path.into(),
            source,
        }),
        Err(source) => Err(Error::Make {
            path: path.into(),
            above: above.into(),
            source,
        }),
    }
}

/// A lock file of another user, such as one from a run as the wrong user, blocks each run.
fn lock(site: &Site) -> Result<(), Error> {
    let path = site.lock_file();
    match access::edit(&path) {
        Err(source) if path.exists() => Err(Error::Write { path, source }),
        _ => Ok(()),
    }
}

/// Why the program of `hook` cannot be started, as far as that can be seen.
fn program(hook: &Hook, target: &Target) -> Option<Failure> {
    let Hook::Exec { run, user_env, .. } = hook else {
        return None;
    };
    let name = run.first()?;
    let source = if name.contains('/') {
        access::execute(name.as_ref()).err()?
    } else {
        find(name, user_env.get("PATH").map(OsString::from)).err()?
    };
    // A deploy writes it.
    if source.kind() == io::ErrorKind::NotFound && Path::new(name).starts_with(target.site.root().as_path()) {
        return None;
    }
    let hook = one_line(name);
    Some(Failure::of(&hook::Error::Start { hook, source }))
}

/// The search path without PATH, see execvp(3).
const PATH: &str = "/bin:/usr/bin";

fn find(name: &str, path: Option<OsString>) -> io::Result<()> {
    let path = path
        .or_else(|| env::var_os("PATH"))
        .unwrap_or_else(|| PATH.into());
    let mut found = env::split_paths(&path).map(|dir| access::execute(&dir.join(name)));
    if found.any(|tried| tried.is_ok()) {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}
