//! What cleaning has removed, for counts and names. A directory that goes stands for all that was in it.

use gix::bstr::{BStr, BString};

use crate::{base::report::Named, git::worktree::dirs};

#[derive(Default)]
pub(super) struct Removed {
    pub(super) marked: Mark,
    /// The first names. Those of empty directories only in a dry run.
    pub(super) first: Vec<Gone>,
    pub(super) limit: usize,
    /// How many files there were, in directories that went with them or not.
    pub(super) files: u64,
}

/// A file or directory that was removed.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gone {
    pub(super) path: BString,
    pub(super) has_files: bool,
    pub(super) is_dir: bool,
}

/// How much was removed.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    pub(super) count: u64,
    /// Without empty directories.
    lost: u64,
}

/// What had been removed when a directory was entered.
#[derive(Clone, Copy)]
pub(super) struct Before {
    pub(super) marked: Mark,
    first: usize,
    pub(super) files: u64,
}

impl Removed {
    pub(super) fn before(&self) -> Before {
        Before {
            marked: self.marked,
            first: self.first.len(),
            files: self.files,
        }
    }

    pub(super) fn go_back_to(&mut self, before: Before) {
        self.marked = before.marked;
        self.first.truncate(before.first);
    }

    pub(super) fn add(&mut self, path: &BStr, has_files: bool, is_dir: bool) {
        self.marked.count += 1;
        self.marked.lost += u64::from(has_files);
        let is_told = has_files || self.limit == usize::MAX;
        if is_told && self.first.len() < self.limit {
            let path = dirs::shown(path);
            // All that is too deep to be shown is one.
            if self.first.last().is_none_or(|last| last.path != path) {
                self.first.push(Gone {
                    path,
                    has_files,
                    is_dir,
                });
            }
        }
    }

    /// What was, or held, files.
    pub(super) fn lost(&self) -> Named {
        let names = self.first.iter().filter(|gone| gone.has_files);
        let names: Vec<String> = names.take(Named::MAX).map(|gone| gone.path.to_string()).collect();
        let more = self.marked.lost.saturating_sub(names.len() as u64);
        Named { names, more }
    }
}
