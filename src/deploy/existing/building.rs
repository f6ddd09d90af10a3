//! The git directory of a clone while it is built, inside its final directory, which is locked by then.
//!
//! It is built in `gitsocket/clone` there. Then its entries are moved to their final names one by one, `HEAD` last: without
//! `HEAD`, git sees no repository. A run that is killed in between leaves `gitsocket/clone` and no `HEAD`: so the next run
//! knows that the other entries are from a clone, removes them, and clones again.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

use super::{Error, releases::SETTING};
use crate::{
    base::{descent, durable, fault::if_there, name::RefName},
    config::Target,
    deploy::state,
    git::repository,
};

const SITE: &str = "gitsocket/clone";
const HEAD: &str = "HEAD";
/// The other entries of a clone: in a git directory without `HEAD`, only these can be ours.
const NAMES: [&str; 9] = [
    "config",
    "objects",
    "refs",
    "logs",
    "shallow",
    "packed-refs",
    "info",
    "hooks",
    "gitsocket",
];
/// Directories that a clone leaves empty: files in them are another program's or a user's.
const EMPTY: [&str; 2] = ["info", "hooks"];

/// The files in `gitsocket/` that are ours; all others are a user's.
const KEPT: [&str; 20] = [
    "lock",
    "clone",
    "run.json",
    "state.json",
    "state.json.tmp",
    "tidy.json",
    "tidy.json.new",
    "mixed.json",
    "mixed.json.tmp",
    "shallow.tmp",
    "depth",
    "depth.tmp",
    "cuts",
    "cuts.tmp",
    "changed-files",
    "heal",
    "tmp",
    "releases",
    "releases.json",
    "releases.json.tmp",
];
/// Those that stay while a clone is moved to its place, among them the record of releases, which an earlier clone may have left.
const STAYS: [&str; 5] = ["lock", "clone", "run.json", "releases", "releases.json"];

/// What is in a directory that may be a git directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing, or only files of gitsocket.
    Nothing,
    /// The rest of a killed clone.
    Unfinished,
    /// Files of git or a user.
    Something,
}

/// What is in the directory `git_dir`.
pub(super) fn content(git_dir: &Path) -> Result<Content, Error> {
    if is_there(&git_dir.join(HEAD)) {
        return Ok(Content::Something);
    }
    if is_there(&git_dir.join(SITE)) {
        return Ok(Content::Unfinished);
    }
    let is_empty = entries(git_dir)?.iter().all(|name| name == "gitsocket");
    let is_kept = |name: &OsString| KEPT.iter().any(|kept| name == kept);
    Ok(
        if is_empty && entries(&git_dir.join("gitsocket"))?.iter().all(is_kept) {
            Content::Nothing
        } else {
            Content::Something
        },
    )
}

/// Remove what a killed clone has left in `git_dir`.
pub(super) fn clear(git_dir: &Path) -> Result<(), Error> {
    let names = entries(git_dir)?;
    if let Some(example) = strange(git_dir, &names)? {
        return Err(Error::Beside {
            git_dir: git_dir.into(),
            example,
        });
    }
    for name in names.iter().filter(|name| *name != "gitsocket") {
        remove(&git_dir.join(name))?;
    }
    forget(git_dir)?;
    // Last, since it marks the other entries as those of a clone.
    sweep(git_dir)
}

/// Remove the directory in which the repository at `git_dir` was built, if a killed run has left it.
pub fn sweep(git_dir: &Path) -> Result<(), Error> {
    remove(&git_dir.join(SITE))
}

/// One of `names` in `git_dir`, or a name below, that no clone of ours can have made.
fn strange(git_dir: &Path, names: &[OsString]) -> Result<Option<PathBuf>, Error> {
    for name in names {
        if !NAMES.iter().any(|ours| name == ours) {
            return Ok(Some(name.into()));
        }
        if EMPTY.iter().any(|empty| name == empty) {
            let path = git_dir.join(name);
            if !fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                return Ok(Some(name.into()));
            }
            if let Some(first) = entries(&path)?.first() {
                return Ok(Some(Path::new(name).join(first)));
            }
        }
    }
    // A clone gets branches only after `HEAD`: a directory with branches was a repository before.
    for dir in ["refs/heads", "logs/refs/heads"] {
        if let Some(first) = entries(&git_dir.join(dir))?.first() {
            return Ok(Some(Path::new(dir).join(first)));
        }
    }
    Ok(None)
}

/// A clone that is being built; it is removed again if it is dropped.
#[derive(Debug)]
pub struct Building<'a> {
    target: &'a Target,
    git_dir: PathBuf,
    repo: gix::Repository,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Built,
    /// Some of its entries are in their places.
    Appears,
    Done,
}

/// Begin a clone for `target`, whose path is empty. The caller holds the lock.
pub fn build(target: &Target, hash: gix::hash::Kind) -> Result<Building<'_>, Error> {
    let git_dir = target.site.git_dir();
    let new = git_dir.join(SITE);
    remove(&new)?;
    let config = core_config(target, hash);
    let repo = repository::init(&new, &config).inspect_err(|_| drop(remove(&new)))?;
    Ok(Building {
        target,
        git_dir,
        repo,
        progress: Progress::Built,
    })
}

/// Remove the state of a repository that was here before.
fn forget(git_dir: &Path) -> Result<(), Error> {
    let kept = KEPT.iter().filter(|name| !STAYS.contains(name));
    kept.map(|name| git_dir.join("gitsocket").join(name))
        .try_for_each(|path| remove(&path))
}

impl Building<'_> {
    /// The repository as it is so far.
    pub fn repo(&self) -> &gix::Repository {
        &self.repo
    }

    /// Move it to its place, with the configuration that `git clone` writes.
    pub fn finish(mut self, branch: Option<&RefName>) -> Result<gix::Repository, Error> {
        let new = self.git_dir.join(SITE);
        let fsync = self.target.site.fsync;
        let config = core_config(self.target, self.repo.object_hash()) + &remote_config(self.target, branch);
        fs::write(new.join("config"), config).map_err(failed("write the configuration of", &new))?;
        if fsync {
            durable::tree(&new)
                .and_then(|()| durable::files([new.as_path()]))
                .map_err(failed("flush to the disk", &new))?;
        }
        // A user may have put something there meanwhile.
        let there = entries(&self.git_dir)?;
        if let Some(name) = there.into_iter().find(|name| name != "gitsocket") {
            return Err(Error::Beside {
                git_dir: self.git_dir.clone(),
                example: name.into(),
            });
        }
        forget(&self.git_dir)?;
        state::begin(&self.git_dir, fsync)?;
        self.progress = Progress::Appears;
        let git_dir = &self.git_dir.clone();
        let appear = |name: &OsStr| {
            let to = git_dir.join(name);
            fs::rename(new.join(name), &to).map_err(failed("move a file of the clone to", &to))
        };
        let names = entries(&new)?;
        names
            .iter()
            .filter(|name| *name != HEAD)
            .try_for_each(|name| appear(name))?;
        if fsync {
            durable::dir(git_dir).map_err(failed("flush to the disk", git_dir))?;
        }
        appear(OsStr::new(HEAD))?;
        self.progress = Progress::Done;
        if fsync {
            // The worktree's name, too: this may be its first run.
            durable::files([git_dir.as_path(), self.target.site.root().as_path()])
                .map_err(failed("flush to the disk", git_dir))?;
        }
        // If it stays, a later run removes it.
        fs::remove_dir(&new).ok();
        Ok(repository::open(git_dir)?)
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        // If this fails, the next run removes it.
        drop(match self.progress {
            Progress::Built => sweep(&self.git_dir),
            Progress::Appears => clear(&self.git_dir),
            Progress::Done => Ok(()),
        });
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The names in `dir`; none if it is not a directory.
pub(super) fn entries(dir: &Path) -> Result<Vec<OsString>, Error> {
    let listed = fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    match listed {
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        other => other.map_err(failed("list", dir)),
    }
}

/// Remove the file or directory `path`, if it exists.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    if_there(descent::remove_all(path))
        .map(drop)
        .map_err(failed("remove", path))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path, source }
}

/// What `git init` writes.
fn core_config(target: &Target, hash: gix::hash::Kind) -> String {
    let (version, extension) = match hash {
        gix::hash::Kind::Sha1 => (0, String::new()),
        other => (1, format!("[extensions]\n\tobjectFormat = {other}\n")),
    };
    let path = || quoted(&target.site.path.to_string());
    let bare = target.site.releases.is_some();
    let (worktree, ours) = match target.site.git_dir {
        Some(_) if bare => {
            let [section, name] = SETTING;
            (String::new(), format!("[{section}]\n\t{name} = {}\n", path()))
        }
        Some(_) => (format!("\tworktree = {}\n", path()), String::new()),
        None => Default::default(),
    };
    format!(
        "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = {bare}\n\
         \tlogallrefupdates = true\n{worktree}{extension}{ours}"
    )
}

/// What `git clone` adds, without a password.
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
