//! Somebody's git is at work in a target: what it holds is left to it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{
    source::{Entry, file},
    world::{World, git, have},
};

/// A site of which git has much to pack.
fn large() -> (World, super::source::Source) {
    let world = World::new();
    let mut source = world.source();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..4 {
        let names: Vec<_> = (0..30).map(|n| format!("f{n}")).collect();
        source.commit(names.iter().map(|name| {
            let bytes = std::iter::repeat_with(|| rng.alphanumeric() as u8).take(40_000);
            (name.as_str(), Entry::File(bytes.collect()))
        }));
        world.config("");
        world.deploy();
    }
    (world, source)
}

/// git, in a process group of its own.
fn start(world: &World, args: &[&str]) -> Child {
    use std::os::unix::process::CommandExt as _;
    Command::new("git")
        .args(args)
        .current_dir(world.path("site"))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("HOME", "/nonexistent")
        .process_group(0)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn temporary(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().filter_map(Result::ok);
    let names = entries.map(|entry| entry.path());
    names
        .filter(|path| {
            let name = path.file_name().unwrap().as_encoded_bytes();
            name.starts_with(b".tmp") || name.starts_with(b"tmp_")
        })
        .collect()
}

#[test]
fn a_repack_goes_on_beside_a_run() {
    if !have("git") {
        return;
    }
    let (world, mut source) = large();
    let packs = world.path("site/.git/objects/pack");
    let mut stopped = false;
    for _ in 0..20 {
        let mut repack = start(&world, &["repack", "-a", "-d", "-f", "--window=50", "--depth=50"]);
        let group = Pid::from_child(&repack);
        while temporary(&packs).is_empty() && repack.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        kill_process_group(group, Signal::STOP).ok();
        let theirs = temporary(&packs);
        source.commit([("f0", file(&fastrand::u64(..).to_string()))]);
        world.deploy();
        if !theirs.is_empty() {
            stopped = true;
            assert_eq!(temporary(&packs), theirs, "they are somebody's");
        }
        kill_process_group(group, Signal::CONT).ok();
        assert!(repack.wait().unwrap().success());
        git(&world.path("site"), &["fsck", "--strict"]);
        if stopped {
            break;
        }
    }
    assert!(stopped, "git was always faster");
}

#[test]
fn a_lock_that_somebody_holds_is_waited_for_and_named() {
    let world = World::new();
    let mut source = world.source();
    source.commit([("a", file("1"))]);
    world.config("");
    world.deploy();
    source.commit([("a", file("2"))]);
    for name in [
        "index.lock",
        "HEAD.lock",
        // git gc holds it for a while.
        "packed-refs.lock",
        "refs/heads/main.lock",
        "refs/remotes/origin/main.lock",
    ] {
        let lock = world.write(&format!("site/.git/{name}"), "");
        let ended = world.run(["once", "site"]);
        assert_eq!(ended.exit, 1, "{ended:?}");
        let last = ended.err.lines().next_back().unwrap();
        assert!(
            last.starts_with("error site repository: ") && last.contains(name),
            "{last}"
        );
        assert!(
            last.contains("held by another program for") && last.contains("delete that file"),
            "{last}"
        );
        assert!(ended.err.contains("waiting for another program"), "{ended:?}");
        assert!(lock.exists(), "it is not ours");
        assert!(!world.path("site/.git/gitsocket/run.json").exists());
        fs::remove_file(lock).unwrap();
    }
    assert_eq!(world.site()["a"], file("1"), "nothing was begun");
    // One that is older than any git lives is in nobody's way; and one that goes away is waited for.
    let lock = world.write("site/.git/index.lock", "");
    let old = SystemTime::now() - Duration::from_secs(11 * 60);
    fs::File::options()
        .write(true)
        .open(&lock)
        .unwrap()
        .set_modified(old)
        .unwrap();
    world.deploy();
    assert!(!lock.exists());
    source.commit([("a", file("3"))]);
    world.write("site/.git/index.lock", "");
    let mut child = world
        .command(["once", "--json", "site"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("\"waiting\"") {
        assert_ne!(
            std::io::BufRead::read_line(&mut out, &mut seen).unwrap(),
            0,
            "{seen}"
        );
    }
    fs::remove_file(&lock).unwrap();
    std::io::Read::read_to_string(&mut out, &mut seen).unwrap();
    assert!(seen.contains("\"outcome\":\"updated\""), "{seen}");
    assert!(child.wait().unwrap().success());
    assert_eq!(world.site()["a"], file("3"));
}
