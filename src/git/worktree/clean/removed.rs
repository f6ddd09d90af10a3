//! What cleaning has removed, for counts and names. A directory that goes stands for all that was in it.

use gix::bstr::{BStr, BString};

use crate::{base::report::Named, git::worktree::dirs};

#[derive(Default)]
pub(super) struct Removed {
    pub(super) marked: Mark,
    /// The first names, and whether files were there. Those of empty directories only in a dry run.
    pub(super) paths: Vec<(BString, bool)>,
    pub(super) limit: usize,
    /// How many files there were, in directories that went with them or not.
    pub(super) files: u64,
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
    paths: usize,
    pub(super) files: u64,
}

impl Removed {
    pub(super) fn before(&self) -> Before {
        Before {
            marked: self.marked,
            paths: self.paths.len(),
            files: self.files,
        }
    }

    pub(super) fn go_back_to(&mut self, before: Before) {
        self.marked = before.marked;
        self.paths.truncate(before.paths);
    }

    pub(super) fn add(&mut self, path: &BStr, has_files: bool) {
        self.marked.count += 1;
        self.marked.lost += u64::from(has_files);
        let is_told = has_files || self.limit == usize::MAX;
        if is_told && self.paths.len() < self.limit {
            let path = dirs::shown(path);
            // All that is too deep to be shown is one.
            if self.paths.last().is_none_or(|(last, _)| *last != path) {
                self.paths.push((path, has_files));
            }
        }
    }

    /// What was, or held, files.
    pub(super) fn lost(&self) -> Named {
        let names = self.paths.iter().filter(|(_, has_files)| *has_files);
        let names: Vec<String> = names.take(Named::MAX).map(|(path, _)| path.to_string()).collect();
        let more = self.marked.lost.saturating_sub(names.len() as u64);
        Named { names, more }
    }
}
