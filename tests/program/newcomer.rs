//! What a newcomer meets in the first hour: the message tells the next step, and the step is right.

use super::world::World;

/// With a configuration that cannot be read, commands do not know where the daemon is.
#[test]
fn an_unreadable_configuration_is_named_where_no_daemon_answers() {
    let world = World::configured();
    let _daemon = world.daemon();
    // Nothing answers at the default place.
    world.write("gitsocket.sock", "");
    world.write("config.ron", "(listen: [Unix(path: \"s.sock\")], triggers: {");
    let expected = "config.ron cannot be read, so the address is the default: see `gitsocket check`, or name the daemon's";
    for args in [vec!["status"], vec!["client", "site"], vec!["healthcheck"]] {
        let ended = world.run(&args);
        assert_eq!(ended.exit, 3, "{args:?}: {ended:?}");
        assert!(ended.err.contains(expected), "{args:?}: {ended:?}");
        let ended = world.run([&args[..], &["-s", "./s.sock"]].concat());
        assert_eq!(ended.exit, 0, "{args:?}: {ended:?}");
    }
    // A configuration that is right, or is not there, is not blamed.
    world.write(
        "config.ron",
        "(triggers: {\"site\": (repo: \"repo.git\", path: \"site\")})",
    );
    let ended = world.run(["status"]);
    assert!(
        ended.exit == 3 && !ended.err.contains("cannot be read"),
        "{ended:?}"
    );
}

#[test]
fn a_duration_without_quotes() {
    let world = World::sourced();
    for number in ["10m", "1h30m", "90s"] {
        world.config(&format!("poll: {number}"));
        let ended = world.run_to(2, ["check"]);
        let expected = format!("a duration or a size needs quotes: write {number:?}");
        assert!(ended.err.contains(&expected), "{ended:?}");
        assert!(!ended.err.contains("comma"), "{ended:?}");
    }
    // A number is no unit's, and a comma is missing.
    world.config("retries: 3 poll: \"10m\"");
    let ended = world.run(["check"]);
    assert!(
        ended.err.contains("a comma is missing before `poll`"),
        "{ended:?}"
    );
}

#[test]
fn a_directory_with_files_is_moved_aside() {
    let world = World::configured();
    world.write("site/upload", "");
    let ended = world.run(["once", "site"]);
    assert!(
        ended.err.contains("holds files, such as \"upload\"") && ended.err.contains("(move it aside, or "),
        "{ended:?}"
    );
    assert!(!ended.err.contains("empty it"), "{ended:?}");
}
