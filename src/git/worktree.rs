//! A commit becomes the files of the worktree, exactly as `git reset --hard` and `git clean -df` would leave them.
//!
//! Straight on: the tree is checked and compared with the index (`plan`), that with the files, in one walk of several
//! threads (`scan`, `walk`), what cannot succeed is refused (`obstacles`), and only then is anything changed: deletions
//! (`delete`), files (`apply`, `file`), untracked files (`clean`), the index (`stored`). What goes and is nowhere else is
//! named (`local`). A run that is killed anywhere is
//! finished by the next one, because the index is last and is not believed where files differ. What cannot be done in
//! spite of all does not stop the rest: it is `left`, the index says so, and the update is an error.
//!
//! Nothing outside of the worktree is ever written or deleted (`dirs`), nothing is ever executed (`content`).
//! This module does not know where commits come from, and leaves refs alone.
//!
//! Where it differs from git on purpose:
//! - A directory that was moved away and replaced by a link to it is restored; git takes the files for unchanged. So is
//!   that of a submodule, for which git takes any directory that a link leads to.
//! - Bits that make git overlook files (assume-unchanged, skip-worktree) do not survive: every file is written.
//! - `.gitattributes` counts as the commit has it, never as an untracked file of that name.
//! - External filters never run, not even those of the repository's own configuration.
//! - An encoding that git knows and `encoding` does not, or a character that the two may encode differently, is refused.
//! - `core.ignoreCase` counts as false, `core.protectHFS` and `core.protectNTFS` as true.
//! - `keep` is read as a line of a `.gitignore`: blanks at its end do not count, as they would for `git clean -e`.

use std::{
    borrow::Cow,
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
};

use gix::{bstr::ByteSlice, index::entry::Stat};

use self::{
    attributes::Sources, cache::Remembered, context::Context, left::Left, local::Base, plan::Plan,
    stored::Stored, walk::Found,
};
use crate::{
    base::{
        mutex,
        report::{Lost, Mixed, Report, Reporter},
    },
    git::refs,
};

mod altered;
mod apply;
mod attributes;
mod bulk;
mod cache;
mod clean;
mod content;
mod context;
mod delete;
mod dirs;
mod encoding;
mod error;
mod file;
mod ident;
mod ignored;
mod keep;
mod left;
mod listing;
mod local;

mod mixed;
mod names;
mod nested;
mod notice;
mod obstacles;
mod others;
mod outline;
mod outside;
mod plan;
mod rules;
mod scan;
mod space;
mod stored;
mod threads;
mod walk;
mod worker;

pub use altered::{Altered, altered, changed};
pub use cache::Cache;
pub use context::{Apart, Options};
pub use error::Error;
pub use mixed::mixed;
pub use others::Others;

/// What is removed besides the tracked files that vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clean {
    /// Untracked files and directories that are not ignored, as `git clean -df` does.
    Untracked,
    /// Ignored ones too, as `git clean -dfx` does.
    All,
    /// All that is not tracked, repositories of their own, too, and whatever `keep` says: for a tree that is ours alone.
    Everything,
    Nothing,
}

/// What an update did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    pub written: u64,
    pub deleted: u64,
    /// Untracked files and directories removed; a directory counts once.
    pub cleaned: u64,
    /// An earlier update had left the worktree half done.
    pub finished_another: bool,
    /// What was lost: it was nowhere else.
    pub lost: Lost,
    /// The disk usage of the tracked files, in bytes.
    pub bytes: u64,
}

/// Make the worktree and the index equal to the tree of `commit`.
///
/// The caller holds the lock of the target, and has removed an `index.lock` that a dead run left.
pub fn update(
    repo: &gix::Repository,
    commit: gix::ObjectId,
    options: &Options<'_>,
) -> Result<Outcome, Error> {
    update_from(repo, (commit, Whose::Ours), options)
}

/// What an update to `commit` would take that is nowhere else, where others than this program have been at work, on top of
/// `head`. Nothing is changed.
pub fn losses(
    repo: &gix::Repository,
    (head, commit): (Option<gix::ObjectId>, gix::ObjectId),
    options: &Options<'_>,
) -> Result<Lost, Error> {
    let met = Arc::new(Mutex::new((Lost::default(), HashSet::new())));
    let report = Reporter::new({
        let met = met.clone();
        move |report| {
            if let Report::Change {
                path,
                local: Some(local),
                ..
            } = report
            {
                let (lost, paths) = &mut *mutex::lock(&met);
                // Of a directory.
                let path = path.strip_suffix('/').map_or(path.clone(), str::to_owned);
                lost.note(local, path.clone());
                paths.insert(path);
            }
        }
    });
    let options = Options {
        dry_run: true,
        report: &report,
        ..*options
    };
    update_from(repo, (commit, Whose::Others(head)), &options)?;
    let (mut lost, paths) = std::mem::take(&mut *mutex::lock(&met));
    let old = Stored::read(options.index, repo.object_hash());
    if old.may_have_staged() {
        let (head, new) = (tree_of(repo, head, &old)?, tree_of(repo, Some(commit), &old)?);
        let mut cx = Context::new(repo, &options)?;
        for (local, path) in local::only_staged(&mut cx, &old, (&head, &new)) {
            if !paths.contains(&path.to_string()) {
                lost.note(local, path);
            }
        }
    }
    Ok(lost)
}

/// The files of a commit; none, if there is none.
fn tree_of<'o>(
    repo: &gix::Repository,
    commit: Option<gix::ObjectId>,
    old: &'o Stored,
) -> Result<Cow<'o, gix::index::State>, Error> {
    match commit {
        Some(commit) => Ok(plan::tree(repo, commit, old)?.index),
        None => Ok(Cow::Owned(stored::empty(old))),
    }
}

/// Who has written files and index, as far as that is known.
enum Whose {
    Ours,
    /// Other programs, on top of that commit.
    Others(Option<gix::ObjectId>),
}

fn update_from(
    repo: &gix::Repository,
    (commit, whose): (gix::ObjectId, Whose),
    options: &Options<'_>,
) -> Result<Outcome, Error> {
    let root = options.root.as_path();
    let (mut known, old) = known(repo, options);
    let mut plan = plan::tree(repo, commit, &old)?;
    if options.apart.is_some_and(|apart| apart.keeps_rest) {
        plan.delete.clear();
    }
    known.forget_parents(plan.delete.iter().map(|gone| gone.path.as_bstr()));
    let mut cx = Context::new(repo, options)?;
    let (found, needed) = scan::compare(&mut cx, &old, &plan.index, &known.quiet)?;
    needed.check(&cx, &plan, &old)?;
    open_up(&mut cx, &found)?;
    let head = head_of(&whose, repo, (&old, &plan), &found)?;
    let base = Base {
        index: head.as_deref().unwrap_or(&old.index),
        old: &old,
        is_foreign: head.is_some(),
        heeds_mode: repo.config_snapshot().boolean("core.fileMode").unwrap_or(true),
    };
    let changes = !found.checks.is_empty() || !plan.delete.is_empty();
    let attributes = if changes {
        let outside = outside::Rules::read(repo, root, &outside::ATTRIBUTES)?;
        Sources::of(&plan.index, found.paths(&plan.index), outside)
    } else {
        Sources::default()
    };
    obstacles::check(&mut cx, &plan, &found, &base, &attributes)?;
    if options.over.load(Ordering::Relaxed) {
        return Err(Error::Over);
    }

    if plan.is_new() || changes {
        let begun = cx.begin();
        begun.map_err(|err| Error::file("begin to change", root.into(), err))?;
    }
    // From here on files change. Until the index is written, it tells of files as they were:
    // a run killed here leaves files that the next one finds different, and looks at.
    let (mut done, stats, left) = change(&mut cx, &plan, &found, &base, &attributes)?;
    drop(head);
    if options.dry_run {
        return left.into_error(commit, options).map_or(Ok(done), Err);
    }
    let is_stale = plan.is_new()
        || !stats.is_empty()
        || !left.is_empty()
        || apply::settles_races(&found, &old, &plan.index);
    let index = if is_stale {
        write_index(options.index, plan, stats, &left, &old)
    } else {
        drop(plan);
        Ok(old)
    };
    let names = left.names();
    match (left.into_error(commit, options), index) {
        (None, Ok(index)) => {
            let quiet = found.quiet.into_iter().collect();
            done.bytes = index.files_bytes();
            let index = Some(index);
            options.cache.put(root, Remembered { index, quiet });
            done.finished_another = mixed::clear(repo.git_dir()) && options.apart.is_none();
            Ok(done)
        }
        // A disk that is full has no room for an index either.
        (Some(err), _) | (None, Err(err)) if options.apart.is_some() => Err(err),
        (Some(err), _) | (None, Err(err)) => {
            mark_mixed(repo, commit, names, options);
            Err(err.with(&done.lost))
        }
    }
}

/// Let directories of a tree that is ours alone have what new ones get.
fn open_up(cx: &mut Context<'_>, found: &Found) -> Result<(), Error> {
    for path in &found.modes {
        let rights = cx.options.rights;
        let opened = cx.dirs.get(path.as_bstr()).and_then(|dir| match dir {
            Some(dir) => rights.settle(dir),
            None => Ok(()),
        });
        opened.map_err(|err| cx.failed("set permissions and group of", path.as_bstr(), err))?;
    }
    Ok(())
}

/// What is remembered of the worktree, and its index.
fn known(repo: &gix::Repository, options: &Options<'_>) -> (Remembered, Stored) {
    let mut known = if options.dry_run {
        Remembered::default()
    } else {
        options.cache.take(options.root.as_path(), options.index)
    };
    let index = known.index.take();
    let index = index.unwrap_or_else(|| Stored::read(options.index, repo.object_hash()));
    (known, index)
}

/// The files of the commit that others may have worked on top of; nothing if only we have.
fn head_of<'o>(
    whose: &Whose,
    repo: &gix::Repository,
    (old, plan): (&'o Stored, &Plan<'_>),
    found: &Found,
) -> Result<Option<Cow<'o, gix::index::State>>, Error> {
    match whose {
        // What was staged is compared as what others have written; if something is left of an update, that is not known.
        Whose::Ours => {
            if old.may_have_staged()
                && (!found.checks.is_empty() || !plan.delete.is_empty())
                && mixed(repo.git_dir()).is_none()
            {
                Ok(tree_of(repo, refs::head(repo), old).ok())
            } else {
                Ok(None)
            }
        }
        Whose::Others(head) => tree_of(repo, *head, old).map(Some),
    }
}

/// Stat data that entries of the new index get.
type Stats = Vec<(usize, Stat)>;

/// Delete, write and clean. What cannot be done is left, and does not stop the rest.
fn change(
    cx: &mut Context<'_>,
    plan: &Plan<'_>,
    found: &Found,
    base: &Base<'_>,
    attributes: &Sources,
) -> Result<(Outcome, Stats, Left), Error> {
    let mut left = Left::default();
    let (deleted, lost) = delete::delete(cx, &plan.delete, (base, &attributes.outside), &mut left);
    if cx.options.clean == Clean::Everything && !cx.options.dry_run {
        let paths = found.submodules.iter();
        let paths = paths.map(|at| plan.index.entries()[*at].path(&plan.index).to_owned());
        delete::empty(cx, paths, &mut left);
    }
    let mut done = Outcome {
        deleted,
        lost,
        ..Outcome::default()
    };
    let written = apply::write(cx, found, (base, &plan.index), attributes, &mut left);
    done.written = written.count;
    done.lost.add(written.lost);
    if !left.lacks_rules() {
        let cleaned = clean::clean(cx, &found.untracked, base.old, &plan.index);
        done.cleaned = cleaned.count;
        done.lost.untracked.add(cleaned.lost);
        if let Some((err, keep)) = cleaned.trouble {
            left.not_cleaned(cx.options.root.as_path(), err, keep)?;
        }
    }
    Ok((done, written.stats, left))
}

/// Write the index that was planned, with what is known of the files now.
fn write_index(
    path: &Path,
    plan: Plan<'_>,
    stats: Stats,
    left: &Left,
    old: &Stored,
) -> Result<Stored, Error> {
    let mut index = plan.index.into_owned();
    for (entry, stat) in stats {
        index.entries_mut()[entry].stat = stat;
    }
    left.mark(old, &mut index);
    stored::write(path, index)
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stderr)]
mod tests;
