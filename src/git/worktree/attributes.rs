//! Which attributes a path has: those of `info/attributes` before those of the tree, the nearest directory first, before
//! those of `core.attributesFile`.
//!
//! gix's own stack takes `info/attributes` for less than the `.gitattributes` of a subdirectory; git does not.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use gix::{
    attrs::{
        Search,
        search::{MetadataCollection, Outcome},
    },
    bstr::{BStr, BString, ByteSlice},
    glob::pattern::Case,
    index::entry::Mode,
};

use super::{Error, dirs, outside};
use crate::git::{repository::reason, verified};

/// Where each `.gitattributes` is, in ascending order, and what it is.
type AttributeFiles = Vec<(BString, gix::ObjectId)>;

#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) files: AttributeFiles,
    pub(super) outside: outside::Rules,
}

impl Sources {
    /// The sources for the files of `index` at `paths`, which are sorted.
    pub(super) fn of<'p>(
        index: &gix::index::State,
        paths: impl Iterator<Item = &'p BStr>,
        outside: outside::Rules,
    ) -> Self {
        let files = attribute_files(index, paths);
        Self { files, outside }
    }

    /// Whether `word` is in any of them.
    pub(super) fn mention(&self, repo: &gix::Repository, word: &str) -> Result<bool, Error> {
        let outside::Rules { info, configured } = &self.outside;
        if info.contains_str(word) || configured.contains_str(word) {
            return Ok(true);
        }
        for (path, id) in &self.files {
            if blob(repo, path, *id)?.contains_str(word) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn blob(repo: &gix::Repository, path: &BString, id: gix::ObjectId) -> Result<Vec<u8>, Error> {
    let blob = verified::object(repo, id).and_then(gix::Object::try_into_blob);
    let blob = blob.map_err(|err| Error::Object {
        id,
        path: path.to_string(),
        reason: reason(&err),
    })?;
    Ok(blob.detach().data)
}

/// Every `.gitattributes` of `index` that has a say in the attributes of `paths`, which are sorted.
fn attribute_files<'p>(index: &gix::index::State, paths: impl Iterator<Item = &'p BStr>) -> AttributeFiles {
    let mut files = BTreeMap::new();
    let mut last = None;
    for dir in paths.map(|path| dirs::split(path).0) {
        if last.replace(dir) == Some(dir) {
            continue;
        }
        for dir in dirs::chain(dir) {
            let path = dirs::join(dir, ".gitattributes".into());
            if files.contains_key(&path) {
                break;
            }
            // gix would leave out those that are executable; git does not.
            let entry = index
                .entry_by_path(path.as_bstr())
                .filter(|entry| matches!(entry.mode, Mode::FILE | Mode::FILE_EXECUTABLE));
            files.insert(path, entry.map(|entry| entry.id));
        }
    }
    files
        .into_iter()
        .filter_map(|(path, id)| Some((path, id?)))
        .collect()
}

pub(super) struct Attributes<'r> {
    repo: &'r gix::Repository,
    files: AttributeFiles,
    globals: Search,
    directories: Search,
    info: Search,
    /// The directories whose rules are in `directories`, the outermost first.
    entered: Vec<BString>,
    /// The directory of the path that was asked for last.
    dir: Option<BString>,
    names: MetadataCollection,
    found: Outcome,
}

impl<'r> Attributes<'r> {
    /// The attributes called `wanted`, as `sources` say.
    pub(super) fn new(repo: &'r gix::Repository, sources: &Sources, wanted: &[&str]) -> Self {
        let Sources { files, outside } = sources;
        let mut names = MetadataCollection::default();
        let mut search = |texts: &[&[u8]]| {
            let mut search = Search::default();
            for text in texts {
                add(&mut search, text, ".gitattributes".into(), &mut names, true);
            }
            search
        };
        // What git has built in.
        let configured = text_of_file(&outside.configured);
        let globals = search(&[b"[attr]binary -diff -merge -text", &configured]);
        let info = search(&[&text_of_file(&outside.info)]);
        let mut found = Outcome::default();
        found.initialize_with_selection(&names, wanted);
        Self {
            repo,
            files: files.clone(),
            globals,
            directories: Search::default(),
            info,
            entered: Vec::new(),
            dir: None,
            names,
            found,
        }
    }

    pub(super) fn of(&mut self, path: &BStr) -> Result<&Outcome, Error> {
        let dir = dirs::split(path).0;
        if self.dir.as_ref().is_none_or(|last| last != dir) {
            self.enter(dir)?;
            self.dir = Some(dir.into());
        }
        self.found.initialize(&self.names);
        for search in [&self.info, &self.directories, &self.globals] {
            if !self.found.is_done() {
                search.pattern_matching_relative_path(path, Case::Sensitive, Some(false), &mut self.found);
            }
        }
        Ok(&self.found)
    }

    fn enter(&mut self, dir: &BStr) -> Result<(), Error> {
        self.dir = None;
        let is_left = |last: &BString| !dirs::is_in(dir, last.as_bstr());
        while self.entered.last().is_some_and(is_left) {
            self.entered.pop();
            self.directories.pop_pattern_list();
        }
        let last = self.entered.last().cloned();
        let new: Vec<&BStr> = dirs::chain(dir)
            .take_while(|dir| last.as_ref().is_none_or(|last| last != dir))
            .collect();
        for dir in new.into_iter().rev() {
            let path = dirs::join(dir, ".gitattributes".into());
            let Ok(at) = self.files.binary_search_by(|(have, _)| have.cmp(&path)) else {
                continue;
            };
            let text = as_it_is(&blob(self.repo, &path, self.files[at].1)?).into_owned();
            add(
                &mut self.directories,
                &text,
                path,
                &mut self.names,
                dir.is_empty(),
            );
            self.entered.push(dir.into());
        }
        Ok(())
    }
}

/// git overlooks a byte order mark of UTF-8 in a file.
fn text_of_file(text: &[u8]) -> Cow<'_, [u8]> {
    as_it_is(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text))
}

/// For git, a byte order mark is part of the first pattern: of any in a file, and in a blob of UTF-8's, too. gix would
/// overlook it, where it is at the very beginning.
fn as_it_is(text: &[u8]) -> Cow<'_, [u8]> {
    match text.first() {
        Some(first) if !first.is_ascii() || matches!(first, 0 | 0x0e | b'+') => [b"\n", text].concat().into(),
        _ => text.into(),
    }
}

/// Add the rules in `text`, which is the file `path`. Says whether that could be done.
fn add(
    search: &mut Search,
    text: &[u8],
    path: BString,
    names: &mut MetadataCollection,
    macros: bool,
) -> bool {
    let path = gix::path::from_bstring(path).unwrap_or_default();
    let root = Some(Path::new(""));
    search
        .add_patterns_buffer(text, path, root, names, macros)
        .is_ok()
}
