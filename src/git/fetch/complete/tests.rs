//! Histories with holes, made by hand.

use gix::{
    objs::{
        Tag, Tree,
        tree::{Entry, EntryKind},
    },
    refs::transaction::PreviousValue,
};

use super::*;

struct Repo {
    dir: tempfile::TempDir,
    repo: gix::Repository,
    time: i64,
}

impl Repo {
    fn new() -> Self {
        let dir = crate::machine::tempdir().unwrap();
        let repo = gix::init_bare(dir.path()).unwrap();
        Self {
            dir,
            repo,
            time: 1_700_000_000,
        }
    }

    fn blob(&self, text: &str) -> ObjectId {
        self.repo.write_blob(text).unwrap().detach()
    }

    fn tree(&self, entries: &[(&str, EntryKind, ObjectId)]) -> ObjectId {
        let mut entries: Vec<_> = entries
            .iter()
            .map(|(name, kind, oid)| Entry {
                mode: (*kind).into(),
                filename: (*name).into(),
                oid: *oid,
            })
            .collect();
        entries.sort();
        self.repo.write_object(&Tree { entries }).unwrap().detach()
    }

    fn commit(&mut self, tree: ObjectId, parents: &[ObjectId]) -> ObjectId {
        self.time += 60;
        self.commit_at(self.time, tree, parents)
    }

    fn commit_at(&self, time: i64, tree: ObjectId, parents: &[ObjectId]) -> ObjectId {
        let who = gix::actor::Signature {
            name: "a".into(),
            email: "a@a".into(),
            time: gix::date::Time::new(time, 0),
        };
        let commit = gix::objs::Commit {
            tree,
            parents: parents.iter().copied().collect(),
            author: who.clone(),
            committer: who,
            encoding: None,
            message: "c".into(),
            extra_headers: Vec::new(),
        };
        self.repo.write_object(&commit).unwrap().detach()
    }

    fn lose(&self, id: ObjectId) {
        let hex = id.to_string();
        let path = self.dir.path().join("objects").join(&hex[..2]).join(&hex[2..]);
        std::fs::remove_file(path).unwrap();
    }

    fn check(&self, tip: ObjectId, known: &[ObjectId]) -> Option<ObjectId> {
        let repo = gix::open(self.dir.path()).unwrap();
        check(&repo, &[tip], known, &AtomicBool::new(false))
            .err()
            .map(|missing| missing.id)
    }
}

use EntryKind::{Blob, Commit as Submodule, Tree as Dir};

#[test]
fn holes_are_found_wherever_they_are() {
    let mut repo = Repo::new();
    let (a, b) = (repo.blob("a"), repo.blob("b"));
    let deep = repo.tree(&[("a", Blob, a)]);
    let sub = repo.tree(&[("deep", Dir, deep), ("b", Blob, b)]);
    let elsewhere = ObjectId::from_hex(&[b'7'; 40]).unwrap();
    let old_blob = repo.blob("old");
    let old_tree = repo.tree(&[("sub", Dir, sub), ("x", Blob, old_blob)]);
    let first = repo.commit(old_tree, &[]);
    let new_blob = repo.blob("new");
    let new_tree = repo.tree(&[
        ("sub", Dir, sub),
        ("x", Blob, new_blob),
        ("y", Submodule, elsewhere),
    ]);
    let second = repo.commit(new_tree, &[first]);
    let tag = Tag {
        target: second,
        target_kind: Kind::Commit,
        name: "t".into(),
        tagger: None,
        message: "t".into(),
        signature: None,
    };
    let tag = repo.repo.write_object(&tag).unwrap().detach();
    for tip in [second, tag] {
        assert_eq!(repo.check(tip, &[]), None);
        assert_eq!(repo.check(tip, &[first]), None);
    }
    let everything = [
        a, b, deep, sub, old_blob, old_tree, first, new_blob, new_tree, second,
    ];
    let new = [new_blob, new_tree, second];
    for id in everything {
        let hex = id.to_string();
        let path = repo.dir.path().join("objects").join(&hex[..2]).join(&hex[2..]);
        let bytes = std::fs::read(&path).unwrap();
        repo.lose(id);
        assert_eq!(repo.check(second, &[]), Some(id));
        assert_eq!(repo.check(tag, &[]), Some(id));
        let missed = repo.check(second, &[first]);
        assert_eq!(missed.is_some(), new.contains(&id) || id == first, "{id}");
        std::fs::write(&path, bytes).unwrap();
    }
    let missing = check(&repo.repo, &[second], &[], &AtomicBool::new(false));
    assert_eq!(missing, Ok(()));
    repo.lose(a);
    let missing = check(
        &gix::open(repo.dir.path()).unwrap(),
        &[second],
        &[],
        &AtomicBool::new(false),
    )
    .unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!(
            "the blob {a} (\"sub/deep/a\") of commit {} is missing",
            second.to_hex_with_len(7)
        )
    );
}

/// Neither the walk over what is known, nor that over what is new, nor that over trees goes on.
#[test]
fn the_end_of_the_time_ends_each_walk() {
    let mut repo = Repo::new();
    let file = repo.blob("a");
    let tree = repo.tree(&[("a", Blob, file)]);
    let old = repo.commit(tree, &[]);
    let new = repo.commit(tree, &[old]);
    for (tip, known, kind) in [
        (new, [old].as_slice(), Kind::Commit),
        (new, &[], Kind::Commit),
        (tree, &[], Kind::Tree),
    ] {
        let late = check(&repo.repo, &[tip], known, &AtomicBool::new(true)).unwrap_err();
        assert_eq!(late.kind, kind, "{late}");
        assert!(late.to_string().ends_with(": no time was left for it"), "{late}");
    }
}

/// A commit that brings back what an older one had does not vouch for it.
#[test]
fn there_and_back() {
    let mut repo = Repo::new();
    let (gone, one, two) = (repo.blob("gone"), repo.blob("1"), repo.blob("2"));
    let known_tree = repo.tree(&[("z", Blob, one)]);
    let known = repo.commit(known_tree, &[]);
    let dir = repo.tree(&[("gone", Blob, gone), ("x", Blob, one)]);
    let other = repo.tree(&[("gone", Blob, gone), ("x", Blob, two)]);
    let (t, a) = (repo.tree(&[("d", Dir, dir)]), repo.tree(&[("d", Dir, other)]));
    let mut at = known;
    for tree in [t, a, t, a, t] {
        at = repo.commit(tree, &[at]);
    }
    assert_eq!(repo.check(at, &[known]), None);
    repo.lose(gone);
    assert_eq!(repo.check(at, &[known]), Some(gone));
}

/// Clocks that were wrong cost time, no more.
#[test]
fn commits_of_the_wrong_time() {
    let repo = Repo::new();
    let tree = repo.tree(&[]);
    let mut line = vec![repo.commit_at(5_000, tree, &[])];
    for time in [9, 7_000, 3, 8_000, 1] {
        let last = *line.last().unwrap();
        line.push(repo.commit_at(time, tree, &[last]));
    }
    for known in &line {
        assert_eq!(repo.check(*line.last().unwrap(), &[*known]), None);
    }
    repo.lose(line[3]);
    assert_eq!(repo.check(line[5], &[line[0]]), Some(line[3]));
}

#[test]
fn history_ends_where_it_is_cut() {
    let mut repo = Repo::new();
    let tree = repo.tree(&[]);
    let first = repo.commit(tree, &[]);
    let second = repo.commit(tree, &[first]);
    let third = repo.commit(tree, &[second]);
    repo.lose(first);
    assert_eq!(repo.check(third, &[]), Some(first));
    std::fs::write(repo.dir.path().join("shallow"), format!("{second}\n")).unwrap();
    assert_eq!(repo.check(third, &[]), None);
}

#[test]
fn any_depth_and_many_commits() {
    let mut repo = Repo::new();
    let mut tree = repo.tree(&[]);
    for _ in 0..3_000 {
        tree = repo.tree(&[("d", Dir, tree)]);
    }
    let mut tip = repo.commit(tree, &[]);
    for n in 0..300 {
        let blob = repo.blob(&n.to_string());
        let tree = repo.tree(&[("x", Blob, blob)]);
        tip = repo.commit(tree, &[tip]);
    }
    assert_eq!(repo.check(tip, &[]), None);
    let lost = repo.blob("150");
    repo.lose(lost);
    assert_eq!(repo.check(tip, &[]), Some(lost));
    repo.repo
        .reference("refs/heads/x", tip, PreviousValue::Any, "x")
        .unwrap();
}
