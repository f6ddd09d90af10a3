//! Repositories to deploy from, made without git.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gix::{
    ObjectId,
    objs::{Tree, tree},
    refs::{Target, transaction::PreviousValue},
};

/// What is at a path of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    File(Vec<u8>),
    Executable(Vec<u8>),
    Symlink(String),
}

/// A path's content, as tests write it.
pub fn file(text: &str) -> Entry {
    Entry::File(text.into())
}

/// A bare repository to fetch from.
pub struct Source {
    pub path: PathBuf,
    repo: gix::Repository,
    clock: i64,
}

impl Source {
    pub fn new(path: &Path) -> Self {
        Self::with_format(path, "sha1")
    }

    /// One that names its objects by `format`: sha1 or sha256.
    pub fn with_format(path: &Path, format: &str) -> Self {
        let options = gix::open::Options::isolated().config_overrides([
            "committer.name=Ada",
            "committer.email=ada@example.com",
            "author.name=Ada",
            "author.email=ada@example.com",
        ]);
        drop(gix::init_bare(path).unwrap());
        std::fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        let config = match format {
            "sha1" => "[core]\n\trepositoryformatversion = 0\n\tbare = true\n".to_owned(),
            _ => format!(
                "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = {format}\n"
            ),
        };
        std::fs::write(path.join("config"), config).unwrap();
        Self {
            path: path.into(),
            repo: options.open(path).unwrap().into(),
            clock: 1_700_000_000,
        }
    }

    /// Put a commit of exactly `files` on `branch`, on top of what is there.
    pub fn commit_on<'a>(
        &mut self,
        branch: &str,
        files: impl IntoIterator<Item = (&'a str, Entry)>,
    ) -> ObjectId {
        let name = format!("refs/heads/{branch}");
        let parent = self
            .repo
            .try_find_reference(name.as_str())
            .unwrap()
            .map(|r| r.id().detach());
        self.commit_with(&name, parent, files)
    }

    pub fn commit<'a>(&mut self, files: impl IntoIterator<Item = (&'a str, Entry)>) -> ObjectId {
        self.commit_on("main", files)
    }

    /// Throw the history of main away: a force-push.
    pub fn rewrite<'a>(&mut self, files: impl IntoIterator<Item = (&'a str, Entry)>) -> ObjectId {
        self.commit_with("refs/heads/main", None, files)
    }

    fn commit_with<'a>(
        &mut self,
        name: &str,
        parent: Option<ObjectId>,
        files: impl IntoIterator<Item = (&'a str, Entry)>,
    ) -> ObjectId {
        let files: BTreeMap<&str, Entry> = files.into_iter().collect();
        let tree = self.tree(&files);
        self.commit_tree(name, parent, tree)
    }

    /// Put a commit of a tree that somebody made by hand on `name`.
    pub fn commit_tree(&mut self, name: &str, parent: Option<ObjectId>, tree: ObjectId) -> ObjectId {
        self.clock += 60;
        let signature = gix::actor::Signature {
            name: "Ada".into(),
            email: "ada@example.com".into(),
            time: gix::date::Time::new(self.clock, 0),
        };
        let commit = gix::objs::Commit {
            tree,
            parents: parent.into_iter().collect(),
            author: signature.clone(),
            committer: signature,
            encoding: None,
            message: format!("commit at {}", self.clock).into(),
            extra_headers: Vec::new(),
        };
        let id = self.repo.write_object(&commit).unwrap().detach();
        self.point(name, id);
        id
    }

    pub fn point(&self, name: &str, id: ObjectId) {
        self.repo.reference(name, id, PreviousValue::Any, "test").unwrap();
    }

    pub fn blob(&self, bytes: &[u8]) -> ObjectId {
        self.repo.write_blob(bytes).unwrap().detach()
    }

    /// Write a tree object whatever it holds: bytes as git stores them.
    pub fn raw_tree(&self, entries: &[(&str, &[u8], ObjectId)]) -> ObjectId {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(id.as_slice());
        }
        gix::objs::Write::write_buf(&self.repo, gix::objs::Kind::Tree, &bytes).unwrap()
    }

    fn tree(&self, files: &BTreeMap<&str, Entry>) -> ObjectId {
        let mut entries = Vec::new();
        let mut dirs: BTreeMap<&str, BTreeMap<&str, Entry>> = BTreeMap::new();
        for (path, entry) in files {
            match path.split_once('/') {
                Some((dir, rest)) => {
                    dirs.entry(dir).or_default().insert(rest, entry.clone());
                }
                None => {
                    let (kind, bytes) = match entry {
                        Entry::File(bytes) => (tree::EntryKind::Blob, bytes.clone()),
                        Entry::Executable(bytes) => (tree::EntryKind::BlobExecutable, bytes.clone()),
                        Entry::Symlink(to) => (tree::EntryKind::Link, to.clone().into_bytes()),
                    };
                    entries.push(tree::Entry {
                        mode: kind.into(),
                        filename: (*path).into(),
                        oid: self.blob(&bytes),
                    });
                }
            }
        }
        for (dir, files) in dirs {
            entries.push(tree::Entry {
                mode: tree::EntryKind::Tree.into(),
                filename: dir.into(),
                oid: self.tree(&files),
            });
        }
        entries.sort();
        self.repo.write_object(&Tree { entries }).unwrap().detach()
    }

    /// Let HEAD be on `branch`.
    pub fn set_head(&self, branch: &str) {
        let target = Target::Symbolic(format!("refs/heads/{branch}").try_into().unwrap());
        std::fs::write(
            self.path.join("HEAD"),
            format!("ref: {}\n", target.try_name().unwrap().as_bstr()),
        )
        .unwrap();
    }
}
