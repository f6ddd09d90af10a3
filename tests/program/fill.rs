//! A repository that is deployed to again and again does not fill up, and its maintenance survives being killed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use gitsocket::{
    base::{
        event::{Done, Outcome, Sink, Task},
        name::RunId,
        watch::{Stop, Watch},
    },
    config::{Config, Target},
    deploy::{
        hook::{Groups, Starter},
        run::{self, Context, Interrupted},
        sandbox::Sandbox,
        state::State,
    },
    git::{lock::Recovered, maintenance, transport::Connections},
};

use super::{
    source::{Entry, Source, file},
    world::{Need, World, git, machine, need},
};

/// What a daemon does for a trigger, here and now.
struct Daemon {
    target: std::sync::Arc<Target>,
    context: Context,
}

impl Daemon {
    fn new(world: &World, more: &str) -> Self {
        let config = Config::load(&world.config(more)).unwrap();
        let target = config.triggers.values().next().unwrap().clone();
        Self {
            target: target.clone(),
            context: Context {
                peer: "test".into(),
                task: Task::Update,
                recovered: Recovered::default(),
                interrupted: Interrupted::new(|_| {}),
                run: RunId::new(),
                umask: 0o022,
                dry_run: false,
                groups: Groups::default(),
                starter: Starter::Here,
                sandbox: Sandbox::off(),
                connections: Connections::new(config.keep_alive),
                watch: Watch::new(target.run_timeout, Stop::default(), None),
                cache: gitsocket::git::worktree::Cache::default(),
                target_dirs: gitsocket::deploy::target_dirs::TargetDirs::default(),
                events: Sink::new(|_| {}),
            },
        }
    }

    fn deploy(&self) -> Done {
        let done = run::execute(&self.target, &self.context);
        assert_ne!(done.outcome, Outcome::Failed, "{done:?}");
        done
    }

    fn git_dir(&self) -> PathBuf {
        self.target.site.path.as_path().join(".git")
    }

    fn tidy(&self, grace: Duration) -> maintenance::Outcome {
        let git_dir = self.git_dir();
        maintenance::maintain(&maintenance::Options {
            root: self.target.site.root().as_path(),
            git_dir: &git_dir,
            depth: self.target.origin.depth,
            grace,
            pinned: &|| State::read(&git_dir).commits(),
            mark: None,
        })
        .unwrap()
    }
}

fn noise(seed: u64, bytes: usize) -> Entry {
    let mut rng = fastrand::Rng::with_seed(seed);
    Entry::File(std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect())
}

/// Let every pack be two hours old.
fn age(git_dir: &Path) {
    for entry in fs::read_dir(git_dir.join("objects/pack")).unwrap() {
        let file = File::open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(7200))
            .unwrap();
    }
}

fn packs(git_dir: &Path) -> (usize, u64) {
    let mut found = (0, 0);
    for entry in fs::read_dir(git_dir.join("objects/pack")).unwrap() {
        let entry = entry.unwrap();
        found.0 += usize::from(entry.path().extension().is_some_and(|ext| ext == "pack"));
        // A concurrent swap may have removed it.
        found.1 += entry.metadata().map_or(0, |meta| meta.len());
    }
    found
}

#[test]
fn once_tidies_after_its_run() {
    let (world, mut source) = World::with_source();
    world.config("");
    for n in 0..40 {
        source.commit([("a", file(&n.to_string()))]);
        world.deploy();
        assert!(packs(&world.path("site/.git")).0 < 32);
    }
    if need("git") {
        git(&world.path("site"), &["fsck", "--strict"]);
        assert_eq!(git(&world.path("site"), &["rev-list", "--count", "HEAD"]), "40\n");
    }
}

#[test]
fn a_daemon_tidies_after_its_runs() {
    let (world, mut source) = World::with_source();
    world.config("depth: 1");
    let mut daemon = world.daemon();
    for n in 0..34 {
        source.commit([("a", file(&n.to_string()))]);
        assert!(daemon.say("site\n").contains("ok site"));
    }
    assert!(daemon.wait_for("maintenance is done").contains("Repacked"));
    daemon.stop();
    assert!(packs(&world.path("site/.git")).0 < 32);
}

/// With `depth`, what force-pushes and updates leave behind goes, reflogs or not; going back works.
#[test]
fn a_bounded_history_stays_bounded() {
    let (world, mut source) = World::with_source();
    let daemon = Daemon::new(&world, "depth: 1");
    let mut first = None;
    let (mut collected, mut largest) = (0, 0);
    for n in 0..45 {
        let files = [("noise", noise(n, 100_000)), ("d/same", file("same"))];
        let id = match n % 5 {
            4 => source.rewrite(files),
            _ => source.commit(files),
        };
        first.get_or_insert(id);
        daemon.deploy();
        // Nothing is young.
        collected += usize::from(matches!(
            daemon.tidy(Duration::ZERO),
            maintenance::Outcome::Collected(_)
        ));
        largest = largest.max(packs(&daemon.git_dir()).1);
    }
    assert!(collected > 2, "{collected}");
    // Three older ones that were good are kept.
    assert!(largest < 1_900_000, "{largest}");
    let lines = fs::read_to_string(daemon.git_dir().join("logs/HEAD")).unwrap();
    assert!(lines.lines().count() < 30, "{lines}");
    let cuts = fs::read_to_string(daemon.git_dir().join("shallow")).unwrap();
    assert!(cuts.lines().count() < 30, "{cuts}");
    // The remote goes back to what was here, and is gone.
    source.point("refs/heads/main", first.unwrap());
    daemon.deploy();
    assert_eq!(world.site()["noise"], noise(0, 100_000));
    if need("git") {
        git(&world.path("site"), &["fsck", "--strict"]);
        assert_eq!(git(&world.path("site"), &["status", "--porcelain"]), "");
    }
}

/// Runs go on while it is tidied, back and forth between commits that are garbage by turns.
#[test]
fn runs_in_the_middle_of_it() {
    let (world, mut source) = World::with_source();
    let daemon = Daemon::new(&world, "depth: 1");
    let trees: Vec<BTreeMap<String, Entry>> = (0..6)
        .map(|n| {
            let files = (0..8).map(|i| (format!("d{}/f{i}", i % 3), noise(n * 100 + i % (n + 2), 200_000)));
            files.collect()
        })
        .collect();
    let ids: Vec<_> = trees
        .iter()
        .map(|tree| source.rewrite(tree.iter().map(|(path, entry)| (path.as_str(), entry.clone()))))
        .collect();
    daemon.deploy();
    let stop = AtomicBool::new(false);
    let tidied = std::thread::scope(|scope| {
        let tidying = scope.spawn(|| {
            let mut count = [0; 3];
            while !stop.load(Ordering::Relaxed) {
                // Always due.
                fs::write(
                    daemon.git_dir().join("gitsocket/tidy.json"),
                    r#"{"alive_bytes":0,"loose":0}"#,
                )
                .unwrap();
                match daemon.tidy(Duration::ZERO) {
                    maintenance::Outcome::Collected(_) => count[0] += 1,
                    maintenance::Outcome::Overtaken => count[1] += 1,
                    maintenance::Outcome::NotDue | maintenance::Outcome::Uncut(_) => count[2] += 1,
                    other => panic!("{other:?}"),
                }
            }
            count
        });
        let mut rng = fastrand::Rng::with_seed(5);
        for n in 0..machine::rounds(15) {
            let to = rng.usize(..ids.len());
            source.point("refs/heads/main", ids[to]);
            daemon.deploy();
            assert!(world.site() == trees[to], "update {n} to {to}");
        }
        stop.store(true, Ordering::Relaxed);
        tidying.join().unwrap()
    });
    assert!(tidied[0] > 3, "{tidied:?}");
    eprintln!("collected, overtaken, not due: {tidied:?}");
    if need("git") {
        git(&world.path("site"), &["fsck", "--strict"]);
    }
}

/// Kill it at system calls that change something: at some of them each time, and at every one with enough rounds.
#[test]
fn killed_at_any_step() {
    if !need(Need::Tracing) || !need("git") {
        return;
    }
    let (world, mut source) = World::with_source();
    world.config("depth: 1");
    for n in 0..7 {
        source.commit([("noise", noise(n, 300_000)), ("d/same", file("same"))]);
        world.deploy();
    }
    let git_dir = world.path("site/.git");
    age(&git_dir);
    let head = git(&world.path("site"), &["rev-list", "--objects", "HEAD"]);
    let whole = git(&world.path("site"), &["count-objects", "-v"]);
    assert!(whole.contains("packs: 7"), "not due: {whole}");
    let saved = world.path("saved");
    copy(&world.path("site"), &saved);

    let mut points = BTreeMap::new();
    for call in [
        "rename",
        "renameat",
        "unlink",
        "unlinkat",
        "rmdir",
        "fsync",
        "fchmod",
        "utimensat",
        "mkdir",
        "write",
        "pwrite64",
        "openat",
        "flock",
    ] {
        for n in machine::points(5) {
            fs::remove_dir_all(world.path("site")).unwrap();
            copy(&saved, &world.path("site"));
            // openat is often for reading; every twentieth will do.
            let when = if call == "openat" { n * 20 } else { n };
            let survived = killed(&world, call, when);
            let site = world.path("site");
            git(&site, &["fsck", "--strict", "--no-dangling"]);
            assert_eq!(git(&site, &["rev-list", "--objects", "HEAD"]), head, "{call} {n}");
            world.deploy();
            git(&site, &["fsck", "--strict", "--no-dangling"]);
            assert_eq!(git(&site, &["rev-list", "--objects", "HEAD"]), head, "{call} {n}");
            assert_eq!(git(&site, &["status", "--porcelain"]), "", "{call} {n}");
            let counted = git(&site, &["count-objects", "-v"]);
            assert!(counted.contains("garbage: 0"), "{call} {n}: {counted}");
            // Where it was killed while packs went, too little may be left for it to be due.
            let (count, bytes) = packs(&site.join(".git"));
            assert!(
                count == 1 || bytes < 2 * 300_000 + 1_100_000,
                "{call} {n}: {counted}"
            );
            assert!(
                !site.join(".git/objects/tmp_gitsocket-tidy").exists(),
                "{call} {n}"
            );
            if survived {
                break;
            }
            *points.entry(call).or_insert(0) += 1;
        }
    }
    eprintln!("killed at {} points: {points:?}", points.values().sum::<usize>());
    let all =
        |call: &str| points.get(call).copied().unwrap_or(0) * if machine::rounds(1) < 5 { 5 } else { 1 };
    assert!(
        all("rename") + all("renameat") >= 5 && all("unlink") >= 10,
        "{points:?}"
    );
}

/// `once site`, killed at its `n`-th system call `call`; whether it made less of them.
fn killed(world: &World, call: &str, n: usize) -> bool {
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:signal=KILL:when={n}"))
        .arg(env!("CARGO_BIN_EXE_gitsocket"))
        .args(["once", "site"])
        .current_dir(world.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    status.success()
}

fn copy(from: &Path, to: &Path) {
    assert!(
        Command::new("cp")
            .arg("-a")
            .arg(from)
            .arg(to)
            .status()
            .unwrap()
            .success()
    );
}

/// Five thousand updates: packs, bytes and time stay flat. Prints a table, and writes a graph beside the tests' binaries.
///
/// `cargo test --test program -- --ignored --nocapture five_thousand`; `SERIES` and `UPDATES` choose less.
#[test]
#[ignore = "takes many minutes"]
fn five_thousand_updates() {
    let updates = std::env::var("UPDATES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5000);
    for (name, more, tidies) in [
        ("depth-1", "depth: 1", true),
        ("full-history", "", true),
        ("never-tidied", "depth: 1", false),
    ] {
        if std::env::var("SERIES").is_ok_and(|chosen| chosen != name) {
            continue;
        }
        let rows = fill(name, more, updates, tidies);
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fill-{name}.svg"));
        fs::write(&out, graph(name, &rows)).unwrap();
        eprintln!("the graph is in {}", out.display());
    }
}

/// What was seen after some updates.
struct Row {
    updates: usize,
    packs: usize,
    bytes: u64,
    logs: u64,
    median_ms: f64,
    most_ms: f64,
    /// Of all threads, a run on average.
    cpu_ms: f64,
    /// In all since the row before.
    tidying_ms: f64,
}

/// An hour in the life of a daemon, in this test.
const GRACE: Duration = Duration::from_secs(5);

fn fill(name: &str, more: &str, updates: usize, tidies: bool) -> Vec<Row> {
    let (world, mut source) = World::with_source();
    let daemon = Daemon::new(&world, more);
    let mut files: BTreeMap<String, String> = (0..200)
        .map(|n| (format!("dir{}/file{n}", n % 20), text(n, 0)))
        .collect();
    let mut ids = Vec::new();
    let mut rows = Vec::new();
    let (mut runs, mut cpu, mut tidying) = (Vec::new(), Duration::ZERO, Duration::ZERO);
    eprintln!("{name}\nupdates  packs  objects KiB  logs KiB  run ms (median, most, CPU)  tidying ms");
    for n in 1..=updates {
        let changed = (n * 37) % 200;
        files.insert(format!("dir{}/file{changed}", changed % 20), text(changed, n));
        if n % 25 == 0 {
            // A force-push: the last three commits are thrown away.
            let back = ids.len().saturating_sub(4);
            source.point("refs/heads/main", ids[back]);
        }
        ids.push(commit(&mut source, &files));
        let (began, busy) = (Instant::now(), cpu_time());
        daemon.deploy();
        runs.push(began.elapsed());
        cpu += cpu_time() - busy;
        let began = Instant::now();
        if tidies {
            daemon.tidy(GRACE);
        }
        tidying += began.elapsed();
        if n % (updates / 20) == 0 {
            rows.push(row(n, &daemon, &mut runs, &mut cpu, &mut tidying));
        }
    }
    for (path, text) in &files {
        assert_eq!(&fs::read_to_string(world.path("site").join(path)).unwrap(), text);
    }
    if need("git") {
        let site = world.path("site");
        git(&site, &["fsck", "--strict", "--no-dangling"]);
        eprint!("{}", git(&site, &["count-objects", "-v"]));
        git(&site, &["gc", "-q", "--prune=now"]);
        eprint!(
            "after git gc --prune=now:\n{}",
            git(&site, &["count-objects", "-v"])
        );
    }
    rows
}

fn commit(source: &mut Source, files: &BTreeMap<String, String>) -> gix::ObjectId {
    source.commit(files.iter().map(|(path, text)| (path.as_str(), file(text))))
}

fn text(seed: usize, version: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(seed as u64);
    let lines: String = (0..60).map(|n| format!("line {n} {:x}\n", rng.u32(..))).collect();
    lines.replacen("line 30 ", &format!("line 30 of version {version} "), 1)
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn row(
    updates: usize,
    daemon: &Daemon,
    runs: &mut Vec<Duration>,
    cpu: &mut Duration,
    tidying: &mut Duration,
) -> Row {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    runs.sort();
    let (packs, bytes) = packs(&daemon.git_dir());
    let row = Row {
        updates,
        packs,
        bytes,
        logs: size(&daemon.git_dir().join("logs")) + size(&daemon.git_dir().join("shallow")),
        median_ms: ms(runs[runs.len() / 2]),
        most_ms: ms(runs[runs.len() - 1]),
        cpu_ms: ms(std::mem::take(cpu)) / runs.len() as f64,
        tidying_ms: ms(std::mem::take(tidying)),
    };
    runs.clear();
    eprintln!(
        "{:7} {:6} {:12} {:9} {:9.1} {:7.1} {:7.1} {:11.0}",
        row.updates,
        row.packs,
        row.bytes >> 10,
        row.logs >> 10,
        row.median_ms,
        row.most_ms,
        row.cpu_ms,
        row.tidying_ms
    );
    row
}

fn size(path: &Path) -> u64 {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => fs::read_dir(path)
            .unwrap()
            .map(|entry| size(&entry.unwrap().path()))
            .sum(),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    }
}

/// Three curves, each against its own maximum.
fn graph(name: &str, rows: &[Row]) -> String {
    let curves: [(&str, &str, Vec<f64>); 3] = [
        ("packs", "#c33", rows.iter().map(|row| row.packs as f64).collect()),
        (
            "KiB of objects",
            "#36c",
            rows.iter().map(|row| (row.bytes >> 10) as f64).collect(),
        ),
        (
            "ms of a run",
            "#393",
            rows.iter().map(|row| row.median_ms).collect(),
        ),
    ];
    let last = rows.last().map_or(0, |row| row.updates);
    let mut out = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 640 260' font-family='sans-serif' font-size='12'>\n\
         <text x='20' y='16'>{name}: {last} updates</text>\n<rect x='20' y='50' width='600' height='190' fill='none' stroke='#999'/>\n"
    );
    for (n, (what, colour, values)) in curves.iter().enumerate() {
        let most = values.iter().copied().fold(1.0, f64::max);
        let points: String = rows
            .iter()
            .zip(values)
            .map(|(row, value)| {
                let x = 20.0 + 600.0 * row.updates as f64 / last as f64;
                format!("{x:.0},{:.1} ", 240.0 - 180.0 * value / most)
            })
            .collect();
        let x = 20 + 200 * n;
        out += &format!(
            "<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2'/>\n\
             <text x='{x}' y='40' fill='{colour}'>{what}: at most {most:.0}</text>\n"
        );
    }
    out + "</svg>\n"
}
