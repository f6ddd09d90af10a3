//! A commit's tree becomes the entries of an index, or is refused before anything is touched.
//!
//! What leaves here is safe to write: every component is valid, no path is used twice, none is a file and a
//! directory at once. Subtrees that the old index is known to have already are taken from there, unread.
//! It knows objects and the old index, but no worktree.

use std::{borrow::Cow, cmp::Ordering, ops::Range, thread};

use gix::{
    bstr::{BStr, BString, ByteSlice, ByteVec},
    index::{
        Entry,
        entry::{self, Flags, Mode},
        extension::Tree,
    },
    objs::tree::{EntryKind, EntryRef},
};

use super::{
    Error, dirs, names, outline,
    stored::{self, Stored},
};
use crate::git::{repository::reason, verified};

/// The longest path that an index tells the length of; in bytes. Linux and git take one byte more, but what gitoxide writes
/// of such a path it cannot read again: it does not pass over the NULs that fill up the entry.
const MAX_PATH_BYTES: usize = 4094;
/// Files and directories of a commit. A tree of a few objects can stand for more than any disk can hold. Each file takes
/// 730 bytes at most, where an update replaces all of them: 220 MB. Linux has 90,000.
const MAX_ENTRIES: usize = 300_000;
/// The paths of all of them, in bytes: 100 for each, on an average.
const MAX_PATHS: usize = 30_000_000;
/// The trees between the root and a directory, which are in memory together, in bytes.
const MAX_OPEN: usize = 32 << 20;

/// What an update leads to.
pub(super) struct Plan<'o> {
    /// The files to be there. Entries that the old index has, too, have its stat data, others have none.
    pub(super) index: Cow<'o, gix::index::State>,
    pub(super) delete: Vec<Delete>,
}

impl Plan<'_> {
    /// The index says something else than the old one, or the old one was not sure of it.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.index, Cow::Owned(_))
    }
}

pub(super) struct Delete {
    pub(super) path: BString,
    pub(super) is_submodule: bool,
}

/// What leads from `old` to the tree of `commit`.
pub(super) fn tree<'o>(
    repo: &gix::Repository,
    commit: gix::ObjectId,
    old: &'o Stored,
) -> Result<Plan<'o>, Error> {
    let missing = |err: gix::Error| Error::Object {
        id: commit,
        path: String::new(),
        reason: reason(&err),
    };
    let root = verified::object(repo, commit)
        .and_then(gix::Object::try_into_commit)
        .and_then(|commit| Ok(commit.tree_id()?.detach()))
        .map_err(missing)?;
    if old.is(&root) {
        return Ok(Plan {
            index: Cow::Borrowed(&old.index),
            delete: Vec::new(),
        });
    }
    let repo = repo.clone();
    let planned = thread::scope(|scope| {
        let thread = thread::Builder::new().name("plan".into()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, move || expand(&repo, commit, root, old));
        thread.map(|thread| thread.join())
    });
    match planned {
        Ok(Ok(plan)) => plan,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(err) => Err(Error::file(
            "start a thread to read the commit",
            commit.to_string().into(),
            err,
        )),
    }
}

/// The stack for directories in each other, in bytes of which only what is used is taken. The longest path has 2,048
/// directories; each takes 2 KiB, and several times as much without optimization.
const STACK: usize = 64 << 20;

fn expand<'o>(
    repo: &gix::Repository,
    commit: gix::ObjectId,
    root: gix::ObjectId,
    old: &'o Stored,
) -> Result<Plan<'o>, Error> {
    let mut builder = Builder {
        repo,
        commit,
        old,
        unseen: 0,
        budget: Budget::default(),
        index: stored::empty(old),
        delete: Vec::new(),
        path: BString::default(),
        depth: 1,
        deepest: 1,
    };
    let tree = builder.expand(root, old.tree(), "".into())?;
    builder.skip(old.index.entries().len());
    if builder.deepest > outline::MAX_DEPTH {
        builder.index.remove_tree();
    } else if let Some(place) = builder.index.tree_mut() {
        *place = tree;
    }
    Ok(Plan {
        index: Cow::Owned(builder.index),
        delete: builder.delete,
    })
}

#[derive(Default)]
struct Budget {
    entries: usize,
    paths: usize,
    open: usize,
}

struct Builder<'r> {
    repo: &'r gix::Repository,
    commit: gix::ObjectId,
    old: &'r Stored,
    /// The first entry of the old index that comes after all of the new one.
    unseen: usize,
    budget: Budget,
    index: gix::index::State,
    delete: Vec<Delete>,
    /// Of the directory at hand, with a slash at its end, unless it is the root.
    path: BString,
    /// How many directories there are down to it, and to the deepest.
    depth: usize,
    deepest: usize,
}

impl Builder<'_> {
    /// Add what is in the tree `id`, whose name is `name`. `known` is what the old index had in this place.
    fn expand(&mut self, id: gix::ObjectId, known: Option<&Tree>, name: &BStr) -> Result<Tree, Error> {
        if let Some(known) = known.filter(|known| known.id == id)
            && let Some(range) = self.range_of(known)
        {
            self.take(range)?;
            return Ok(known.clone());
        }
        let first = self.index.entries().len();
        let children = self.children(id, known)?;
        Ok(Tree {
            name: name.as_bytes().into(),
            id,
            num_entries: u32::try_from(self.index.entries().len() - first).ok(),
            children,
        })
    }

    fn children(&mut self, id: gix::ObjectId, known: Option<&Tree>) -> Result<Vec<Tree>, Error> {
        let dir = self.path.clone();
        let damaged = |reason: String| Error::Object {
            id,
            path: dir.strip_suffix(b"/").unwrap_or_default().to_str_lossy().into(),
            reason,
        };
        let tree = verified::object(self.repo, id)
            .and_then(gix::Object::try_into_tree)
            .map_err(|err| damaged(reason(&err)))?;
        self.budget.open += tree.data.len();
        if self.budget.open > MAX_OPEN {
            return Err(self.refuse(format!(
                "the trees that lead to it have more than {MAX_OPEN} bytes"
            )));
        }
        let mut children = Vec::new();
        let mut files = Vec::new();
        let mut previous = None;
        for entry in tree.iter() {
            let entry = entry.map_err(|err| damaged(err.to_string()))?.inner;
            self.path.push_str(entry.filename);
            self.check(&entry, previous.as_ref(), &files)?;
            match kind(&entry) {
                None => {
                    self.make_room(1, self.path.len())?;
                    self.path.push(b'/');
                    let known = known.and_then(|known| child(known, entry.filename));
                    self.depth += 1;
                    self.deepest = self.deepest.max(self.depth);
                    children.push(self.expand(entry.oid.into(), known, entry.filename)?);
                    self.depth -= 1;
                }
                Some(mode) => {
                    files.push(entry.filename);
                    self.push(mode, entry.oid.into())?;
                }
            }
            self.path.truncate(dir.len());
            previous = Some(entry);
        }
        self.budget.open -= tree.data.len();
        Ok(children)
    }

    /// Add the file at the present path.
    fn push(&mut self, mode: Mode, id: gix::ObjectId) -> Result<(), Error> {
        self.make_room(1, self.path.len())?;
        let end = self.first_not_below(self.path.as_bstr());
        self.skip(end);
        let old = &self.old.index;
        let mut stat = entry::Stat::default();
        while let Some(known) = old.entries().get(self.unseen)
            && known.path(old) == self.path
        {
            if known.id == id && known.mode == mode && !stored::is_special(known) {
                stat = known.stat;
            }
            self.unseen += 1;
        }
        self.index
            .dangerously_push_entry(stat, id, Flags::empty(), mode, self.path.as_bstr());
        Ok(())
    }

    /// Add entries as they were.
    fn take(&mut self, range: Range<usize>) -> Result<(), Error> {
        let old = &self.old.index;
        let paths = old.entries()[range.clone()]
            .iter()
            .map(|entry| entry.path(old).len());
        self.make_room(range.len(), paths.sum())?;
        self.skip(range.start);
        self.unseen = range.end;
        for entry in &old.entries()[range] {
            self.index.dangerously_push_entry(
                entry.stat,
                entry.id,
                Flags::empty(),
                entry.mode,
                entry.path(old),
            );
        }
        Ok(())
    }

    /// The entries below the present path, if they are as many as `known` says, and nothing but files.
    fn range_of(&self, known: &Tree) -> Option<Range<usize>> {
        let old = &self.old.index;
        let start = self.first_not_below(self.path.as_bstr());
        let end = start.checked_add(known.num_entries? as usize)?;
        let entries = old.entries().get(start..end)?;
        let is_below = |entry: &Entry| entry.path(old).starts_with(&self.path);
        let is_whole = entries.last().is_none_or(is_below) && !old.entries().get(end).is_some_and(is_below);
        (is_whole && !entries.iter().any(stored::is_special)).then_some(start..end)
    }

    /// The first unseen entry of the old index that does not come before `path`.
    fn first_not_below(&self, path: &BStr) -> usize {
        let old = &self.old.index;
        let is_before = |entry: &Entry| entry.path(old).cmp(path) == Ordering::Less;
        let unseen = &old.entries()[self.unseen..];
        // It is near, as a rule.
        let mut step = 1;
        while unseen.get(step - 1).is_some_and(is_before) {
            step *= 2;
        }
        self.unseen + unseen[..unseen.len().min(step)].partition_point(is_before)
    }

    /// The unseen entries before `end` are no longer tracked.
    fn skip(&mut self, end: usize) {
        for entry in &self.old.index.entries()[self.unseen..end] {
            forget(entry, self.old, &mut self.delete);
        }
        self.unseen = end;
    }

    fn make_room(&mut self, count: usize, paths: usize) -> Result<(), Error> {
        self.budget.entries += count;
        self.budget.paths += paths;
        if self.budget.entries > MAX_ENTRIES {
            return Err(self.refuse(format!(
                "the tree has more than {MAX_ENTRIES} files and directories"
            )));
        }
        if self.budget.paths > MAX_PATHS {
            return Err(self.refuse(format!("the tree's paths have more than {MAX_PATHS} bytes")));
        }
        Ok(())
    }

    /// `files` are the names of what is no directory in this tree so far, in ascending order.
    fn check(
        &self,
        entry: &EntryRef<'_>,
        previous: Option<&EntryRef<'_>>,
        files: &[&BStr],
    ) -> Result<(), Error> {
        let is_symlink = entry.mode.kind() == EntryKind::Link;
        names::check(entry.filename, is_symlink).map_err(|reason| self.refuse(reason))?;
        // For git, a link's name is each in its path.
        let mut parents = dirs::parents(self.path.as_bstr()).filter(|_| is_symlink);
        parents
            .try_for_each(|dir| names::check(dirs::split(dir).1, true))
            .map_err(|reason| self.refuse(reason))?;
        if self.path.len() > MAX_PATH_BYTES {
            return Err(self.refuse(format!("it is longer than {MAX_PATH_BYTES} bytes")));
        }
        if entry.mode.is_tree() && files.binary_search(&entry.filename).is_ok() {
            return Err(self.refuse("it is both a file and a directory"));
        }
        // Git's order: a directory sorts as if its name ended with a slash.
        match previous {
            Some(previous) if previous.filename == entry.filename => {
                Err(self.refuse("its name is used twice"))
            }
            Some(previous) if previous >= entry => Err(self.refuse("the tree is not sorted")),
            _ => Ok(()),
        }
    }

    fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Tree {
            commit: self.commit,
            path: self.path.to_string(),
            reason: reason.into(),
        }
    }
}

/// Plan to delete the file of `entry`, unless its path is one that an index must not hold.
fn forget(entry: &Entry, old: &Stored, delete: &mut Vec<Delete>) {
    let path = entry.path(&old.index);
    let is_safe = path
        .split_str("/")
        .all(|name| names::check(name.as_bstr(), false).is_ok());
    let is_repeated = delete.last().is_some_and(|last| last.path == path);
    if is_safe && !is_repeated && !entry.mode.is_sparse() {
        delete.push(Delete {
            path: path.into(),
            is_submodule: entry.mode == Mode::COMMIT,
        });
    }
}

fn child<'t>(tree: &'t Tree, name: &BStr) -> Option<&'t Tree> {
    let found = tree
        .children
        .binary_search_by(|child| child.name.as_slice().cmp(name.as_bytes()));
    found.ok().and_then(|at| tree.children.get(at))
}

/// The mode of an entry in the index, or nothing for a tree.
fn kind(entry: &EntryRef<'_>) -> Option<entry::Mode> {
    Some(match entry.mode.kind() {
        EntryKind::Tree => return None,
        EntryKind::Blob => entry::Mode::FILE,
        EntryKind::BlobExecutable => entry::Mode::FILE_EXECUTABLE,
        EntryKind::Link => entry::Mode::SYMLINK,
        EntryKind::Commit => entry::Mode::COMMIT,
    })
}
