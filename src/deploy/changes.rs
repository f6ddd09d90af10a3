//! Which files differ between two commits, as a list for hooks.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use gix::{
    ObjectId,
    bstr::{BStr, BString},
    diff::tree::recorder::Change,
    objs::TreeRefIter,
};

use crate::git::{repository, verified};

/// Write the paths that differ between the trees of the commits `old` and `new` to `file`, one a line, sorted.
///
/// Without `old`, or if its objects are missing, all files of `new` are listed. A path with a control
/// character, `"` or `\` is quoted as git quotes it (`core.quotePath=false`).
pub fn write(repo: &gix::Repository, old: Option<ObjectId>, new: ObjectId, file: &Path) -> io::Result<()> {
    let changed = old.and_then(|old| differing(repo, Some(old), new).ok());
    let changed = match changed {
        Some(changed) => changed,
        None => differing(repo, None, new)?,
    };
    if let Some(parent) = file.parent() {
        match fs::create_dir(parent) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
            _ => {}
        }
    }
    let mut out = BufWriter::new(fs::File::create(file)?);
    for path in changed {
        out.write_all(&quoted(path.as_ref()))?;
        out.write_all(b"\n")?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.flush()
}

/// The files that differ between the two commits; without `old`, all of `new`.
fn differing(repo: &gix::Repository, old: Option<ObjectId>, new: ObjectId) -> io::Result<BTreeSet<BString>> {
    let tree = |commit| {
        let tree = verified::object(repo, commit)?.try_into_commit()?.tree_id()?;
        verified::object(repo, tree.detach())?.try_into_tree()
    };
    let failed = |err: gix::Error| io::Error::other(repository::reason(&err));
    let old = match old {
        Some(old) => tree(old).map_err(failed)?,
        None => repo.empty_tree(),
    };
    let new = tree(new).map_err(failed)?;
    let entries = |tree| TreeRefIter::from_bytes(tree, repo.object_hash());
    let mut recorder = gix::diff::tree::Recorder::default();
    gix::diff::tree(
        entries(&old.data),
        entries(&new.data),
        gix::diff::tree::State::default(),
        verified::Objects(repo),
        &mut recorder,
    )
    .map_err(|err| io::Error::other(err.to_string()))?;
    let files = recorder.records.into_iter().filter_map(|change| match change {
        Change::Addition { entry_mode, path, .. } | Change::Deletion { entry_mode, path, .. } => {
            (!entry_mode.is_tree()).then_some(path)
        }
        Change::Modification {
            previous_entry_mode,
            entry_mode,
            path,
            ..
        } => (!entry_mode.is_tree() || !previous_entry_mode.is_tree()).then_some(path),
    });
    Ok(files.collect())
}

/// git's C-style quoting, see `core.quotePath` in git-config(1).
fn quoted(path: &BStr) -> Vec<u8> {
    if !path.iter().any(|b| b.is_ascii_control() || b"\"\\".contains(b)) {
        return path.to_vec();
    }
    let mut out = vec![b'"'];
    for &byte in path.iter() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b if b.is_ascii_control() => out.extend_from_slice(format!("\\{b:03o}").as_bytes()),
            b => out.push(b),
        }
    }
    out.push(b'"');
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use gix::objs::tree::EntryKind;

    use super::*;

    #[test]
    fn lists_what_differs() {
        let tmp = crate::machine::tempdir().unwrap();
        let repo = gix::init_bare(tmp.path()).unwrap();
        let commit = |files: &[(&str, EntryKind)]| {
            let mut editor = repo.edit_tree(repo.empty_tree().id).unwrap();
            for (path, kind) in files {
                let id = repo.write_blob(path.split('=').nth(1).unwrap()).unwrap();
                editor.upsert(path.split('=').next().unwrap(), *kind, id).unwrap();
            }
            let tree = editor.write().unwrap().detach();
            let who = gix::actor::SignatureRef {
                name: "a".into(),
                email: "a@a".into(),
                time: "1700000000 +0000",
            };
            let parents = None::<ObjectId>;
            repo.new_commit_as(who, who, "c", tree, parents).unwrap().id
        };
        use EntryKind::{Blob, BlobExecutable, Link};
        let old = commit(&[
            ("a=1", Blob),
            ("b/c/d=1", Blob),
            ("b/e=1", Blob),
            ("f=1", Blob),
            ("g/h=1", Blob),
            ("i=1", Blob),
        ]);
        let new = commit(&[
            ("a=1", BlobExecutable),
            ("b/c/d=2", Blob),
            ("b/e=1", Blob),
            ("f/j=1", Blob),
            ("g=1", Link),
            ("k/l/m=1", Blob),
        ]);
        let list = |old, new| {
            let file = tmp.path().join("gitsocket/list");
            write(&repo, old, new, &file).unwrap();
            fs::read_to_string(file).unwrap().replace('\n', " ")
        };
        assert_eq!(list(Some(old), new), "a b/c/d f f/j g g/h i k/l/m ");
        assert_eq!(list(None, new), "a b/c/d b/e f/j g k/l/m ");
        assert_eq!(list(Some(repo.object_hash().null()), new), list(None, new));
        assert_eq!(list(Some(new), new), "");
    }

    #[test]
    fn quoting() {
        assert_eq!(quoted("a/ü b".into()), "a/ü b".as_bytes());
        assert_eq!(quoted("a\nb\"\\\u{1}".into()), b"\"a\\nb\\\"\\\\\\001\"");
    }
}
