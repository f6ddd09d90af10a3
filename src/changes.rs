//! Which files differ between two commits, as a list for hooks.

use std::{
    collections::HashMap,
    fs,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use gix::{
    ObjectId,
    bstr::{BStr, BString},
};

use crate::repository;

/// Write the paths that differ between the trees of the commits `old` and `new` to `file`, one a line, sorted.
///
/// Without `old`, or if its objects are no longer here, all files of `new` are listed. A path with a control
/// character, `"` or `\` is quoted as git quotes it (`core.quotePath=false`).
pub fn write(repo: &gix::Repository, old: Option<ObjectId>, new: ObjectId, file: &Path) -> io::Result<()> {
    let old = old.and_then(|old| files(repo, old).ok()).unwrap_or_default();
    let mut new = files(repo, new)?;
    let mut changed: Vec<BString> = Vec::new();
    for (path, entry) in old {
        match new.remove(&path) {
            Some(now) if now == entry => {}
            _ => changed.push(path),
        }
    }
    changed.extend(new.into_keys());
    changed.sort();

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

/// Every path of a commit's tree with its object and mode.
fn files(
    repo: &gix::Repository,
    commit: ObjectId,
) -> io::Result<HashMap<BString, (ObjectId, gix::index::entry::Mode)>> {
    let read = || -> Result<_, gix::Error> {
        let tree = repo.find_commit(commit)?.tree_id()?;
        repo.index_from_tree(&tree)
    };
    let index = read().map_err(|err| io::Error::other(repository::reason(&err)))?;
    Ok(index
        .entries()
        .iter()
        .map(|entry| (entry.path(&index).to_owned(), (entry.id, entry.mode)))
        .collect())
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
mod tests {
    use super::*;

    #[test]
    fn quoting() {
        assert_eq!(quoted("a/ü b".into()), "a/ü b".as_bytes());
        assert_eq!(quoted("a\nb\"\\\u{1}".into()), b"\"a\\nb\\\"\\\\\\001\"");
    }
}
