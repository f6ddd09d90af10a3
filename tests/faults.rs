//! A run that is killed at any system call that changes the disk, or for which that call fails, is set right by the next run.
//!
//! A tracer (`support/tracer.c`, built with `cc`) counts the calls, so that "each" is a number. A plain `cargo test` tries
//! one in a hundred, with one kind of error, others each time (GITSOCKET_TEST_SEED repeats a run); `GITSOCKET_FAULTS=all cargo test --test faults --
//! --nocapture` tries all and prints how many there are, `GITSOCKET_FAULTS=1/4` each fourth, `GITSOCKET_FAULTS=12` the
//! twelfth alone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    unreachable_pub,
    reason = "this is a test"
)]

#[path = "support/source.rs"]
mod source;
#[path = "support/world.rs"]
mod world;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use gix::ObjectId;
use rustix::io::Errno;
use source::{Entry, Source, file};
use world::{Ended, World, git, machine, need};

/// Build the tracer at `path`; whether it may trace.
fn build_tracer(path: &Path) -> bool {
    if !cfg!(target_arch = "x86_64") {
        machine::skipped("the tracer needs x86-64");
        return false;
    }
    if !need("cc") {
        return false;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tracer.c");
    let built = Command::new("cc")
        .args(["-O1", "-o"])
        .arg(path)
        .arg(source)
        .status()
        .unwrap();
    assert!(built.success(), "the tracer cannot be built");
    let tries = Command::new(path)
        .args(["/dev/null", "0", "0", "/", "/bin/true"])
        .status()
        .unwrap();
    let may = tries.code() != Some(98);
    if !may {
        machine::skipped("processes may not be traced here");
    }
    may
}

/// How a fault shows.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Error(Errno),
}

impl Fault {
    fn errno(self) -> i32 {
        match self {
            Self::Kill => 0,
            Self::Error(errno) => errno.raw_os_error(),
        }
    }
}

const ERRORS: [Errno; 4] = [Errno::NOSPC, Errno::IO, Errno::MFILE, Errno::ACCESS];

/// The exit status of a program that was killed.
const KILLED: i32 = 137;

/// A world in which one thing is done over and over.
struct Stage {
    world: World,
    tracer: PathBuf,
    source: Source,
    round: usize,
    tip: ObjectId,
    /// Whether each round begins with nothing.
    clones: bool,
    /// Whether each round begins with damaged packs.
    heals: bool,
    /// Where the live files are, below `site`; nothing in place.
    live: Option<&'static str>,
    /// The configuration of each round, one after the other, besides the hook.
    configs: Vec<String>,
}

impl Stage {
    fn new(clones: bool, more: &str, tracer: PathBuf) -> Self {
        let (world, mut source) = World::with_source();
        let tip = source.commit(
            files(0)
                .iter()
                .map(|(path, entry)| (path.as_str(), entry.clone())),
        );
        let log = world.path("log");
        let hook = world.script("hook", &format!("echo $GITSOCKET_NEW >> {}", log.display()));
        world.config(&format!("hooks: [Exec(run: [{hook:?}])], {more}"));
        let stage = Self {
            world,
            tracer,
            source,
            round: 0,
            tip,
            clones,
            heals: false,
            live: None,
            configs: vec![more.into()],
        };
        if !clones {
            stage.world.deploy();
        }
        stage
    }

    /// With releases, as `configs` say.
    fn with_releases(clones: bool, configs: &[&str], tracer: PathBuf) -> Self {
        let configs: Vec<String> = configs
            .iter()
            .map(|config| format!("releases: ({config})"))
            .collect();
        Self {
            live: Some("current"),
            configs: configs.clone(),
            ..Self::new(clones, &configs[0], tracer)
        }
    }

    /// The live files.
    fn files(&self) -> BTreeMap<String, Entry> {
        let mut files = world::tree(&self.world.path("site").join(self.live.unwrap_or("")));
        // A link to what all releases share.
        files.remove("up");
        files
    }

    fn git_dir(&self) -> PathBuf {
        let name = if self.live.is_some() {
            "site/repo.git"
        } else {
            "site/.git"
        };
        self.world.path(name)
    }

    /// Leave something in each release that is not live.
    fn soil(&self) {
        let current = self.world.path("site/current");
        let is_live =
            |dir: &Path| fs::canonicalize(&current).is_ok_and(|live| live == fs::canonicalize(dir).unwrap());
        for entry in fs::read_dir(self.world.path("site/releases")).unwrap() {
            let dir = entry.unwrap().path();
            if !is_live(&dir) {
                fs::create_dir_all(dir.join("left/deep/.git")).unwrap();
                fs::write(dir.join("left/deep/file"), "x").unwrap();
            }
        }
    }

    /// What is live is one whole release, whatever has happened.
    fn check_live(&self, what: &str) {
        let current = self.world.path("site/current");
        if self.live.is_none() || (self.clones && !current.exists()) {
            return;
        }
        let there = self.files();
        let is_whole = (0..=self.round).rev().any(|round| files(round) == there);
        assert!(is_whole, "{there:?} {what}");
    }

    /// Push a commit of `files`.
    fn push(&mut self, files: &BTreeMap<String, Entry>) {
        let files = files.iter().map(|(path, entry)| (path.as_str(), entry.clone()));
        self.tip = self.source.commit(files);
    }

    /// There is something to do: a new commit, and dirt; or a clone.
    fn set(&mut self) {
        self.round += 1;
        if self.configs.len() > 1 {
            let hook = self.world.path("hook");
            let more = &self.configs[self.round % self.configs.len()];
            self.world
                .config(&format!("hooks: [Exec(run: [{hook:?}])], {more}"));
        }
        let files = files(self.round);
        let files = files.iter().map(|(path, entry)| (path.as_str(), entry.clone()));
        self.tip = match self.round % 3 {
            0 => self.source.rewrite(files),
            _ => self.source.commit(files),
        };
        if self.clones {
            fs::remove_dir_all(self.world.path("site")).ok();
            return;
        }
        if self.live.is_some() {
            return self.soil();
        }
        self.world.write("site/untracked/deep/file", "x");
        self.world.write("site/same", "modified here");
        fs::remove_file(self.world.path("site/modified")).unwrap();
        if self.heals {
            self.damage();
        }
    }

    /// Damage all packs, and let everything be read again.
    fn damage(&self) {
        let git_dir = self.world.path("site/.git");
        fs::remove_file(git_dir.join("index")).unwrap();
        fs::remove_file(self.world.path("site/same")).unwrap();
        for entry in fs::read_dir(git_dir.join("objects/pack")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ext| ext == "pack") {
                let mut bytes = fs::read(&path).unwrap();
                bytes[12..].fill(0x55);
                fs::remove_file(&path).unwrap();
                fs::write(&path, bytes).unwrap();
            }
        }
    }

    /// Run until the call `n`, and let `fault` happen there. Gives the calls that were made.
    fn run(&self, n: usize, fault: Fault) -> (Ended, Vec<String>) {
        self.run_as(&["once", "site"], n, fault)
    }

    fn run_as(&self, args: &[&str], n: usize, fault: Fault) -> (Ended, Vec<String>) {
        let output = Command::new(&self.tracer)
            .arg("calls")
            .args([n.to_string(), fault.errno().to_string()])
            .arg(self.world.path(""))
            .arg(env!("CARGO_BIN_EXE_gitsocket"))
            .args(args)
            .env_clear()
            .env("PATH", "")
            .current_dir(self.world.path("."))
            .output()
            .unwrap();
        let calls = fs::read_to_string(self.world.path("calls")).unwrap();
        (Ended::from(output), calls.lines().map(str::to_owned).collect())
    }

    /// Everything is as if nothing had happened.
    fn check(&self, what: &str) {
        let world = &self.world;
        if self.configs[0].contains("group") {
            let mut others = Vec::new();
            of_other_groups(&world.path("site"), &mut others);
            assert!(others.is_empty(), "{others:?} {what}");
        }
        assert_eq!(self.files(), files(self.round), "{what}");
        let log = fs::read_to_string(world.path("log")).unwrap_or_default();
        let tip = self.tip.to_string();
        assert_eq!(
            log.lines().next_back(),
            Some(tip.as_str()),
            "the hook of the commit did not run: {what}"
        );
        if need("git") {
            if self.live.is_none() {
                let site = world.path("site");
                assert_eq!(git(&site, &["status", "--porcelain"]), "", "{what}");
            }
            let git_dir = self.git_dir();
            assert_eq!(git(&git_dir, &["rev-parse", "HEAD"]).trim(), tip, "{what}");
            git(&git_dir, &["fsck", "--strict", "--no-dangling"]);
        }
    }

    fn check_tidy(&self, what: &str) {
        let mut left = Vec::new();
        left_overs(&self.world.path("site"), &mut left);
        assert!(left.is_empty(), "{left:?} {what}");
    }
}

/// The files of a commit: some stay, some change in each way there is.
fn files(round: usize) -> BTreeMap<String, Entry> {
    let n = round % 2;
    let mut files = vec![
        ("same".to_owned(), file("same")),
        ("modified".into(), file(&format!("round {round}"))),
        (format!("d/e/moves{n}"), file("moves")),
        ("d/stays".into(), file("stays")),
    ];
    files.push(match n {
        0 => ("kind".into(), Entry::Symlink("same".into())),
        _ => ("kind/file".into(), file("a directory now")),
    });
    files.push(match n {
        0 => ("mode".into(), file("mode")),
        _ => ("mode".into(), Entry::Executable(b"mode".to_vec())),
    });
    files.into_iter().collect()
}

/// What a run leaves behind only when it dies.
fn left_overs(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".lock")
            || name.starts_with("tmp_")
            || name.starts_with(".tmp")
            || name.contains("gitsocket-")
            || name.ends_with(".json.tmp")
            || name.ends_with(".keep")
            || (name.ends_with(".pack") && !path.with_extension("idx").exists())
        {
            found.push(path.clone());
        }
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            left_overs(&path, found);
        }
    }
}

/// A group that root's files do not have by themselves.
const GROUP: u32 = 54321;

/// What is there of another group than that, but for what is git's.
fn of_other_groups(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with(".git") {
            continue;
        }
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.gid() != GROUP {
            found.push(path.clone());
        }
        if meta.is_dir() {
            of_other_groups(&path, found);
        }
    }
}

/// Which of the calls are tried.
#[derive(Clone, Copy)]
enum Chosen {
    /// One in so many, from this one on.
    Each(usize, usize),
    Only(usize),
}

impl Chosen {
    /// By default a few, and others each time.
    fn new(kind: usize) -> Self {
        static SEED: LazyLock<u64> = LazyLock::new(machine::seed);
        let wanted = std::env::var("GITSOCKET_FAULTS").unwrap_or_else(|_| "1/100".into());
        match wanted.strip_prefix("1/") {
            _ if wanted == "all" => Self::Each(1, 0),
            Some(each) => {
                let each = each.parse().unwrap();
                // Each call is met by some kind of fault or other, if there are as many kinds.
                let mut rng = fastrand::Rng::with_seed(*SEED);
                let first = rng.usize(..each) + kind;
                Self::Each(each, first % each)
            }
            None => Self::Only(wanted.parse().unwrap()),
        }
    }

    fn has(self, n: usize) -> bool {
        match self {
            Self::Each(each, first) => n % each == first,
            Self::Only(only) => n == only,
        }
    }
}

/// Let `faults` happen at each call.
fn everywhere(name: &str, clones: bool, more: &str, faults: &[Fault]) {
    let dir = machine::tempdir().unwrap();
    let tracer = dir.path().join("tracer");
    if !build_tracer(&tracer) {
        return;
    }
    everywhere_on(name, Stage::new(clones, more, tracer), faults);
}

fn everywhere_on(name: &str, mut stage: Stage, faults: &[Fault]) {
    for (kind, &fault) in faults.iter().enumerate() {
        // A run without a fault tells how many calls there are, more or less: threads are not always as fast.
        stage.set();
        let usual = stage.run(0, fault).1.len();
        let chosen = Chosen::new(kind);
        let (mut tried, mut n) = (0, 0);
        loop {
            n += 1;
            if n <= usual && !chosen.has(n) {
                continue;
            }
            stage.set();
            let (ended, calls) = stage.run(n, fault);
            let reached = calls.len() >= n;
            let at = calls.get(n - 1).cloned().unwrap_or_default();
            let what = format!("{name}: {fault:?} at {at:?}: {ended:?}");
            stage.check_live(&what);
            match fault {
                Fault::Kill if reached => assert_eq!(ended.exit, KILLED, "{what}"),
                Fault::Kill => assert_eq!(ended.exit, 0, "{what}"),
                Fault::Error(_) => told(&ended, &what),
            }
            if ended.exit == 0 {
                stage.check(&what);
            }
            if reached {
                let next = stage.world.run(["once", "site"]);
                assert_eq!(next.exit, 0, "{next:?} after {what}");
                stage.check(&what);
            }
            stage.check_tidy(&what);
            if !reached {
                break;
            }
            tried += 1;
        }
        eprintln!("{name}: {fault:?}: {} calls, {tried} of them tried", n - 1);
    }
}

/// An error says what failed, and what to do; or the run could do without.
fn told(ended: &Ended, what: &str) {
    assert!(!ended.err.contains("panicked"), "{what}");
    if ended.exit == 0 {
        return;
    }
    let last = ended.err.lines().next_back().unwrap_or_default();
    assert!(last.starts_with("error site "), "{what}");
    assert!(!last.starts_with("error site internal"), "{what}");
    assert!(last.ends_with(')') || last.contains(" ("), "no help: {what}");
}

/// All kinds where it is said which calls are tried, and one of them otherwise, another each time.
fn errors() -> Vec<Fault> {
    let mut errors = ERRORS.map(Fault::Error).to_vec();
    if std::env::var_os("GITSOCKET_FAULTS").is_none() {
        fastrand::Rng::with_seed(machine::seed()).shuffle(&mut errors);
        errors.truncate(1);
    }
    errors
}

#[test]
fn a_clone_is_killed() {
    everywhere("clone", true, "", &[Fault::Kill]);
}

#[test]
fn an_update_is_killed() {
    everywhere("update", false, "", &[Fault::Kill]);
}

#[test]
fn a_shallow_update_is_killed() {
    // And of a group: nothing that is made is ever left with another one.
    let group = if rustix::process::geteuid().is_root() {
        format!("group: \"{GROUP}\"")
    } else {
        String::new()
    };
    everywhere(
        "shallow update",
        false,
        &format!("depth: 1, {group}"),
        &[Fault::Kill],
    );
}

fn healing(faults: &[Fault]) {
    let dir = machine::tempdir().unwrap();
    let tracer = dir.path().join("tracer");
    if build_tracer(&tracer) {
        let stage = Stage {
            heals: true,
            ..Stage::new(false, "", tracer)
        };
        everywhere_on("healing", stage, faults);
    }
}

#[test]
fn a_run_that_heals_is_killed() {
    healing(&[Fault::Kill]);
}

#[test]
fn a_run_that_heals_meets_errors() {
    healing(&errors());
}

#[test]
fn a_clone_meets_errors() {
    everywhere("clone", true, "", &errors());
}

#[test]
fn an_update_meets_errors() {
    everywhere("update", false, "", &errors());
}

/// Releases, in a world of their own.
fn releases(name: &str, clones: bool, configs: &[&str], faults: &[Fault]) {
    let dir = machine::tempdir().unwrap();
    let tracer = dir.path().join("tracer");
    if build_tracer(&tracer) {
        everywhere_on(name, Stage::with_releases(clones, configs, tracer), faults);
    }
}

const SWAP: &str = "keep: 1, live: Exchange(\"current\")";

#[test]
fn a_release_is_killed() {
    releases("release", false, &["keep: 1, shared: [\"up/\"]"], &[Fault::Kill]);
}

#[test]
fn a_release_meets_errors() {
    releases("release", false, &["keep: 1"], &errors());
}

#[test]
fn a_first_release_is_killed() {
    releases("first release", true, &["keep: 1"], &[Fault::Kill]);
}

#[test]
fn a_first_release_meets_errors() {
    releases("first release", true, &[SWAP], &errors());
}

#[test]
fn a_swap_is_killed() {
    releases("swap", false, &[SWAP], &[Fault::Kill]);
}

#[test]
fn a_swap_meets_errors() {
    releases("swap", false, &[SWAP], &errors());
}

/// The way back, by hand or by itself: what is live is one of two releases at any moment, and once the next run is over, it is the
/// one that was good.
fn going_back(name: &str, configs: &[&str], is_sick: bool, faults: &[Fault]) {
    let dir = machine::tempdir().unwrap();
    let tracer = dir.path().join("tracer");
    if !build_tracer(&tracer) {
        return;
    }
    let mut stage = Stage::with_releases(false, configs, tracer);
    stage.world.script("hook", "[ ! -e sick ]");
    let args: &[&str] = if is_sick {
        &["once", "site"]
    } else {
        &["once", "--rollback", "site"]
    };
    for (kind, &fault) in faults.iter().enumerate() {
        let chosen = Chosen::new(kind);
        // The first round, without a fault, tells how many calls there are: a run that was killed made fewer.
        let (mut n, mut tried, mut usual) = (0, 0, None);
        loop {
            n += usize::from(usual.is_some());
            if usual.is_some_and(|usual| n > 0 && n <= usual) && !chosen.has(n) {
                continue;
            }
            stage.round += 1;
            let good = files(stage.round);
            stage.push(&good);
            stage.world.deploy();
            let mut next = files(stage.round + 1);
            if is_sick {
                next.insert("sick".into(), file(""));
            }
            stage.push(&next);
            if !is_sick {
                stage.world.deploy();
            }
            let (ended, calls) = stage.run_as(args, n, fault);
            usual = usual.or(Some(calls.len()));
            let at = calls.get(n.wrapping_sub(1)).cloned().unwrap_or_default();
            let what = format!("{name}: {fault:?} at {at:?}: {ended:?}");
            let there = stage.files();
            assert!(there == good || there == next, "{there:?} {what}");
            if let Fault::Error(_) = fault {
                assert!(!ended.err.contains("panicked"), "{what}");
            }
            let reached = calls.len() >= n;
            if reached {
                let next_run = stage.world.run(["once", "site"]);
                let seen = stage.files();
                // What an operator wanted, and was killed before that was written down, is not known any more.
                let is_right = seen == good || (!is_sick && seen == next && next_run.exit == 0);
                assert!(is_right, "{seen:?} {next_run:?} after {what}");
                if seen == good {
                    assert_ne!(next_run.exit, 0, "it is held: {next_run:?} after {what}");
                    let again = stage.world.run(["once", "site"]);
                    assert!(again.err.contains("error site held"), "{again:?} after {what}");
                }
            }
            stage.check_tidy(&what);
            if !reached {
                break;
            }
            tried += usize::from(n > 0);
        }
        eprintln!("{name}: {fault:?}: {} calls, {tried} of them tried", n - 1);
    }
}

#[test]
fn a_way_back_is_killed() {
    going_back("way back", &["keep: 2"], false, &[Fault::Kill]);
    going_back("way back by a swap", &[SWAP], true, &[Fault::Kill]);
}

#[test]
fn a_way_back_meets_errors() {
    going_back("way back", &[SWAP], false, &errors());
    going_back("way back by itself", &["keep: 2"], true, &errors());
}

/// To a link, and back to a directory; and fewer are kept, and more.
#[test]
fn another_way_of_being_live_is_killed() {
    releases("another way", false, &["keep: 3", SWAP], &[Fault::Kill]);
}

#[test]
fn another_way_of_being_live_meets_errors() {
    releases("another way", false, &["keep: 3", SWAP], &errors());
}

/// The hook kills whoever started it: it has to run again.
#[test]
fn a_hook_is_interrupted() {
    let (world, mut source) = World::with_source();
    let tip = source.commit([("a", file("1"))]);
    world.hook(
        "if [ ! -e ../killed ]; then : > ../killed; kill -9 $PPID; exit 0; fi; echo $GITSOCKET_NEW >> ../log",
    );
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, -1, "it was not killed: {ended:?}");
    assert!(!world.path("log").exists());
    world.deploy();
    assert_eq!(
        fs::read_to_string(world.path("log")).unwrap().trim(),
        tip.to_string()
    );
}
