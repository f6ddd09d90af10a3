//! Triggers whose targets lie in each other by way of links are refused where that can be known, and never harmed.

use std::{fs, os::unix::fs::symlink};

use rustix::process::Signal;

use super::{
    source::file,
    world::{World, last_line},
};

/// The trigger `outer`, which cleans all, and `inner` with `path` and `git_dir`.
fn configure(world: &World, path: &str, git_dir: &str) {
    world.config_of(&format!(
        "\"outer\": (repo: \"repo.git\", path: \"outer\", clean: All),
         \"inner\": (repo: \"repo.git\", path: {path:?}, git_dir: {git_dir:?}),"
    ));
}

#[test]
fn paths_that_are_nested_by_a_link_are_refused() {
    let world = World::sourced();
    configure(&world, "inner", "lib/inner.git");
    assert_eq!(world.run(["once", "outer"]).exit, 0);
    configure(&world, "link/inner", "lib/inner.git");
    fs::create_dir_all(world.path("outer/sub")).unwrap();
    symlink("outer/sub", world.path("link")).unwrap();
    let [written, real] = ["link/inner", "outer/sub/inner"].map(|path| world.path(path));
    let real = fs::canonicalize(world.path(""))
        .unwrap()
        .join(real.strip_prefix(world.path("")).unwrap());
    let named = format!("`inner` ({}, which is {})", written.display(), real.display());
    for args in [&["check"][..], &["once", "outer"], &["server"]] {
        let ended = world.run(args);
        assert_eq!(ended.exit, 2, "{args:?}: {ended:?}");
        let said = ended.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("lies inside the path of"), "{args:?}: {ended:?}");
        assert!(said.contains("/sub/inner/"), "{args:?}: {ended:?}");
    }
    assert!(world.path("outer/sub").exists(), "nothing was cleaned");

    // A reload changes nothing then; and what is wrong is in the log.
    configure(&world, "inner", "lib/inner.git");
    let mut daemon = world.daemon();
    configure(&world, "fine", "link/inner.git");
    daemon.signal(Signal::HUP);
    daemon.wait_for("cannot lie inside each other");
    daemon.wait_for("still using the previous one");
    configure(&world, "link/inner", "lib/inner.git");
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for("lies inside the path of");
    assert!(line.contains(&named), "{line}");
    daemon.wait_for("still using the previous one");
    daemon.deploys("inner");
    assert!(world.path("inner/a").exists());

    // What the error says helps.
    let text = fs::read_to_string(world.path("config.ron")).unwrap();
    let text = text.replace("clean: All", "clean: All, keep: [\"/sub/inner/\"]");
    world.write("config.ron", &text);
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready triggers=2");
    fs::remove_dir_all(world.path("lib/inner.git")).unwrap();
    for name in ["inner", "outer", "outer"] {
        daemon.deploys(name);
    }
    assert!(world.path("outer/sub/inner/a").exists());
}

/// Links change while the daemon runs.
#[test]
fn a_target_that_a_link_brings_inside_later_is_left_alone() {
    let (world, mut source) = World::with_commit();
    configure(&world, "link/inner", "store/inner.git");
    fs::create_dir(world.path("store")).unwrap();
    symlink("store", world.path("link")).unwrap();
    let daemon = world.daemon();
    let run = |name: &str| daemon.say(format!("{name}\n"));
    for name in ["outer", "inner"] {
        assert!(last_line(&run(name)).starts_with(&format!("ok {name} ")));
    }
    fs::rename(world.path("store"), world.path("outer/store")).unwrap();
    for link in ["link", "store"] {
        fs::remove_file(world.path(link)).ok();
        symlink("outer/store", world.path(link)).unwrap();
    }
    fs::write(world.path("outer/stray"), "").unwrap();
    let answer = run("outer");
    assert!(last_line(&answer).starts_with("ok outer "), "{answer}");
    assert!(!world.path("outer/stray").exists(), "{answer}");
    assert!(world.path("outer/store/inner/a").exists(), "{answer}");
    assert!(world.path("outer/store/inner.git/HEAD").exists(), "{answer}");
    assert!(last_line(&run("inner")).starts_with("ok inner "));

    // Nor is anything written there.
    source.commit([("a", file("2")), ("store/inner/b", file("2"))]);
    let answer = run("outer");
    assert!(last_line(&answer).starts_with("error outer path: "), "{answer}");
    assert!(answer.contains("is where another trigger deploys to"), "{answer}");
    assert_eq!(fs::read(world.path("outer/a")).unwrap(), b"1");
    assert!(!world.path("outer/store/inner/b").exists());
}

/// What hooks write in their worktree keeps no daemon from starting, and no other trigger from working.
#[test]
fn a_git_directory_that_is_a_link_is_the_affair_of_its_own_runs() {
    let world = World::sourced();
    world.config_of(
        "\"other\": (repo: \"repo.git\", path: \"in/other\"), \"site\": (repo: \"repo.git\", path: \"in/site\"),",
    );
    assert_eq!(world.run(["once", "--all"]).exit, 0);
    fs::rename(world.path("in/site/.git"), world.path("in/site/git")).unwrap();
    symlink("../other/.git", world.path("in/site/.git")).unwrap();
    let daemon = world.daemon();
    daemon.answers("site\n", "error site path: ");
    daemon.deploys("other");
}

/// What hooks plant on the way to a target within theirs keeps no daemon from starting, and only that target from working.
#[test]
fn a_planted_link_is_the_affair_of_the_target_that_it_leads_to() {
    let (world, mut source) = World::with_source();
    source.commit([("a", file("1")), ("in/b", file("1"))]);
    fs::create_dir_all(world.path("data")).unwrap();
    symlink("data", world.path("srv")).unwrap();
    for (inner, sandbox) in [("srv", "Off"), ("srv", "BestEffort"), ("data", "BestEffort")] {
        let listen = format!("listen: [Unix(path: \"s.sock\")], sandbox: {sandbox}");
        let triggers = format!(
            "\"outer\": (repo: \"repo.git\", path: \"srv/outer\", clean: All, keep: [\"/sub\", \"/moved\"]),
             \"inner\": (repo: \"repo.git\", path: \"{inner}/outer/sub/inner\"),
             \"other\": (repo: \"repo.git\", path: \"srv/other\"),"
        );
        world.write("config.ron", &format!("({listen}, triggers: {{ {triggers} }})"));
        fs::remove_dir_all(world.path("data")).unwrap();
        fs::create_dir(world.path("data")).unwrap();
        for trigger in ["outer", "inner", "other"] {
            assert_eq!(world.run(["once", trigger]).exit, 0);
        }
        let [sub, moved] = ["data/outer/sub", "data/outer/moved"].map(|name| world.path(name));
        fs::rename(&sub, &moved).unwrap();
        let mut daemon = None;
        // Another target, and what is in one; above all of them; a link without an end.
        for to in ["../other", "../other/in", "/", "..", "sub"] {
            let shown = format!("{inner}, {sandbox}, {to}");
            symlink(to, &sub).unwrap();
            source.commit([("a", file(&shown)), ("in/b", file(&shown))]);
            let daemon = daemon.get_or_insert_with(|| world.daemon());
            daemon.signal(Signal::HUP);
            daemon.wait_for("ready triggers=3");
            let answer = daemon.say("inner\n");
            let last = last_line(&answer);
            assert!(last.starts_with("error inner path: "), "{shown}: {answer}");
            assert!(
                last.contains("data/outer/sub is a symlink in a target"),
                "{shown}: {last}"
            );
            for name in ["outer", "other"] {
                daemon.deploys(name);
                let file = world.path("data").join(name).join("in/b");
                assert_eq!(fs::read_to_string(file).unwrap(), shown);
            }
            assert!(!world.path("data/other/inner").exists() && !world.path("data/inner").exists());
            fs::remove_file(&sub).unwrap();
        }
        symlink("../other", &sub).unwrap();
        for (args, exit) in [
            (&["check"][..], 2),
            (&["once", "inner"], 1),
            (&["once", "other"], 0),
        ] {
            let ended = world.run(args);
            assert_eq!(ended.exit, exit, "{args:?}: {ended:?}");
            let is_told = ended.err.contains("is a symlink in a target");
            assert_eq!(is_told, exit != 0, "{args:?}: {ended:?}");
        }
        // As the help says.
        fs::remove_file(&sub).unwrap();
        fs::rename(&moved, &sub).unwrap();
        assert!(last_line(&daemon.unwrap().say("inner\n")).starts_with("ok inner "));
    }
    // Where no hook writes, a link makes what is wrong not right.
    world.config_of(
        "\"outer\": (repo: \"repo.git\", path: \"srv/outer\"),
         \"inner\": (repo: \"repo.git\", path: \"data/outer/sub/inner\"),",
    );
    let ended = world.run_to(2, ["server"]);
    assert!(ended.err.contains("lies inside the path of"), "{ended:?}");
}
