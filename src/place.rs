//! What is at a target's path: nothing yet, a worktree to adopt, or something that is not ours.
//!
//! A clone's git directory appears whole: it is built under another name and renamed once its objects
//! are there. A run killed before leaves only that other name, which the next run removes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    config::Target,
    durable,
    fault::{Blame, Kind, kind_of_io},
    name::{AbsPath, RefName},
    repository,
};

/// The name under which a clone's git directory is built.
const NEW: &str = ".git.gitsocket-new";

/// What is at a target's path.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing: clone.
    Empty,
    /// A worktree, with its git directory.
    Worktree(PathBuf),
}

/// A target's path cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// It holds something that is not a git worktree.
    #[error("{path} holds files, such as {example:?}, but is not a git worktree; nothing was touched")]
    #[diagnostic(help("empty it, or let the trigger's `path` name another place"))]
    Occupied {
        /// The target's path.
        path: PathBuf,
        /// One of the names in it.
        example: String,
    },
    /// Its `.git` is a file or a symlink.
    #[error("{path} is a {what}: the git directory is elsewhere; nothing was touched")]
    #[diagnostic(help("deploy to a clone of its own, not to a linked worktree or submodule"))]
    Elsewhere {
        /// The `.git`.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It could not be read or written.
    #[error("cannot {doing} {path}: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to read and write it"))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The git directory could not be made or opened.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Repository(#[from] repository::Error),
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Occupied { .. } | Self::Elsewhere { .. } => Kind::Path,
            Self::Io { source, .. } => kind_of_io(source),
            Self::Repository(err) => err.kind(),
        }
    }
}

/// Look at `path`, and remove what a killed clone left there. The caller holds the target's lock.
pub fn inspect(path: &AbsPath) -> Result<Place, Error> {
    let path = path.as_path();
    remove(&path.join(NEW))?;
    let git_dir = path.join(".git");
    match fs::symlink_metadata(&git_dir) {
        Ok(meta) if meta.is_dir() => return Ok(Place::Worktree(git_dir)),
        Ok(meta) => {
            return Err(Error::Elsewhere {
                path: git_dir,
                what: if meta.is_symlink() { "symlink" } else { "file" },
            });
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(Error::Io {
                doing: "look at",
                path: git_dir,
                source,
            });
        }
    }
    let failed = |source| Error::Io {
        doing: "list",
        path: path.into(),
        source,
    };
    match fs::read_dir(path).map_err(failed)?.next() {
        None => Ok(Place::Empty),
        Some(entry) => Err(Error::Occupied {
            path: path.into(),
            example: entry.map_err(failed)?.file_name().to_string_lossy().into_owned(),
        }),
    }
}

/// A clone's git directory while it is built; it is removed again if it is dropped.
#[derive(Debug)]
pub struct Building {
    path: PathBuf,
    repo: gix::Repository,
    done: bool,
}

/// Begin a clone into `path`, which is empty.
pub fn build(path: &AbsPath, hash: gix::hash::Kind) -> Result<Building, Error> {
    let path = path.as_path().to_owned();
    let new = path.join(NEW);
    remove(&new)?;
    let repo = repository::init(&new, &core_config(hash)).inspect_err(|_| drop(remove(&new)))?;
    Ok(Building {
        path,
        repo,
        done: false,
    })
}

impl Building {
    /// The repository as it is so far.
    pub fn repo(&self) -> &gix::Repository {
        &self.repo
    }

    /// Let it appear as `.git`, configured as `git clone` would have.
    pub fn finish(mut self, target: &Target, branch: Option<&RefName>) -> Result<gix::Repository, Error> {
        let new = self.path.join(NEW);
        let git_dir = self.path.join(".git");
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { doing, path, source }
        };
        let config = core_config(self.repo.object_hash()) + &remote_config(target, branch);
        fs::write(new.join("config"), config).map_err(failed("write the configuration of", &new))?;
        if target.fsync {
            durable::tree(&new).map_err(failed("have on the disk", &new))?;
        }
        fs::rename(&new, &git_dir).map_err(failed("rename to .git", &new))?;
        self.done = true;
        if target.fsync {
            // The worktree's name, too: this may be its first run.
            durable::files([git_dir.as_path(), &self.path]).map_err(failed("have on the disk", &git_dir))?;
        }
        Ok(repository::open(&git_dir)?)
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is removed by the next run.
            drop(remove(&self.path.join(NEW)));
        }
    }
}

fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io {
            doing: "remove",
            path: dir.into(),
            source,
        }),
        _ => Ok(()),
    }
}

/// What `git init` writes.
fn core_config(hash: gix::hash::Kind) -> String {
    let (version, extension) = match hash {
        gix::hash::Kind::Sha1 => (0, String::new()),
        other => (1, format!("[extensions]\n\tobjectFormat = {other}\n")),
    };
    format!(
        "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = false\n\
         \tlogallrefupdates = true\n{extension}"
    )
}

/// What `git clone` adds. Never a password.
fn remote_config(target: &Target, branch: Option<&RefName>) -> String {
    let url = target.repo.to_string();
    let name = &target.remote;
    let mut out = format!(
        "[remote {}]\n\turl = {}\n\tfetch = +refs/heads/*:refs/remotes/{name}/*\n",
        quoted(name.as_str()),
        quoted(&url)
    );
    if let Some(branch) = branch {
        out += &format!(
            "[branch {}]\n\tremote = {}\n\tmerge = {}\n",
            quoted(branch.short()),
            quoted(name.as_str()),
            quoted(branch.as_str())
        );
    }
    out
}

/// A value or subsection in the syntax of git-config(1).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abs(path: &Path) -> AbsPath {
        AbsPath::resolve(Path::new("/"), path).unwrap()
    }

    #[test]
    fn places() {
        let dir = tempfile::tempdir().unwrap();
        let path = abs(dir.path());
        assert_eq!(inspect(&path).unwrap(), Place::Empty);
        fs::create_dir_all(dir.path().join(NEW).join("objects")).unwrap();
        assert_eq!(
            inspect(&path).unwrap(),
            Place::Empty,
            "a killed clone's rest is nothing"
        );
        assert!(!dir.path().join(NEW).exists());

        fs::write(dir.path().join("mine"), "").unwrap();
        assert!(matches!(inspect(&path), Err(Error::Occupied { .. })));
        fs::write(dir.path().join(".git"), "gitdir: /elsewhere").unwrap();
        assert!(matches!(inspect(&path), Err(Error::Elsewhere { .. })));
        fs::remove_file(dir.path().join(".git")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join(".git")).unwrap();
        assert!(matches!(inspect(&path), Err(Error::Elsewhere { .. })));
        fs::remove_file(dir.path().join(".git")).unwrap();
        fs::create_dir(dir.path().join(".git")).unwrap();
        assert!(matches!(inspect(&path), Ok(Place::Worktree(_))));
    }

    #[test]
    fn a_clone_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for hash in [gix::hash::Kind::Sha1, gix::hash::Kind::Sha256] {
            let building = build(&abs(dir.path()), hash).unwrap();
            assert_eq!(building.repo().object_hash(), hash);
            drop(building);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
