//! A trigger's directory becomes one of releases and back; files that are not gitsocket's stay, and shared paths are linked.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::Path,
    process::Command,
};

use super::{
    releases::{built_world, commit, configure, entries, last, live, names, read, tree, world},
    source::{Entry, file},
    world::{self, Need, World, need},
};

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
        if is_dir {
            drop(world.write("site/current/mine", "mine"))
        } else {
            symlink("elsewhere", world.path("site/current")).unwrap()
        }
        let ended = world.run_to(1, ["once", "site"]);
        assert!(ended.err.contains("error site path"), "{ended:?}");
        let command = ended.err.split("type: ").nth(1).unwrap();
        let command = command.split(';').next().unwrap();
        let moved = Command::new("sh").args(["-c", command]).status().unwrap();
        assert!(moved.success(), "{command}");
        world.deploy();
        if is_dir {
            assert_eq!(fs::read(world.path("site/current.before/mine")).unwrap(), b"mine")
        } else {
            assert_eq!(
                fs::read_link(world.path("site/current.before")).unwrap(),
                Path::new("elsewhere")
            )
        }
        assert_eq!(tree(&world), entries(&[("a", "1")]));
    }
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
        let ended = world.deploy();
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
    let ended = world.run_to(1, ["once", "site"]);
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

/// What the errors say to type works.
#[test]
fn moving_over_and_back() {
    for apart in [false, true] {
        let (world, mut source) = World::with_source();
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
        let mine = if apart {
            "site.in-place/ignored-by-nobody"
        } else {
            "site/ignored-by-nobody"
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
        let said = format!("site/current is still a link to the release {old}, which is kept");
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
            .find("restored from a backup are new directories")
            .unwrap_or(usize::MAX);
        assert!(said < ended.err.find("\nerror site").unwrap(), "{ended:?}");
        assert!(
            said < ended.err.find("\nlive ").unwrap_or(usize::MAX),
            "{ended:?}"
        );
    }
    assert!(there.is_subset(&names(&world)));
}

/// Where the file system cannot exchange names, that is said, and what can be done works.
#[test]
fn a_file_system_that_cannot_exchange() {
    if !need(Need::Tracing) {
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
