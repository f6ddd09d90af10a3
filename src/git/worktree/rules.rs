//! What `clean` must leave alone: ignore rules and `keep` patterns, in git's order of precedence.
//!
//! It is fed with the `.gitignore` files by the walk; it reads nothing of the worktree itself.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use gix::{
    bstr::BStr,
    glob::{
        pattern::{Case, Mode},
        wildmatch,
    },
    ignore::Search,
};

use super::{Error, dirs, outside};
use crate::git::worktree::Clean;

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
        let ignored_stay = !matches!(clean, Clean::All | Clean::Everything);
        let globals = if ignored_stay {
            globals(repo, root)?
        } else {
            Search::default()
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
            .find_map(|search| stays(search, path, is_dir))
            .unwrap_or(false)
    }

    /// Whether a `keep` pattern holds for `path` or one of its parents.
    pub(super) fn is_kept(&self, path: &BStr, is_dir: bool) -> bool {
        self.keeps(path, is_dir) || dirs::parents(path).any(|dir| self.keeps(dir, true))
    }

    /// Whether a `keep` pattern holds for `path` itself.
    pub(super) fn keeps(&self, path: &BStr, is_dir: bool) -> bool {
        stays(&self.keep, path, is_dir).unwrap_or(false)
    }

    /// Whether there is no `keep` pattern at all.
    pub(super) fn keeps_nothing(&self) -> bool {
        self.keep.patterns.iter().all(|list| list.patterns.is_empty())
    }
}

/// What the last pattern that holds for `path` says, if there is one: whether it stays.
/// Below the paths that git can use, only patterns of names count: the others would take time with every directory more.
fn stays(search: &Search, path: &BStr, is_dir: bool) -> Option<bool> {
    if path.len() <= dirs::MAX_PATH {
        let found = search.pattern_matching_relative_path(path, Some(is_dir), Case::Sensitive);
        return found.map(|found| !found.pattern.is_negative());
    }
    let (_, name) = dirs::split(path);
    let patterns = search
        .patterns
        .iter()
        .rev()
        .flat_map(|list| list.patterns.iter().rev());
    patterns
        .map(|mapping| &mapping.pattern)
        .filter(|pattern| pattern.mode.contains(Mode::NO_SUB_DIR))
        .find(|pattern| {
            let mode = wildmatch::Mode::NO_MATCH_SLASH_LITERAL;
            pattern.matches_repo_relative_path(name, None, Some(is_dir), Case::Sensitive, mode)
        })
        .map(|pattern| !pattern.is_negative())
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
