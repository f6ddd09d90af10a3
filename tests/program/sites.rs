//! The program itself reads included files and defaults of many sites.

use std::fs;

use rustix::process::Signal;

use super::world::World;

/// A source, and two sites in two files that differ in their names alone.
fn world() -> World {
    let world = World::sourced();
    world.write(
        "config.ron",
        r#"(
            listen: [Unix(path: "s.sock")],
            include: ["conf.d/*.ron", "more.d/*.ron"],
            defaults: (path: "srv/{name}", git_dir: "git/{name}.git", branch: "main", poll: None),
        )"#,
    );
    world.write("conf.d/1.ron", r#"(triggers: {"one": (repo: "../repo.git")})"#);
    world.write("conf.d/2.ron", r#"(triggers: {"two": (repo: "../repo.git")})"#);
    world
}

#[test]
fn sites_in_many_files_are_deployed_and_checked() {
    let world = world();
    let ended = world.run_to(0, ["check"]);
    let at = |name: &str| world.path(name).display().to_string();
    let lines: Vec<_> = ended.out.lines().map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            format!("{}: 1 trigger(s)", at("conf.d/1.ron")),
            format!("{}: 1 trigger(s)", at("conf.d/2.ron")),
            "include \"more.d/*.ron\" adds no file".into(),
            "config.ron is right: 2 trigger(s), 1 listener(s)".into(),
        ]
    );
    world.run_to(0, ["once", "two"]);
    assert!(world.path("srv/two/a").exists() && world.path("git/two.git/HEAD").exists());
    assert!(!world.path("conf.d/srv").exists());
}

#[test]
fn mistakes_of_all_files_are_shown_in_theirs() {
    let world = world();
    world.write(
        "conf.d/2.ron",
        "(triggers: {\n\"one\": (repo: \"../repo.git\"),\n\"two\": (repo: 7)})",
    );
    world.write("more.d/3.ron", "(jobs: 2)");
    let ended = world.run(["check"]);
    assert_eq!((ended.exit, ended.out.as_str()), (2, ""), "{ended:?}");
    for part in [
        "config.ron has 4 errors".to_owned(),
        format!("[{}:2:1]", world.path("conf.d/2.ron").display()),
        format!("[{}:1:13]", world.path("conf.d/1.ron").display()),
        format!("[{}:3:15]", world.path("conf.d/2.ron").display()),
        format!("[{}:1:2]", world.path("more.d/3.ron").display()),
    ] {
        assert!(ended.err.contains(&part), "{part}: {}", ended.err);
    }
}

/// The new configuration counts as a whole, or not at all.
#[test]
fn a_reload_takes_all_files_or_none() {
    let world = world();
    let mut daemon = world.daemon();
    let names = || {
        let answer = status(&world);
        ["one", "two", "three"].map(|name| answer.contains(&format!("\"trigger\":\"{name}\"")))
    };
    assert_eq!(names(), [true, true, false]);
    world.write("more.d/3.ron", r#"(triggers: {"three": (repo: "../repo.git")})"#);
    world.write("conf.d/1.ron", r#"(triggers: {})"#);
    let bad = world.write(
        "conf.d/2.ron",
        "(triggers: {\"two\": (repo: \"../repo.git\")},\n jbs: 1)",
    );
    daemon.signal(Signal::HUP);
    let log = daemon.look_for("still using the previous one").unwrap();
    assert!(log.contains(&format!("{}:2:2: ", bad.display())), "{log}");
    assert_eq!(names(), [true, true, false]);
    daemon.deploys("one");
    world.write(
        "conf.d/2.ron",
        r#"(triggers: {"two": (repo: "../repo.git", path: "other")})"#,
    );
    daemon.signal(Signal::HUP);
    let log = daemon.look_for("ready triggers=2").unwrap();
    assert!(
        log.contains("triggers added: three; triggers removed: one; triggers changed: two"),
        "{log}"
    );
    assert_eq!(names(), [false, true, true]);
    for name in ["two", "three"] {
        daemon.deploys(name);
    }
    assert!(world.path("conf.d/other/a").exists() && world.path("srv/three/a").exists());
    // A file that cannot be read is a mistake as well.
    fs::remove_file(world.path("conf.d/1.ron")).unwrap();
    world.fifo("conf.d/1.ron");
    daemon.signal(Signal::HUP);
    let log = daemon.look_for("still using the previous one").unwrap();
    let place = format!("{}:3:23: cannot read", world.path("config.ron").display());
    assert!(log.contains(&place) && log.contains("it is a fifo"), "{log}");
    assert_eq!(names(), [false, true, true]);
}

/// What the daemon says of its triggers. A client finds its socket, whatever the other files hold by now.
fn status(world: &World) -> String {
    let ended = world.run_to(0, ["status", "--json"]);
    ended.out
}
