//! A commit becomes the files of the worktree, exactly as `git reset --hard` and `git clean -df` would leave them.
//!
//! Straight on: the tree is checked and compared with the index (`plan`), that with the files, in one walk of several
//! threads (`scan`, `walk`), what cannot succeed is refused (`obstacles`), and only then is anything changed: deletions
//! (`delete`), files (`apply`, `file`), untracked files (`clean`), the index (`stored`). A run that is killed anywhere is
//! finished by the next one, because the index is last and is not believed where files differ. What cannot be done in
//! spite of all does not stop the rest: it is `left`, the index says so, and the update is an error.
//!
//! Nothing outside of the worktree is ever written or deleted (`dirs`), nothing is ever executed (`content`).
//! This room does not know where commits come from, and leaves refs alone.
//!
//! Where it differs from git on purpose:
//! - A directory that was moved away and replaced by a link to it is restored; git takes the files for unchanged.
//! - Bits that make git overlook files (assume-unchanged, skip-worktree) do not survive: every file is written.
//! - `.gitattributes` counts as the commit has it, never as an untracked file of that name.
//! - External filters never run, not even those of the repository's own configuration.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use gix::bstr::{BStr, ByteSlice};

use self::{left::Left, memory::Remembered};
use crate::{
    base::{
        name::AbsPath,
        report::{Action, Mixed, Phase, Report, Reporter, Unit},
    },
    git::begin::Begin,
};

mod apply;
mod attributes;
mod bulk;
mod clean;
mod content;
mod delete;
mod dirs;
mod encoding;
mod error;
mod file;
mod ident;
mod left;
mod listing;
mod memory;
mod mixed;
mod nested;
mod notice;
mod obstacles;
mod outline;
mod outside;
mod plan;
mod room;
mod rules;
mod scan;
mod stored;
mod threads;
mod walk;

pub use error::Error;
pub use memory::Memory;
pub use mixed::mixed;

/// What is removed besides the tracked files that vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clean {
    /// Untracked files and directories that are not ignored, as `git clean -df` does.
    Untracked,
    /// Ignored ones too, as `git clean -dfx` does.
    All,
    /// Nothing.
    Nothing,
}

/// How to update.
#[derive(Debug)]
pub struct Options<'a> {
    /// The worktree.
    pub root: &'a AbsPath,
    /// What to remove besides tracked files.
    pub clean: Clean,
    /// gitignore patterns of what is never removed.
    pub keep: &'a [String],
    /// The largest file, in bytes.
    pub max_blob: u64,
    /// Permission bits that new files and directories do not get.
    pub umask: u32,
    /// Report what would be done, and do nothing.
    pub dry_run: bool,
    /// What this process knows of worktrees. Nothing of it is needed.
    pub memory: &'a Memory,
    /// Called before anything is changed.
    pub begin: Begin<'a>,
    /// Progress, warnings, and the changes of a dry run.
    pub report: &'a Reporter,
    /// Set when the run's time is over: an update that has not changed anything by then does not begin to.
    pub over: &'a AtomicBool,
}

impl Options<'_> {
    fn path(&self, path: &BStr) -> PathBuf {
        self.root.as_path().join(OsStr::from_bytes(path))
    }

    fn failed(&self, action: &'static str, path: &BStr, err: std::io::Error) -> Error {
        Error::file(action, self.path(path), err)
    }

    /// In a dry run: say what would be done.
    fn would(&self, action: Action, path: &BStr) {
        self.report.emit(Report::Change {
            action,
            path: path.to_string(),
        });
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Files written.
    pub written: u64,
    /// Tracked files deleted.
    pub deleted: u64,
    /// Untracked files and directories removed; a directory counts once.
    pub cleaned: u64,
    /// An earlier update had left the worktree half done.
    pub finished_another: bool,
}

/// Make the worktree and the index equal to the tree of `commit`.
///
/// The caller holds the lock of the target, and has removed an `index.lock` that a dead run left.
pub fn update(
    repo: &gix::Repository,
    commit: gix::ObjectId,
    options: &Options<'_>,
) -> Result<Outcome, Error> {
    let root = options.root.as_path();
    let mut known = match options.dry_run {
        true => Remembered::default(),
        false => options.memory.take(root, &repo.index_path()),
    };
    let old = known.index.take().unwrap_or_else(|| stored::Stored::read(repo));
    let plan = plan::tree(repo, commit, &old)?;
    known.forget_parents(plan.delete.iter().map(|gone| gone.path.as_bstr()));
    let mut cx = Context::new(repo, options)?;
    let (found, needed) = scan::compare(&mut cx, &old, &plan.index, &known.tidy)?;
    needed.check(&cx, &plan, &old)?;
    let attributes = match found.checks.is_empty() {
        true => outside::Rules::default(),
        false => outside::Rules::read(repo, root, &outside::ATTRIBUTES)?,
    };
    obstacles::check(&mut cx, &plan, &found, &old, &attributes)?;
    if options.over.load(Ordering::Relaxed) {
        return Err(Error::Over);
    }

    if plan.is_new() || !plan.delete.is_empty() || !found.checks.is_empty() {
        let begun = cx.begin();
        begun.map_err(|err| Error::file("begin to change", root.into(), err))?;
    }
    // From here on files change. Until the index is written, it tells of files as they were:
    // a run killed here leaves files that the next one finds different, and looks at.
    let mut left = Left::default();
    let mut done = Outcome {
        deleted: delete::delete(&mut cx, &plan.delete, &mut left),
        ..Outcome::default()
    };
    let written = apply::write(&mut cx, &found, &old, &plan.index, &attributes, &mut left);
    done.written = written.count;
    if !left.lacks_rules() {
        let (cleaned, trouble) = clean::clean(&mut cx, &found.untracked, &old, &plan.index);
        done.cleaned = cleaned;
        if let Some(err) = trouble {
            left.not_cleaned(root, err)?;
        }
    }
    let is_stale = plan.is_new()
        || !written.stats.is_empty()
        || !left.is_empty()
        || apply::settles_races(&found, &old, &plan.index);
    let index = match is_stale && !options.dry_run {
        true => {
            let mut index = plan.index.into_owned();
            for (entry, stat) in written.stats {
                index.entries_mut()[entry].stat = stat;
            }
            left.mark(&old, &mut index);
            stored::write(repo, index)
        }
        false => {
            drop(plan);
            Ok(old)
        }
    };
    if options.dry_run {
        return left.into_error(commit, options).map_or(Ok(done), Err);
    }
    let names = left.names();
    match (left.into_error(commit, options), index) {
        (None, Ok(index)) => {
            let tidy = found.tidy.into_iter().collect();
            let index = Some(index);
            options.memory.put(root, Remembered { index, tidy });
            done.finished_another = mixed::clear(repo.git_dir());
            Ok(done)
        }
        // A disk that is full has no room for an index either.
        (Some(err), _) | (None, Err(err)) => {
            mark_mixed(repo, commit, names, options);
            Err(err)
        }
    }
}

/// Let it be known that the files are not those of any one commit, or are not yet known to be.
fn mark_mixed(
    repo: &gix::Repository,
    commit: gix::ObjectId,
    (left, more): (Vec<String>, u64),
    options: &Options<'_>,
) {
    let commit = commit.to_string();
    if let Err(err) = mixed::mark(repo.git_dir(), &Mixed { commit, left, more }) {
        let what = "cannot mark the worktree as half updated, for `gitsocket status`";
        options.report.warn(format!("{what}: {err}"));
    }
}

/// What all steps of one update share.
struct Context<'a> {
    repo: &'a gix::Repository,
    options: &'a Options<'a>,
    dirs: dirs::Dirs,
    rules: rules::Rules,
    /// The git directory, wherever it is: never removed.
    protected: Vec<dirs::Inode>,
    /// Those of them that are not `.git` in the root, which no tree has a path into.
    elsewhere: Vec<dirs::Inode>,
}

impl<'a> Context<'a> {
    fn new(repo: &'a gix::Repository, options: &'a Options<'a>) -> Result<Self, Error> {
        let root = options.root.as_path();
        let mut dirs = dirs::Dirs::open(root, options.umask)
            .map_err(|err| Error::file("open the worktree", root.into(), err))?;
        let mut protected = Vec::new();
        for git_dir in [repo.git_dir(), repo.common_dir()] {
            protected.extend(dirs::inode(git_dir));
        }
        let dot_git = dirs
            .get("".into())
            .and_then(|root| root.map_or(Ok(None), |root| dirs::meta(root, ".git".into())));
        let dot_git = dot_git.ok().flatten().map(|meta| meta.inode);
        let elsewhere = protected.iter().copied().filter(|inode| Some(*inode) != dot_git);
        let elsewhere = elsewhere.collect();
        protected.extend(dot_git);
        Ok(Self {
            repo,
            options,
            dirs,
            rules: rules::Rules::new(repo, root, options.clean, options.keep)?,
            protected,
            elsewhere,
        })
    }

    /// Before a change, as often as one likes.
    fn begin(&self) -> std::io::Result<()> {
        match self.options.dry_run {
            true => Ok(()),
            false => self.options.begin.begin(),
        }
    }

    fn failed(&self, action: &'static str, path: &BStr, err: std::io::Error) -> Error {
        self.options.failed(action, path, err)
    }
}

/// Lets an event pass ten times a second.
#[derive(Default)]
struct Throttle(Option<Instant>);

impl Throttle {
    fn report(&mut self, options: &Options<'_>, done: usize, total: usize) {
        if self.is_due() {
            options.report.emit(Report::Progress {
                phase: Phase::Checkout,
                done: done as u64,
                total: Some(total as u64),
                unit: Unit::Files,
            });
        }
    }

    fn is_due(&mut self) -> bool {
        let is_due = self
            .0
            .is_none_or(|last| last.elapsed() >= Duration::from_millis(100));
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stderr)]
mod tests;
