//! Fetches from local repositories through the transport that gitsocket uses, with gix as the client.
//!
//! Repositories are made with gix, so that no git is needed; where git is there, it packs the sources in all its
//! ways and judges the results.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "support/machine.rs"]
mod machine;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    path::Path,
    process::Command,
    sync::atomic::AtomicBool,
    time::Duration,
};

use gitsocket::{
    base::{name::RepoUrl, report::Reporter},
    config::{Auth, Tls},
    git::transport::{self, Connections, Deadline, Options},
};
use gix::{
    ObjectId,
    hash::Kind,
    objs::{Commit, Tag, Tree, tree},
    progress::Discard,
    refs::transaction::PreviousValue,
    remote::{
        Direction,
        fetch::{Shallow, Status, Tags},
    },
};
use tempfile::TempDir;

const HEADS: &str = "+refs/heads/*:refs/remotes/origin/*";
const MIRROR: &str = "+refs/heads/*:refs/heads/*";

type Error = Box<dyn std::error::Error>;

/// A repository and what it takes to add history to it.
struct Repo {
    dir: TempDir,
    repo: gix::Repository,
    time: i64,
    files: BTreeMap<String, String>,
}

fn isolated() -> gix::open::Options {
    gix::open::Options::isolated()
        .with(gix::sec::Trust::Full)
        .config_overrides(["committer.name=t", "committer.email=t@example.org"])
}

fn depth(depth: u32) -> Shallow {
    Shallow::DepthAtRemote(NonZeroU32::new(depth).unwrap())
}

impl Repo {
    fn new(hash: Kind) -> Self {
        let dir = TempDir::new().unwrap();
        let how = gix::create::Options {
            object_hash: Some(hash),
            ..Default::default()
        };
        let repo = gix::ThreadSafeRepository::init_opts(dir.path(), gix::create::Kind::Bare, how, isolated())
            .unwrap();
        let files = (0..10)
            .map(|i| {
                (
                    format!("dir{}/sub{}/file{i}", i % 3, i % 2),
                    format!("file {i}\n").repeat(20),
                )
            })
            .collect();
        Self {
            dir,
            repo: repo.to_thread_local(),
            time: 1_700_000_000,
            files,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A commit of `files`, whose paths may have directories.
    fn commit(&mut self, files: &BTreeMap<String, String>, parents: &[ObjectId]) -> ObjectId {
        self.time += 60;
        self.commit_at(files, parents, self.time)
    }

    fn commit_at(&self, files: &BTreeMap<String, String>, parents: &[ObjectId], seconds: i64) -> ObjectId {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let who = gix::actor::Signature {
            name: "t".into(),
            email: "t@example.org".into(),
            time: gix::date::Time { seconds, offset: 0 },
        };
        let commit = Commit {
            tree: self.tree(&files),
            parents: parents.iter().copied().collect(),
            author: who.clone(),
            committer: who,
            encoding: None,
            message: format!("at {seconds}\n").into(),
            extra_headers: Vec::new(),
        };
        self.repo.write_object(&commit).unwrap().detach()
    }

    fn tree(&self, files: &[(&str, &str)]) -> ObjectId {
        let mut here = BTreeMap::new();
        let mut below = BTreeMap::<&str, Vec<(&str, &str)>>::new();
        for (path, text) in files {
            match path.split_once('/') {
                Some((dir, rest)) => below.entry(dir).or_default().push((rest, text)),
                None => {
                    let id = self.repo.write_blob(text).unwrap().detach();
                    here.insert(*path, (tree::EntryKind::Blob, id));
                }
            }
        }
        for (dir, files) in below {
            here.insert(dir, (tree::EntryKind::Tree, self.tree(&files)));
        }
        let mut entries: Vec<_> = here
            .into_iter()
            .map(|(name, (kind, oid))| tree::Entry {
                mode: kind.into(),
                filename: name.into(),
                oid,
            })
            .collect();
        entries.sort();
        self.repo.write_object(&Tree { entries }).unwrap().detach()
    }

    fn tag_object(&self, name: &str, target: ObjectId, target_kind: gix::objs::Kind) -> ObjectId {
        let tag = Tag {
            target,
            target_kind,
            name: name.into(),
            tagger: None,
            message: "tag\n".into(),
            signature: None,
        };
        self.repo.write_object(&tag).unwrap().detach()
    }

    fn set(&self, name: &str, id: ObjectId) {
        self.repo.reference(name, id, PreviousValue::Any, "test").unwrap();
    }

    fn id(&self, name: &str) -> ObjectId {
        self.repo.find_reference(name).unwrap().id().detach()
    }

    fn tip(&self, name: &str) -> Option<ObjectId> {
        let found = self.repo.try_find_reference(name).unwrap();
        found.map(|reference| reference.id().detach())
    }

    /// `n` more commits on `refs/heads/main`, each with a change to one of a few files in directories.
    fn line(&mut self, n: usize) -> Vec<ObjectId> {
        let mut files = self.files.clone();
        let mut ids: Vec<ObjectId> = self.tip("refs/heads/main").into_iter().collect();
        let known = ids.len();
        for i in 0..n {
            let key = files.keys().nth(i % 10).unwrap().clone();
            files
                .get_mut(&key)
                .unwrap()
                .push_str(&format!("changed {i} {}\n", self.time));
            let parents: Vec<_> = ids.last().copied().into_iter().collect();
            ids.push(self.commit(&files, &parents));
        }
        self.set("refs/heads/main", *ids.last().unwrap());
        self.files = files;
        ids.split_off(known)
    }

    /// Fetch as gitsocket does: the number of objects in the pack, or none if there was no pack.
    fn fetch(&self, from: &Path, specs: &[&str], shallow: Shallow, tags: Tags) -> Result<Option<u32>, Error> {
        let url = RepoUrl::parse(from.to_str().unwrap(), Path::new("/"))?;
        let options = Options {
            deadline: Deadline::new(Duration::from_secs(60)),
            auth: &Auth::None,
            tls: &Tls::default(),
            report: &Reporter::new(|_| {}),
            connections: &Connections::new(Duration::ZERO),
            offers: None,
            scratch: &std::env::temp_dir(),
        };
        let transport = transport::connect(&url, &options)?;
        // Opened anew, as for each run.
        let repo = gix::open_opts(self.path(), isolated())?;
        let outcome = repo
            .remote_at(url.with_secrets().clone())?
            .with_fetch_tags(tags)
            .with_refspecs(specs, Direction::Fetch)?
            .to_connection_with_transport(transport)
            .with_credentials(|_| Ok(None))
            .prepare_fetch(Discard, Default::default())?
            .with_shallow(shallow)
            .receive(Discard, &AtomicBool::new(false))?;
        Ok(match outcome.status {
            Status::NoPackReceived { .. } => None,
            Status::Change {
                write_pack_bundle, ..
            } => Some(write_pack_bundle.index.num_objects),
        })
    }

    fn follow(&self, from: &Repo, shallow: Shallow) -> Option<u32> {
        self.fetch(from.path(), &[HEADS], shallow, Tags::None).unwrap()
    }

    /// Everything that the refs lead to, down to the shallow boundary; panics if anything is missing.
    fn closure(&self) -> BTreeMap<ObjectId, gix::objs::Kind> {
        // Not the handle that fetched: what counts is what is on disk.
        let repo = gix::open_opts(self.path(), isolated()).unwrap();
        let cut: BTreeSet<_> = match repo.shallow_commits().unwrap() {
            Some(commits) => commits.iter().copied().collect(),
            None => BTreeSet::new(),
        };
        let mut stack: Vec<ObjectId> = Vec::new();
        for reference in repo.references().unwrap().all().unwrap() {
            stack.extend(reference.unwrap().try_id().map(gix::Id::detach));
        }
        let mut seen = BTreeMap::new();
        while let Some(id) = stack.pop() {
            if seen.contains_key(&id) {
                continue;
            }
            let object = repo
                .find_object(id)
                .unwrap_or_else(|err| panic!("{id} is missing: {err}"));
            seen.insert(id, object.kind);
            match object.kind {
                gix::objs::Kind::Commit => {
                    let commit = object.into_commit();
                    stack.push(commit.tree_id().unwrap().detach());
                    if !cut.contains(&id) {
                        stack.extend(commit.parent_ids().map(gix::Id::detach));
                    }
                }
                gix::objs::Kind::Tree => {
                    stack.extend(object.into_tree().iter().map(|entry| entry.unwrap().object_id()));
                }
                gix::objs::Kind::Tag => stack.push(object.into_tag().target_id().unwrap().detach()),
                gix::objs::Kind::Blob => {}
            }
        }
        seen
    }

    fn commits(&self) -> usize {
        self.closure()
            .values()
            .filter(|kind| **kind == gix::objs::Kind::Commit)
            .count()
    }

    fn is_shallow(&self) -> bool {
        self.path().join("shallow").exists()
    }

    /// git's own opinion, where it is there.
    fn fsck(&self) {
        if has_git() {
            git(self.path(), &["fsck", "--strict", "--full", "--no-dangling"]);
            git(self.path(), &["rev-list", "--objects", "--all", "--quiet"]);
        }
    }
}

fn has_git() -> bool {
    machine::have("git")
}

fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", dir)
        .args(args)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    let stdout = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "git {args:?}: {stdout}{stderr}");
    stdout.into_owned()
}

fn pair() -> (Repo, Repo) {
    (Repo::new(Kind::Sha1), Repo::new(Kind::Sha1))
}

/// An error with all its causes.
fn chain(err: &dyn std::error::Error) -> String {
    let mut text = format!("{err:?}");
    let mut source = err.source();
    while let Some(err) = source {
        text.push_str(&format!(": {err}"));
        source = err.source();
    }
    text
}

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
    let dir = TempDir::new().unwrap();
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

#[test]
fn a_repack_in_the_middle_loses_nothing() {
    if !has_git() {
        return;
    }
    for packed in [false, true] {
        let (mut source, client) = pair();
        source.line(30);
        if packed {
            git(source.path(), &["repack", "-dq"]);
            source.line(30);
        }
        let mut answer = Meddler {
            source: source.path(),
            done: false,
            bytes: Vec::new(),
        };
        let want = format!("want {}", source.id("refs/heads/main"));
        let lines = ["command=fetch", &want, "done"].map(|line| format!("{:04x}{line}", line.len() + 4));
        let request = format!("{}0001{}{}0000", lines[0], lines[1], lines[2]);
        let repo = gix::open_opts(source.path(), isolated()).unwrap();
        gitsocket::git::upload_pack::serve(
            repo,
            request.as_bytes(),
            &mut answer,
            scratch(),
            &AtomicBool::new(false),
        )
        .unwrap();
        assert!(answer.done);

        // Its name is of no importance; without its objects all being there, --strict fails.
        let received = client.path().join("objects/pack/pack-received.pack");
        std::fs::write(&received, pack_of(&answer.bytes)).unwrap();
        git(
            client.path(),
            &["index-pack", "--strict", received.to_str().unwrap()],
        );
        client.set("refs/heads/main", source.id("refs/heads/main"));
        assert_eq!(client.closure(), source.closure());
    }
}

/// Repacks the source as soon as it is about to send a pack.
struct Meddler<'a> {
    source: &'a Path,
    done: bool,
    bytes: Vec<u8>,
}

impl std::io::Write for Meddler<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if !self.done && self.bytes.windows(8).any(|part| part == b"Counting") {
            self.done = true;
            git(self.source, &["repack", "-adfq"]);
            git(self.source, &["prune-packed", "-q"]);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The pack in an answer to `fetch`.
fn pack_of(mut answer: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !answer.is_empty() {
        let len = usize::from_str_radix(std::str::from_utf8(&answer[..4]).unwrap(), 16)
            .unwrap()
            .max(4);
        if answer[..len].get(4) == Some(&1) {
            out.extend_from_slice(&answer[5..len]);
        }
        answer = &answer[len..];
    }
    out
}

/// What the client does not notice while it reads the pack, it notices when it looks whether all has come.
#[test]
fn damage_is_an_error_and_nothing_worse() {
    if !has_git() {
        return;
    }
    // With the first of these, an object of another content came, and the one that was wanted did not.
    for seed in [15519611900755598959, fastrand::u64(..)] {
        eprintln!("SEED={seed}");
        damage(fastrand::Rng::with_seed(seed));
    }
}

fn damage(mut rng: fastrand::Rng) {
    let (mut source, _) = pair();
    source.line(30);
    git(source.path(), &["repack", "-adfq"]);
    let packs = std::fs::read_dir(source.path().join("objects/pack")).unwrap();
    let pack = packs
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ext| ext == "pack"));
    let pack = pack.unwrap();
    let whole = std::fs::read(&pack).unwrap();
    std::fs::remove_file(&pack).unwrap();
    let mut failed = 0;
    for _ in 0..40 {
        let mut bytes = whole.clone();
        bytes[rng.usize(12..whole.len() - 20)] ^= 1 << rng.u8(..8);
        std::fs::write(&pack, bytes).unwrap();
        let client = Repo::new(Kind::Sha1);
        let fetched = client.fetch(source.path(), &[HEADS], Shallow::NoChange, Tags::None);
        let repo = gix::open_opts(client.path(), isolated()).unwrap();
        let is_complete = || {
            let tip = client.id("refs/remotes/origin/main");
            gitsocket::git::fetch::complete::check(
                &repo,
                &[tip],
                &[],
                &std::sync::atomic::AtomicBool::new(false),
            )
            .is_ok()
        };
        match fetched.is_ok() && is_complete() {
            true => drop(client.closure()),
            false => failed += 1,
        }
    }
    assert!(failed > 0);
}

/// git itself as the client: `git://` is one packet line before the conversation that is served.
#[test]
fn git_understands() {
    if !has_git() {
        return;
    }
    let (mut source, client) = pair();
    let ids = source.line(20);
    source.set(
        "refs/tags/v1",
        source.tag_object("v1", ids[15], gix::objs::Kind::Commit),
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/source", listener.local_addr().unwrap());
    let path = source.path().to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut length = [0; 4];
            std::io::Read::read_exact(&mut &stream, &mut length).unwrap();
            let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
            std::io::Read::read_exact(&mut &stream, &mut vec![0; length - 4]).unwrap();
            let repo = gix::open_opts(&path, isolated()).unwrap();
            let _ = gitsocket::git::upload_pack::serve(
                repo,
                &stream,
                &stream,
                scratch(),
                &AtomicBool::new(false),
            );
        }
    });
    let fetch = |args: &[&str]| {
        git(client.path(), &[&["fetch", "-q"], args, &[&url, HEADS]].concat());
        client.fsck();
        client.commits()
    };
    assert_eq!(fetch(&["--depth=3"]), 3);
    assert_eq!(fetch(&["--depth=5"]), 5);
    assert_eq!(client.id("refs/tags/v1"), source.id("refs/tags/v1"));
    assert_eq!(fetch(&["--deepen=2"]), 7);
    source.line(2);
    assert_eq!(fetch(&[]), 9);
    assert_eq!(fetch(&["--unshallow"]), 22);
    assert!(!client.is_shallow());
    assert_eq!(fetch(&[]), 22);
    let ls = git(client.path(), &["ls-remote", "--symref", &url]);
    assert!(
        ls.contains("ref: refs/heads/main\tHEAD") && ls.contains("refs/tags/v1^{}"),
        "{ls}"
    );
    let lost = Command::new("git")
        .current_dir(client.path())
        .args(["fetch", &url, "1111111111111111111111111111111111111111"])
        .output()
        .unwrap();
    let lost = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(lost.contains("not our ref 1111"), "{lost}");
}

/// Random histories, packed in all the ways that git has, fetched by clients of several depths, again and again.
#[test]
fn random_histories() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = number("ROUNDS").unwrap_or(6);
    eprintln!("SEED={seed} ROUNDS={rounds}");
    let git_is_there = has_git();
    let mut rng = fastrand::Rng::with_seed(seed);
    let hash = if rng.bool() { Kind::Sha1 } else { Kind::Sha256 };
    let mut source = Repo::new(hash);
    let clients = [None, Some(1), Some(3)].map(|depth| (depth, Repo::new(hash)));
    for round in 0..rounds {
        grow(&mut source, &mut rng);
        if git_is_there {
            pack(&source, &mut rng);
        }
        for (limit, client) in &clients {
            let shallow = match limit {
                // Now and then go on without a depth, deepen, or take all.
                Some(_) if rng.u8(..8) == 0 => Shallow::NoChange,
                Some(_) if rng.u8(..8) == 0 => Shallow::Deepen(2),
                Some(_) if rng.u8(..16) == 0 => Shallow::undo(),
                Some(limit) => depth(*limit),
                None => Shallow::NoChange,
            };
            let what = format!("round {round}, {limit:?}, {shallow:?}");
            let specs = [MIRROR, "+refs/tags/*:refs/tags/*"];
            client
                .fetch(source.path(), &specs, shallow, Tags::None)
                .unwrap_or_else(|err| panic!("{what}: {}", chain(&*err)));
            client.closure();
            for reference in source.repo.references().unwrap().all().unwrap() {
                let reference = reference.unwrap();
                let name = reference.name().as_bstr().to_string();
                assert_eq!(client.id(&name), reference.id().detach(), "{what}: {name}");
            }
            client.fsck();
        }
    }
}

/// Add commits, merges and tags, and move branches, not always forward.
fn grow(source: &mut Repo, rng: &mut fastrand::Rng) {
    let names: Vec<_> = (0..4).map(|i| format!("refs/heads/b{i}")).collect();
    let mut commits: Vec<ObjectId> = names.iter().filter_map(|name| source.tip(name)).collect();
    for _ in 0..rng.usize(1..20) {
        let mut files = BTreeMap::new();
        for i in 0..rng.usize(1..20) {
            let dir = ["", "a/", "a/b/", "c/d/e/"][rng.usize(..4)];
            files.insert(format!("{dir}f{i}"), format!("{}\n", rng.u8(..30)).repeat(50));
        }
        let mut parents = Vec::new();
        for _ in 0..[1, 1, 1, 2, 2, 3, 0][rng.usize(..7)] {
            if let Some(parent) = rng.choice(&commits).copied().filter(|id| !parents.contains(id)) {
                parents.push(parent);
            }
        }
        source.time += 60;
        // Clocks are wrong at times.
        let skew = if rng.u8(..3) == 0 { rng.i64(-5000..5000) } else { 0 };
        commits.push(source.commit_at(&files, &parents, source.time + skew));
    }
    for name in &names {
        if rng.bool() || name == "refs/heads/b0" {
            source.set(name, *rng.choice(&commits).unwrap());
        }
    }
    if rng.bool() {
        let name = format!("refs/tags/t{}", rng.u8(..20));
        let target = *rng.choice(&commits).unwrap();
        source.set(&name, source.tag_object("t", target, gix::objs::Kind::Commit));
    }
}

fn pack(source: &Repo, rng: &mut fastrand::Rng) {
    let how: &[&str] = match rng.u8(..7) {
        0 => &["repack", "-adfq"],
        1 => &["gc", "-q", "--prune=now"],
        2 => &["repack", "-dq"],
        3 => &["pack-refs", "--all"],
        4 => &["repack", "-dq", "--write-midx"],
        5 => &["-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq"],
        _ => return,
    };
    git(source.path(), how);
}

/// Beside git's own fetch. Only the release profile says something:
/// `cargo test --release --test upload_pack -- --ignored --nocapture measure`
#[test]
#[ignore = "a measurement"]
fn measure() {
    if !has_git() {
        return;
    }
    let commits = std::env::var("COMMITS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5000);
    let (source, client) = pair();
    import(&source, 0, commits);
    git(source.path(), &["repack", "-adfq"]);
    let theirs = TempDir::new().unwrap();
    git(theirs.path(), &["init", "-q", "--bare"]);
    let from = source.path().to_str().unwrap().to_owned();
    let timed = |what: &str, run: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        run();
        eprintln!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
    };
    for round in ["full", "ten commits", "nothing new"] {
        if round == "ten commits" {
            import(&source, commits, 10);
        }
        timed(&format!("{round}, gitsocket"), &mut || {
            client.follow(&source, Shallow::NoChange);
        });
        timed(&format!("{round}, git"), &mut || {
            git(theirs.path(), &["fetch", "-q", &from, HEADS]);
        });
    }
    for how in ["gitsocket", "git"] {
        let client = Repo::new(Kind::Sha1);
        timed(&format!("depth 1, {how}"), &mut || match how {
            "git" => {
                let from = format!("file://{from}");
                git(client.path(), &["fetch", "-q", "--depth=1", &from, HEADS]);
            }
            _ => {
                client.follow(&source, depth(1));
            }
        });
    }
}

/// Add commits to `main` by git's fast-import: 2000 files, three of which change in each commit.
fn import(source: &Repo, from: usize, count: usize) {
    use std::io::Write;
    let mut child = Command::new("git")
        .current_dir(source.path())
        .args(["fast-import", "--quiet"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = std::io::BufWriter::new(child.stdin.take().unwrap());
    for commit in from..from + count {
        let time = 1_700_000_000 + commit * 60;
        write!(
            input,
            "commit refs/heads/main\ncommitter t <t@example.org> {time} +0000\ndata 2\nx\n"
        )
        .unwrap();
        if commit == from && from > 0 {
            writeln!(input, "from refs/heads/main^0").unwrap();
        }
        let files: Vec<_> = match commit {
            0 => (0..2000).collect(),
            _ => (0..3).map(|i| (commit * 7 + i * 311) % 2000).collect(),
        };
        for i in files {
            let text = format!("{i}\n").repeat(100) + &format!("changed by {commit}\n");
            writeln!(
                input,
                "M 644 inline d{}/e{}/f{i}\ndata {}\n{text}",
                i % 40,
                i % 7,
                text.len()
            )
            .unwrap();
        }
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

fn scratch() -> gitsocket::git::large::Scratch {
    gitsocket::git::large::Scratch::new(&std::env::temp_dir())
}
