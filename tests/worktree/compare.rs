//! What is in a directory and in an index, to be compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};

/// Everything below a directory but its own `.git`: type, permissions, content.
pub fn snapshot(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(root, "", &mut found);
    found
}

pub fn collect(dir: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if prefix.is_empty() && name == ".git" {
            continue;
        }
        let path = format!("{prefix}{name}");
        let meta = entry.metadata().unwrap();
        let kind = meta.file_type();
        let mode = meta.permissions().mode() & 0o7777;
        let what = if kind.is_symlink() {
            format!("link {}", fs::read_link(entry.path()).unwrap().display())
        } else if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), found);
            format!("dir {mode:o}")
        } else if kind.is_fifo() {
            "fifo".into()
        } else {
            let bytes = fs::read(entry.path()).unwrap();
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            format!("file {mode:o} {} {shown:?}", bytes.len())
        };
        found.insert(path, what);
    }
}

#[track_caller]
pub fn same(git: &BTreeMap<String, String>, ours: &BTreeMap<String, String>, label: &str) {
    let mut differences = Vec::new();
    for path in git.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        let (git, ours) = (git.get(path), ours.get(path));
        if git != ours {
            differences.push(format!("{path}\n  git:  {git:?}\n  ours: {ours:?}"));
        }
    }
    assert!(differences.is_empty(), "{}\n{label}", differences.join("\n"));
}

/// That the index's cached tree is `id`, all the way down. Says how many files are in it.
pub fn cached_tree(repo: &gix::Repository, cached: &gix::index::extension::Tree, id: gix::ObjectId) -> u32 {
    assert_eq!(cached.id, id);
    let tree = repo.find_tree(id).unwrap();
    let (mut children, mut count) = (cached.children.iter(), 0);
    let mut trees: Vec<_> = Vec::new();
    for entry in tree.iter().map(Result::unwrap) {
        if entry.mode().is_tree() {
            trees.push((entry.filename().to_owned(), entry.object_id()))
        } else {
            count += 1
        }
    }
    trees.sort();
    for (name, id) in trees {
        let child = children.next().unwrap();
        assert_eq!(name, child.name.as_slice());
        count += cached_tree(repo, child, id);
    }
    assert!(children.next().is_none());
    assert_eq!(cached.num_entries, Some(count));
    count
}
