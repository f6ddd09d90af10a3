//! A target's lock cannot be held by a user who may only read; its file comes and goes with the target.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};

use super::{
    bounded::{rest, trigger},
    history::start,
    world::{
        Daemon, Ended, Need, World, last_line,
        machine::{self, STRANGER},
        need,
    },
};

/// A source, and triggers of these names with `more` fields, one job for each two of them.
fn world(names: &[&str], more: &str) -> World {
    let world = World::sourced();
    configure(&world, names, more);
    world
}

fn configure(world: &World, names: &[&str], more: &str) {
    let trigger =
        |name: &&str| format!("{name:?}: (repo: \"repo.git\", branch: \"main\", path: {name:?}, {more}),");
    let triggers: String = names.iter().map(trigger).collect();
    let jobs = names.len().div_ceil(2);
    let text = format!("(listen: [Unix(path: \"s.sock\")], jobs: {jobs}, triggers: {{ {triggers} }})");
    world.write("config.ron", &text);
}

/// Another user's process that holds an exclusive lock until it is dropped.
struct Stranger(Child);

impl Stranger {
    /// Nothing where it may not open what is at `path`.
    fn lock(path: &Path) -> Option<Self> {
        let script = "exec 9<\"$1\" && flock -x 9 && echo held && exec cat";
        let mut child = Command::new("/bin/sh")
            .args(["-c", script, "sh"])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .uid(STRANGER)
            .gid(STRANGER)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let stranger = Self(child);
        (line == "held\n").then_some(stranger)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn who_may_only_read_stops_nothing() {
    if !need(Need::Root) || !need("flock") {
        return;
    }
    let names = ["a", "b", "c"];
    let world = world(&names, "run_timeout: \"30s\"");
    machine::open_to_all(&world.path("."));
    let mut daemon = start(&world);
    let deploy = |daemon: &Daemon, names: &[&str]| {
        for name in names {
            let answer = daemon.deploys(name);
            assert!(!answer.contains("waiting"), "{answer}");
        }
    };
    // Before there is a clone, and then.
    let mut held = Vec::new();
    for name in ["a", "b"] {
        fs::create_dir_all(world.path(name)).unwrap();
        held.extend(Stranger::lock(&world.path(name)));
    }
    assert_eq!(held.len(), 2);
    deploy(&daemon, &names);
    for name in ["a", "b"] {
        let git_dir = world.path(name).join(".git");
        for dir in [
            &git_dir,
            &git_dir.join("gitsocket"),
            &git_dir.join("objects/pack"),
        ] {
            held.push(Stranger::lock(dir).unwrap());
        }
        assert!(Stranger::lock(&git_dir.join("gitsocket/lock")).is_none());
    }
    deploy(&daemon, &names);
    daemon.stop();
    assert_eq!(world.run(["once", "--all"]).exit, 0);
    // A mode that was widened is set right before it does harm.
    let lock = world.path("a/.git/gitsocket/lock");
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(world.run(["once", "a"]).exit, 0);
    assert!(Stranger::lock(&lock).is_none());
}

/// It locked the worktree's directory; its process is our own user's.
#[test]
fn a_run_of_the_version_before_is_waited_for() {
    let triggers = ["held", "other"];
    let world = world(&triggers, "");
    // It clones: nothing may be in the way of its git directory.
    fs::create_dir_all(world.path("held/.git.gitsocket-new")).unwrap();
    let old = File::open(world.path("held")).unwrap();
    flock(&old, FlockOperation::LockExclusive).unwrap();
    let mut daemon = start(&world);
    let (held, line) = trigger(&daemon, "held", "waiting for ");
    assert!(line.contains("of a version before this one"), "{line}");
    assert_eq!(names(&world.path("held")), [".git.gitsocket-new"]);
    flock(&old, FlockOperation::Unlock).unwrap();
    let answer = rest(held);
    assert!(last_line(&answer).starts_with("ok held "), "{answer}");
    assert_eq!(names(&world.path("held")), [".git", "a"]);

    // It updates.
    flock(&old, FlockOperation::LockExclusive).unwrap();
    let (held, _) = trigger(&daemon, "held", "waiting for ");
    // The only job is free meanwhile.
    for _ in 0..2 {
        daemon.deploys("other");
    }
    flock(&old, FlockOperation::Unlock).unwrap();
    let answer = rest(held);
    assert!(last_line(&answer).starts_with("ok held "), "{answer}");

    flock(&old, FlockOperation::LockExclusive).unwrap();
    let (held, _) = trigger(&daemon, "held", "waiting for ");
    daemon.signal(Signal::TERM);
    let answer = rest(held);
    assert!(
        last_line(&answer).starts_with("error held stopping: "),
        "{answer}"
    );
    assert!(daemon.wait().0.success());

    configure(&world, &triggers, "run_timeout: \"2s\"");
    let ended = world.run_to(6, ["once", "held"]);
    let last = ended.err.lines().next_back().unwrap();
    assert!(last.contains("/held is locked by another process"), "{last}");
    // A lock that is shared is no run's.
    flock(&old, FlockOperation::Unlock).unwrap();
    flock(&old, FlockOperation::LockShared).unwrap();
    assert_eq!(world.run(["once", "held"]).exit, 0);
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// A target that is not there, in place and apart.
const PLACES: [&str; 2] = [
    "path: \"new/site\"",
    "path: \"new/site\", git_dir: \"lib/site.git\"",
];

#[test]
fn a_run_that_deploys_nothing_leaves_nothing() {
    for place in PLACES {
        let world = World::sourced();
        let configure = |repo: &str| {
            world.config_of(&format!("\"site\": (repo: {repo:?}, branch: \"main\", {place}),"));
        };
        configure("none.git");
        let before = names(&world.path("."));
        assert_eq!(world.run(["once", "site"]).exit, 1);
        assert_eq!(names(&world.path(".")), before);
        configure("repo.git");
        assert_eq!(world.run(["once", "--dry-run", "site"]).exit, 0);
        assert_eq!(names(&world.path(".")), before);
        for command in [&["check"][..], &["log", "site"]] {
            world.run(command);
            assert_eq!(names(&world.path(".")), before, "{command:?}");
        }
        // What was there stays.
        fs::create_dir_all(world.path("new/site")).unwrap();
        assert_eq!(world.run(["once", "--dry-run", "site"]).exit, 0);
        configure("none.git");
        assert_eq!(world.run(["once", "site"]).exit, 1);
        assert_eq!(names(&world.path("new/site")), [""; 0]);
        configure("repo.git");
        world.deploy();
        assert_eq!(fs::read(world.path("new/site/a")).unwrap(), b"1");
    }
}

#[test]
fn a_git_directory_with_nothing_but_ours_counts_as_absent() {
    for (place, git_dir) in PLACES.into_iter().zip(["new/site/.git", "lib/site.git"]) {
        let world = World::sourced();
        let hook = world.script("hook", "echo run >> $GITSOCKET_PATH/../log");
        world.config_of(&format!(
            "\"site\": (repo: \"repo.git\", branch: \"main\", {place}, hooks: [Exec(run: [{hook:?}])]),"
        ));
        let git_dir = world.path(git_dir);
        world.deploy();
        // All of it but that goes: what is remembered there is of the clone that is gone.
        for entry in fs::read_dir(&git_dir).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() == "gitsocket" {
            } else if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
        let ended = world.run_to(1, ["once", "site"]);
        assert!(
            ended.err.contains("error site path: ") && ended.err.contains("\"a\""),
            "{ended:?}"
        );
        fs::remove_file(world.path("new/site/a")).unwrap();
        let ended = world.deploy();
        assert!(ended.out.starts_with("ok site 0000000.."), "{ended:?}");
        assert_eq!(fs::read_to_string(world.path("new/log")).unwrap(), "run\nrun\n");
    }
}

#[test]
fn what_is_not_ours_in_the_git_directory_stays() {
    let world = World::configured();
    let refused = |kind: &str, wanted: &str| {
        let ended = world.run_to(1, ["once", "site"]);
        let last = ended.err.lines().next_back().unwrap();
        assert!(last.starts_with(&format!("error site {kind}: ")), "{last}");
        assert!(last.contains(wanted), "{last}");
    };
    // A directory that no git has made.
    world.write("site/.git/mine", "mine");
    refused("repository", "/site/.git is not a usable git repository");
    assert_eq!(names(&world.path("site/.git")), ["mine"]);
    // One in which a clone was killed while it got its place.
    world.write("site/.git/gitsocket/clone/HEAD", "");
    world.write("site/.git/config", "");
    world.write("site/.git/hooks/mine", "mine");
    refused("path", "/site/.git holds files, such as \"");
    assert_eq!(
        names(&world.path("site/.git")),
        ["config", "gitsocket", "hooks", "mine"]
    );
    fs::remove_file(world.path("site/.git/mine")).unwrap();
    refused("path", "/site/.git holds files, such as \"hooks/mine\"");
    fs::remove_file(world.path("site/.git/hooks/mine")).unwrap();
    world.deploy();
}

#[test]
fn links_are_not_followed_to_the_lock() {
    for name in [".git/gitsocket", ".git/gitsocket/lock"] {
        let world = world(&["site"], "");
        world.deploy();
        let elsewhere = world.path("elsewhere");
        let path = world.path("site").join(name);
        let refused = || {
            let ended = world.run_to(1, ["once", "site"]);
            let last = ended.err.lines().next_back().unwrap();
            assert!(
                last.starts_with("error site path: ") && last.contains(" is a symlink, not the "),
                "{last}"
            );
            assert!(last.contains("remove it"), "{last}");
        };
        let is_dir = path.is_dir();
        if is_dir {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        symlink(&elsewhere, &path).unwrap();
        refused();
        assert!(!elsewhere.exists());
        if is_dir {
            fs::create_dir(&elsewhere).unwrap()
        } else {
            fs::write(&elsewhere, "").unwrap()
        }
        refused();
        assert!(!is_dir || names(&elsewhere).is_empty());
        // The advice works.
        fs::remove_file(&path).unwrap();
        world.deploy();
    }
}

#[test]
fn locks_of_other_users() {
    if !need(Need::Root) {
        return;
    }
    let world = world(&["site"], "");
    world.deploy();
    let dir = world.path("site/.git/gitsocket");
    let lock = dir.join("lock");
    chown(&lock, Some(STRANGER), Some(STRANGER)).unwrap();
    let ended = world.run_to(1, ["once", "site"]);
    let advice = format!("as root: chown -R 0 {})", dir.display());
    assert!(ended.err.trim_end().ends_with(&advice), "{ended:?}");
    for path in [&dir, &lock] {
        chown(path, Some(0), None).unwrap();
    }
    world.deploy();

    // What root does once for another user's target does not shut out that user.
    give(&world.path("site"));
    fs::remove_dir_all(&dir).unwrap();
    let as_root = || assert_eq!(world.run(["once", "--as-root", "site"]).exit, 0);
    as_root();
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    assert_eq!((owner(&dir), owner(&lock)), (STRANGER, STRANGER));
    let theirs = || Ended::from(world.command_as(STRANGER, ["once", "site"]).output().unwrap());
    assert_eq!(theirs().exit, 0);
    as_root();
    // A restored backup, for example.
    chown(&lock, Some(0), Some(0)).unwrap();
    let ended = theirs();
    assert_eq!(ended.exit, 1, "{ended:?}");
    assert!(ended.err.contains(&format!("chown -R {STRANGER} ")), "{ended:?}");
    chown(&lock, Some(STRANGER), None).unwrap();
    assert_eq!(theirs().exit, 0);
}

/// Let the stranger have all of it.
fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

/// A clone gets its place by several renames. Git sees none of it before the last, and the next run clones again.
#[test]
fn a_clone_is_killed_at_each_rename() {
    if !need(Need::Tracing) {
        return;
    }
    let strace = machine::find("strace").unwrap();
    for (place, git_dir) in PLACES.into_iter().zip(["new/site/.git", "lib/site.git"]) {
        let world = World::sourced();
        world.config_of(&format!(
            "\"site\": (repo: \"repo.git\", branch: \"main\", {place}),"
        ));
        let git_dir = world.path(git_dir);
        let mut seen = 0;
        for n in 1.. {
            for dir in ["new", "lib"] {
                fs::remove_dir_all(world.path(dir)).ok();
            }
            let survived = killed(&world, &strace, n);
            let is_half = git_dir.join("config").exists() && !git_dir.join("HEAD").exists();
            seen += usize::from(is_half);
            world.deploy();
            assert_eq!(fs::read(world.path("new/site/a")).unwrap(), b"1", "{n}");
            assert!(!git_dir.join("gitsocket/clone").exists(), "{n}");
            assert!(!git_dir.join("gitsocket/run.json").exists(), "{n}");
            if survived {
                break;
            }
        }
        assert!(seen >= 3, "{seen} were killed in between");
    }
}

/// A directory called `gitsocket` may be a user's.
#[test]
fn files_of_a_user_beside_the_lock_stay() {
    let world = World::sourced();
    world.config_of("\"site\": (repo: \"repo.git\", branch: \"main\", path: \"site\", git_dir: \"opt\"),");
    fs::create_dir_all(world.path("opt/gitsocket/src")).unwrap();
    world.write("opt/gitsocket/src/main.rs", "work");
    for arguments in [&["once", "--dry-run", "site"][..], &["once", "site"]] {
        world.run_to(1, arguments.iter().copied());
        assert_eq!(
            fs::read(world.path("opt/gitsocket/src/main.rs")).unwrap(),
            b"work"
        );
    }
}

/// Where a clone was built goes with the next run, also if the version before has finished what was killed.
#[test]
fn where_a_clone_was_built_does_not_stay() {
    let world = world(&["site"], "");
    world.deploy();
    fs::create_dir_all(world.path("site/.git/gitsocket/clone/refs")).unwrap();
    world.deploy();
    assert!(!world.path("site/.git/gitsocket/clone").exists());
    // What has a branch has been a repository, whatever it lacks now.
    fs::create_dir_all(world.path("site/.git/gitsocket/clone")).unwrap();
    fs::remove_file(world.path("site/a")).unwrap();
    for name in ["HEAD", "index"] {
        fs::remove_file(world.path("site/.git").join(name)).unwrap();
    }
    let ended = world.run(["once", "site"]);
    assert!(
        ended.exit == 1 && ended.err.contains("refs/heads/main"),
        "{ended:?}"
    );
    assert!(world.path("site/.git/refs/heads/main").exists());
}

/// What bears the name of an older version's clone is looked at only where nothing is deployed, and if it is ours.
#[test]
fn what_only_bears_the_name_of_an_older_clone_stays() {
    let world = world(&["site"], "");
    world.deploy();
    let old = world.path("site/.git.gitsocket-new");
    fs::create_dir_all(old.join("gitsocket")).unwrap();
    fs::write(old.join("gitsocket/run.json"), "{}").unwrap();
    configure(&world, &["site"], "keep: [\"/.git.gitsocket-new/\"]");
    let ended = world.deploy();
    assert!(!ended.err.contains("interrupted"), "{ended:?}");
    assert!(old.join("gitsocket/run.json").exists());
    if need(Need::Root) {
        fs::remove_dir_all(world.path("site")).unwrap();
        fs::create_dir_all(old.join("x")).unwrap();
        chown(&old, Some(STRANGER), Some(STRANGER)).unwrap();
        let ended = world.deploy();
        assert!(!ended.err.contains("interrupted"), "{ended:?}");
    }
}

/// Kill a run at its rename `n`; whether it came to its end.
fn killed(world: &World, strace: &PathBuf, n: usize) -> bool {
    let inject = format!("inject=rename,renameat,renameat2:signal=KILL:when={n}");
    let output = Command::new(strace)
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &inject])
        .args([env!("CARGO_BIN_EXE_gitsocket"), "once", "site"])
        .env_clear()
        .current_dir(world.path("."))
        .output()
        .unwrap();
    output.status.success()
}
