//! An upgrade from an older version works with targets of every kind that it could leave, and so does the way back.
//!
//! `GITSOCKET_BEFORE` names the older program; `.ci/before` builds it from this project's history.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]
#![allow(unreachable_pub, reason = "a test binary has no public API")]
#![allow(dead_code, reason = "modules are shared with other tests")]

#[path = "support/mock_server.rs"]
mod mock_server;
#[path = "support/source.rs"]
mod source;
#[path = "support/world.rs"]
mod world;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use mock_server::Server;
use source::{Entry, Source, file};
use world::{Daemon, Ended, World, git, machine, need, tree};

/// Triggers, one of each kind, with what is particular about each.
const KINDS: [(&str, &str); 5] = [
    ("plain", ""),
    ("shallow", "depth: 1"),
    ("apart", "git_dir: \"git/apart.git\""),
    (
        "one",
        "path: \"shared\", hooks: [Exec(run: [\"PLACE/hook\", \"one\"])]",
    ),
    (
        "two",
        "path: \"shared\", hooks: [Exec(run: [\"PLACE/hook\", \"two\"])]",
    ),
];
/// Triggers that the older version leaves in trouble.
const TROUBLES: [(&str, &str); 4] = [
    ("half", ""),
    ("wedged", ""),
    ("failed", "hooks: [Exec(run: [\"PLACE/hook\", \"failed\"])]"),
    ("killed", "hooks: [Exec(run: [\"PLACE/hook\", \"killed\"])]"),
];

struct Stage {
    world: World,
    before: PathBuf,
    source: Source,
    /// Only `wedged` and `half` are fetched from there.
    server: Server,
    round: u32,
}

impl Stage {
    /// Nothing where there is no older version.
    fn new() -> Option<Self> {
        let Some(before) = std::env::var_os("GITSOCKET_BEFORE") else {
            machine::left_to_others("GITSOCKET_BEFORE names no older version; see .ci/before");
            return None;
        };
        if !need("git") {
            return None;
        }
        let (world, source) = World::with_source();
        let server = Server::start(&source.path);
        let mut stage = Self {
            before: before.into(),
            source,
            server,
            round: 0,
            world,
        };
        stage.push();
        stage.configure();
        // It says who runs it, and does what a file of that name tells it: fail, or wait to be killed.
        let place = stage.world.path("");
        stage.world.script(
            "hook",
            &format!(
                "cd {}\n\
                 read order < order-$1 2>/dev/null\n\
                 [ \"$order\" != fail ] || exit 1\n\
                 [ \"$order\" != wait ] || read never < never\n\
                 echo ran >> ran-$1",
                place.display()
            ),
        );
        stage.world.fifo("never");
        Some(stage)
    }

    fn configure(&self) {
        let place = self.world.path("");
        let triggers: String = KINDS
            .into_iter()
            .chain(TROUBLES)
            .map(|(name, more)| {
                let more = more.replace("PLACE", place.to_str().unwrap().trim_end_matches('/'));
                let path = if more.contains("path:") {
                    String::new()
                } else {
                    format!("path: {name:?},")
                };
                let repo = match name {
                    "half" | "wedged" => format!("git://127.0.0.1:{}/x", self.server.port),
                    _ => "repo.git".into(),
                };
                format!("{name:?}: (repo: {repo:?}, branch: \"main\", retries: 0, {path} {more}),")
            })
            .collect();
        self.world.config_of(&triggers);
    }

    fn push(&mut self) {
        self.round += 1;
        let files = self.files();
        self.source
            .commit(files.iter().map(|(path, entry)| (path.as_str(), entry.clone())));
    }

    fn files(&self) -> BTreeMap<String, Entry> {
        BTreeMap::from([
            ("same".to_owned(), file("same")),
            (format!("d/of-{}", self.round), file("one of its own")),
            ("d/e/changed".to_owned(), file(&format!("round {}", self.round))),
        ])
    }

    /// The older version, as [`World::command`] starts this one.
    fn older(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.before);
        command
            .args(args)
            .env_clear()
            .env("PATH", "")
            .current_dir(self.world.path(""))
            .stdin(Stdio::null());
        command
    }

    fn once_before(&self, name: &str) -> Ended {
        Ended::from(self.older(&["once", name]).output().unwrap())
    }

    fn order(&self, name: &str, order: &str) {
        self.world.write(&format!("order-{name}"), &format!("{order}\n"));
    }

    /// How often the hook of a trigger has run to its end.
    fn ran(&self, name: &str) -> usize {
        let lines = fs::read_to_string(self.world.path(format!("ran-{name}")));
        lines.map_or(0, |lines| lines.lines().count())
    }

    /// All is deployed, and git finds nothing wrong with it.
    fn check(&self, when: &str) {
        let head = git(&self.source.path, &["rev-parse", "main"]);
        for (name, more) in KINDS.into_iter().chain(TROUBLES) {
            let root = self
                .world
                .path(if more.contains("shared") { "shared" } else { name });
            assert_eq!(tree(&root), self.files(), "{name} {when}");
            let git_dir = match name {
                "apart" => self.world.path("git/apart.git"),
                _ => root.join(".git"),
            };
            let git = |args: &[&str]| {
                let (git_dir, root) = (git_dir.to_str().unwrap(), root.to_str().unwrap());
                let all = ["--git-dir", git_dir, "--work-tree", root];
                git(Path::new("/"), &[&all[..], args].concat())
            };
            assert_eq!(git(&["status", "--porcelain"]), "", "{name} {when}");
            assert_eq!(git(&["rev-parse", "HEAD"]), head, "{name} {when}");
            git(&["fsck", "--strict", "--no-dangling"]);
            assert_eq!(
                git(&["symbolic-ref", "HEAD"]).trim(),
                "refs/heads/main",
                "{name} {when}"
            );
        }
    }
}

#[test]
fn an_upgrade_and_the_way_back() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    leave_by_the_older_version(&mut stage);

    // The upgrade: the daemon starts and finishes what was left, and every trigger works.
    let pending = stage.ran("failed");
    stage.push();
    for name in ["failed", "killed", "one"] {
        stage.order(name, "succeed");
    }
    let daemon = stage.world.daemon();
    for (name, _) in KINDS.into_iter().chain(TROUBLES) {
        let answer = daemon.say(format!("{name}\n"));
        assert!(world::last_line(&answer).starts_with("ok "), "{answer}");
    }
    drop(daemon);
    stage.check("after the upgrade");
    assert!(stage.ran("failed") > pending, "its hook was pending");
    for name in ["killed", "one", "two"] {
        assert!(stage.ran(name) > 0, "{name}");
    }

    // The way back: nothing new, then something new.
    // The older version forgets the hooks of the second one on a path.
    let ran = ["one", "failed", "killed"].map(|name| stage.ran(name));
    for update in [false, true] {
        if update {
            stage.push();
        }
        for (name, _) in KINDS.into_iter().chain(TROUBLES) {
            let ended = stage.once_before(name);
            assert_eq!(ended.exit, 0, "{name}, update {update}: {ended:?}");
        }
        stage.check("by the older version again");
    }
    for (name, before) in ["one", "failed", "killed"].into_iter().zip(ran) {
        assert!(stage.ran(name) > before, "{name}");
    }

    // And up again, with a hook that fails in between: the older version knows of it.
    stage.push();
    stage.order("failed", "fail");
    assert_eq!(stage.world.run(["once", "failed"]).exit, 5);
    stage.order("failed", "succeed");
    let before = stage.ran("failed");
    assert_eq!(stage.once_before("failed").exit, 0);
    assert_eq!(stage.ran("failed"), before + 1, "it was pending");
    for (name, _) in KINDS.into_iter().chain(TROUBLES) {
        let ended = stage.world.run(["once", name]);
        assert_eq!(ended.exit, 0, "{name}: {ended:?}");
    }
    stage.check("up again");
}

/// The older version keeps fifty runs, whatever they found. Each reads the files of the other, in their order.
#[test]
fn runs_are_remembered_there_and_back() {
    let Some(stage) = Stage::new() else {
        return;
    };
    let state = stage.world.path("state");
    let older = || {
        let mut command = stage.older(&["server"]);
        command.env("STATE_DIRECTORY", &state).stderr(Stdio::piped());
        Daemon::start_by(command, stage.world.path("s.sock"))
    };
    let newer = || Daemon::start_with(&stage.world, &[], &[("STATE_DIRECTORY", state.clone())]);
    let mut runs = Vec::new();
    let mut trigger = |daemon: &Daemon, times: usize| {
        for _ in 0..times {
            let answer = daemon.say("{\"op\":\"trigger\",\"name\":\"plain\"}\n");
            let done: serde_json::Value = serde_json::from_str(world::last_line(&answer)).unwrap();
            assert_eq!(done["exit"], 0, "{answer}");
            runs.insert(0, done["run"].as_str().unwrap().to_owned());
        }
        runs.clone()
    };
    let listed = |daemon: &Daemon| -> Vec<String> {
        let list = daemon.say("log plain\n");
        let lines = list.lines().filter(|line| !line.starts_with("ok "));
        lines
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect()
    };

    let daemon = older();
    let runs = trigger(&daemon, 55);
    assert_eq!(listed(&daemon), runs[..50]);
    drop(daemon);
    let daemon = newer();
    assert_eq!(listed(&daemon), runs[..50]);
    // Those of the older version stay, beside ten that found nothing new.
    let runs = trigger(&daemon, 12);
    assert_eq!(listed(&daemon), [&runs[..10], &runs[12..62]].concat());
    drop(daemon);
    let daemon = older();
    assert_eq!(listed(&daemon), [&runs[..10], &runs[12..52]].concat());
    let runs = trigger(&daemon, 1);
    let expected = [&runs[..11], &runs[13..52]].concat();
    assert_eq!(listed(&daemon), expected);
    drop(daemon);
    let daemon = newer();
    assert_eq!(listed(&daemon), expected);
    let runs = trigger(&daemon, 1);
    // One more than ten that found nothing new, as far as their names tell.
    let expected = [&runs[..11], &runs[14..53]].concat();
    assert_eq!(listed(&daemon), expected);
}

/// Targets of every kind.
fn leave_by_the_older_version(stage: &mut Stage) {
    for round in 0..3 {
        for (name, _) in KINDS.into_iter().chain(TROUBLES) {
            if name != "half" {
                let ended = stage.once_before(name);
                assert_eq!(ended.exit, 0, "{name}, round {round}: {ended:?}");
            }
        }
        stage.push();
    }

    // A pack without a file: the ref moves all the same, and the next one does not come through either.
    let blob = git(&stage.source.path, &["rev-parse", "main:d/e/changed"]);
    stage.server.leave_out(&[blob.trim().to_owned()]);
    assert_eq!(stage.once_before("wedged").exit, 1);
    assert!(stage.server.has_left_out());
    assert_eq!(stage.once_before("wedged").exit, 1, "it is wedged");

    // Killed in the middle of a clone.
    let stalled = stage.server.stall();
    let mut child = stage.older(&["once", "half"]).spawn().unwrap();
    stalled.recv().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(stage.world.path("half").exists(), "something is left of it");

    // One hook fails; one runs when the daemon is killed.
    stage.order("failed", "fail");
    stage.order("one", "fail");
    assert_eq!(stage.once_before("failed").exit, 5);
    assert_eq!(stage.once_before("one").exit, 5);
    stage.order("killed", "wait");
    let mut command = stage.older(&["server"]);
    command.stderr(Stdio::piped());
    let mut daemon = Daemon::start_by(command, stage.world.path("s.sock"));
    let mut lines = BufReader::new(daemon.connect());
    std::io::Write::write_all(lines.get_mut(), b"killed\n").unwrap();
    let mut line = String::new();
    while !line.contains("hook") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0);
    }
    daemon.child.kill().unwrap();
    daemon.wait();
}
