//! An update of which a part cannot be done changes nothing, or does the rest and says what is left.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use super::{
    mortal::Mortal,
    source::{Entry, Source, file},
    world::{
        Ended, Need, World,
        machine::{Disk, skipped},
        need, tree,
    },
};

/// Files of one generation: none of them is in another one.
fn generation(name: &str, count: usize) -> Vec<(String, Entry)> {
    let files = (0..count).map(|at| format!("{name}/{at:03}"));
    files.map(|path| (path.clone(), file(&path))).collect()
}

fn commit(source: &mut Source, files: &[(String, Entry)], more: &[(&str, Entry)]) -> String {
    let files = files.iter().map(|(path, entry)| (path.as_str(), entry.clone()));
    source.commit(files.chain(more.iter().cloned())).to_string()
}

/// It failed, and says all of `words`.
#[track_caller]
fn failed(ended: &Ended, kind: &str, words: &[&str]) {
    assert_eq!(ended.exit, 1, "{ended:?}");
    // A dry run says that it is one behind it.
    let error = ended.err.lines().find(|line| line.starts_with("error "));
    let error = error.unwrap_or_else(|| panic!("{ended:?}"));
    assert!(error.starts_with(&format!("error site {kind}: ")), "{error}");
    for word in words {
        assert!(ended.err.contains(word), "{word:?}: {}", ended.err);
    }
}

fn head(root: &Path) -> String {
    let log = fs::read_to_string(root.join(".git/logs/HEAD")).unwrap();
    let last = log.lines().next_back().unwrap();
    last.split(' ').nth(1).unwrap().to_owned()
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_link_that_cannot_be_made_is_refused_before_anything_changes() {
    let (world, mut source) = World::with_source();
    commit(&mut source, &generation("old", 20), &[]);
    world.config("");
    world.deploy();
    let before = world.site();
    let new = generation("new", 40);
    for (to, why) in [
        (String::new(), "a symlink to nothing"),
        ("a\0b".into(), "NUL"),
        ("x".repeat(4096), "4096 bytes"),
    ] {
        commit(&mut source, &new, &[("new/020-link", Entry::Symlink(to))]);
        for args in [["once", "site"].as_slice(), &["once", "--dry-run", "site"]] {
            let ended = world.run(args);
            failed(
                &ended,
                "path",
                &[why, "new/020-link", "nothing was changed", "take the link out"],
            );
            assert_eq!(world.site(), before);
        }
    }
    commit(&mut source, &new, &[("link", Entry::Symlink("x".repeat(4095)))]);
    world.deploy();
    assert_eq!(world.site().len(), 41);
}

#[test]
fn a_directory_that_is_closed_is_found_before_anything_changes() {
    let (world, mut source) = World::with_source();
    let old = generation("old", 20);
    commit(
        &mut source,
        &old,
        &[("locked/a", file("1")), ("locked/b", file("1"))],
    );
    world.config("");
    let mortal = Mortal::new(world);
    let world = &mortal.world;
    mortal.deploy();
    let locked = world.path("site/locked");
    let (a, b) = (("locked/a", file("1")), ("locked/b", file("1")));
    for changed in [
        vec![a.clone(), ("locked/b", file("2"))],
        vec![a.clone()],
        vec![a.clone(), b.clone(), ("locked/c", file("1"))],
        vec![a.clone(), b.clone(), ("locked/new/deep/c", file("1"))],
        vec![("locked", file("1"))],
    ] {
        let before = world.site();
        permit(&locked, 0o555);
        let new = generation(&format!("new{}", changed.len()), 40);
        commit(&mut source, &new, &changed);
        mortal.give(&source.path);
        for args in [["once", "site"].as_slice(), &["once", "--dry-run", "site"]] {
            let ended = mortal.run(args);
            let words = [
                "site/locked: Permission denied",
                "\"locked",
                "nothing was changed",
                "chmod",
            ];
            failed(&ended, "path", &words);
            assert_eq!(world.site(), before, "{changed:?}");
        }
        // As the help says.
        permit(&locked, 0o755);
        let ended = mortal.run(["once", "site"]);
        assert_eq!(ended.exit, 0, "{changed:?}: {ended:?}");
        assert_eq!(world.site().len(), 40 + changed.len());
        commit(&mut source, &old, &[a.clone(), b.clone()]);
        mortal.give(&source.path);
        mortal.deploy();
    }

    // Where nothing has to be written, it may stay closed: not even a file that only looks changed.
    let now = filetime::FileTime::now();
    filetime::set_file_mtime(locked.join("a"), now).unwrap();
    permit(&locked, 0o555);
    commit(&mut source, &generation("last", 3), &[a, b]);
    mortal.give(&source.path);
    mortal.deploy();
    permit(&locked, 0o755);
}

/// `status` of `site`, as JSON.
fn status(mortal: &Mortal) -> serde_json::Value {
    let ended = mortal.run(["status", "--json", "site"]);
    serde_json::from_str(ended.out.lines().next().unwrap()).unwrap()
}

/// Directories in the places of files, with something in them that only a look into them would find.
#[test]
fn what_cannot_be_done_does_not_stop_the_rest() {
    let (world, mut source) = World::with_source();
    let first = commit(&mut source, &generation("old", 20), &[]);
    world.hook("echo ran >> \"$GITSOCKET_PATH/.git/ran\"");
    let mortal = Mortal::new(world);
    let world = &mortal.world;
    mortal.deploy();
    let hooks = || {
        fs::read_to_string(world.path("site/.git/ran"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(hooks(), 1);

    let names: Vec<String> = (0..12).map(|at| format!("new/{at:03}")).collect();
    for name in &names {
        world.write(&format!("site/{name}/inside"), "");
        mortal.give(&world.path("site/new"));
        permit(&world.path("site").join(name), 0o555);
    }
    let new = generation("new", 40);
    let second = commit(&mut source, &new, &[]);
    mortal.give(&source.path);
    let wanted: BTreeMap<_, _> = new.iter().cloned().collect();
    let daemon = mortal.daemon();
    for _ in 0..2 {
        let ended = mortal.run(["client", "site"]);
        let path = |name: &str| format!("cannot write {}", world.path("site").join(name).display());
        failed(
            &ended,
            "path",
            &[&path("new/000"), &path("new/009"), "and 2 more"],
        );
        assert!(!ended.err.contains("new/010"), "{ended:?}");
        let places = names[..10]
            .iter()
            .map(|name| ended.err.find(&path(name)).unwrap());
        assert!(places.is_sorted(), "{ended:?}");

        let mut site = world.site();
        for name in &names {
            assert!(site.remove(&format!("{name}/inside")).is_some(), "{name}");
        }
        let mut done = wanted.clone();
        done.retain(|name, _| !names.contains(name));
        assert_eq!(site, done);
        assert_eq!(head(&world.path("site")), first);
        assert_eq!(hooks(), 1);

        let mixed = &status(&mortal)["mixed"];
        assert_eq!(mixed["commit"], second);
        assert_eq!(mixed["left"], serde_json::json!(names[..10]));
        assert_eq!(mixed["more"], 2);
    }
    let ended = mortal.run(["status", "site"]);
    assert!(ended.out.contains("\n  mixed     left of "), "{ended:?}");
    drop(daemon);
    // Another daemon has not seen that run.
    let daemon = mortal.daemon();
    assert_eq!(status(&mortal)["mixed"]["commit"], second);
    assert!(daemon.say("status\n").contains("; mixed, left of "));

    for name in &names {
        permit(&world.path("site").join(name), 0o755);
    }
    mortal.run_to(0, ["client", "site"]);
    assert_eq!(world.site(), wanted);
    assert_eq!(head(&world.path("site")), second);
    assert_eq!(hooks(), 2);
    assert_eq!(status(&mortal)["mixed"], serde_json::Value::Null);
    assert!(!world.path("site/.git/gitsocket/mixed.json").exists());
}

/// The hooks have not seen what a run changed that could not finish.
#[test]
fn what_a_failed_run_mended_is_told_to_the_hooks() {
    let world = World::new();
    world.source().commit([("a", file("1")), ("b", file("1"))]);
    world.hook("echo ran >> \"$GITSOCKET_PATH/.git/ran\"");
    let mortal = Mortal::new(world);
    let world = &mortal.world;
    mortal.deploy();
    fs::remove_file(world.path("site/a")).unwrap();
    fs::remove_file(world.path("site/b")).unwrap();
    world.write("site/b/inside", "");
    mortal.give(&world.path("site"));
    permit(&world.path("site/b"), 0o555);
    assert_eq!(mortal.run(["once", "site"]).exit, 1);
    assert!(world.path("site/a").exists());
    // Somebody does by hand what was left.
    permit(&world.path("site/b"), 0o755);
    fs::remove_dir_all(world.path("site/b")).unwrap();
    world.write("site/b", "1");
    permit(&world.path("site/b"), 0o644);
    mortal.give(&world.path("site/b"));
    mortal.deploy();
    let ran = fs::read_to_string(world.path("site/.git/ran")).unwrap();
    assert_eq!(ran.lines().count(), 2);
}

/// Let `path` be immutable or not. Not every file system can.
fn set_immutable(path: &Path, is: bool) -> bool {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let Ok(file) = fs::File::open(path) else {
        return false;
    };
    let flags = ioctl_getflags(&file).map(|mut flags| {
        flags.set(IFlags::IMMUTABLE, is);
        flags
    });
    flags.and_then(|flags| ioctl_setflags(&file, flags)).is_ok()
}

struct Mutable(std::path::PathBuf);

impl Drop for Mutable {
    fn drop(&mut self) {
        set_immutable(&self.0, false);
    }
}

#[test]
fn what_is_immutable_is_left_until_it_is_not() {
    if !need(Need::Root) {
        return;
    }
    let (world, mut source) = World::with_source();
    let old = generation("old", 20);
    let more = [("a", file("1")), ("gone", file("1")), ("kept/a", file("1"))];
    commit(&mut source, &old, &more);
    // What is no longer tracked is not untracked files' fate.
    world.config("clean: Nothing");
    world.deploy();
    let paths = ["a", "gone", "kept"].map(|name| world.path("site").join(name));
    let all: Vec<Mutable> = paths.iter().cloned().map(Mutable).collect();
    if !set_immutable(&paths[0], true) {
        skipped("this file system has no immutable files");
        return;
    }
    // A directory is found before anything changes.
    set_immutable(&paths[2], true);
    let before = world.site();
    let new = generation("new", 40);
    commit(&mut source, &new, &[("a", file("2"))]);
    failed(
        &world.run(["once", "site"]),
        "path",
        &["site/kept", "nothing was changed", "chattr -i"],
    );
    assert_eq!(world.site(), before);
    set_immutable(&paths[2], false);

    set_immutable(&paths[1], true);
    for _ in 0..2 {
        failed(
            &world.run(["once", "site"]),
            "path",
            &[
                &format!("cannot write {}", paths[0].display()),
                &format!("cannot delete {}", paths[1].display()),
                "chattr -i",
            ],
        );
        let site = world.site();
        assert_eq!((&site["a"], &site["gone"]), (&file("1"), &file("1")));
        assert_eq!(site.len(), 42);
    }
    drop(all);
    world.deploy();
    let site = world.site();
    assert_eq!((site.len(), &site["a"]), (41, &file("2")));
}

#[test]
fn files_of_others_in_a_sticky_directory_are_left() {
    if !need(Need::Root) {
        return;
    }
    let (world, mut source) = World::with_source();
    let old = generation("old", 20);
    commit(&mut source, &old, &[("drop/a", file("1")), ("drop/b", file("1"))]);
    world.config("");
    let mortal = Mortal::new(world);
    let world = &mortal.world;
    mortal.deploy();
    let dir = world.path("site/drop");
    for path in [&dir, &dir.join("a")] {
        chown(path, Some(12345), Some(12345)).unwrap();
    }
    permit(&dir, 0o1777);
    let new = generation("new", 40);
    commit(&mut source, &new, &[("drop/a", file("2")), ("drop/b", file("2"))]);
    mortal.give(&source.path);
    let ended = mortal.run(["once", "site"]);
    failed(
        &ended,
        "path",
        &["site/drop/a: Operation not permitted", "sticky"],
    );
    let site = world.site();
    assert_eq!((site.len(), &site["drop/b"]), (42, &file("2")));
    mortal.give(&dir);
    mortal.deploy();
    assert_eq!(world.site()["drop/a"], file("2"));
}

#[test]
fn a_mount_point_in_the_way_is_left() {
    let (world, mut source) = World::with_source();
    commit(&mut source, &generation("old", 20), &[]);
    world.config("");
    world.deploy();
    fs::create_dir(world.path("site/new")).unwrap();
    let Some(mounted) = Disk::mount(&world.path("site/new/000"), 1024) else {
        return;
    };
    let new = generation("new", 40);
    commit(&mut source, &new, &[]);
    for _ in 0..2 {
        let ended = world.run(["once", "site"]);
        failed(
            &ended,
            "path",
            &["site/new/000: ", "busy", "all else is as in", "unmount it"],
        );
        assert_eq!(world.site().len(), 39);
    }
    drop(mounted);
    world.deploy();
    assert_eq!(world.site(), new.into_iter().collect());
}

/// No more is tried than shows that the disk is full, and what is untracked is not judged by rules of yesterday.
#[test]
fn a_disk_that_fills_up_ends_the_writing_at_once() {
    let (world, mut source) = World::with_source();
    let old = generation("old", 20);
    commit(&mut source, &old, &[("z/a", file("1"))]);
    let Some(disk) = Disk::mount(&world.path("disk"), 40 << 10) else {
        return;
    };
    world.config_of(
        "\"site\": (repo: \"repo.git\", branch: \"main\", path: \"disk/site\", git_dir: \"site.git\"),",
    );
    world.deploy();
    world.write("disk/site/z/precious", "");
    let text = "x".repeat(8000);
    let new: Vec<_> = (0..2000)
        .map(|at| (format!("new/{at:04}"), file(&text)))
        .collect();
    let more = [
        ("z/.gitignore", file("precious\n")),
        ("big", file(&"y".repeat(3 << 20))),
    ];
    commit(&mut source, &new, &more);
    // Bytes are looked at before anything is written; how many files it takes, no disk can be asked in general.
    disk.limit_files(disk.files() + 400);
    for _ in 0..2 {
        let ended = world.run(["once", "site"]);
        let words = [
            "No space left",
            "more files were not tried",
            "nothing untracked was removed",
            "make room",
        ];
        failed(&ended, "resources", &words);
        let tries = ended.err.matches("No space left").count();
        assert!(
            tries <= 2 * std::thread::available_parallelism().unwrap().get(),
            "{ended:?}"
        );
        assert!(world.path("disk/site/z/precious").exists());
        assert!(!world.path("disk/site/old").exists());
        assert!(world.path("site.git/gitsocket/mixed.json").exists());
    }
    disk.limit_files(100_000);
    world.deploy();
    let site = tree(&world.path("disk/site"));
    assert_eq!(site.len(), 2003);
    assert!(site.contains_key("z/precious"));
    assert!(!world.path("site.git/gitsocket/mixed.json").exists());
    drop(disk);
}
