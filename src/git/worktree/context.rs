//! What all steps of one update share: what was asked for, the repository, and the way to its files.

use std::{
    ffi::OsStr,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use gix::bstr::{BStr, BString};

use super::{Cache, Error, dirs, others::Known, rules};
use crate::{
    base::{
        identity::Identity,
        name::AbsPath,
        report::{Action, Local, Phase, Report, Reporter, Unit},
        rights::Rights,
    },
    git::{begin::Begin, worktree::Clean},
};

/// How to update.
#[derive(Debug)]
pub struct Options<'a> {
    pub root: &'a AbsPath,
    pub index: &'a Path,
    pub clean: Clean,
    /// gitignore patterns of what is never removed.
    pub keep: &'a [String],
    /// The largest file, in bytes.
    pub max_blob: u64,
    pub rights: Rights,
    /// Report what would be done, and do nothing.
    pub dry_run: bool,
    /// What this process knows of worktrees. Nothing of it is needed.
    pub cache: &'a Cache,
    /// The worktree is not the live one.
    pub apart: Option<Apart<'a>>,
    pub begin: Begin<'a>,
    /// Progress, warnings, and the changes of a dry run.
    pub report: &'a Reporter,
    /// Set when the run's time is over: an update that has not changed anything by then does not begin to.
    pub over: &'a AtomicBool,
}

/// A tree that is made, or looked at, apart from the live one: what is half done in it needs no mark.
#[derive(Debug, Clone, Copy)]
pub struct Apart<'a> {
    /// The directory, however it is called now.
    pub dir: BorrowedFd<'a>,
    /// Tracked paths, in ascending order, that are left as they are, with all below them.
    pub leave: &'a [BString],
    /// What the index has and the commit lacks stays: a program may have staged what it has made.
    pub keeps_rest: bool,
}

impl Options<'_> {
    /// Whether what is tracked at `path` is left as it is.
    pub(super) fn leaves(&self, path: &BStr) -> bool {
        let Some(Apart {
            leave: leave @ [_, ..],
            ..
        }) = self.apart
        else {
            return false;
        };
        let is_left = |path: &BStr| leave.binary_search_by(|left| left.as_slice().cmp(path)).is_ok();
        is_left(path) || dirs::parents(path).any(is_left)
    }

    pub(super) fn path(&self, path: &BStr) -> PathBuf {
        self.root.as_path().join(OsStr::from_bytes(path))
    }

    pub(super) fn failed(&self, action: &'static str, path: &BStr, err: std::io::Error) -> Error {
        Error::file(action, self.path(path), err)
    }

    /// In a dry run: say what would be done.
    pub(super) fn would(&self, action: Action, path: &BStr, local: Option<Local>) {
        self.report.emit(Report::Change {
            action,
            path: path.to_string(),
            local,
        });
    }
}

/// What all steps of one update share.
pub(super) struct Context<'a> {
    pub(super) repo: &'a gix::Repository,
    pub(super) options: &'a Options<'a>,
    pub(super) dirs: dirs::Dirs,
    pub(super) rules: rules::Rules,
    /// The git directory, wherever it is: never removed.
    pub(super) protected: Vec<Identity>,
    /// Those of them that are not `.git` in the root, which no tree has a path into.
    pub(super) elsewhere: Vec<Identity>,
    /// Where others are at work: never written to, nor removed.
    pub(super) others: Arc<Known>,
}

impl<'a> Context<'a> {
    pub(super) fn new(repo: &'a gix::Repository, options: &'a Options<'a>) -> Result<Self, Error> {
        let root = options.root.as_path();
        let opened = match options.apart {
            Some(Apart { dir, .. }) => dirs::Dirs::within(dir, options.rights),
            None => dirs::Dirs::open(root, options.rights),
        };
        let mut dirs = opened.map_err(|err| Error::file("open the worktree", root.into(), err))?;
        let mut protected = Vec::new();
        for git_dir in [repo.git_dir(), repo.common_dir()] {
            protected.extend(dirs::identity(git_dir));
        }
        let dot_git = dirs
            .get("".into())
            .and_then(|root| root.map_or(Ok(None), |root| dirs::meta(root, ".git".into())));
        // Nothing of git's is in a tree that is cleaned of everything but what some program has put there.
        let dot_git = dot_git
            .ok()
            .flatten()
            .filter(|_| options.clean != Clean::Everything);
        let dot_git = dot_git.map(|meta| meta.identity);
        let elsewhere = protected.iter().copied().filter(|id| Some(*id) != dot_git);
        let elsewhere = elsewhere.collect();
        protected.extend(dot_git);
        Ok(Self {
            repo,
            options,
            dirs,
            rules: rules::Rules::new(repo, root, options.clean, options.keep)?,
            protected,
            elsewhere,
            others: options.cache.others().known(),
        })
    }

    /// Whether a directory is the git directory, or where others are at work.
    pub(super) fn is_protected(&self, dir: &Identity) -> bool {
        self.protected.contains(dir) || self.others.has(dir)
    }

    /// Before a change, as often as one likes.
    pub(super) fn begin(&self) -> std::io::Result<()> {
        if self.options.dry_run {
            Ok(())
        } else {
            self.options.begin.begin()
        }
    }

    pub(super) fn failed(&self, action: &'static str, path: &BStr, err: std::io::Error) -> Error {
        self.options.failed(action, path, err)
    }
}

/// Lets an event pass ten times a second.
#[derive(Default)]
pub(super) struct Throttle(Option<Instant>);

impl Throttle {
    pub(super) fn report(&mut self, options: &Options<'_>, done: usize, total: usize) {
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
