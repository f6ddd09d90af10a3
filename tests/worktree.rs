//! The worktree engine against git itself: two worktrees live through the same history and the same local dirt, one
//! is updated by `git reset --hard` and `git clean`, the other by `worktree::update`; then they must be the same.
//!
//! GITSOCKET_SEED repeats a run, GITSOCKET_STEPS sets its length, GITSOCKET_LEAVE leaves the worktrees of a failure.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "support/machine.rs"]
mod machine;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
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

/// A process has one umask: held while it is played with.
static UMASK: Mutex<()> = Mutex::new(());

#[test]
fn leaves_what_git_leaves() {
    let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    if !machine::have("git") {
        return;
    }
    let seed = number("GITSOCKET_SEED").unwrap_or_else(|| fastrand::u64(..));
    let steps = number("GITSOCKET_STEPS").unwrap_or(100);
    eprintln!("GITSOCKET_SEED={seed} GITSOCKET_STEPS={steps}");
    let mut rng = Rng::with_seed(seed);
    let mut tmp = tempfile::tempdir().unwrap();
    tmp.disable_cleanup(std::env::var_os("GITSOCKET_LEAVE").is_some());
    let mut done = 0;
    while done < steps {
        let dir = tmp.path().join(done.to_string());
        let mut pair = Pair::new(&dir, &mut rng, None);
        let length = 25.min(steps - done);
        for step in 0..length {
            pair.step(&mut rng, &format!("seed {seed}, step {}", done + step));
        }
        pair.finish();
        done += length;
        fs::remove_dir_all(dir).unwrap();
    }
}

/// The same with a history that people made: the one at GITSOCKET_HISTORY (a git directory), or else this project's own.
#[test]
fn follows_a_real_history() {
    let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(history) = History::find() else {
        return;
    };
    let seed = number("GITSOCKET_SEED").unwrap_or_else(|| fastrand::u64(..));
    let steps = number("GITSOCKET_STEPS").unwrap_or(100).div_ceil(4);
    eprintln!(
        "GITSOCKET_SEED={seed} GITSOCKET_STEPS={} of {}",
        steps * 4,
        history.objects.display()
    );
    let mut rng = Rng::with_seed(seed);
    let tmp = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(tmp.path(), &mut rng, Some(history));
    for step in 0..steps {
        pair.step(&mut rng, &format!("seed {seed}, step {step}"));
    }
    pair.finish();
}

/// Commits that are there already.
struct History {
    objects: PathBuf,
    commits: Vec<String>,
}

impl History {
    /// Nothing if there is no git, or too little history, as in a shallow clone.
    fn find() -> Option<Self> {
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

/// Thousands of small files in one checkout, with all that may be converted in them.
#[test]
fn converts_what_git_converts() {
    let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    if !machine::have("git") {
        return;
    }
    let seed = number("GITSOCKET_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("GITSOCKET_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let tmp = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(tmp.path(), &mut rng, None);
    let mut attributes = String::new();
    for (at, wanted) in CONVERSIONS.iter().enumerate() {
        attributes += &format!("*.{at} {wanted}\n");
    }
    // A byte order mark is part of a pattern in a blob, and not in a file.
    pair.put(".gitattributes".into(), Node::File(attributes.into(), false));
    let marked = "\u{feff}*.x ident\n*.y ident\n";
    pair.put("bom/.gitattributes".into(), Node::File(marked.into(), false));
    for side in [GIT, OURS] {
        fs::create_dir_all(pair.root(side).join(".git/info")).unwrap();
        fs::write(
            pair.root(side).join(".git/info/attributes"),
            "\u{feff}*.z ident\n",
        )
        .unwrap();
    }
    for name in ["bom/a.x", "bom/a.y", "bom/a.z", "bom/\u{feff}a.x"] {
        pair.put(name.into(), Node::File(b"$Id$".to_vec(), false));
    }
    for at in 0..5000 {
        let path = format!("{at}.{}", at % CONVERSIONS.len());
        pair.tree.insert(path, Node::File(keywords(&mut rng), false));
    }
    let commit = pair.commit_tree();
    pair.update(&commit, Clean::Nothing, &[]).unwrap();
    pair.git(GIT, &["reset", "-q", "--hard", &commit]);
    let (theirs, ours) = (snapshot(&pair.root(GIT)), snapshot(&pair.root(OURS)));
    same(&theirs, &ours, &format!("seed {seed}"));
}

/// Where a link leads to a directory, git takes that for the submodule's, and then cleans the link away.
#[test]
fn makes_the_directory_of_a_submodule_behind_a_link() {
    let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    if !machine::have("git") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(tmp.path(), &mut Rng::with_seed(0), None);
    pair.put("a/file".into(), Node::File(b"x".to_vec(), false));
    pair.put("b/a".into(), Node::Submodule);
    let commit = pair.commit_tree();
    for round in ["new", "replaced by a link"] {
        pair.update(&commit, Clean::Untracked, &[]).unwrap();
        pair.git(GIT, &["reset", "-q", "--hard", &commit]);
        pair.git(GIT, &["clean", "-dfq"]);
        let is_new = round == "new";
        assert_eq!(
            pair.root(GIT).join("b/a").is_dir(),
            is_new,
            "git has changed its mind"
        );
        pair.make_submodules(&commit);
        same(&snapshot(&pair.root(GIT)), &snapshot(&pair.root(OURS)), round);
        for side in [GIT, OURS] {
            fs::remove_dir_all(pair.root(side).join("b")).unwrap();
            symlink("./", pair.root(side).join("b")).unwrap();
        }
    }
}

/// What attributes ask for.
const CONVERSIONS: [&str; 16] = [
    "ident",
    "ident -text",
    "ident text",
    "ident text eol=crlf",
    "ident text eol=lf",
    "ident text=auto",
    "ident text=auto eol=crlf",
    "ident text=auto eol=lf",
    "ident working-tree-encoding=UTF-16",
    "ident working-tree-encoding=utf8",
    "ident text eol=crlf working-tree-encoding=UTF-16LE-BOM",
    "working-tree-encoding=cp437",
    "working-tree-encoding=ISO8859-9",
    "working-tree-encoding=UCS-4",
    "working-tree-encoding=unheard-of",
    "working-tree-encoding=latin-1",
];

/// Text made of what matters to keywords, and some that only few encodings have.
fn keywords(rng: &mut Rng) -> Vec<u8> {
    const PARTS: [&str; 19] = [
        "$", "$", "$", "Id", "Id", "Id", ":", ":", " ", "\t", "\n", "\r\n", "\0", "x", "I", "d", "é", "€",
        "$Id$",
    ];
    (0..rng.usize(..16))
        .map(|_| PARTS[rng.usize(..PARTS.len())])
        .collect::<String>()
        .into()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    File(Vec<u8>, bool),
    Link(String),
    Submodule,
}

type Tree = BTreeMap<String, Node>;

/// One worktree for git, one for us, and what they share.
struct Pair {
    dir: PathBuf,
    umask: u32,
    tree: Tree,
    commits: Vec<String>,
    /// Where commits come from, if they are not made up.
    history: Option<History>,
    cache: Cache,
}

const OURS: &str = "ours";
const GIT: &str = "git";

impl Pair {
    fn new(dir: &Path, rng: &mut Rng, history: Option<History>) -> Self {
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

    fn root(&self, side: &str) -> PathBuf {
        self.dir.join(side).join("tree")
    }

    fn out(&self, side: &str) -> PathBuf {
        self.dir.join(side).join("out")
    }

    fn step(&mut self, rng: &mut Rng, label: &str) {
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

    /// git looks through a link for the directory of a submodule, and makes it once the link has gone; we do at once.
    fn make_submodules(&self, commit: &str) {
        let missing = self.git(GIT, &["ls-files", "-z", "--deleted"]);
        let is_dir =
            |path: &str| fs::symlink_metadata(self.root(OURS).join(path)).is_ok_and(|meta| meta.is_dir());
        if missing.split_terminator('\0').any(is_dir) {
            self.ask(GIT, &["reset", "-q", "--hard", commit]);
        }
    }

    fn finish(&self) {
        self.git(OURS, &["fsck", "--no-progress", "--no-dangling"]);
    }

    fn update(&self, commit: &str, clean: Clean, keep: &[String]) -> Result<worktree::Outcome, Error> {
        self.run(commit, clean, keep, false)
    }

    fn predict(&self, commit: &str, clean: Clean, keep: &[String]) -> Result<worktree::Outcome, Error> {
        self.run(commit, clean, keep, true)
    }

    fn run(
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

    fn git(&self, side: &str, args: &[&str]) -> String {
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
    fn ask(&self, side: &str, args: &[&str]) -> String {
        self.unhurried(side, || self.git(side, args))
    }

    fn unhurried<T>(&self, side: &str, run: impl FnOnce() -> T) -> T {
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
    fn commit(&mut self, rng: &mut Rng) -> String {
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

    fn commit_tree(&mut self) -> String {
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
    fn put(&mut self, path: String, node: Node) {
        let below = format!("{path}/");
        self.tree
            .retain(|other, _| !other.starts_with(&below) && !path.starts_with(&format!("{other}/")));
        self.tree.insert(path, node);
    }

    /// Something that somebody could do to a worktree.
    fn dirt(&self, rng: &mut Rng) -> Option<Dirt> {
        let there: Vec<String> = snapshot(&self.root(GIT)).into_keys().collect();
        let some = |rng: &mut Rng| (!there.is_empty()).then(|| there[rng.usize(..there.len())].clone());
        let plain = |rng: &mut Rng| some(rng).filter(|path| !path.ends_with(".gitattributes"));
        Some(match rng.u8(..30) {
            0..=1 => Dirt::Write(plain(rng)?, content(rng)),
            2 => Dirt::SameSize(plain(rng)?),
            3 => Dirt::Delete(plain(rng)?),
            4 => Dirt::Touch(some(rng)?),
            5 => Dirt::Chmod(
                some(rng)?,
                [0o600, 0o755, 0o444, 0o777, 0o700, 0o4755][rng.usize(..6)],
            ),
            6 => Dirt::Dir(plain(rng)?),
            7..=8 => Dirt::Link(plain(rng)?, LINKS[rng.usize(..LINKS.len())].into()),
            9 => Dirt::Out(plain(rng)?),
            10..=12 => Dirt::Write(path(rng), content(rng)),
            13 => Dirt::Link(path(rng), LINKS[rng.usize(..LINKS.len())].into()),
            14..=15 => Dirt::Dir(path(rng)),
            16..=17 => Dirt::Fifo(path(rng)),
            18 => Dirt::Repository(path(rng)),
            19 => Dirt::Write(format!("{}/.git", path(rng)), b"junk".into()),
            20 => Dirt::Write(in_some_dir(rng, ".gitignore"), lines(rng, IGNORES)),
            21 => Dirt::HardLink(plain(rng)?),
            22 => Dirt::Git(vec!["add".into(), "-f".into(), "-A".into()]),
            23 => Dirt::Git(vec![
                "rm".into(),
                "-q".into(),
                "--cached".into(),
                "--ignore-unmatch".into(),
                "-f".into(),
                plain(rng)?,
            ]),
            24 => Dirt::Git(vec!["add".into(), "-f".into(), "-N".into(), plain(rng)?]),
            25 => Dirt::Conflict(path(rng)),
            26 => match rng.bool() {
                true => Dirt::NoIndex,
                false => Dirt::CorruptIndex,
            },
            27 => Dirt::Write(format!("{}/{}", path(rng), path(rng)), content(rng)),
            28 => Dirt::Dir(format!("{}/{}", path(rng), path(rng))),
            _ => Dirt::Dir(format!("{}/{}/.git", path(rng), path(rng))),
        })
    }

    fn apply(&self, side: &str, dirt: &Dirt) -> bool {
        let root = self.root(side);
        let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let run = || self.try_apply(side, &root, dirt);
        // Otherwise the index is not touched at all, so that what is remembered of it still counts.
        let done = match dirt {
            Dirt::Git(_) | Dirt::Conflict(_) => self.unhurried(side, run),
            _ => run(),
        };
        rustix::process::umask(umask);
        done.is_some()
    }

    fn try_apply(&self, side: &str, root: &Path, dirt: &Dirt) -> Option<()> {
        let meta = |path: &str| fs::symlink_metadata(root.join(path)).ok();
        let is_file = |path: &str| meta(path).is_some_and(|meta| meta.is_file());
        match dirt {
            Dirt::Write(path, bytes) => {
                let path = clear(root, path, false)?;
                match fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.nlink() > 1) {
                    true => return None,
                    false => {
                        fs::write(&path, bytes).ok()?;
                        age(&path)?;
                    }
                }
            }
            Dirt::SameSize(path) if is_file(path) => {
                let mut bytes = fs::read(root.join(path)).ok()?;
                *bytes.first_mut()? ^= 1;
                let path = clear(root, path, true)?;
                fs::write(&path, bytes).ok()?;
                age(&path)?;
            }
            Dirt::Delete(path) => drop(clear(root, path, true)?),
            Dirt::Touch(path) | Dirt::Chmod(path, _)
                if meta(path)?.is_symlink() || !(is_file(path) || meta(path)?.is_dir()) =>
            {
                return None;
            }
            Dirt::Touch(path) => age(&root.join(path))?,
            Dirt::Chmod(path, mode) => {
                let mode = mode | if is_file(path) { 0 } else { 0o700 };
                fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).ok()?;
                age(&root.join(path))?;
            }
            Dirt::Dir(path) => fs::create_dir_all(clear(root, path, true)?).ok()?,
            Dirt::Link(path, target) => symlink(target, clear(root, path, true)?).ok()?,
            Dirt::Out(path) => {
                let up = "../".repeat(path.matches('/').count() + 1);
                symlink(format!("{up}out"), clear(root, path, true)?).ok()?;
            }
            Dirt::Fifo(path) => {
                let path = clear(root, path, true)?;
                rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o644)).ok()?;
            }
            Dirt::Repository(path) => {
                let git = clear(root, path, true)?.join(".git");
                fs::create_dir_all(git.join("objects")).ok()?;
                fs::create_dir_all(git.join("refs")).ok()?;
                fs::write(git.join("HEAD"), "ref: refs/heads/main\n").ok()?;
                fs::write(git.join("../inside"), "x").ok()?;
            }
            Dirt::HardLink(path) if is_file(path) => {
                let name = path.replace('/', "_");
                fs::hard_link(root.join(path), self.out(side).join(name)).ok()?;
                age(&root.join(path))?;
            }
            Dirt::Git(args) => {
                if args[0] == "add" && has_repository(root, root) {
                    return None;
                }
                drop(
                    Command::new("git")
                        .args(args)
                        .current_dir(root)
                        .env("GIT_CONFIG_GLOBAL", "/dev/null")
                        .env("HOME", &self.dir)
                        .output()
                        .ok()?,
                );
            }
            Dirt::Conflict(path) => {
                if self.tree.keys().any(|other| {
                    path.starts_with(&format!("{other}/")) || other.starts_with(&format!("{path}/"))
                }) {
                    return None;
                }
                let id = Command::new("git")
                    .args(["hash-object", "-w", "--stdin"])
                    .current_dir(root)
                    .stdin(std::process::Stdio::null())
                    .output()
                    .ok()?;
                let id = String::from_utf8_lossy(&id.stdout).trim().to_owned();
                use std::io::Write;
                let mut child = Command::new("git")
                    .args(["update-index", "--index-info"])
                    .current_dir(root)
                    .stdin(std::process::Stdio::piped())
                    .spawn()
                    .ok()?;
                let zero = "0".repeat(id.len());
                let info = format!(
                    "0 {zero}\t{path}\n100644 {id} 1\t{path}\n100644 {id} 2\t{path}\n100755 {id} 3\t{path}\n"
                );
                child.stdin.take()?.write_all(info.as_bytes()).ok()?;
                child.wait().ok()?;
            }
            Dirt::NoIndex | Dirt::CorruptIndex => {
                // Without an index git falls back to attribute files that nobody committed; we do not.
                for path in snapshot(root)
                    .keys()
                    .filter(|path| path.ends_with(".gitattributes"))
                {
                    clear(root, path, true)?;
                }
                let index = root.join(".git/index");
                match fs::read(&index) {
                    // git gives up; for us it is the same as none.
                    Ok(mut bytes) if side == OURS && *dirt == Dirt::CorruptIndex => {
                        let at = bytes.len() / 2;
                        bytes[at] ^= 0xff;
                        fs::write(&index, bytes).ok()?;
                    }
                    _ => drop(fs::remove_file(&index)),
                }
            }
            _ => return None,
        }
        Some(())
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Dirt {
    Write(String, Vec<u8>),
    SameSize(String),
    Delete(String),
    Touch(String),
    Chmod(String, u32),
    Dir(String),
    Link(String, String),
    Out(String),
    Fifo(String),
    Repository(String),
    HardLink(String),
    Git(Vec<String>),
    Conflict(String),
    NoIndex,
    CorruptIndex,
}

const NAMES: [&str; 12] = [
    "a",
    "b",
    "c",
    "d.txt",
    "e.o",
    "f.local",
    "a.b",
    "ä",
    "sp ace",
    ".hid",
    "g.txt",
    "h.excluded",
];
const IGNORES: &[&str] = &[
    "*.o", "*.local", "b/", "!e.o", "/a", "c", "**/d.txt", "a/b", "# no", "*", "!*/", "!g.txt", "sp ace",
    "a?b", "d.txt\r",
];
const ATTRIBUTES: &[&str] = &[
    "* text=auto",
    "*.txt text eol=crlf",
    "*.txt eol=lf",
    "*.o binary",
    "* ident",
    "a/** -text",
    "*.txt working-tree-encoding=UTF-16",
    "*.b working-tree-encoding=UTF-16LE-BOM",
    "c working-tree-encoding=ISO-8859-1",
    "*.local filter=none",
    "[attr]mac text eol=crlf",
    "*.b mac",
    "* -crlf",
    "b crlf=input",
    "*.o working-tree-encoding=UTF-32BE",
    "a working-tree-encoding=nonsense",
    "*.c working-tree-encoding=IBM850",
    "* text",
    "/b/* text=auto eol=crlf",
    "* !text",
];
// Of different lengths: within a second, git sees no other difference.
const LINKS: [&str; 7] = [
    "a",
    "../out",
    "../out/canary",
    "b/c",
    "/nonexistent/x",
    "./",
    "../../out",
];

fn path(rng: &mut Rng) -> String {
    let depth = rng.usize(1..4);
    (0..depth)
        .map(|_| NAMES[rng.usize(..NAMES.len())])
        .collect::<Vec<_>>()
        .join("/")
}

fn in_some_dir(rng: &mut Rng, name: &str) -> String {
    match rng.bool() {
        true => name.into(),
        false => format!("{}/{name}", path(rng)),
    }
}

fn link(rng: &mut Rng) -> Node {
    Node::Link(LINKS[rng.usize(..LINKS.len())].into())
}

fn lines(rng: &mut Rng, from: &[&str]) -> Vec<u8> {
    (0..rng.usize(1..4))
        .map(|_| format!("{}\n", from[rng.usize(..from.len())]))
        .collect::<String>()
        .into()
}

fn content(rng: &mut Rng) -> Vec<u8> {
    const PARTS: [&str; 14] = [
        "a",
        "$$Id$",
        "$Id:x y$",
        "line\n",
        "dos\r\n",
        "$Id$",
        "ä",
        "\0",
        "€\n",
        "$Id: x $\n",
        "\r",
        "version https://git-lfs.github.com/spec/v1\n",
        "x",
        "\n",
    ];
    match rng.u8(..12) {
        0 => Vec::new(),
        1 => vec![0xff, b'\n', 0xfe],
        2 => "long line\n".repeat(rng.usize(1..20_000)).into(),
        _ => {
            let parts: BTreeSet<_> = (0..rng.usize(1..4)).map(|_| rng.usize(..PARTS.len())).collect();
            (0..rng.usize(1..9))
                .map(|_| PARTS[*rng.choice(&parts).unwrap()])
                .collect::<String>()
                .into()
        }
    }
}

fn pick(rng: &mut Rng, tree: &Tree) -> String {
    tree.keys().nth(rng.usize(..tree.len())).unwrap().clone()
}

/// The place of `path`, with real directories above it and, if asked for, nothing in it.
fn clear(root: &Path, path: &str, empty: bool) -> Option<PathBuf> {
    let mut place = root.to_owned();
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        place.push(name);
        let meta = fs::symlink_metadata(&place).ok();
        match meta {
            Some(meta) if names.peek().is_some() && !meta.is_dir() => fs::remove_file(&place).ok()?,
            Some(meta) if names.peek().is_none() && meta.is_dir() => fs::remove_dir_all(&place).ok()?,
            Some(meta) if names.peek().is_none() && (empty || !meta.is_file()) => {
                fs::remove_file(&place).ok()?
            }
            _ => {}
        }
        if names.peek().is_some() {
            fs::create_dir_all(&place).ok()?;
        }
    }
    Some(place)
}

/// Give a file an age that no other has: git would not see a change within a second.
fn age(path: &Path) -> Option<()> {
    static SECONDS: AtomicU64 = AtomicU64::new(1_000_000_000);
    let seconds = Duration::from_secs(SECONDS.fetch_add(1, Ordering::Relaxed));
    fs::File::open(path)
        .ok()?
        .set_modified(SystemTime::UNIX_EPOCH + seconds)
        .ok()
}

fn has_repository(root: &Path, dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().flatten().any(|entry| {
        let is_dir = entry.file_type().unwrap().is_dir();
        (entry.file_name() == ".git" && dir != root)
            || (is_dir && entry.path() != root.join(".git") && has_repository(root, &entry.path()))
    })
}

fn write_tree(repo: &gix::Repository, tree: &Tree, dir: &str) -> gix::ObjectId {
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

/// That the index's cached tree is `id`, all the way down. Says how many files are in it.
fn cached_tree(repo: &gix::Repository, cached: &gix::index::extension::Tree, id: gix::ObjectId) -> u32 {
    assert_eq!(cached.id, id);
    let tree = repo.find_tree(id).unwrap();
    let (mut children, mut count) = (cached.children.iter(), 0);
    let mut trees: Vec<_> = Vec::new();
    for entry in tree.iter().map(Result::unwrap) {
        match entry.mode().is_tree() {
            true => trees.push((entry.filename().to_owned(), entry.object_id())),
            false => count += 1,
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

/// Everything below a directory but its own `.git`: type, permissions, content.
fn snapshot(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(root, "", &mut found);
    found
}

fn collect(dir: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
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
fn same(git: &BTreeMap<String, String>, ours: &BTreeMap<String, String>, label: &str) {
    let mut differences = Vec::new();
    for path in git.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        let (git, ours) = (git.get(path), ours.get(path));
        if git != ours {
            differences.push(format!("{path}\n  git:  {git:?}\n  ours: {ours:?}"));
        }
    }
    assert!(differences.is_empty(), "{}\n{label}", differences.join("\n"));
}
