//! Fetches from local repositories bring what they should, with gix as the client and git as the judge.
//!
//! Repositories are made with gix, so that no git is needed; where git is there, it packs the sources in all its
//! ways and judges the results.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this is a test")]
#![allow(unreachable_pub, reason = "a test binary has no public API")]

mod complete;
mod histories;
#[path = "../support/machine.rs"]
mod machine;
mod repo;

use std::collections::BTreeMap;

use gix::{
    hash::Kind,
    remote::fetch::{Shallow, Tags},
};
use repo::{HEADS, MIRROR, Repo, chain, depth, git, has_git, pair};

#[test]
fn full_then_incremental_then_nothing_new() {
    for hash in [Kind::Sha1, Kind::Sha256] {
        let (mut source, client) = (Repo::new(hash), Repo::new(hash));
        source.line(50);
        let all = source.closure();
        let count = client.follow(&source, Shallow::NoChange);
        assert_eq!(count, Some(all.len() as u32), "each object once");
        assert_eq!(client.closure(), all);

        source.line(1);
        let now = source.closure();
        let count = client.follow(&source, Shallow::NoChange);
        assert_eq!(count, Some((now.len() - all.len()) as u32), "only what is new");
        assert_eq!(client.closure(), now);

        assert_eq!(client.follow(&source, Shallow::NoChange), None);
        client.fsck();
    }
}

#[test]
fn a_force_push_is_followed() {
    let (mut source, client) = pair();
    let ids = source.line(20);
    client.follow(&source, Shallow::NoChange);
    source.set("refs/heads/main", ids[9]);
    source.line(5);
    client.follow(&source, Shallow::NoChange);
    assert_eq!(
        client.id("refs/remotes/origin/main"),
        source.id("refs/heads/main")
    );
    client.closure();
    client.fsck();
}

#[test]
fn wrong_clocks_lose_nothing() {
    let (mut source, client) = pair();
    let base = source.line(5)[4];
    client.follow(&source, Shallow::NoChange);
    // The parent claims to be younger than its child, which has nothing of what the parent adds.
    let mut files = source.files.clone();
    files.insert("new/dir/file".into(), "new".into());
    let parent = source.commit_at(&files, &[base], source.time + 10_000);
    let child = source.commit(&source.files.clone(), &[parent]);
    source.set("refs/heads/main", child);
    source.set("refs/heads/other", parent);
    // And one claims to be older than all, so that a common ancestor is met late.
    let old = source.commit_at(&source.files.clone(), &[child], 1000);
    source.set("refs/heads/old", old);
    client.follow(&source, Shallow::NoChange);
    client.closure();
    client.fsck();
}

#[test]
fn an_empty_repository_yields_nothing() {
    let (source, client) = pair();
    assert_eq!(client.follow(&source, Shallow::NoChange), None);
}

#[test]
fn depth_deepen_and_unshallow() {
    let (mut source, client) = pair();
    source.line(30);
    client.follow(&source, depth(1));
    assert_eq!(client.commits(), 1);
    client.fsck();

    source.line(3);
    let count = client.follow(&source, depth(1)).unwrap();
    assert!(
        count < 15,
        "an update at depth 1 does not send the whole tree again, but {count} objects"
    );
    client.fsck();

    client.follow(&source, depth(10));
    assert_eq!(
        client.id("refs/remotes/origin/main"),
        source.id("refs/heads/main")
    );
    assert_eq!(client.commits(), 10);
    client.fsck();

    client.follow(&source, Shallow::Deepen(4));
    assert_eq!(client.commits(), 14);
    client.fsck();

    client.follow(&source, Shallow::undo());
    assert_eq!(client.commits(), 33);
    assert!(!client.is_shallow());
    assert_eq!(client.closure(), source.closure());
    client.fsck();
}

#[test]
fn a_shallow_client_follows_without_a_depth() {
    let (mut source, client) = pair();
    source.line(10);
    client.follow(&source, depth(3));
    source.line(5);
    client.follow(&source, Shallow::NoChange);
    assert_eq!(client.commits(), 8);
    client.fsck();
}

#[test]
fn a_shallow_source_hands_its_boundary_on() {
    let (mut origin, source) = pair();
    origin.line(20);
    source
        .fetch(origin.path(), &[MIRROR], depth(5), Tags::None)
        .unwrap();
    assert_eq!(source.commits(), 5);

    let client = Repo::new(Kind::Sha1);
    client.follow(&source, Shallow::NoChange);
    assert_eq!(client.commits(), 5);
    client.fsck();

    let whole = Repo::new(Kind::Sha1);
    whole.follow(&origin, Shallow::NoChange);
    origin.line(2);
    source
        .fetch(origin.path(), &[MIRROR], Shallow::NoChange, Tags::None)
        .unwrap();
    whole.follow(&source, Shallow::NoChange);
    assert!(
        !whole.is_shallow(),
        "who has more history than the source keeps it"
    );
    assert_eq!(whole.commits(), 22);
}

#[test]
fn annotated_tags() {
    let (mut source, client) = pair();
    let ids = source.line(10);
    let inner = source.tag_object("v1", ids[4], gix::objs::Kind::Commit);
    source.set("refs/tags/v1", inner);
    let outer = source.tag_object("v1-signed", inner, gix::objs::Kind::Tag);
    source.set("refs/tags/v1-signed", outer);
    source.set("refs/tags/light", ids[2]);
    let blob = source.repo.write_blob("a key").unwrap().detach();
    source.set(
        "refs/tags/key",
        source.tag_object("key", blob, gix::objs::Kind::Blob),
    );

    client
        .fetch(source.path(), &[HEADS], Shallow::NoChange, Tags::Included)
        .unwrap();
    assert_eq!(client.id("refs/tags/v1"), inner);
    assert_eq!(client.id("refs/tags/v1-signed"), outer);
    assert_eq!(client.id("refs/tags/light"), ids[2]);
    client.closure();
    client.fsck();

    let all = Repo::new(Kind::Sha1);
    all.fetch(source.path(), &[HEADS], Shallow::NoChange, Tags::All)
        .unwrap();
    assert_eq!(all.closure(), source.closure());

    let one = Repo::new(Kind::Sha1);
    one.fetch(
        source.path(),
        &["+refs/tags/v1:refs/tags/v1"],
        depth(1),
        Tags::None,
    )
    .unwrap();
    assert_eq!(one.commits(), 1);
    assert_eq!(one.id("refs/tags/v1"), inner);
    one.fsck();
}

#[test]
fn a_detached_head_and_a_single_id() {
    let (mut source, client) = pair();
    let ids = source.line(10);
    std::fs::write(source.path().join("HEAD"), format!("{}\n", ids[3])).unwrap();
    client
        .fetch(
            source.path(),
            &["+HEAD:refs/remotes/origin/head"],
            Shallow::NoChange,
            Tags::None,
        )
        .unwrap();
    assert_eq!(client.id("refs/remotes/origin/head"), ids[3]);

    // An id that no ref points to.
    let lost = source.commit(&BTreeMap::from([("lost".into(), "found".into())]), &[ids[5]]);
    let spec = format!("{lost}:refs/heads/lost");
    client
        .fetch(source.path(), &[&spec], Shallow::NoChange, Tags::None)
        .unwrap();
    assert_eq!(client.id("refs/heads/lost"), lost);
    client.closure();
}

#[test]
fn the_unknown_is_an_error() {
    let (mut source, client) = pair();
    source.line(2);
    let spec = "0123456789012345678901234567890123456789:refs/heads/no";
    let err = client
        .fetch(source.path(), &[spec], Shallow::NoChange, Tags::None)
        .unwrap_err();
    let text = chain(&*err);
    assert!(
        text.contains("not our ref 0123456789012345678901234567890123456789"),
        "{text}"
    );
}

#[test]
fn what_is_missing_is_an_error() {
    use gix::objs::Kind as Object;
    for kind in [Object::Commit, Object::Tree, Object::Blob] {
        let (mut source, client) = pair();
        let ids = source.line(5);
        let commit = source.repo.find_commit(ids[2]).unwrap();
        let tree = commit.tree().unwrap();
        let victim = match kind {
            Object::Commit => ids[2],
            Object::Tree => tree.id,
            _ => tree
                .lookup_entry_by_path("dir0/sub0/file0")
                .unwrap()
                .unwrap()
                .object_id(),
        };
        let hex = victim.to_string();
        std::fs::remove_file(source.path().join("objects").join(&hex[..2]).join(&hex[2..])).unwrap();
        let err = client
            .fetch(source.path(), &[HEADS], Shallow::NoChange, Tags::None)
            .unwrap_err();
        let text = chain(&*err);
        assert!(text.contains(&hex) && text.contains("missing"), "{kind}: {text}");
        assert_eq!(client.tip("refs/remotes/origin/main"), None);
    }
}

#[test]
fn many_refs() {
    let (mut source, client) = pair();
    let ids = source.line(20);
    for i in 0..1000 {
        source.set(&format!("refs/heads/b{i:04}"), ids[i % ids.len()]);
    }
    client.follow(&source, Shallow::NoChange);
    let refs = client
        .repo
        .references()
        .unwrap()
        .remote_branches()
        .unwrap()
        .count();
    assert_eq!(refs, 1001);
    source.line(1);
    client.follow(&source, Shallow::NoChange);
    assert_eq!(
        client.id("refs/remotes/origin/main"),
        source.id("refs/heads/main")
    );
}

#[test]
fn worktrees_git_files_and_alternates_are_repositories_too() {
    if !has_git() {
        return;
    }
    let dir = machine::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    git(
        dir.path(),
        &["-c", "init.defaultBranch=main", "init", "-q", "main"],
    );
    std::fs::write(at("main/file"), "one").unwrap();
    git(&at("main"), &["add", "file"]);
    let commit = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "commit",
        "-qam",
    ];
    git(&at("main"), &[&commit[..], &["one"]].concat());
    git(&at("main"), &["worktree", "add", "-q", "-b", "side", "../linked"]);
    std::fs::write(at("linked/file"), "two").unwrap();
    git(&at("linked"), &[&commit[..], &["two"]].concat());
    git(dir.path(), &["clone", "-q", "-s", "main", "borrowing"]);
    // A replacement is nothing that is handed on.
    git(&at("main"), &["replace", "main", "side"]);
    let head = |name: &str| git(&at(name), &["rev-parse", "HEAD"]).trim().to_owned();
    for (path, head) in [
        ("main", head("main")),
        ("main/.git", head("main")),
        ("linked", head("linked")),
        ("linked/.git", head("linked")),
        ("borrowing", head("main")),
    ] {
        let client = Repo::new(Kind::Sha1);
        client
            .fetch(
                &at(path),
                &["+HEAD:refs/heads/got"],
                Shallow::NoChange,
                Tags::None,
            )
            .unwrap();
        assert_eq!(client.id("refs/heads/got").to_string(), head, "{path}");
        client.fsck();
    }
}
