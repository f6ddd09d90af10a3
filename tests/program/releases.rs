//! Each deployed commit gets a tree of its own, and one tree is live, whole, at any moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    source::{Entry, Source, file},
    world::{self, World, git, machine, need},
};

/// A world whose trigger has `releases` and `more`, and its source.
pub fn world(releases: &str, more: &str) -> (World, Source) {
    let (world, source) = World::with_source();
    configure(&world, releases, more);
    (world, source)
}

pub fn configure(world: &World, releases: &str, more: &str) {
    world.config(&format!("releases: ({releases}), {more}"));
}

/// The names in `releases`.
pub fn names(world: &World) -> BTreeSet<String> {
    let entries = fs::read_dir(world.path("site/releases")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// The release that the link leads to.
pub fn live(world: &World) -> String {
    let target = fs::read_link(world.path("site/current")).unwrap();
    let name = target.strip_prefix("releases").unwrap();
    assert!(world.path("site/releases").join(name).is_dir());
    name.to_str().unwrap().to_owned()
}

pub fn tree(world: &World) -> BTreeMap<String, Entry> {
    world::tree(&world.path("site/current"))
}

pub fn entries(files: &[(&str, &str)]) -> BTreeMap<String, Entry> {
    files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), file(text)))
        .collect()
}

pub fn pins(world: &World) -> BTreeSet<String> {
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

/// A world whose releases are built, with a hook that fails where there is a file `sick`.
pub fn built_world(keep: usize) -> (World, Source) {
    let (world, source) = World::with_source();
    let build = world.script("build", "echo \"$GITSOCKET_NEW\" > made; echo more >> altered");
    let live = world.script("live", "[ ! -e sick ]");
    world.config(&format!(
        "releases: (keep: {keep}), hooks: [Exec(run: [{build:?}], at: Build), Exec(run: [{live:?}])]"
    ));
    (world, source)
}

pub fn commit(source: &mut Source, n: usize, more: &[(&str, &str)]) -> String {
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

pub fn read(world: &World, path: &str) -> String {
    fs::read_to_string(world.path("site/current").join(path)).unwrap()
}

pub fn last(ended: &world::Ended) -> &str {
    let all = if ended.exit == 0 { &ended.out } else { &ended.err };
    all.lines().next_back().unwrap_or_default()
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
        if need("git") {
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
fn a_dry_run_writes_nothing() {
    let (world, mut source) = world("", "");
    source.commit([("a", file("1")), ("b", file("1"))]);
    let ended = world.run_to(0, ["once", "--dry-run", "site"]);
    assert!(
        ended.out.contains('a') && !world.path("site").exists(),
        "{ended:?}"
    );
    world.deploy();
    let before = names(&world);
    source.commit([("a", file("2")), ("c", file("1"))]);
    let ended = world.run_to(0, ["once", "--dry-run", "site"]);
    for line in ["a", "b", "c"] {
        assert!(
            ended.out.lines().any(|seen| seen.ends_with(line)),
            "{line}: {ended:?}"
        );
    }
    assert_eq!(names(&world), before);
    assert_eq!(tree(&world), entries(&[("a", "1"), ("b", "1")]));
}

/// What Build makes is in its release alone; what fails there has never been live.
#[test]
fn a_release_is_built_before_it_is_live() {
    let (world, mut source) = World::with_source();
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
        let ended = world.run_to(1, ["once", "site"]);
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
            for n in 1..=machine::rounds(15) {
                commit(&mut source, n);
                daemon.deploys("site");
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}

/// Whatever was in the tree that is used again, and whatever commits hold: what is live is what git makes of the commit.
#[test]
fn a_release_is_what_git_makes_of_its_commit() {
    if !need("git") {
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
            daemon.deploys("site");
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

/// What a program has left that its own user cannot remove is in nobody's way for ever.
#[test]
fn a_tree_that_cannot_be_cleaned_is_no_dead_end() {
    let (world, mut source) = World::with_source();
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
        let mut command = if is_root {
            world.command_as(65534, ["once", "site"])
        } else {
            world.command(["once", "site"])
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

/// A tree more does not fit: that is said before anything is written, and what is said to do works.
#[test]
fn a_release_that_does_not_fit() {
    let (world, mut source) = World::with_source();
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
