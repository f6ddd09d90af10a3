//! Releases: a tree for each deployed commit, and one of them is live, whole, at any moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    source::{Entry, Source, file},
    world::{self, World, git, have, last_line},
};

/// A world whose trigger has `releases` and `more`, and its source.
fn world(releases: &str, more: &str) -> (World, Source) {
    let world = World::new();
    let source = world.source();
    configure(&world, releases, more);
    (world, source)
}

fn configure(world: &World, releases: &str, more: &str) {
    world.config(&format!("releases: ({releases}), {more}"));
}

/// The names in `releases`.
fn names(world: &World) -> BTreeSet<String> {
    let entries = fs::read_dir(world.path("site/releases")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// The release that the link leads to.
fn live(world: &World) -> String {
    let target = fs::read_link(world.path("site/current")).unwrap();
    let name = target.strip_prefix("releases").unwrap();
    assert!(world.path("site/releases").join(name).is_dir());
    name.to_str().unwrap().to_owned()
}

fn tree(world: &World) -> BTreeMap<String, Entry> {
    world::tree(&world.path("site/current"))
}

fn entries(files: &[(&str, &str)]) -> BTreeMap<String, Entry> {
    files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), file(text)))
        .collect()
}

fn pins(world: &World) -> BTreeSet<String> {
    let refs = git(
        &world.path("site/repo.git"),
        &[
            "for-each-ref",
            "--format=%(refname:lstrip=3)",
            "refs/gitsocket/releases",
        ],
    );
    refs.lines().map(str::to_owned).collect()
}

#[test]
fn each_commit_gets_a_tree_and_the_newest_is_live() {
    let (world, mut source) = world("keep: 2", "");
    let mut seen: Vec<String> = Vec::new();
    for n in 0..6 {
        let (same, new) = ("same".to_owned(), format!("round {n}"));
        let commit = source.commit([
            ("same", file(&same)),
            ("d/new", file(&new)),
            (&*format!("n{n}"), file("x")),
        ]);
        let ended = world.deploy();
        assert!(ended.err.contains("\nlive "), "{ended:?}");
        let id = live(&world);
        assert!(id.ends_with(&commit.to_string()[..7]), "{id}");
        assert!(!seen.contains(&id), "{seen:?} {id}");
        seen.push(id);
        let mut expected = entries(&[("same", &same), ("d/new", &new)]);
        expected.extend(entries(&[(&*format!("n{n}"), "x")]));
        assert_eq!(tree(&world), expected);
        assert!(!world.path("site/current/.git").exists());
        // Live, two older ones, and one spare.
        let there: BTreeSet<String> = seen.iter().rev().take(4).cloned().collect();
        assert_eq!(names(&world), there, "round {n}");
        if have("git") {
            let pinned: BTreeSet<String> = seen.iter().rev().take(3).cloned().collect();
            assert_eq!(pins(&world), pinned);
            let git_dir = world.path("site/repo.git");
            assert_eq!(
                git(&git_dir, &["rev-parse", "--is-bare-repository"]).trim(),
                "true"
            );
            assert_eq!(git(&git_dir, &["rev-parse", "HEAD"]).trim(), commit.to_string());
            git(&git_dir, &["fsck", "--strict", "--no-dangling"]);
        }
        let again = world.deploy();
        assert!(again.out.contains("up-to-date"), "{again:?}");
        assert_eq!(live(&world), *seen.last().unwrap());
    }
    let mut all: Vec<String> = fs::read_dir(world.path("site"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    assert_eq!(all, ["current", "releases", "repo.git"]);
}

/// Ten of many files cost ten: the others are the spare tree's, and no two trees share one.
#[test]
fn a_new_tree_is_made_of_the_spare_one() {
    let (world, mut source) = world("keep: 1", "");
    let mut inodes = Vec::new();
    for n in 0..5 {
        source.commit([("same", file("same")), ("new", file(&n.to_string()))]);
        world.deploy();
        let meta = fs::metadata(world.path("site/current/same")).unwrap();
        assert_eq!(meta.nlink(), 1);
        inodes.push(meta.ino());
    }
    assert_eq!(inodes[3], inodes[0]);
    assert_eq!(inodes[4], inodes[1]);
    assert_eq!(inodes.iter().collect::<BTreeSet<_>>().len(), 3);
}

/// Whatever a program has left in a tree is not in the release that is made of it.
#[test]
fn nothing_of_an_older_release_is_in_a_newer_one() {
    let (world, mut source) = world("keep: 1", "");
    let commit = |source: &mut Source, n: usize| {
        source.commit([
            (".gitignore", file("*.o\nbuilt/\n")),
            ("d/a", file("a")),
            ("new", file(&n.to_string())),
        ])
    };
    for n in 0..3 {
        commit(&mut source, n);
        world.deploy();
    }
    let spare = names(&world).into_iter().next().unwrap();
    let at = |path: &str| PathBuf::from(format!("site/releases/{spare}/{path}"));
    for path in ["x.o", "built/deep/y", "untracked/z", "d/other", "d/b.o"] {
        world.write(at(path).to_str().unwrap(), "left");
    }
    fs::write(world.path(at("d/a")), "changed").unwrap();
    for nested in [".git", "nested/.git", "d/.git"] {
        let nested = world.path(at(nested));
        fs::create_dir_all(nested.join("objects")).unwrap();
        fs::create_dir_all(nested.join("refs")).unwrap();
        fs::write(nested.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    }
    world.fifo(at("fifo").to_str().unwrap());
    symlink("/", world.path(at("link"))).unwrap();
    commit(&mut source, 9);
    world.deploy();
    assert!(!names(&world).contains(&spare));
    assert_eq!(
        tree(&world),
        entries(&[(".gitignore", "*.o\nbuilt/\n"), ("d/a", "a"), ("new", "9")])
    );
    let mut all = Vec::new();
    list(&world.path("site/current/"), &mut all);
    all.sort();
    assert_eq!(all, [".gitignore", "a", "d", "new"]);
}

fn list(dir: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        all.push(entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), all);
        }
    }
}

#[test]
fn foreign_directories_stay_and_are_named() {
    let (world, mut source) = world("keep: 1", "");
    world.write("site/releases/mine/file", "mine");
    // The name of a release that was never made.
    world.write("site/releases/20200101T000000Z-0000000/file", "mine, too");
    for n in 0..5 {
        source.commit([("a", file(&n.to_string()))]);
        let ended = world.deploy();
        assert!(
            ended.err.contains("mine") || ended.out.contains("mine"),
            "{ended:?}"
        );
        assert_eq!(fs::read(world.path("site/releases/mine/file")).unwrap(), b"mine");
        let like = world.path("site/releases/20200101T000000Z-0000000/file");
        assert_eq!(fs::read(like).unwrap(), b"mine, too");
    }
    assert_eq!(names(&world).len(), 5);
    // One of ours is taken away, and another one put there.
    let id = live(&world);
    let other = names(&world)
        .into_iter()
        .find(|name| *name < id && name.starts_with("202") && !name.starts_with("2020"))
        .unwrap();
    fs::rename(world.path(format!("site/releases/{other}")), world.path("gone")).unwrap();
    world.write(&format!("site/releases/{other}/file"), "mine again");
    for n in 5..9 {
        source.commit([("a", file(&n.to_string()))]);
        world.deploy();
        let file = world.path(format!("site/releases/{other}/file"));
        assert_eq!(fs::read(file).unwrap(), b"mine again");
    }
}

#[test]
fn what_is_not_ours_is_not_replaced() {
    for (live, is_dir) in [
        ("Symlink", true),
        ("Symlink", false),
        ("Exchange", true),
        ("Exchange", false),
    ] {
        let (world, mut source) = world(&format!("live: {live}(\"current\")"), "");
        source.commit([("a", file("1"))]);
        fs::create_dir_all(world.path("site")).unwrap();
        match is_dir {
            true => drop(world.write("site/current/mine", "mine")),
            false => symlink("elsewhere", world.path("site/current")).unwrap(),
        }
        let ended = world.run(["once", "site"]);
        assert_eq!(ended.exit, 1, "{ended:?}");
        assert!(ended.err.contains("error site path"), "{ended:?}");
        let command = ended.err.split("type: ").nth(1).unwrap();
        let command = command.split(';').next().unwrap();
        let moved = Command::new("sh").args(["-c", command]).status().unwrap();
        assert!(moved.success(), "{command}");
        world.deploy();
        match is_dir {
            true => assert_eq!(fs::read(world.path("site/current.before/mine")).unwrap(), b"mine"),
            false => assert_eq!(
                fs::read_link(world.path("site/current.before")).unwrap(),
                Path::new("elsewhere")
            ),
        }
        assert_eq!(tree(&world), entries(&[("a", "1")]));
    }
}

#[test]
fn fewer_are_kept_and_more() {
    let (world, mut source) = world("keep: 3", "");
    let mut all = Vec::new();
    for n in 0..6 {
        source.commit([("a", file(&n.to_string()))]);
        world.deploy();
        all.push(live(&world));
    }
    assert_eq!(names(&world), all[1..].iter().cloned().collect());
    configure(&world, "keep: 1", "");
    world.deploy();
    // The oldest is the spare.
    let left: BTreeSet<String> = [1, 4, 5].map(|at: usize| all[at].clone()).into();
    assert_eq!(names(&world), left);
    configure(&world, "keep: 4", "");
    for n in 6..12 {
        source.commit([("a", file(&n.to_string()))]);
        world.deploy();
    }
    assert_eq!(names(&world).len(), 6);
}

#[test]
fn shared_things_are_linked_at_any_depth() {
    for live in ["Symlink", "Exchange"] {
        let (world, mut source) = world(
            &format!("keep: 1, live: {live}(\"current\"), shared: [\"uploads/\", \".env\", \"a/b/c/deep/\"]"),
            "",
        );
        world.write("site/shared/.env", "SECRET=1");
        for n in 0..5 {
            source.commit([
                ("new", file(&n.to_string())),
                ("uploads/tracked", file("in the commit")),
                (".env", file("in the commit")),
            ]);
            world.deploy();
            let at = |path: &str| world.path("site/current").join(path);
            assert_eq!(fs::read(at(".env")).unwrap(), b"SECRET=1");
            assert!(fs::read_link(at("uploads")).unwrap().is_relative());
            fs::write(at("uploads").join(format!("u{n}")), "upload").unwrap();
            fs::write(at("a/b/c/deep").join(format!("d{n}")), "deep").unwrap();
            assert_eq!(fs::read(at("new")).unwrap(), n.to_string().as_bytes());
            // Also before a tree is live, and after.
            for name in names(&world) {
                let dir = world.path("site/releases").join(name);
                if dir.is_dir() && dir.join("new").exists() {
                    assert_eq!(fs::read(dir.join(".env")).unwrap(), b"SECRET=1", "{dir:?}");
                }
            }
        }
        assert_eq!(
            fs::read_dir(world.path("site/shared/uploads")).unwrap().count(),
            5
        );
        assert_eq!(
            fs::read_dir(world.path("site/shared/a/b/c/deep"))
                .unwrap()
                .count(),
            5
        );
        // Without a new commit, there is no new release: that is said.
        configure(
            &world,
            &format!("keep: 1, live: {live}(\"current\"), shared: [\"uploads/\", \".env\", \"later/\"]"),
            "",
        );
        let ended = world.run(["once", "site"]);
        assert_eq!(ended.exit, 0, "{ended:?}");
        let said: Vec<_> = ended.err.matches(" is not shared in ").collect();
        assert_eq!(said.len(), 1, "{ended:?}");
        assert!(ended.err.contains("\"later\" is not shared in "), "{ended:?}");
        // No longer shared: what the commit has is there again.
        configure(&world, &format!("keep: 1, live: {live}(\"current\")"), "");
        source.commit([
            ("uploads/tracked", file("in the commit")),
            (".env", file("tracked")),
        ]);
        world.deploy();
        assert_eq!(
            tree(&world),
            entries(&[("uploads/tracked", "in the commit"), (".env", "tracked")])
        );
        assert_eq!(fs::read(world.path("site/shared/.env")).unwrap(), b"SECRET=1");
    }
}

#[test]
fn a_link_of_the_commit_leads_nothing_shared_outside() {
    let (world, mut source) = world("shared: [\"d/uploads/\"]", "");
    fs::create_dir(world.path("outside")).unwrap();
    source.commit([("d", Entry::Symlink("../../../outside".into()))]);
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 1, "{ended:?}");
    assert!(ended.err.contains("\"d\" is a link"), "{ended:?}");
    assert_eq!(fs::read_dir(world.path("outside")).unwrap().count(), 0);
    assert!(!world.path("site/current").exists());
    source.commit([("d/x", file("x"))]);
    world.deploy();
}

#[test]
fn a_directory_changes_places() {
    let (world, mut source) = world("keep: 2, live: Exchange(\"www\")", "");
    let mut all = Vec::new();
    for n in 0..6 {
        source.commit([("a", file(&n.to_string())), ("same", file("same"))]);
        world.deploy();
        let www = world.path("site/www");
        assert!(fs::symlink_metadata(&www).unwrap().is_dir());
        assert_eq!(
            world::tree(&www),
            entries(&[("a", &n.to_string()), ("same", "same")])
        );
        all.push(fs::symlink_metadata(&www).unwrap().ino());
        // Each older one has its own name again.
        for name in names(&world) {
            let text = fs::read_to_string(world.path(format!("site/releases/{name}/a"))).unwrap();
            assert_ne!(text, n.to_string());
        }
        assert_eq!(names(&world).len(), n.min(3));
    }
    assert_eq!(all[4], all[0]);
    // To a link, and back: each with the next commit.
    for (live, is_dir) in [("Symlink", false), ("Exchange", true)] {
        configure(&world, &format!("keep: 2, live: {live}(\"www\")"), "");
        source.commit([("a", file(live))]);
        world.deploy();
        let www = world.path("site/www");
        assert_eq!(fs::symlink_metadata(&www).unwrap().is_dir(), is_dir, "{live}");
        assert_eq!(world::tree(&www.join("")), entries(&[("a", live)]));
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let (world, mut source) = world("", "");
    source.commit([("a", file("1")), ("b", file("1"))]);
    let ended = world.run(["once", "--dry-run", "site"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert!(
        ended.out.contains('a') && !world.path("site").exists(),
        "{ended:?}"
    );
    world.deploy();
    let before = names(&world);
    source.commit([("a", file("2")), ("c", file("1"))]);
    let ended = world.run(["once", "--dry-run", "site"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    for line in ["a", "b", "c"] {
        assert!(
            ended.out.lines().any(|seen| seen.ends_with(line)),
            "{line}: {ended:?}"
        );
    }
    assert_eq!(names(&world), before);
    assert_eq!(tree(&world), entries(&[("a", "1"), ("b", "1")]));
}

/// What the errors say to type works.
#[test]
fn moving_over_and_back() {
    for apart in [false, true] {
        let world = World::new();
        let mut source = world.source();
        let git_dir = if apart { "git_dir: \"lib/site.git\"" } else { "" };
        source.commit([("a", file("1"))]);
        world.config(git_dir);
        world.deploy();
        world.write("site/ignored-by-nobody", "mine");
        let follow = |what: &str| {
            let ended = world.run(["once", "site"]);
            assert_eq!(ended.exit, 1, "{what}: {ended:?}");
            assert!(ended.err.contains("error site path"), "{what}: {ended:?}");
            let commands = ended
                .err
                .split("type: ")
                .nth(1)
                .unwrap()
                .split(';')
                .next()
                .unwrap();
            let status = Command::new("sh")
                .args(["-c", commands])
                .current_dir(world.path(""))
                .status()
                .unwrap();
            assert!(status.success(), "{commands}");
            world.deploy();
        };
        configure(&world, "", git_dir);
        follow("to releases");
        assert_eq!(tree(&world), entries(&[("a", "1")]));
        let mine = match apart {
            true => "site.in-place/ignored-by-nobody",
            false => "site/ignored-by-nobody",
        };
        assert_eq!(fs::read(world.path(mine)).unwrap(), b"mine");
        world.write("site/shared/upload", "kept");
        source.commit([("a", file("2"))]);
        world.deploy();
        world.config(git_dir);
        follow("in place");
        assert_eq!(world.site(), entries(&[("a", "2")]));
        assert_eq!(
            fs::read(world.path("site.releases/shared/upload")).unwrap(),
            b"kept"
        );
    }
}

/// What Build makes is in its release alone; what fails there has never been live.
#[test]
fn a_release_is_built_before_it_is_live() {
    let world = World::new();
    let mut source = world.source();
    let build = world.script(
        "build",
        "set -e; echo \"$PWD\" > built; echo x > ignored.o; [ ! -e fail ] || exit 3; echo built >> tracked",
    );
    let config = |keep| {
        world.config(&format!(
            "releases: (keep: {keep}), hooks: [Exec(run: [{build:?}], at: Build)]"
        ));
    };
    config(1);
    for n in 0..4 {
        source.commit([
            (".gitignore", file("*.o\n")),
            ("tracked", file("as committed\n")),
            ("n", file(&n.to_string())),
        ]);
        world.deploy();
        let at = |path: &str| fs::read_to_string(world.path("site/current").join(path)).unwrap();
        assert_eq!(at("tracked"), "as committed\nbuilt\n");
        assert!(at("built").trim().ends_with(&live(&world)));
    }
    let (before, there) = (live(&world), tree(&world));
    source.commit([("fail", file("")), ("other", file("x"))]);
    for _ in 0..2 {
        let ended = world.run(["once", "site"]);
        assert_eq!(ended.exit, 1, "{ended:?}");
        assert!(ended.err.contains("error site build"), "{ended:?}");
        assert_eq!((live(&world), tree(&world)), (before.clone(), there.clone()));
    }
    source.commit([("ok", file("x"))]);
    world.deploy();
    let names: Vec<String> = tree(&world).into_keys().collect();
    assert_eq!(names, ["built", "ignored.o", "ok", "tracked"]);
    assert_eq!(fs::read(world.path("site/current/tracked")).unwrap(), b"built\n");
}

/// Whoever opens what is live has one whole release, as long as it is open.
#[test]
fn readers_see_one_version_each() {
    use std::sync::atomic::{AtomicBool, Ordering};

    for live in ["Symlink", "Exchange"] {
        let (world, mut source) = world(&format!("keep: 3, live: {live}(\"current\")"), "fsync: false");
        let commit = |source: &mut Source, n: usize| {
            let text = format!("version {n}");
            let files: Vec<(String, Entry)> = (0..20)
                .map(|at| (format!("d{}/f{at}", at % 3), file(&text)))
                .collect();
            source.commit(files.iter().map(|(path, entry)| (path.as_str(), entry.clone())));
        };
        commit(&mut source, 0);
        world.deploy();
        let daemon = world.daemon();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let path = world.path("site/current");
                    let mut versions = BTreeSet::new();
                    while !over.load(Ordering::Relaxed) {
                        let dir = fs::File::open(&path).unwrap();
                        let mut seen = BTreeSet::new();
                        for at in 0..20 {
                            let name = format!("d{}/f{at}", at % 3);
                            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
                            let fd =
                                rustix::fs::openat(&dir, name, flags, rustix::fs::Mode::empty()).unwrap();
                            seen.insert(std::io::read_to_string(fs::File::from(fd)).unwrap());
                        }
                        assert_eq!(seen.len(), 1, "{seen:?}");
                        versions.extend(seen);
                    }
                    assert!(versions.len() > 1);
                });
            }
            // Of both kinds, 200 deploys.
            for n in 1..=100 {
                commit(&mut source, n);
                let answer = daemon.say("site\n");
                assert!(last_line(&answer).starts_with("ok site "), "{answer}");
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}

/// Whatever was in the tree that is used again, and whatever commits hold: what is live is what git makes of the commit.
#[test]
fn a_release_is_what_git_makes_of_its_commit() {
    if !have("git") {
        return;
    }
    let mut random = fastrand::Rng::with_seed(world::machine::seed());
    for live_as in ["Symlink", "Exchange"] {
        let (world, mut source) = world(&format!("keep: 1, live: {live_as}(\"current\")"), "fsync: false");
        let daemon = world.daemon();
        for round in 0..25 {
            let mut files = BTreeMap::new();
            for name in [
                "a", "b.txt", "c", "d/a", "d/b.txt", "d/e/f", "g/h", "x", "y/z.txt",
            ] {
                let text = format!("{}\n$Id$\n{round}\n", random.u8(..3));
                let entry = match random.u8(..6) {
                    0 | 1 => file(&text),
                    2 => Entry::Executable(text.into()),
                    3 => Entry::Symlink(["a", "../a", "nowhere"][random.usize(..3)].into()),
                    // A directory takes the name of a file, and back.
                    4 => {
                        files.insert(format!("{name}/below"), file(&text));
                        continue;
                    }
                    _ => continue,
                };
                files.insert(name.to_owned(), entry);
            }
            files.insert("round".into(), file(&round.to_string()));
            if random.bool() {
                files.insert(".gitattributes".into(), file("*.txt text eol=crlf\nc ident\n"));
            }
            source.commit(files.iter().map(|(path, entry)| (path.as_str(), entry.clone())));
            let answer = daemon.say("site\n");
            assert!(last_line(&answer).starts_with("ok site "), "{answer}");
            let live = fs::canonicalize(world.path("site/current")).unwrap();
            let git = |args: &[&str]| {
                let here = ["--git-dir=../repo.git", "--work-tree=.", "-c", "core.bare=false"];
                let here = here.map(|arg| match live_as {
                    "Symlink" => arg.replace("..", "../.."),
                    _ => arg.to_owned(),
                });
                let args: Vec<&str> = here
                    .iter()
                    .map(String::as_str)
                    .chain(args.iter().copied())
                    .collect();
                git(&live, &args)
            };
            git(&["read-tree", "HEAD"]);
            assert_eq!(git(&["status", "--porcelain", "--ignored"]), "", "{round}");
            // What an older one holds besides is not in the next.
            for name in names(&world) {
                let dir = world.path("site/releases").join(name);
                if dir.is_dir() && fs::canonicalize(&dir).unwrap() != live {
                    world.write(&format!("{}/left/{round}", dir.display()), "left");
                }
            }
        }
    }
}

/// A world whose releases are built, with a hook that fails where there is a file `sick`.
fn built_world(keep: usize) -> (World, Source) {
    let world = World::new();
    let source = world.source();
    let build = world.script("build", "echo \"$GITSOCKET_NEW\" > made; echo more >> altered");
    let live = world.script("live", "[ ! -e sick ]");
    world.config(&format!(
        "releases: (keep: {keep}), hooks: [Exec(run: [{build:?}], at: Build), Exec(run: [{live:?}])]"
    ));
    (world, source)
}

fn commit(source: &mut Source, n: usize, more: &[(&str, &str)]) -> String {
    let text = n.to_string();
    let mut files = vec![
        (".gitignore", file("made\n")),
        ("altered", file("committed\n")),
        ("d/a", file("a")),
        ("n", file(&text)),
    ];
    files.extend(more.iter().map(|(path, text)| (*path, file(text))));
    source.commit(files).to_string()
}

fn read(world: &World, path: &str) -> String {
    fs::read_to_string(world.path("site/current").join(path)).unwrap()
}

fn last(ended: &world::Ended) -> &str {
    let all = if ended.exit == 0 { &ended.out } else { &ended.err };
    all.lines().next_back().unwrap_or_default()
}

#[test]
fn an_operator_goes_back_and_on() {
    let (world, mut source) = built_world(2);
    let mut commits = Vec::new();
    let mut ids = Vec::new();
    for n in 0..3 {
        commits.push(commit(&mut source, n, &[]));
        world.deploy();
        ids.push(live(&world));
        // What nobody tracks, ignored or not.
        fs::write(world.path("site/current/cache"), n.to_string()).unwrap();
    }
    let short = |n: usize| &commits[n][..7];
    let ended = world.run(["once", "--rollback", "site"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert_eq!(last(&ended), format!("ok site {}..{}", short(2), short(1)));
    assert_eq!(live(&world), ids[1]);
    assert_eq!(read(&world, "made").trim(), commits[1]);
    assert_eq!(
        (read(&world, "cache"), read(&world, "altered")),
        ("1".into(), "committed\nmore\n".into())
    );
    assert!(!ended.err.contains("mended"), "{ended:?}");
    // The newest is held.
    for _ in 0..2 {
        let ended = world.run(["once", "site"]);
        assert_eq!(ended.exit, 1, "{ended:?}");
        assert!(
            last(&ended).starts_with(&format!("error site held: {}", short(2))),
            "{ended:?}"
        );
        assert_eq!(live(&world), ids[1]);
    }
    // Further back; and to one by its name, and by its commit.
    let ended = world.run(["once", "--rollback", "site"]);
    assert_eq!((ended.exit, live(&world)), (0, ids[0].clone()), "{ended:?}");
    let ended = world.run(["once", "--rollback", "site"]);
    assert_eq!(ended.exit, 1, "{ended:?}");
    assert!(last(&ended).contains("nothing to go back to"), "{ended:?}");
    let ended = world.run(["once", "--rollback", "site", &ids[1]]);
    assert_eq!((ended.exit, live(&world)), (0, ids[1].clone()), "{ended:?}");
    let ended = world.run(["once", "--rollback", "site", short(0)]);
    assert_eq!((ended.exit, live(&world)), (0, ids[0].clone()), "{ended:?}");
    for wrong in ["abcdef0", "20200101T000000Z-0000000"] {
        let ended = world.run(["once", "--rollback", "site", wrong]);
        assert_ne!(ended.exit, 0, "{ended:?}");
        assert!(last(&ended).contains(&ids[1]), "{ended:?}");
        assert_eq!(live(&world), ids[0]);
    }
    let ended = world.run(["once", "--retry", "site"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert!(live(&world).ends_with(short(2)) && !ids.contains(&live(&world)));
    commit(&mut source, 9, &[]);
    world.deploy();
    assert_eq!(read(&world, "n"), "9");
}

#[test]
fn what_turns_out_sick_is_taken_back() {
    let (world, mut source) = built_world(2);
    let first = commit(&mut source, 0, &[("sick", "")]);
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 5, "nothing to go back to: {ended:?}");
    assert!(live(&world).ends_with(&first[..7]));
    let good = source.commit([("n", file("1"))]).to_string();
    world.deploy();
    let id = live(&world);
    for n in 2..5 {
        let sick = commit(&mut source, n, &[("sick", "")]);
        let ended = world.run(["once", "site"]);
        assert_eq!(ended.exit, 7, "{ended:?}");
        let expected = format!("error site rolled-back: {} is live again: hook: ", &good[..7]);
        assert!(last(&ended).starts_with(&expected), "{ended:?}");
        assert_eq!((live(&world), read(&world, "n")), (id.clone(), "1".into()));
        let ended = world.run(["once", "site"]);
        assert!(
            last(&ended).starts_with(&format!("error site held: {}", &sick[..7])),
            "{ended:?}"
        );
        if have("git") {
            let head = git(&world.path("site/repo.git"), &["rev-parse", "HEAD"]);
            assert_eq!(head.trim(), good);
        }
        assert!(names(&world).len() <= 4, "{:?}", names(&world));
    }
    source.commit([("n", file("9"))]);
    world.deploy();
    assert_eq!(read(&world, "n"), "9");
}

#[test]
fn a_release_that_was_changed_is_mended_or_passed_over() {
    let (world, mut source) = built_world(3);
    let mut ids = Vec::new();
    for n in 0..4 {
        commit(&mut source, n, &[]);
        world.deploy();
        ids.push(live(&world));
    }
    let at = |n: usize, path: &str| world.path("site/releases").join(&ids[n]).join(path);
    // Build has altered it, so nobody knows how it was.
    fs::write(at(2, "altered"), "somebody's").unwrap();
    // Touched, but the same.
    fs::write(at(1, "altered"), "committed\nmore\n").unwrap();
    fs::write(at(1, "d/a"), "somebody's").unwrap();
    fs::remove_file(at(1, "n")).unwrap();
    let ended = world.run(["once", "--rollback", "site"]);
    assert_eq!((ended.exit, live(&world)), (0, ids[1].clone()), "{ended:?}");
    for said in [
        &*format!("{}: altered is not as Build left it", ids[2]),
        "mended: d/a, n",
    ] {
        assert!(ended.err.contains(said), "{said}: {ended:?}");
    }
    assert_eq!((read(&world, "d/a"), read(&world, "n")), ("a".into(), "1".into()));
    fs::write(at(0, "altered"), "somebody's").unwrap();
    let ended = world.run(["once", "--rollback", "site"]);
    assert_eq!((ended.exit, live(&world)), (1, ids[1].clone()), "{ended:?}");
}

#[test]
fn status_lists_releases() {
    let (world, mut source) = world("keep: 1", "");
    let mut ids = Vec::new();
    for n in 0..3 {
        source.commit([("a", file(&n.to_string()))]);
        world.deploy();
        ids.push(live(&world));
    }
    let daemon = world.daemon();
    let answer = world.run(["status", "--json", "site"]);
    let status: serde_json::Value = serde_json::from_str(answer.out.lines().next().unwrap()).unwrap();
    let releases = status["releases"].as_array().unwrap();
    let seen: Vec<(&str, bool, bool)> = releases
        .iter()
        .map(|release| {
            assert!(release["bytes"].as_u64().unwrap() >= 4096 && release["since"].as_u64().unwrap() > 0);
            assert_eq!(release["commit"].as_str().unwrap().len(), 40);
            let is = |name: &str| release[name].as_bool().unwrap();
            (release["id"].as_str().unwrap(), is("live"), is("good"))
        })
        .collect();
    assert_eq!(seen, [(&*ids[2], true, true), (&*ids[1], false, true)]);
    // And through the daemon.
    source.commit([("a", file("9"))]);
    assert!(daemon.say("site\n").contains("\nok site "));
    assert_eq!(read(&world, "a"), "9");
    let answer = world.run(["status", "site"]);
    assert!(
        answer.out.contains(&format!("{} live since", live(&world))),
        "{answer:?}"
    );
}

/// What a program has left that its own user cannot remove is in nobody's way for ever.
#[test]
fn a_tree_that_cannot_be_cleaned_is_no_dead_end() {
    let world = World::new();
    let mut source = world.source();
    let build = world.script(
        "build",
        "export PATH=/usr/bin:/bin; mkdir -p ro/deep; : > ro/deep/x; chmod 555 ro/deep ro d; mkdir -p locked/x; chmod 0 locked/x",
    );
    world.config(&format!(
        "releases: (keep: 1), hooks: [Exec(run: [{build:?}], at: Build)]"
    ));
    let is_root = rustix::process::geteuid().is_root();
    fs::create_dir(world.path("site")).unwrap();
    if is_root {
        std::os::unix::fs::chown(world.path("site"), Some(65534), Some(65534)).unwrap();
    }
    for n in 0..7 {
        commit(&mut source, n, &[]);
        let mut command = match is_root {
            true => world.command_as(65534, ["once", "site"]),
            false => world.command(["once", "site"]),
        };
        let ended = world::Ended::from(command.output().unwrap());
        assert_eq!(ended.exit, 0, "{n}: {ended:?}");
        assert_eq!(read(&world, "n"), n.to_string());
    }
    // For the directory of this test to go.
    let status = Command::new("chmod")
        .args(["-R", "u+rwx"])
        .arg(world.path("site"))
        .status();
    assert!(status.unwrap().success());
}

/// Where the file system cannot exchange names, that is said, and what can be done works.
#[test]
fn a_file_system_that_cannot_exchange() {
    if !have("strace") {
        return;
    }
    let (world, mut source) = world("live: Exchange(\"current\")", "");
    source.commit([("a", file("1"))]);
    let refused = || {
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=renameat2",
            "-e",
            "inject=renameat2:error=EINVAL",
        ]);
        command
            .arg(env!("CARGO_BIN_EXE_gitsocket"))
            .args(["once", "site"])
            .current_dir(world.path(""));
        world::Ended::from(command.output().unwrap())
    };
    let ended = refused();
    if !world::machine::may_trace(&ended.err) {
        return;
    }
    assert_eq!(ended.exit, 1, "{ended:?}");
    assert!(last(&ended).starts_with("error site path: "), "{ended:?}");
    assert!(
        last(&ended).contains("write live: Symlink(\"current\")"),
        "{ended:?}"
    );
    assert!(!world.path("site/current").exists());
    configure(&world, "live: Symlink(\"current\")", "");
    assert_eq!(refused().exit, 0);
    assert_eq!(tree(&world), entries(&[("a", "1")]));
}

/// With little history, an older release has what it is mended from.
#[test]
fn a_shallow_clone_keeps_what_releases_are_mended_from() {
    let (world, mut source) = world("keep: 2", "depth: 1");
    for n in 0..5 {
        source.rewrite([("a", file(&format!("text {n}"))), ("n", file(&n.to_string()))]);
        world.deploy();
    }
    let older = names(&world).into_iter().rev().nth(1).unwrap();
    fs::write(world.path(format!("site/releases/{older}/a")), "x").unwrap();
    let ended = world.run(["once", "--rollback", "site"]);
    assert_eq!((ended.exit, read(&world, "a")), (0, "text 3".into()), "{ended:?}");
    if have("git") {
        assert_eq!(pins(&world).len(), 3);
        git(
            &world.path("site/repo.git"),
            &["fsck", "--strict", "--no-dangling"],
        );
    }
}

/// A tree more does not fit: that is said before anything is written, and what is said to do works.
#[test]
fn a_release_that_does_not_fit() {
    let world = World::new();
    let mut source = world.source();
    let Some(_disk) = world::machine::Disk::mount(&world.path("disk"), 14 * 1024) else {
        return;
    };
    let configure = |keep: usize| {
        world.config_of(&format!(
            "\"site\": (repo: \"repo.git\", branch: \"main\", path: \"disk/site\", releases: (keep: {keep})),"
        ));
    };
    let mut random = vec![0; 3_000_000];
    fastrand::Rng::with_seed(1).fill(&mut random);
    let commit = |source: &mut Source, n: usize| {
        source.commit([("big", Entry::File(random.clone())), ("n", file(&n.to_string()))]);
    };
    configure(3);
    let mut n = 0;
    let full = loop {
        commit(&mut source, n);
        let ended = world.run(["once", "site"]);
        if ended.exit != 0 {
            break ended;
        }
        n += 1;
        assert!(n < 5, "the disk is larger than it was to be");
    };
    assert_eq!(n, 3, "{full:?}");
    assert!(
        last(&full).starts_with("error site resources: the disk that "),
        "{full:?}"
    );
    assert!(last(&full).contains("lower `keep`"), "{full:?}");
    let number = || fs::read_to_string(world.path("disk/site/current/n")).unwrap();
    assert_eq!(number(), (n - 1).to_string());
    let releases = || fs::read_dir(world.path("disk/site/releases")).unwrap().count();
    assert_eq!(releases(), n);
    configure(1);
    world.deploy();
    assert_eq!(number(), n.to_string());
}

/// What a release holds of its own where all are to share something by now is nowhere else: it stays.
#[test]
fn going_back_removes_nothing_that_is_shared_by_now() {
    for live in ["Symlink", "Exchange"] {
        let shared = |shared: &str| format!("keep: 3, live: {live}(\"current\"), shared: [{shared}]");
        let (world, mut source) = world(&shared(""), "");
        let mut commit = |n: usize| source.commit([("n", file(&n.to_string()))]);
        commit(0);
        world.deploy();
        for path in ["uploads/photo", ".env", "a/b/deep"] {
            world.write(&format!("site/current/{path}"), "nowhere else");
        }
        symlink("../../elsewhere", world.path("site/current/link")).unwrap();
        world.write("site/current/file", "a file");
        let all = "\"uploads/\", \".env\", \"a/b/\", \"link\", \"file/below\", \"missing\"";
        configure(&world, &shared(all), "");
        for n in [1, 2] {
            commit(n);
            world.deploy();
        }
        for _ in 0..2 {
            let ended = world.run(["once", "--rollback", "site"]);
            assert_eq!(ended.exit, 0, "{ended:?}");
            let is_old = read(&world, "n") == "0";
            for path in ["uploads", ".env", "a/b", "link", "file/below"] {
                let said = format!("{path:?} is not shared in ");
                assert_eq!(ended.err.contains(&said), is_old, "{path}: {ended:?}");
            }
            assert!(!ended.err.contains("\"missing\""), "{ended:?}");
        }
        for path in ["uploads/photo", ".env", "a/b/deep"] {
            assert_eq!(read(&world, path), "nowhere else");
        }
        let link = |path: &str| fs::read_link(world.path("site/current").join(path)).unwrap();
        assert_eq!(link("link"), Path::new("../../elsewhere"));
        assert!(link("missing").ends_with("shared/missing"));
        assert_eq!(read(&world, "file"), "a file");
    }
}

/// What a hook at Build makes of the directory of its release: that is not live then, and the next run is none the worse.
#[test]
fn a_build_that_moves_its_release_does_not_become_live() {
    for live_as in ["Symlink", "Exchange"] {
        let (world, mut source) = world("", "");
        let build = world.script("build", "[ ! -e ../../../act ] || . ../../../act");
        configure(
            &world,
            &format!("keep: 1, live: {live_as}(\"current\")"),
            &format!("hooks: [Exec(run: [{build:?}], at: Build)]"),
        );
        source.commit([("n", file("first"))]);
        world.deploy();
        for (n, act) in [
            "mv $PWD $PWD.moved",
            "mv $PWD $PWD.moved; mkdir $PWD; : > $PWD/mine",
            "mv $PWD $PWD.moved; ln -s /etc $PWD",
            "mv $PWD ../../moved; mkdir $PWD",
            "rm -rf $PWD",
        ]
        .into_iter()
        .enumerate()
        {
            let before = read(&world, "n");
            world.write("act", &format!("export PATH=/usr/bin:/bin; {act}"));
            source.commit([("n", file(&n.to_string()))]);
            let ended = world.run(["once", "site"]);
            assert_eq!(ended.exit, 1, "{act}: {ended:?}");
            assert!(last(&ended).starts_with("error site build: "), "{act}: {ended:?}");
            assert!(
                last(&ended).contains("moved, replaced or removed"),
                "{act}: {ended:?}"
            );
            assert_eq!(read(&world, "n"), before, "{act}");
            fs::remove_file(world.path("act")).unwrap();
            world.deploy();
            assert_eq!(tree(&world), entries(&[("n", &n.to_string())]), "{act}");
            let ended = world.run(["once", "--rollback", "site"]);
            assert_eq!((ended.exit, read(&world, "n")), (0, before), "{act}: {ended:?}");
        }
        let mine = names(&world)
            .into_iter()
            .filter(|name| world.path("site/releases").join(name).join("mine").exists());
        assert_eq!(mine.count(), 1);
    }
}

/// Back is to another commit, that was live before, and was not taken back itself.
#[test]
fn going_back_is_to_what_was_live_before() {
    let (world, mut source) = built_world(3);
    let mut commits = Vec::new();
    for n in 0..4 {
        commits.push(commit(&mut source, n, &[]));
        world.deploy();
    }
    let back = |expected: &str| {
        let ended = world.run(["once", "--rollback", "site"]);
        assert_eq!((ended.exit, read(&world, "n")), (0, expected.into()), "{ended:?}");
    };
    back("2");
    // What was taken back by hand is no better for the next one's being sick.
    commit(&mut source, 4, &[("sick", "")]);
    let ended = world.run(["once", "site"]);
    assert_eq!((ended.exit, read(&world, "n")), (7, "2".into()), "{ended:?}");
    // The same commit once more is no older one, and takes no other one's place.
    commit(&mut source, 5, &[]);
    world.deploy();
    back("2");
    let ended = world.run(["once", "--retry", "site"]);
    assert_eq!((ended.exit, read(&world, "n")), (0, "5".into()), "{ended:?}");
    back("2");
    back("1");
    let ended = world.run(["once", "--retry", "site"]);
    assert_eq!((ended.exit, read(&world, "n")), (0, "5".into()), "{ended:?}");
    // What was taken back is there by name as long as there is room, and is good again then.
    let ended = world.run(["once", "--rollback", "site", &commits[2][..7]]);
    assert_eq!((ended.exit, read(&world, "n")), (0, "2".into()), "{ended:?}");
    commit(&mut source, 6, &[]);
    world.deploy();
    back("2");
    back("1");
}

/// A link by which the live release was seen before has what it leads to for as long as it is there.
#[test]
fn another_name_for_what_is_live() {
    let (world, mut source) = world("keep: 1", "");
    source.commit([("n", file("old"))]);
    world.deploy();
    let old = live(&world);
    for (n, live) in [
        "Symlink(\"www\")",
        "Symlink(\"www\")",
        "Symlink(\"www\")",
        "Symlink(\"www\")",
        "Exchange(\"dir\")",
        "Exchange(\"dir\")",
    ]
    .into_iter()
    .enumerate()
    {
        configure(&world, &format!("keep: 1, live: {live}"), "");
        source.commit([("n", file(&n.to_string()))]);
        let ended = world.deploy();
        let said = format!("site/current is still a link to the release {old}, which stays");
        assert!(ended.err.contains(&said), "{ended:?}");
        assert_eq!(read(&world, "n"), "old");
        let at = if n < 4 { "site/www/n" } else { "site/dir/n" };
        assert_eq!(fs::read_to_string(world.path(at)).unwrap(), n.to_string());
        if n >= 4 {
            assert!(
                ended.err.contains("type: rm ") && ended.err.contains("site/www)"),
                "{ended:?}"
            );
            assert_eq!(fs::read_to_string(world.path("site/www/n")).unwrap(), "3");
        }
    }
    fs::remove_file(world.path("site/current")).unwrap();
    configure(&world, "keep: 1, live: Exchange(\"again\")", "");
    source.commit([("n", file("x"))]);
    let ended = world.deploy();
    assert!(!ended.err.contains("site/current"), "{ended:?}");
    assert!(ended.err.contains("site/dir was the live release"), "{ended:?}");
    assert_eq!(fs::read_to_string(world.path("site/dir/n")).unwrap(), "5");
    assert!(!names(&world).contains(&old));
}

/// Copies of releases are nobody's, which is said before the first deploy after that can fail.
#[test]
fn what_was_restored_is_named_before_anything_else() {
    let (world, mut source) = built_world(2);
    for n in 0..2 {
        commit(&mut source, n, &[]);
        world.deploy();
    }
    let there = names(&world);
    let status = Command::new("sh")
        .args(["-c", "cp -a site copy && rm -rf site && mv copy site"])
        .current_dir(world.path(""))
        .status();
    assert!(status.unwrap().success());
    let rollback = world.run(["once", "--rollback", "site"]);
    commit(&mut source, 2, &[("sick", "")]);
    let deploy = world.run(["once", "site"]);
    for ended in [rollback, deploy] {
        assert_ne!(ended.exit, 0, "{ended:?}");
        let said = ended
            .err
            .find("restored are new directories")
            .unwrap_or(usize::MAX);
        assert!(said < ended.err.find("\nerror site").unwrap(), "{ended:?}");
        assert!(
            said < ended.err.find("\nlive ").unwrap_or(usize::MAX),
            "{ended:?}"
        );
    }
    assert!(there.is_subset(&names(&world)));
}
