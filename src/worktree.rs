//! A commit becomes the files of the worktree, exactly as `git reset --hard` and `git clean -df` would leave them.

use crate::{
    config::Clean,
    event::Reporter,
    fault::{Blame, Kind},
    name::AbsPath,
};

/// How to update.
#[derive(Debug)]
pub struct Options<'a> {
    /// The worktree.
    pub root: &'a AbsPath,
    /// What to remove besides tracked files.
    pub clean: Clean,
    /// gitignore patterns of what is never removed.
    pub keep: &'a [String],
    /// Permission bits that new files and directories do not get.
    pub umask: u32,
    /// Report what would be done, and do nothing.
    pub dry_run: bool,
    /// Progress, warnings, and the changes of a dry run.
    pub report: &'a Reporter,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Files written.
    pub written: u64,
    /// Tracked files deleted.
    pub deleted: u64,
    /// Untracked files and directories removed.
    pub cleaned: u64,
}

/// The worktree could not be updated.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match *self {}
    }
}

/// Make the worktree and the index equal to the tree of `commit`.
pub fn update(
    _repo: &gix::Repository,
    _commit: gix::ObjectId,
    _options: &Options<'_>,
) -> Result<Outcome, Error> {
    Ok(Outcome::default())
}
