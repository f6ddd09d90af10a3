//! git can work in a target at the same time: its locks are waited for, and formats that only git knows are refused.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{
    source::{Entry, file},
    world::{World, git, need},
};

/// A site of which git has much to pack.
fn large() -> (World, super::source::Source) {
    let (world, mut source) = World::with_source();
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
    if !need("git") {
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
    let (world, mut source) = World::deployed();
    source.commit([("a", file("2"))]);
    let held = |name: &str| {
        let (world, mut source) = World::deployed();
        source.commit([("a", file("2"))]);
        let lock = world.write(&format!("site/.git/{name}"), "");
        let ended = world.run_to(1, ["once", "site"]);
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
        assert_eq!(world.site()["a"], file("1"), "nothing was begun");
    };
    // Each takes as long as a lock is waited for.
    std::thread::scope(|scope| {
        for name in [
            "index.lock",
            "HEAD.lock",
            // git gc holds it for a while.
            "packed-refs.lock",
            "refs/heads/main.lock",
            "refs/remotes/origin/main.lock",
        ] {
            scope.spawn(move || held(name));
        }
    });
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

/// `once site` fails with `exit` and a last line that begins with `begin`, and says each of `parts`.
fn refused(world: &World, begin: &str, parts: &[&str]) {
    let ended = world.run_to(1, ["once", "site"]);
    let last = ended.err.lines().next_back().unwrap_or_default();
    assert!(last.starts_with(begin), "{last}");
    for part in parts {
        assert!(last.contains(part), "{part}: {last}");
    }
}

#[test]
fn encodings_that_only_git_knows_are_refused_before_anything_is_written() {
    let (world, mut source) = World::deployed();
    let before = world.site();
    for (name, text) in [
        ("UTF-7", "a"),
        ("IBM037", "a"),
        ("ASCII//TRANSLIT", "ä"),
        ("BIG5", "か"),
        ("ISO-2022-KR", "a"),
        ("ISO-2022-JP", "①"),
        ("BIG5-HKSCS", "无"),
    ] {
        source.rewrite([
            (
                ".gitattributes",
                file(&format!("*.txt working-tree-encoding={name}\n")),
            ),
            ("a", file("2")),
            ("z/b.txt", file(text)),
        ]);
        refused(
            &world,
            "error site repository: ",
            &["\"z/b.txt\"", name, "nothing was written"],
        );
        assert_eq!(world.site(), before, "{name}");
    }
    // What git knows by another name, has no code for, or has never heard of, is as git leaves it.
    for (name, text, bytes) in [
        ("cp437", "é", &b"\x82"[..]),
        ("UCS-4LE", "a", b"a\0\0\0"),
        ("ISO-2022-JP", "日本\n", b"\x1b$BF|K\\\x1b(B\n"),
        ("BIG5-HKSCS", "abc中", b"abc\xa4\xa4"),
        ("ISO8859-9", "€", "€".as_bytes()),
        ("unheard-of", "é", "é".as_bytes()),
    ] {
        source.rewrite([
            (
                ".gitattributes",
                file(&format!("*.txt working-tree-encoding={name}\n")),
            ),
            ("a", file(name)),
            ("b.txt", file(text)),
        ]);
        let ended = world.deploy();
        assert_eq!(world.site()["b.txt"], Entry::File(bytes.to_vec()), "{name}");
        let is_left = bytes == text.as_bytes();
        assert_eq!(
            ended.err.contains("working-tree-encoding"),
            is_left,
            "{name}: {ended:?}"
        );
    }
}

/// The configuration `text` at `path`, and `more` at its end.
fn extend(path: &Path, more: &str) -> String {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, format!("{text}{more}")).unwrap();
    text
}

#[test]
fn formats_that_only_git_knows_are_refused() {
    let (world, mut source) = World::deployed();
    source.commit([("a", file("2"))]);
    let version = |version: &str| format!("[core]\n\trepositoryformatversion = {version}\n");
    let cases = [
        (
            version("1") + "[extensions]\n\tfuture = true\n",
            "extensions.future",
        ),
        (
            version("1") + "[extensions]\n\tcompatObjectFormat = sha256\n",
            "extensions.compatobjectformat",
        ),
        (
            version("1") + "[extensions]\n\trefStorage = reftable\n",
            "git refs migrate",
        ),
        (
            version("0") + "[extensions]\n\trefStorage = files\n",
            "repositoryformatversion is 0",
        ),
        (version("2"), "repositoryformatversion is 2"),
    ];
    let (clone, theirs) = (world.path("site/.git/config"), world.path("repo.git/config"));
    for (more, part) in &cases {
        let text = extend(&clone, more);
        refused(&world, "error site repository: ", &[part, "site/.git"]);
        fs::write(&clone, text).unwrap();
        let text = extend(&theirs, more);
        refused(&world, "error site remote: ", &[part, "repo.git"]);
        fs::write(&theirs, text).unwrap();
    }
    assert_eq!(world.site()["a"], file("1"));
    // What git passes over, and what is known.
    let known =
        version("1") + "[extensions]\n\tpreciousObjects = true\n\tworktreeConfig = true\n\tnoop-v1 = x\n";
    extend(&theirs, &known);
    extend(&clone, &(version("0") + "[extensions]\n\tfuture = true\n"));
    world.deploy();
    assert_eq!(world.site()["a"], file("2"));
}

#[test]
fn a_path_without_its_end_is_told_of_it() {
    let (world, _) = World::deployed();
    let whole = world.path("repo.git");
    fs::rename(&whole, world.path("bare.git")).unwrap();
    let repo = world.path("bare");
    world.config_of(&format!(
        "\"site\": (repo: {repo:?}, path: \"site\", retries: 0),"
    ));
    refused(
        &world,
        "error site remote: ",
        &["no repository at", "there is one at", "bare.git: write that"],
    );
}
