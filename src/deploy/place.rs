//! What is at a target's path: nothing yet, a worktree to adopt, or something that is not ours; and where its git
//! directory is.
//!
//! A clone's git directory appears whole: it is built under another name and renamed once its objects
//! are there. A run killed before leaves only that other name, which the next run removes.
//!
//! A git directory outside of the worktree says in its `core.worktree` whose it is, so that none is taken for
//! another's. Nothing of git is in the worktree then.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::{
    base::{
        descent, durable,
        fault::{Blame, Kind, kind_of_io},
        name::{AbsPath, RefName},
    },
    config::Target,
    git::repository,
};

/// Ends the name under which a clone's git directory is built.
const NEW: &str = ".gitsocket-new";

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
    #[diagnostic(help(
        "empty it, or let the trigger's `path` name another place; if it is one, move its git directory to {}: what is damaged in \
         it is fetched again",
        git_dir.as_ref().map_or_else(|| path.join(".git"), |dir| dir.as_path().into()).display()
    ))]
    Occupied {
        /// The target's path.
        path: PathBuf,
        /// Where its git directory should be, if not in it.
        git_dir: Option<AbsPath>,
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
    /// What should be a git directory is none.
    #[error("the trigger's `git_dir` {path} is a {what}; nothing was touched")]
    #[diagnostic(help("let it name a directory, or a place where nothing is yet"))]
    NotADirectory {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The git directory belongs to another worktree.
    #[error(
        "the git directory {git_dir} belongs to {}, not to {path}; nothing was touched",
        owner(worktree)
    )]
    #[diagnostic(help(
        "let the trigger's `git_dir` name a place where nothing is yet; or, if it is this worktree's, type: \
         git --git-dir={git_dir} config core.worktree {path}"
    ))]
    Foreign {
        /// The git directory.
        git_dir: AbsPath,
        /// The target's path.
        path: AbsPath,
        /// The worktree that it says it belongs to.
        worktree: Option<PathBuf>,
    },
    /// There are two git directories.
    #[error("{path} has a .git, but the trigger's `git_dir` is {git_dir}; nothing was touched")]
    #[diagnostic(help("remove `git_dir`, or move the .git there and set its core.worktree to {path}"))]
    Two {
        /// The target's path.
        path: AbsPath,
        /// The git directory that the configuration names.
        git_dir: AbsPath,
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
            Self::Occupied { .. }
            | Self::Elsewhere { .. }
            | Self::NotADirectory { .. }
            | Self::Foreign { .. }
            | Self::Two { .. } => Kind::Path,
            Self::Io { source, .. } => kind_of_io(source),
            Self::Repository(err) => err.kind(),
        }
    }
}

fn owner(worktree: &Option<PathBuf>) -> String {
    worktree
        .as_ref()
        .map_or_else(|| "no worktree".into(), |path| path.display().to_string())
}

/// Beside a git directory, where it is built: on the same filesystem.
pub fn building_site(git_dir: &Path) -> PathBuf {
    let mut path = git_dir.as_os_str().to_owned();
    path.push(NEW);
    path.into()
}

/// Look at the path of `target`, and remove what a killed clone left. The caller holds the target's lock.
pub fn inspect(target: &Target) -> Result<Place, Error> {
    remove(&building_site(&target.site.git_dir()))?;
    find(target)
}

/// Look at the path of `target`, which is there, and change nothing.
pub fn find(target: &Target) -> Result<Place, Error> {
    let path = target.site.path.as_path();
    let git_dir = target.site.git_dir();
    let dot_git = path.join(".git");
    match (is_there(&dot_git)?, &target.site.git_dir) {
        (None, None) => {}
        (Some(kind), None) if kind.is_dir() => return Ok(Place::Worktree(git_dir)),
        (Some(kind), None) => {
            return Err(Error::Elsewhere {
                path: dot_git,
                what: what(kind),
            });
        }
        (Some(_), Some(apart)) => {
            return Err(Error::Two {
                path: target.site.path.clone(),
                git_dir: apart.clone(),
            });
        }
        (None, Some(apart)) => match is_there(&git_dir)? {
            Some(kind) if !kind.is_dir() => {
                return Err(Error::NotADirectory {
                    path: git_dir,
                    what: what(kind),
                });
            }
            Some(_) if !is_empty_dir(&git_dir) => {
                return owned(apart, target).map(|()| Place::Worktree(git_dir));
            }
            _ => {}
        },
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
            git_dir: target.site.git_dir.clone(),
            example: entry.map_err(failed)?.file_name().to_string_lossy().into_owned(),
        }),
    }
}

fn is_there(path: &Path) -> Result<Option<fs::FileType>, Error> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.file_type())),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            doing: "look at",
            path: path.into(),
            source,
        }),
    }
}

fn what(kind: fs::FileType) -> &'static str {
    if kind.is_symlink() { "symlink" } else { "file" }
}

fn is_empty_dir(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Whether the git directory `apart` is that of the worktree of `target`.
fn owned(apart: &AbsPath, target: &Target) -> Result<(), Error> {
    let repo = repository::open(apart.as_path())?;
    let worktree = repo.config_snapshot().string("core.worktree");
    let worktree = worktree.map(|path| apart.as_path().join(OsStr::from_bytes(&path)));
    let same = |found: &Path| {
        let [a, b] = [found, target.site.path.as_path()].map(|path| fs::canonicalize(path).ok());
        a.is_some() && a == b
    };
    match worktree {
        Some(found) if same(&found) => Ok(()),
        worktree => Err(Error::Foreign {
            git_dir: apart.clone(),
            path: target.site.path.clone(),
            worktree,
        }),
    }
}

/// A clone's git directory while it is built; it is removed again if it is dropped.
#[derive(Debug)]
pub struct Building<'a> {
    target: &'a Target,
    /// Where it is built.
    new: PathBuf,
    repo: gix::Repository,
    done: bool,
}

/// Begin a clone for `target`, whose path is empty.
pub fn build(target: &Target, hash: gix::hash::Kind) -> Result<Building<'_>, Error> {
    let new = building_site(&target.site.git_dir());
    remove(&new)?;
    let config = core_config(target, hash);
    let repo = repository::init(&new, &config).inspect_err(|_| drop(remove(&new)))?;
    Ok(Building {
        target,
        new,
        repo,
        done: false,
    })
}

impl Building<'_> {
    /// The repository as it is so far.
    pub fn repo(&self) -> &gix::Repository {
        &self.repo
    }

    /// Let it appear under its name, configured as `git clone` would have.
    pub fn finish(mut self, branch: Option<&RefName>) -> Result<gix::Repository, Error> {
        let Self {
            target, new, repo, ..
        } = &self;
        let git_dir = target.site.git_dir();
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { doing, path, source }
        };
        let config = core_config(target, repo.object_hash()) + &remote_config(target, branch);
        fs::write(new.join("config"), config).map_err(failed("write the configuration of", new))?;
        if target.site.fsync {
            durable::tree(new).map_err(failed("have on the disk", new))?;
        }
        fs::rename(new, &git_dir).map_err(failed("give its name to", &git_dir))?;
        if target.site.fsync {
            // The worktree's name, too: this may be its first run.
            durable::files([git_dir.as_path(), target.site.path.as_path()])
                .map_err(failed("have on the disk", &git_dir))?;
        }
        self.done = true;
        Ok(repository::open(&git_dir)?)
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is removed by the next run.
            drop(remove(&self.new));
        }
    }
}

fn remove(dir: &Path) -> Result<(), Error> {
    match descent::remove_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io {
            doing: "remove",
            path: dir.into(),
            source,
        }),
        _ => Ok(()),
    }
}

/// What `git init` writes.
fn core_config(target: &Target, hash: gix::hash::Kind) -> String {
    let (version, extension) = match hash {
        gix::hash::Kind::Sha1 => (0, String::new()),
        other => (1, format!("[extensions]\n\tobjectFormat = {other}\n")),
    };
    let worktree = match target.site.git_dir {
        Some(_) => format!("\tworktree = {}\n", quoted(&target.site.path.to_string())),
        None => String::new(),
    };
    format!(
        "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = false\n\
         \tlogallrefupdates = true\n{worktree}{extension}"
    )
}

/// What `git clone` adds. Never a password.
fn remote_config(target: &Target, branch: Option<&RefName>) -> String {
    let url = target.origin.repo.to_string();
    let name = &target.origin.remote;
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
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, Source};

    /// A target for `dir/site`, which is there.
    fn target(dir: &Path, more: &str) -> Arc<Target> {
        fs::create_dir_all(dir.join("site")).unwrap();
        let text = format!("(triggers: {{\"x\": (repo: \"r.git\", path: \"site\", {more})}})");
        let file = dir.join("config.ron");
        let config = Config::parse(&Source { file, text }).unwrap();
        config.triggers["x"].clone()
    }

    #[test]
    fn places() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(dir.path(), "");
        let at = |name: &str| dir.path().join("site").join(name);
        assert_eq!(inspect(&target).unwrap(), Place::Empty);
        let new = at(".git.gitsocket-new");
        fs::create_dir_all(new.join("objects")).unwrap();
        assert_eq!(
            inspect(&target).unwrap(),
            Place::Empty,
            "a killed clone's rest is nothing"
        );
        assert!(!new.exists());

        fs::write(at("mine"), "").unwrap();
        assert!(matches!(inspect(&target), Err(Error::Occupied { .. })));
        fs::write(at(".git"), "gitdir: /elsewhere").unwrap();
        assert!(matches!(inspect(&target), Err(Error::Elsewhere { .. })));
        fs::remove_file(at(".git")).unwrap();
        std::os::unix::fs::symlink("/", at(".git")).unwrap();
        assert!(matches!(inspect(&target), Err(Error::Elsewhere { .. })));
        fs::remove_file(at(".git")).unwrap();
        fs::create_dir(at(".git")).unwrap();
        assert_eq!(inspect(&target).unwrap(), Place::Worktree(at(".git")));
    }

    #[test]
    fn a_git_directory_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(dir.path(), "git_dir: \"lib/x.git\"");
        let git_dir = dir.path().join("lib/x.git");
        assert_eq!(inspect(&target).unwrap(), Place::Empty);
        let repo = build(&target, gix::hash::Kind::Sha1)
            .unwrap()
            .finish(None)
            .unwrap();
        assert_eq!(repo.git_dir(), git_dir);
        assert_eq!(fs::read_dir(dir.path().join("lib")).unwrap().count(), 1);
        assert_eq!(inspect(&target).unwrap(), Place::Worktree(git_dir.clone()));
        // The files are there, or they have all gone.
        let mine = dir.path().join("site/mine");
        fs::write(&mine, "").unwrap();
        assert_eq!(inspect(&target).unwrap(), Place::Worktree(git_dir.clone()));

        let dot_git = dir.path().join("site/.git");
        fs::create_dir(&dot_git).unwrap();
        assert!(matches!(inspect(&target), Err(Error::Two { .. })));
        fs::remove_dir(&dot_git).unwrap();

        let config = git_dir.join("config");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("/site\"", "/other\"")).unwrap();
        let err = inspect(&target).unwrap_err().to_string();
        assert!(
            err.contains("belongs to") && err.contains("/other, not to"),
            "{err}"
        );
        fs::write(&config, "[core]\n\trepositoryformatversion = 0\n").unwrap();
        let err = inspect(&target).unwrap_err().to_string();
        assert!(err.contains("belongs to no worktree"), "{err}");

        fs::remove_dir_all(&git_dir).unwrap();
        let help = crate::base::fault::Failure::of(&inspect(&target).unwrap_err())
            .help
            .unwrap();
        assert!(
            help.contains("move its git directory to") && help.contains("lib/x.git"),
            "{help}"
        );
        fs::write(&git_dir, "").unwrap();
        assert!(matches!(
            inspect(&target),
            Err(Error::NotADirectory { what: "file", .. })
        ));
    }

    #[test]
    fn a_clone_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(dir.path(), "");
        for hash in [gix::hash::Kind::Sha1, gix::hash::Kind::Sha256] {
            let building = build(&target, hash).unwrap();
            assert_eq!(building.repo().object_hash(), hash);
            drop(building);
            assert_eq!(fs::read_dir(dir.path().join("site")).unwrap().count(), 0);
        }
    }
}
