//! A commit's tree becomes the entries of an index, or is refused before anything is touched.
//!
//! What leaves here is safe to write: every component is valid, no path is used twice, none is a file and a
//! directory at once. It knows objects, but no worktree.

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::entry::{self, Flags},
    objs::tree::{EntryKind, EntryRef},
    validate::path::component,
};

use super::{Error, dirs};

/// The longest path that Linux takes, without the NUL; git could not use a longer one.
const MAX_PATH_BYTES: usize = 4095;
/// The longest file name.
const MAX_NAME_BYTES: usize = 255;
/// A tree of a few objects can stand for more files than any disk can hold.
const MAX_ENTRIES: usize = 20_000_000;

/// The tree of `commit` as an index without stat data.
pub(super) fn tree(repo: &gix::Repository, commit: gix::ObjectId) -> Result<gix::index::State, Error> {
    let missing = |err: gix::Error| Error::Object {
        id: commit,
        path: String::new(),
        reason: err.to_string(),
    };
    let root = repo
        .find_commit(commit)
        .map_err(missing)?
        .tree_id()
        .map_err(missing)?;
    let mut plan = Plan {
        repo,
        commit,
        index: gix::index::State::new(repo.object_hash()),
    };
    plan.expand(root.detach(), "".into())?;
    Ok(plan.index)
}

/// Whether `name` may be a component of a path in a worktree: not `..`, not `.git` in any spelling.
pub(super) fn check_name(name: &BStr, is_symlink: bool) -> Result<(), String> {
    // As git with core.protectHFS and core.protectNTFS; other names that only Windows forbids are fine here.
    const OPTIONS: component::Options = component::Options {
        protect_windows: false,
        protect_hfs: true,
        protect_ntfs: true,
    };
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("its name is longer than {MAX_NAME_BYTES} bytes"));
    }
    if name.contains(&0) {
        return Err("its name contains a NUL byte".into());
    }
    let mode = is_symlink.then_some(component::Mode::Symlink);
    component(name, mode, OPTIONS)
        .map(drop)
        .map_err(|err| err.to_string())
}

struct Plan<'r> {
    repo: &'r gix::Repository,
    commit: gix::ObjectId,
    index: gix::index::State,
}

impl Plan<'_> {
    /// Add what is in the tree `id` at `dir`.
    fn expand(&mut self, id: gix::ObjectId, dir: &BStr) -> Result<(), Error> {
        let damaged = |reason: String| Error::Object {
            id,
            path: dir.to_string(),
            reason,
        };
        let tree = self
            .repo
            .find_object(id)
            .and_then(|object| object.try_into_tree())
            .map_err(|err| damaged(err.to_string()))?;
        let mut files = Vec::new();
        let mut previous = None;
        for entry in tree.iter() {
            let entry = entry.map_err(|err| damaged(err.to_string()))?.inner;
            let path = dirs::join(dir, entry.filename);
            self.check(&entry, path.as_bstr(), previous.as_ref(), &files)?;
            match kind(&entry) {
                None => self.expand(entry.oid.into(), path.as_bstr())?,
                Some(mode) => {
                    files.push(entry.filename);
                    self.push(mode, entry.oid.into(), path)?;
                }
            }
            previous = Some(entry);
        }
        Ok(())
    }

    fn push(&mut self, mode: entry::Mode, id: gix::ObjectId, path: BString) -> Result<(), Error> {
        if self.index.entries().len() >= MAX_ENTRIES {
            return Err(self.refuse(
                path.as_bstr(),
                format!("the tree has more than {MAX_ENTRIES} files"),
            ));
        }
        self.index
            .dangerously_push_entry(entry::Stat::default(), id, Flags::empty(), mode, path.as_bstr());
        Ok(())
    }

    /// `files` are the names of what is no directory in this tree so far, in ascending order.
    fn check(
        &self,
        entry: &EntryRef<'_>,
        path: &BStr,
        previous: Option<&EntryRef<'_>>,
        files: &[&BStr],
    ) -> Result<(), Error> {
        let is_symlink = entry.mode.kind() == EntryKind::Link;
        check_name(entry.filename, is_symlink).map_err(|reason| self.refuse(path, reason))?;
        if path.len() > MAX_PATH_BYTES {
            return Err(self.refuse(path, format!("it is longer than {MAX_PATH_BYTES} bytes")));
        }
        if entry.mode.is_tree() && files.binary_search(&entry.filename).is_ok() {
            return Err(self.refuse(path, "it is both a file and a directory"));
        }
        // Git's order: a directory sorts as if its name ended with a slash.
        match previous {
            Some(previous) if previous.filename == entry.filename => {
                Err(self.refuse(path, "its name is used twice"))
            }
            Some(previous) if previous >= entry => Err(self.refuse(path, "the tree is not sorted")),
            _ => Ok(()),
        }
    }

    fn refuse(&self, path: &BStr, reason: impl Into<String>) -> Error {
        Error::Tree {
            commit: self.commit,
            path: path.to_string(),
            reason: reason.into(),
        }
    }
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
