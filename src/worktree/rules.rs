//! What `clean` must leave alone: ignore rules and `keep` patterns, in git's order of precedence.
//!
//! It is fed with the `.gitignore` files by who walks; it reads nothing of the worktree itself.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use gix::{
    bstr::{BStr, ByteSlice},
    glob::pattern::Case,
    ignore::Search,
};

use super::{Error, outside};
use crate::config::Clean;

/// The rules that hold at the present place of the walk.
pub(super) struct Rules {
    keep: Search,
    directories: Search,
    globals: Search,
    ignored_stay: bool,
}

impl Rules {
    /// `keep` (as `git clean -e`), `.git/info/exclude` and `core.excludesFile`.
    pub(super) fn new(
        repo: &gix::Repository,
        root: &Path,
        clean: Clean,
        keep: &[String],
    ) -> Result<Self, Error> {
        let ignored_stay = clean != Clean::All;
        let globals = match ignored_stay {
            true => globals(repo, root)?,
            false => Search::default(),
        };
        Ok(Self {
            keep: Search::from_overrides(keep, Default::default()),
            directories: Search::default(),
            globals,
            ignored_stay,
        })
    }

    /// The walk enters the directory `dir`, whose `.gitignore` says `text`. To be followed by [`Self::leave`].
    pub(super) fn enter(&mut self, dir: &BStr, text: &[u8]) {
        let text = if self.ignored_stay { text } else { b"" };
        let source = Path::new(OsStr::from_bytes(dir)).join(".gitignore");
        // Only a source without a parent fails, and this one has one: then there are no rules to add.
        let root = Some(Path::new(""));
        if self
            .directories
            .add_patterns_buffer(text, source, root, Default::default())
            .is_err()
        {
            self.directories.patterns.push(Default::default());
        }
    }

    /// The walk leaves the directory that it entered last.
    pub(super) fn leave(&mut self) {
        self.directories.patterns.pop();
    }

    /// Whether a rule says that `path` stays. Its parents are not considered.
    pub(super) fn excludes(&self, path: &BStr, is_dir: bool) -> bool {
        [&self.keep, &self.directories, &self.globals]
            .iter()
            .find_map(|search| search.pattern_matching_relative_path(path, Some(is_dir), Case::Sensitive))
            .is_some_and(|found| !found.pattern.is_negative())
    }

    /// Whether a `keep` pattern holds for `path` or one of its parents.
    pub(super) fn is_kept(&self, path: &BStr, is_dir: bool) -> bool {
        let keeps = |path: &BStr, is_dir| {
            self.keep
                .pattern_matching_relative_path(path, Some(is_dir), Case::Sensitive)
                .is_some_and(|found| !found.pattern.is_negative())
        };
        keeps(path, is_dir) || super::dirs::parents(path).any(|dir| keeps(dir.as_bstr(), true))
    }

    /// Whether there is no `keep` pattern at all.
    pub(super) fn keeps_nothing(&self) -> bool {
        self.keep.patterns.iter().all(|list| list.patterns.is_empty())
    }
}

/// What `info/exclude` says counts more than `core.excludesFile`.
fn globals(repo: &gix::Repository, root: &Path) -> Result<Search, Error> {
    let outside::Rules { info, configured } = outside::Rules::read(repo, root, &outside::EXCLUDES)?;
    let mut search = Search::default();
    for text in [configured, info] {
        // It has no root, so that this cannot fail.
        search
            .add_patterns_buffer(&text, "exclude", None, Default::default())
            .ok();
    }
    Ok(search)
}
