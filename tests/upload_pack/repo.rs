//! A repository that is made with gix, and fetches as gitsocket does.

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

use super::machine;

pub const HEADS: &str = "+refs/heads/*:refs/remotes/origin/*";
pub const MIRROR: &str = "+refs/heads/*:refs/heads/*";

pub type Error = Box<dyn std::error::Error>;

/// A repository and what it takes to add history to it.
pub struct Repo {
    dir: TempDir,
    pub repo: gix::Repository,
    pub time: i64,
    pub files: BTreeMap<String, String>,
}

pub fn isolated() -> gix::open::Options {
    gix::open::Options::isolated()
        .with(gix::sec::Trust::Full)
        .config_overrides(["committer.name=t", "committer.email=t@example.org"])
}

pub fn depth(depth: u32) -> Shallow {
    Shallow::DepthAtRemote(NonZeroU32::new(depth).unwrap())
}

impl Repo {
    pub fn new(hash: Kind) -> Self {
        let dir = crate::machine::tempdir().unwrap();
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

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A commit of `files`, whose paths may have directories.
    pub fn commit(&mut self, files: &BTreeMap<String, String>, parents: &[ObjectId]) -> ObjectId {
        self.time += 60;
        self.commit_at(files, parents, self.time)
    }

    pub fn commit_at(
        &self,
        files: &BTreeMap<String, String>,
        parents: &[ObjectId],
        seconds: i64,
    ) -> ObjectId {
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

    pub fn tree(&self, files: &[(&str, &str)]) -> ObjectId {
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

    pub fn tag_object(&self, name: &str, target: ObjectId, target_kind: gix::objs::Kind) -> ObjectId {
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

    pub fn set(&self, name: &str, id: ObjectId) {
        self.repo.reference(name, id, PreviousValue::Any, "test").unwrap();
    }

    pub fn id(&self, name: &str) -> ObjectId {
        self.repo.find_reference(name).unwrap().id().detach()
    }

    pub fn tip(&self, name: &str) -> Option<ObjectId> {
        let found = self.repo.try_find_reference(name).unwrap();
        found.map(|reference| reference.id().detach())
    }

    /// `n` more commits on `refs/heads/main`, each with a change to one of a few files in directories.
    pub fn line(&mut self, n: usize) -> Vec<ObjectId> {
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
    pub fn fetch(
        &self,
        from: &Path,
        specs: &[&str],
        shallow: Shallow,
        tags: Tags,
    ) -> Result<Option<u32>, Error> {
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

    pub fn follow(&self, from: &Repo, shallow: Shallow) -> Option<u32> {
        self.fetch(from.path(), &[HEADS], shallow, Tags::None).unwrap()
    }

    /// Everything that the refs lead to, down to the shallow boundary; panics if anything is missing.
    pub fn closure(&self) -> BTreeMap<ObjectId, gix::objs::Kind> {
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

    pub fn commits(&self) -> usize {
        self.closure()
            .values()
            .filter(|kind| **kind == gix::objs::Kind::Commit)
            .count()
    }

    pub fn is_shallow(&self) -> bool {
        self.path().join("shallow").exists()
    }

    /// git's own opinion, where it is there.
    pub fn fsck(&self) {
        if has_git() {
            git(self.path(), &["fsck", "--strict", "--full", "--no-dangling"]);
            git(self.path(), &["rev-list", "--objects", "--all", "--quiet"]);
        }
    }
}

pub fn has_git() -> bool {
    machine::need("git")
}

pub fn git(dir: &Path, args: &[&str]) -> String {
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

pub fn pair() -> (Repo, Repo) {
    (Repo::new(Kind::Sha1), Repo::new(Kind::Sha1))
}

/// An error with all its causes.
pub fn chain(err: &dyn std::error::Error) -> String {
    let mut text = format!("{err:?}");
    let mut source = err.source();
    while let Some(err) = source {
        text.push_str(&format!(": {err}"));
        source = err.source();
    }
    text
}
