//! The program executes nothing but hooks, and takes little memory and no needless disk space.

use std::{fs, process::Command};

use super::{
    source::file,
    world::{
        Ended, Need, World,
        machine::{self, STRANGER},
        need,
    },
};

/// The system calls of these names that a run makes; nothing where strace cannot watch. The program hides its memory from
/// all but root, and the names of files with it.
fn traced(world: &World, calls: &str) -> Option<String> {
    if !need(Need::Root) || !need(Need::Tracing) {
        return None;
    }
    let strace = machine::find("strace").unwrap();
    let ended = Ended::from(
        Command::new(strace)
            .args([
                "-f",
                "-qq",
                "-y",
                "-s",
                "200",
                "-e",
                &format!("trace={calls}"),
                "-o",
                "trace",
            ])
            .args([env!("CARGO_BIN_EXE_gitsocket"), "once", "site"])
            .env_clear()
            .env("PATH", "")
            .current_dir(world.path("."))
            .output()
            .unwrap(),
    );
    assert_eq!(ended.exit, 0, "{ended:?}");
    Some(fs::read_to_string(world.path("trace")).unwrap())
}

/// Watch every `execve` of a clone, an update and a run with nothing to do.
#[test]
fn nothing_is_executed_but_hooks() {
    let (world, mut source) = World::with_source();
    source.commit([
        ("a", file("1")),
        (".gitattributes", file("* text=auto\n*.x filter=lfs\n")),
    ]);
    world.hook("exit 0");
    let hook = world.path("hook");
    for (n, hooks) in [(1, 1), (2, 1), (2, 0)] {
        source.commit_on("main", [("a", file(&n.to_string()))]);
        if hooks == 0 {
            world.deploy();
        }
        let Some(trace) = traced(&world, "execve,execveat") else {
            return;
        };
        let executed: Vec<_> = trace.lines().filter(|line| line.contains("execve")).collect();
        assert_eq!(executed.len(), 1 + hooks, "{trace}");
        assert!(
            executed
                .iter()
                .skip(1)
                .all(|line| line.contains(hook.to_str().unwrap())),
            "{trace}"
        );
    }
}

/// What a power cut must not take is on the disk before anything that relies on it.
#[test]
fn the_disk_is_waited_for_in_order() {
    let (world, mut source) = World::with_commit();
    let calls = "fsync,rename,renameat,renameat2";
    let run = |more: &str| {
        world.config(more);
        traced(&world, calls)
    };
    // In a clone all but the state is there before HEAD makes the git directory a repository.
    let Some(clone) = run("") else { return };
    let at = |trace: &str, what: &[&str]| {
        let found = trace
            .lines()
            .position(|line| what.iter().all(|what| line.contains(what)));
        found.unwrap_or_else(|| panic!("no {what:?} in\n{trace}"))
    };
    let named = at(
        &clone,
        &["rename", ".git/gitsocket/clone/HEAD\", ", "/.git/HEAD\""],
    );
    for what in [
        ".pack>",
        ".idx>",
        "/HEAD>",
        "/config>",
        "/refs/remotes/origin/main>",
    ] {
        assert!(
            at(&clone, &["fsync(", ".git/gitsocket/clone/", what]) < named,
            "{what}\n{clone}"
        );
    }
    for name in ["objects", "refs", "config"] {
        let to = format!("/.git/{name}\"");
        assert!(at(&clone, &["rename", "clone/", &to]) < named, "{name}\n{clone}");
    }

    source.commit_on("main", [("a", file("2"))]);
    let Some(update) = run("") else { return };
    let steps: [&[&str]; 8] = [
        &["fsync(", ".pack>"],
        &["rename", "refs/remotes/origin/main.lock"],
        &["rename", "index.lock"],
        &["rename", "refs/heads/main.lock"],
        &["fsync(", "/index>"],
        &["fsync(", "refs/heads/main>"],
        &["fsync(", "state.json.tmp>"],
        &["rename", "state.json.tmp"],
    ];
    let order: Vec<_> = steps.iter().map(|step| at(&update, step)).collect();
    assert!(order.is_sorted(), "{order:?}\n{update}");

    let Some(nothing) = run("") else { return };
    assert!(!nothing.contains("fsync"), "{nothing}");
    source.commit_on("main", [("a", file("3"))]);
    let Some(fast) = run("fsync: false") else { return };
    assert!(!fast.contains("fsync") && fast.contains("index.lock"), "{fast}");
}

/// As a user without a passwd entry, without HOME, and without the right to write.
#[test]
fn as_another_user() {
    if !need(Need::Root) {
        return;
    }
    let world = World::configured();
    let run = || Ended::from(world.command_as(STRANGER, ["once", "site"]).output().unwrap());
    let ended = run();
    assert_eq!(ended.exit, 1, "{ended:?}");
    let last = ended.err.lines().next_back().unwrap();
    assert!(
        last.contains("Permission denied") && last.contains("must be able to write"),
        "{last}"
    );

    fs::create_dir(world.path("site")).unwrap();
    std::os::unix::fs::chown(world.path("site"), Some(STRANGER), Some(STRANGER)).unwrap();
    let ended = run();
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert_eq!(world.site()["a"], file("1"));
}
