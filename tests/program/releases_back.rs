//! A release can be rolled back by hand and forward again, and one that turned out sick is rolled back by itself.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::{
    releases::{built_world, commit, configure, last, live, names, pins, read, world},
    source::file,
    world::{git, need},
};

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
    assert!(!ended.err.contains("restored"), "{ended:?}");
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
    // What it says to do works, below.
    assert!(last(&ended).contains("gitsocket retry site"), "{ended:?}");
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
        if need("git") {
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
        "these files were restored: d/a, n",
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
    if need("git") {
        assert_eq!(pins(&world).len(), 3);
        git(
            &world.path("site/repo.git"),
            &["fsck", "--strict", "--no-dangling"],
        );
    }
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
