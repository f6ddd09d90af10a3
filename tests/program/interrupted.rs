//! A run that was killed is finished by the next one, without help.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use super::{
    source::file,
    world::{World, git, machine, need},
};

#[test]
fn left_overs_of_a_dead_run_are_removed() {
    let (world, mut source) = World::with_source();
    source.commit([("d/a", file("1"))]);
    world.config("");
    world.deploy();
    // It was killed in the middle of its writing.
    world.write("site/.git/gitsocket/run.json", "");
    for name in [
        "index.lock",
        "HEAD.lock",
        "shallow.lock",
        "packed-refs.lock",
        "refs/heads/main.lock",
        "refs/remotes/origin/main.lock",
        "objects/pack/.tmpAbC123",
        "objects/pack/pack-0000000000000000000000000000000000000000.keep",
    ] {
        world.write(&format!("site/.git/{name}"), "");
    }
    // What a power cut leaves of files that were just written.
    world.write("site/.git/refs/heads/main", "");
    world.write("site/.git/refs/remotes/origin/main", "");
    world.write("site/.gitsocket-tmp-1", "half");
    world.write("site/d/.gitsocket-tmp-2", "half");
    source.commit([("d/a", file("2"))]);
    world.deploy();
    assert_eq!(world.site().len(), 1, "{:?}", world.site());
    assert!(!world.path("site/.git/index.lock").exists());
    // Half a clone, of the version before and of this one.
    for half in ["site/.git.gitsocket-new", "site/.git/gitsocket/clone"] {
        fs::remove_dir_all(world.path("site/.git")).unwrap();
        fs::remove_dir_all(world.path("site/d")).unwrap();
        world.write(&format!("{half}/HEAD"), "half a clone");
        world.deploy();
        assert!(!world.path(half).exists());
    }
}

/// Kill the program at the events it reports, again and again, and let it finish then.
#[test]
fn killed_at_every_event_and_finished_by_the_next() {
    let (world, mut source) = World::with_source();
    let files = |n: usize| -> Vec<(String, super::source::Entry)> {
        (0..60)
            .map(|i| (format!("d{}/f{i}", (i + n) % 7), file(&format!("{n} {i}"))))
            .collect()
    };
    world.hook("echo $GITSOCKET_NEW >> ../log");
    let mut points = 0;
    let rounds = machine::rounds(20);
    for n in 0..rounds {
        let list = files(n);
        let commit = source.commit(list.iter().map(|(path, entry)| (path.as_str(), entry.clone())));
        if n % 9 == 0 {
            fs::remove_dir_all(world.path("site")).ok();
        }
        // Kill it at its n-th line; if it has ended by then, there was nothing left to kill.
        let mut child = world
            .command(["once", "--json", "site"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        points += lines.take(n % 10).filter(Result::is_ok).count();
        child.kill().unwrap();
        child.wait().unwrap();

        let ended = world.deploy();
        assert!(
            ended.out.ends_with(&format!("{}\n", commit.to_hex_with_len(7))),
            "{ended:?}"
        );
        assert_eq!(world.site(), list.into_iter().collect());
        let log = fs::read_to_string(world.path("log")).unwrap();
        assert_eq!(
            log.lines().next_back(),
            Some(commit.to_string().as_str()),
            "the hook is pending"
        );
        assert!(!world.path("site/.git/index.lock").exists());
    }
    assert!(points > rounds, "only {points} events were waited for");
    if need("git") {
        git(&world.path("site"), &["fsck", "--strict"]);
        assert_eq!(git(&world.path("site"), &["status", "--porcelain"]), "");
    }
}

/// Two processes at once: one waits for the other.
#[test]
fn two_processes_take_turns() {
    let world = World::sourced();
    world.fifo("go");
    let hook = world.script("hook", "echo begin >> ../log; read x < ../go; echo end >> ../log");
    world.config(&format!("hooks: [Exec(run: [{hook:?}], when: Always)]"));
    let mut lines = Vec::new();
    for word in ["hook-started", "waiting"] {
        let mut child = world
            .command(["once", "--json", "site"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert_ne!(out.read_line(&mut line).unwrap(), 0, "it ended without {word}");
        }
        lines.push((child, out));
    }
    for (mut child, out) in lines {
        fs::write(world.path("go"), "\n").unwrap();
        assert!(out.lines().all(|line| line.is_ok()));
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(
        fs::read_to_string(world.path("log")).unwrap(),
        "begin\nend\nbegin\nend\n"
    );
}
