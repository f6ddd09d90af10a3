//! Two worktrees, one for git and one for gitsocket, that live through the same commits.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use fastrand::Rng;
use gitsocket::{
    base::{name::AbsPath, report::Reporter, rights::Rights},
    config::Clean,
    git::{
        repository,
        worktree::{self, Cache, Error, Options},
    },
};
use gix::objs::tree::{Entry, EntryKind};

use super::{
    compare::{cached_tree, same, snapshot},
    content::{ATTRIBUTES, IGNORES, content, in_some_dir, lines, link, path, pick},
    dirt::Dirt,
    machine,
};

/// Commits that are there already.
pub struct History {
    pub objects: PathBuf,
    commits: Vec<String>,
}

impl History {
    /// Nothing if there is no git, or too little history, as in a shallow clone.
    pub fn find() -> Option<Self> {
        // The checkout may be somebody else's.
        let git = |args: &[&str]| {
            let out = Command::new("git")
                .args(["-c", "safe.directory=*"])
                .args(args)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .output()
                .ok()?;
            out.status
                .success()
                .then(|| String::from_utf8_lossy(&out.stdout).into_owned())
        };
        let dir = match std::env::var("GITSOCKET_HISTORY") {
            Ok(dir) => dir,
            Err(_) => git(&["rev-parse", "--path-format=absolute", "--git-common-dir"])
                .unwrap_or_default()
                .trim()
                .to_owned(),
        };
        let listed = git(&["--git-dir", &dir, "rev-list", "--max-count=2000", "--all"]).unwrap_or_default();
        let commits: Vec<_> = listed.lines().map(str::to_owned).collect();
        if commits.len() < 20 {
            machine::skipped(&format!("{dir:?} is no history to follow"));
            return None;
        }
        Some(Self {
            objects: Path::new(&dir).join("objects"),
            commits,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    File(Vec<u8>, bool),
    Link(String),
    Submodule,
}

pub type Tree = BTreeMap<String, Node>;

/// One worktree for git, one for us, and what they share.
pub struct Pair {
    pub dir: PathBuf,
    pub umask: u32,
    pub tree: Tree,
    pub commits: Vec<String>,
    /// Where commits come from, if they are not made up.
    pub history: Option<History>,
    pub cache: Cache,
}

pub const OURS: &str = "ours";
pub const GIT: &str = "git";

impl Pair {
    pub fn new(dir: &Path, rng: &mut Rng, history: Option<History>) -> Self {
        let pair = Self {
            dir: dir.into(),
            umask: [0o022, 0o002, 0o027, 0o077][rng.usize(..4)],
            tree: Tree::new(),
            commits: Vec::new(),
            history,
            cache: Cache::default(),
        };
        let is_sha256 = pair.history.is_none() && rng.u8(..4) == 0;
        let format = ["--object-format=sha1", "--object-format=sha256"][usize::from(is_sha256)];
        for side in [GIT, OURS] {
            fs::create_dir_all(pair.out(side)).unwrap();
            fs::write(pair.out(side).join("canary"), "alive").unwrap();
            fs::create_dir(pair.root(side)).unwrap();
            pair.git(side, &["init", "-q", format, "."]);
            if let Some(History { objects, .. }) = &pair.history {
                let alternates = pair.root(side).join(".git/objects/info/alternates");
                fs::write(alternates, format!("{}\n", objects.display())).unwrap();
            }
        }
        let autocrlf = ["", "", "true", "input"][rng.usize(..4)];
        let eol = ["", "", "crlf", "lf"][rng.usize(..4)];
        for side in [GIT, OURS] {
            if !autocrlf.is_empty() {
                pair.git(side, &["config", "core.autocrlf", autocrlf]);
            }
            if !eol.is_empty() {
                pair.git(side, &["config", "core.eol", eol]);
            }
            pair.git(side, &["config", "gc.auto", "0"]);
        }
        if rng.bool() {
            for side in [GIT, OURS] {
                fs::create_dir_all(pair.root(side).join(".git/info")).unwrap();
                fs::write(pair.root(side).join(".git/info/exclude"), "*.excluded\n/b/c\n").unwrap();
            }
        }
        pair
    }

    pub fn root(&self, side: &str) -> PathBuf {
        self.dir.join(side).join("tree")
    }

    pub fn out(&self, side: &str) -> PathBuf {
        self.dir.join(side).join("out")
    }

    pub fn step(&mut self, rng: &mut Rng, label: &str) {
        let commit = match rng.u8(..5) {
            0 if !self.commits.is_empty() => self.commits[rng.usize(..self.commits.len())].clone(),
            1 if !self.commits.is_empty() => self.commits[self.commits.len() - 1].clone(),
            _ => self.commit(rng),
        };
        let mut dirt = Vec::new();
        for _ in 0..rng.usize(..12) {
            if let Some(op) = self.dirt(rng) {
                let mut sides = [GIT, OURS].map(|side| self.apply(side, &op));
                sides.sort();
                dirt.push(format!("{op:?}"));
                // git does nothing more with a damaged one.
                if matches!(op, Dirt::NoIndex | Dirt::CorruptIndex) {
                    break;
                }
            }
        }
        let (clean, flag) = match rng.u8(..6) {
            0 => (Clean::All, "-dfxq"),
            1 => (Clean::Nothing, ""),
            _ => (Clean::Untracked, "-dfq"),
        };
        let keeps = ["*.local", "b/", "/a/c", "d.txt", "!b/a", "c/*"];
        let mut keep: Vec<String> = match rng.u8(..3) {
            0 => (0..rng.usize(1..3))
                .map(|_| keeps[rng.usize(..keeps.len())].into())
                .collect(),
            _ => Vec::new(),
        };
        let label = format!(
            "{label}\ncommit {commit}\nclean {clean:?} keep {keep:?} umask {:o}\ndirt:\n  {}",
            self.umask,
            dirt.join("\n  ")
        );

        let before = snapshot(&self.root(OURS));
        same(&before, &snapshot(&self.root(GIT)), &format!("BEFORE {label}"));
        let predicted = self.predict(&commit, clean, &keep);
        same(&before, &snapshot(&self.root(OURS)), &format!("DRY RUN {label}"));
        let outcome = match self.update(&commit, clean, &keep) {
            Err(Error::Kept { .. }) => {
                same(&before, &snapshot(&self.root(OURS)), &format!("KEPT {label}"));
                keep.clear();
                self.update(&commit, clean, &keep)
            }
            other => {
                if let (Ok(outcome), Ok(predicted)) = (&other, &predicted) {
                    let files = |outcome: &worktree::Outcome| (outcome.written, outcome.deleted);
                    assert_eq!(files(outcome), files(predicted), "dry run {label}");
                    // Which empty directories go with their last tracked file is not foreseen in every case.
                    assert!(
                        outcome.cleaned.abs_diff(predicted.cleaned) <= 2,
                        "dry run {label}"
                    );
                }
                other
            }
        };
        outcome.unwrap_or_else(|err| panic!("{err:?}\n{label}"));
        self.git(OURS, &["update-ref", "HEAD", &commit]);

        // git's clock has seconds. Within one it looks at content, with an outcome that hangs on its speed.
        self.ask(GIT, &["reset", "-q", "--hard", &commit]);
        if clean != Clean::Nothing {
            let mut args = vec!["clean", flag];
            for keep in &keep {
                args.extend(["-e", keep]);
            }
            self.git(GIT, &args);
        }
        self.make_submodules(&commit);
        same(&snapshot(&self.root(GIT)), &snapshot(&self.root(OURS)), &label);
        same(
            &snapshot(&self.out(GIT)),
            &snapshot(&self.out(OURS)),
            &format!("outside, {label}"),
        );
        assert_eq!(
            fs::read_to_string(self.out(OURS).join("canary")).unwrap(),
            "alive"
        );
        for args in [
            &["ls-files", "-s"] as &[_],
            &["status", "--porcelain", "--ignored", "--ignore-submodules=all"],
        ] {
            let git = self.ask(GIT, args);
            // Content that filters cannot reproduce looks modified to git whenever it looks, and its reset
            // may leave an intention to add a file that it has just checked out.
            let git: String = git
                .split_inclusive('\n')
                .filter(|line| ![" M ", " A ", "DA "].iter().any(|is| line.starts_with(is)))
                .collect();
            assert_eq!(git, self.ask(OURS, args), "{args:?}\n{label}");
        }
        let quiet = self.ask(OURS, &["diff-files", "--ignore-submodules=all"]);
        assert_eq!(quiet, "", "diff-files\n{label}");
        let repo = repository::open(&self.root(OURS).join(".git")).unwrap();
        let index = repo.open_index().unwrap();
        let tree = repo
            .find_commit(commit.parse::<gix::ObjectId>().unwrap())
            .unwrap()
            .tree_id();
        let count = cached_tree(&repo, index.tree().unwrap(), tree.unwrap().detach());
        assert_eq!(count as usize, index.entries().len(), "cached tree\n{label}");
        let again = self.update(&commit, Clean::Nothing, &keep).unwrap();
        // Cleaning may go on: rules of a `.gitignore` that went hold no longer. So it is with git.
        assert_eq!((again.written, again.deleted), (0, 0), "the second run\n{label}");
    }

    /// git looks through a link for the directory of a submodule, and makes it once the link has gone; gitsocket at once.
    pub fn make_submodules(&self, commit: &str) {
        let missing = self.git(GIT, &["ls-files", "-z", "--deleted"]);
        let is_dir =
            |path: &str| fs::symlink_metadata(self.root(OURS).join(path)).is_ok_and(|meta| meta.is_dir());
        if missing.split_terminator('\0').any(is_dir) {
            self.ask(GIT, &["reset", "-q", "--hard", commit]);
        }
    }

    pub fn finish(&self) {
        self.git(OURS, &["fsck", "--no-progress", "--no-dangling"]);
    }

    pub fn update(&self, commit: &str, clean: Clean, keep: &[String]) -> Result<worktree::Outcome, Error> {
        self.run(commit, clean, keep, false)
    }

    pub fn predict(&self, commit: &str, clean: Clean, keep: &[String]) -> Result<worktree::Outcome, Error> {
        self.run(commit, clean, keep, true)
    }

    pub fn run(
        &self,
        commit: &str,
        clean: Clean,
        keep: &[String],
        dry_run: bool,
    ) -> Result<worktree::Outcome, Error> {
        let repo = repository::open(&self.root(OURS).join(".git")).unwrap();
        let root = AbsPath::resolve(Path::new("/"), &self.root(OURS)).unwrap();
        // Our umask is an option, not the process's.
        let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let result = worktree::update(
            &repo,
            commit.parse().unwrap(),
            &Options {
                root: &root,
                index: &repo.index_path(),
                clean,
                keep,
                max_blob: u64::MAX,
                rights: Rights::of(self.umask),
                dry_run,
                apart: None,
                cache: &self.cache,
                report: &Reporter::new(|_| ()),
                over: &std::sync::atomic::AtomicBool::new(false),
                begin: gitsocket::git::begin::Begin(&|| Ok(())),
            },
        );
        rustix::process::umask(umask);
        result
    }

    pub fn git(&self, side: &str, args: &[&str]) -> String {
        let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(self.umask));
        let out = Command::new("git")
            .args(args)
            .current_dir(self.root(side))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_AUTHOR_NAME", "a")
            .env("GIT_AUTHOR_EMAIL", "a@a")
            .env("GIT_COMMITTER_NAME", "a")
            .env("GIT_COMMITTER_EMAIL", "a@a")
            .output()
            .unwrap();
        rustix::process::umask(umask);
        assert!(
            out.status.success(),
            "git {args:?} in {side}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Ask git with an index that is younger than all files, so that its answer does not hang on the clock.
    pub fn ask(&self, side: &str, args: &[&str]) -> String {
        self.unhurried(side, || self.git(side, args))
    }

    pub fn unhurried<T>(&self, side: &str, run: impl FnOnce() -> T) -> T {
        let index = self.root(side).join(".git/index");
        let Ok(file) = fs::File::options().append(true).open(&index) else {
            return run();
        };
        let before = file.metadata().unwrap().modified().unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(3600 * 24 * 365 * 20))
            .unwrap();
        let result = run();
        // If git has replaced the index, this is the old one, and does not matter.
        file.set_modified(before).unwrap();
        result
    }

    /// Change the tree a little and commit it to both repositories.
    pub fn commit(&mut self, rng: &mut Rng) -> String {
        if let Some(History { commits, .. }) = &self.history {
            let commit = commits[rng.usize(..commits.len())].clone();
            let paths = self.git(GIT, &["ls-tree", "-r", "-z", "--name-only", &commit]);
            let paths = paths.split_terminator('\0');
            self.tree = paths.map(|path| (path.to_owned(), Node::Submodule)).collect();
            self.commits.push(commit.clone());
            return commit;
        }
        for _ in 0..rng.usize(1..8) {
            match rng.u8(..10) {
                0..=1 if !self.tree.is_empty() => {
                    let path = pick(rng, &self.tree);
                    self.tree.remove(&path);
                }
                2 if !self.tree.is_empty() => {
                    let path = pick(rng, &self.tree);
                    if let Some(Node::File(_, exec)) = self.tree.get_mut(&path) {
                        *exec = !*exec;
                    }
                }
                3 => self.put(
                    in_some_dir(rng, ".gitignore"),
                    Node::File(lines(rng, IGNORES), false),
                ),
                4 => self.put(
                    in_some_dir(rng, ".gitattributes"),
                    Node::File(lines(rng, ATTRIBUTES), false),
                ),
                5 => self.put(path(rng), link(rng)),
                6 if rng.u8(..4) == 0 => self.put(path(rng), Node::Submodule),
                _ => self.put(path(rng), Node::File(content(rng), rng.u8(..5) == 0)),
            }
        }
        self.commit_tree()
    }

    pub fn commit_tree(&mut self) -> String {
        let mut id = None;
        for side in [GIT, OURS] {
            let repo = repository::open(&self.root(side).join(".git")).unwrap();
            let tree = write_tree(&repo, &self.tree, "");
            let who = gix::actor::SignatureRef {
                name: "a".into(),
                email: "a@a".into(),
                time: "1700000000 +0000",
            };
            let commit = repo
                .new_commit_as(who, who, "step", tree, None::<gix::ObjectId>)
                .unwrap();
            id = Some(commit.id.to_string());
        }
        let id = id.unwrap();
        self.commits.push(id.clone());
        id
    }

    /// Put a node, and take out what cannot be there with it.
    pub fn put(&mut self, path: String, node: Node) {
        let below = format!("{path}/");
        self.tree
            .retain(|other, _| !other.starts_with(&below) && !path.starts_with(&format!("{other}/")));
        self.tree.insert(path, node);
    }
}

pub fn write_tree(repo: &gix::Repository, tree: &Tree, dir: &str) -> gix::ObjectId {
    let mut names = BTreeSet::new();
    for path in tree.keys() {
        if let Some(rest) = path.strip_prefix(dir) {
            names.insert(rest.split('/').next().unwrap());
        }
    }
    let mut entries: Vec<Entry> = names
        .into_iter()
        .map(|name| {
            let path = format!("{dir}{name}");
            let (kind, oid) = match tree.get(&path) {
                None => (EntryKind::Tree, write_tree(repo, tree, &format!("{path}/"))),
                Some(Node::File(bytes, true)) => (
                    EntryKind::BlobExecutable,
                    repo.write_blob(bytes).unwrap().detach(),
                ),
                Some(Node::File(bytes, false)) => (EntryKind::Blob, repo.write_blob(bytes).unwrap().detach()),
                Some(Node::Link(target)) => (EntryKind::Link, repo.write_blob(target).unwrap().detach()),
                Some(Node::Submodule) => {
                    let id = gix::ObjectId::from_hex("1".repeat(repo.object_hash().len_in_hex()).as_bytes())
                        .unwrap();
                    (EntryKind::Commit, id)
                }
            };
            Entry {
                mode: kind.into(),
                filename: name.into(),
                oid,
            }
        })
        .collect();
    entries.sort();
    repo.write_object(gix::objs::Tree { entries }).unwrap().detach()
}
