//! The same work done by git and by a running daemon, in turn; prints the table of the README.
//!
//! `cargo bench --bench compare [-- --files 200,20000,80000] [--rounds 11]`. Needs git. The repositories are made on the
//! spot, in TMPDIR, and removed afterwards. git does what a deploy script would: `git fetch`, `git reset
//! --hard`, `git clean -df`, or `git clone`, from the same repository, over `file://`. Where git-sync is installed, it
//! does its one-time sync for comparison.
//!
//! With `--polls 1000 [--minutes 10]`, as many remotes are asked for news each minute instead.
//!
//! With `--web`, deliveries over HTTP are heard instead, beside adnanh/webhook. With `--releases`, commits are published as releases instead, beside the ways of git-sync and of Deployer.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a benchmark"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

#[path = "../tests/support/over_http.rs"]
mod over_http;
#[path = "compare/polls.rs"]
mod polls;
#[path = "compare/releases.rs"]
mod releases;
#[path = "compare/web.rs"]
mod web;

fn main() {
    let options = Options::from_args();
    let dir = tempfile::tempdir().unwrap();
    println!("{}\n", machine());
    if options.web {
        return web::compare(dir.path());
    }
    if options.polls > 0 {
        return polls::measure(dir.path(), options.polls, options.minutes);
    }
    if options.releases {
        return releases::compare(dir.path(), &options.files, options.rounds);
    }
    println!("| files | work | git | gitsocket | git ÷ gitsocket |\n|---|---|---|---|---|");
    for &files in &options.files {
        let stage = Stage::new(&dir.path().join(files.to_string()), files);
        for work in [Work::Nothing, Work::Change(10), Work::Change(1000), Work::Clone] {
            if matches!(work, Work::Change(changed) if changed * 2 > files) {
                continue;
            }
            let rounds = if work == Work::Clone {
                options.rounds.div_ceil(2)
            } else {
                options.rounds
            };
            stage.compare(work, rounds);
        }
    }
}

struct Options {
    files: Vec<usize>,
    rounds: usize,
    releases: bool,
    web: bool,
    polls: usize,
    minutes: u64,
}

impl Options {
    fn from_args() -> Self {
        let mut options = Self {
            files: vec![200, 20_000, 80_000],
            rounds: 11,
            releases: false,
            web: false,
            polls: 0,
            minutes: 2,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--files" => {
                    let list = args.next().unwrap_or_default();
                    options.files = list.split(',').map(|n| n.parse().unwrap()).collect();
                }
                "--rounds" => options.rounds = args.next().unwrap_or_default().parse().unwrap(),
                "--polls" => options.polls = args.next().unwrap_or_default().parse().unwrap(),
                "--minutes" => options.minutes = args.next().unwrap_or_default().parse().unwrap(),
                "--releases" => options.releases = true,
                "--web" => options.web = true,
                // What cargo adds.
                "--bench" => {}
                other => panic!("{other}? see the first lines of this file"),
            }
        }
        options
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Nothing,
    /// That many files.
    Change(usize),
    Clone,
}

impl Work {
    fn name(self) -> String {
        match self {
            Self::Nothing => "nothing new".into(),
            Self::Change(10) => "ten files changed".into(),
            Self::Change(n) => format!("{n} files changed"),
            Self::Clone => "clone with checkout".into(),
        }
    }
}

/// A repository, a clone of git's, and a daemon with its own.
struct Stage {
    dir: PathBuf,
    files: usize,
    daemon: Child,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.daemon.kill().ok();
        self.daemon.wait().ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}

impl Stage {
    fn new(dir: &Path, files: usize) -> Self {
        fs::create_dir(dir).unwrap();
        make_repository(&dir.join("repo.git"), files, 0);
        let url = format!("file://{}/repo.git", dir.display());
        git(dir, &["clone", "-q", "-b", "main", &url, "git"]);
        let config = format!(
            "(listen: [Unix(path: \"s\")], triggers: {{\"site\": (repo: {url:?}, branch: \"main\", path: \"site\")}})"
        );
        let stage = Self {
            dir: dir.into(),
            files,
            daemon: start(dir, &config),
        };
        stage.trigger();
        stage
    }

    /// Do `work` with both, in turn, and print a line.
    fn compare(&self, work: Work, rounds: usize) {
        let mut pairs = Vec::new();
        // The first two are for warming up.
        for round in 0..rounds + 2 {
            self.prepare(work, round);
            let ours = || timed(|| self.trigger());
            let theirs = || timed(|| self.git(work));
            let pair = match round % 2 {
                0 => (theirs(), ours()),
                _ => {
                    let ours = ours();
                    (theirs(), ours)
                }
            };
            if round >= 2 {
                pairs.push(pair);
            }
        }
        let git = median(pairs.iter().map(|(git, _)| *git).collect());
        let ours = median(pairs.iter().map(|(_, ours)| *ours).collect());
        let ratio = median(pairs.iter().map(|(git, ours)| git / ours).collect());
        println!(
            "| {} | {} | {} | {} | {ratio:.1} |",
            self.files,
            work.name(),
            shown(git),
            shown(ours)
        );
        if work == Work::Change(10) && have("git-sync") {
            self.prepare(work, 1);
            self.git_sync();
            self.prepare(work, 0);
            println!(
                "| {} | the same by git-sync | {} | | |",
                self.files,
                shown(timed(|| self.git_sync()))
            );
        }
    }

    /// Let there be something to do.
    fn prepare(&self, work: Work, round: usize) {
        let commit = match work {
            Work::Nothing | Work::Clone => "one".to_owned(),
            Work::Change(n) => [format!("change-{n}"), "one".into()][round % 2].clone(),
        };
        let repo = self.dir.join("repo.git");
        fs::copy(repo.join("refs/heads").join(commit), repo.join("refs/heads/main")).unwrap();
        if work == Work::Clone {
            for clone in ["git", "site"] {
                fs::remove_dir_all(self.dir.join(clone)).unwrap();
            }
        }
        settle(&self.dir);
    }

    fn git(&self, work: Work) {
        if work == Work::Clone {
            let url = format!("file://{}/repo.git", self.dir.display());
            return git(&self.dir, &["clone", "-q", "-b", "main", &url, "git"]);
        }
        let clone = self.dir.join("git");
        git(&clone, &["fetch", "-q", "origin", "main"]);
        git(&clone, &["reset", "-q", "--hard", "origin/main"]);
        git(&clone, &["clean", "-qdf"]);
    }

    fn trigger(&self) {
        say(&self.dir, "site");
    }

    fn git_sync(&self) {
        let status = Command::new("git-sync")
            .args(["--one-time", "--ref", "main", "--root"])
            .arg(self.dir.join("git-sync"))
            .arg(format!("--repo=file://{}/repo.git", self.dir.display()))
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

/// A daemon in `dir`, once it is ready.
fn start(dir: &Path, config: &str) -> Child {
    fs::write(dir.join("config.ron"), config).unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_gitsocket"))
        .args(["server", "-c", "config.ron"])
        .env("STATE_DIRECTORY", dir.join("state"))
        .current_dir(dir)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(daemon.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the daemon does not start");
    }
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    daemon
}

/// Say `line` to the daemon in `dir`, and hear it out.
fn say(dir: &Path, line: &str) {
    let mut socket = UnixStream::connect(dir.join("s")).unwrap();
    socket.write_all(format!("{line}\n").as_bytes()).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let last = answer.lines().next_back().unwrap_or_default();
    assert!(last.starts_with("ok site "), "{answer}");
}

/// What the one leaves to be written must not slow the other down.
fn settle(dir: &Path) {
    Command::new("sync").arg("-f").arg(dir).status().ok();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64()
}

fn shown(seconds: f64) -> String {
    match Duration::from_secs_f64(seconds) {
        time if time < Duration::from_millis(10) => format!("{:.1} ms", seconds * 1e3),
        time if time < Duration::from_secs(1) => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

/// A bare repository with `files` files in directories of ten, as a commit `one`, others with changes to it, and `steps`
/// that change ten files each, one after the other: `step-1` and so on.
fn make_repository(path: &Path, files: usize, steps: usize) {
    fs::create_dir(path).unwrap();
    git(path, &["init", "-q", "--bare", "-b", "main"]);
    let mut import = Command::new("git")
        .args(["fast-import", "--quiet"])
        .current_dir(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = std::io::BufWriter::new(import.stdin.take().unwrap());
    let mut random = fastrand::Rng::with_seed(files as u64);
    let mut commit = |name: &str, parent: &str, changed: &mut dyn Iterator<Item = usize>| {
        write!(
            input,
            "commit refs/heads/{name}\ncommitter A <a@b> 1700000000 +0000\ndata 1\nx{parent}\n"
        )
        .unwrap();
        for file in changed {
            // Some hundred words that no two files share.
            let words = random.usize(20..400);
            let text: String = (0..words).map(|_| format!("{:x} ", random.u32(..))).collect();
            let (a, b) = (file / 1000, file / 10 % 100);
            write!(
                input,
                "M 644 inline d{a}/d{b}/f{file}\ndata {}\n{text}\n",
                text.len()
            )
            .unwrap();
        }
    };
    commit("one", "", &mut (0..files));
    for n in [10, 1000] {
        // Spread over the whole tree.
        let changed = n.min(files);
        commit(
            &format!("change-{n}"),
            "\nfrom refs/heads/one",
            &mut (0..changed).map(|i| i * (files / changed)),
        );
    }
    for step in 1..=steps {
        let parent = match step {
            1 => "one".into(),
            _ => format!("step-{}", step - 1),
        };
        let changed = 10.min(files);
        commit(
            &format!("step-{step}"),
            &format!("\nfrom refs/heads/{parent}"),
            &mut (0..changed).map(|i| (i * (files / changed) + step) % files),
        );
    }
    drop(input);
    assert!(import.wait().unwrap().success());
    fs::copy(path.join("refs/heads/one"), path.join("refs/heads/main")).unwrap();
}

fn git(dir: &Path, args: &[&str]) {
    let status = Command::new("git").args(args).current_dir(dir).status().unwrap();
    assert!(status.success(), "git {args:?}");
}

fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// What this was measured on.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let version = Command::new("git").arg("--version").output().unwrap().stdout;
    format!(
        "{cores} cores of {model}; {}",
        String::from_utf8_lossy(&version).trim()
    )
}
