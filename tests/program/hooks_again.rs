//! `trigger NAME hooks` runs all hooks again, whatever has changed.

use std::fs;

use serde_json::Value;

use super::{
    history::{json, start, status},
    source::file,
    world::{Daemon, World, last_line},
};

const AGAIN: &str = "trigger site hooks\n";

/// A hook that says what it was told, and fails where `ill` is or the commit is sick.
fn hook(world: &World, name: &str) -> String {
    let hook = world.script(
        name,
        "n=0; while read -r line; do n=$((n + 1)); done < \"$GITSOCKET_CHANGED_FILES\"
         echo \"${0##*/} $n $GITSOCKET_OLD\" >> \"${0%/*}/log\"
         [ -e \"${0%/*}/ill\" ] && exit 4
         read x < a; [ \"$x\" != sick ]",
    );
    format!("[{hook:?}]")
}

/// What the hooks were told, and forget it.
fn told(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.path("log")).unwrap_or_default();
    fs::remove_file(world.path("log")).ok();
    text.lines().map(str::to_owned).collect()
}

fn last(daemon: &Daemon) -> Value {
    json(&daemon.say("{\"op\":\"log\",\"name\":\"site\"}\n")).remove(0)
}

#[test]
fn all_hooks_run_again_though_nothing_has_changed() {
    let (world, mut source) = World::with_source();
    source.commit([("a", file("1")), ("b", file("1"))]);
    let (one, two) = (hook(&world, "one"), hook(&world, "two"));
    world.config(&format!("hooks: [Exec(run: {one}), Exec(run: {two})]"));
    let daemon = start(&world);
    let none = "0".repeat(40);
    let all = [format!("one 2 {none}"), format!("two 2 {none}")];
    daemon.deploys("site");
    assert_eq!(told(&world), all);
    daemon.say("site\n");
    assert!(told(&world).is_empty());
    for request in [AGAIN, "{\"op\":\"trigger\",\"name\":\"site\",\"hooks\":true}\n"] {
        let answer = daemon.say(request);
        assert!(answer.contains("up-to-date"), "{answer}");
        assert_eq!(told(&world), all, "as for the first deploy");
    }
    assert_eq!(last(&daemon)["task"], "hooks");
    // It deploys as well.
    let tip = source.commit([("a", file("2")), ("b", file("1"))]);
    let answer = daemon.say(AGAIN);
    assert!(last_line(&answer).ends_with(&tip.to_string()[..7]), "{answer}");
    assert_eq!(told(&world), all);
    // One that fails stays pending, as ever.
    world.write("ill", "");
    assert!(last_line(&daemon.say(AGAIN)).starts_with("error site hook: "));
    assert_eq!(status(&daemon)["hooks_owed"], true);
    fs::remove_file(world.path("ill")).unwrap();
    told(&world);
    daemon.say("site\n");
    assert_eq!(told(&world).len(), 2);
}

/// In the tree that is live only those that run in it: what was built is built.
#[test]
fn of_a_release_those_that_are_for_what_is_live() {
    let world = World::sourced();
    let (build, live) = (hook(&world, "build"), hook(&world, "live"));
    world.config(&format!(
        "releases: (keep: 2), hooks: [Exec(run: {build}, at: Build), Exec(run: {live}, at: Live)]"
    ));
    let daemon = start(&world);
    daemon.say("site\n");
    assert_eq!(told(&world).len(), 2);
    let release = fs::canonicalize(world.path("site/current")).unwrap();
    let answer = daemon.say(AGAIN);
    assert!(answer.contains("up-to-date"), "{answer}");
    assert_eq!(told(&world), [format!("live 1 {}", "0".repeat(40))]);
    assert_eq!(fs::canonicalize(world.path("site/current")).unwrap(), release);
}

/// Where the newest commit is held, those of what is live run; it stays held, and the trigger fails as before.
#[test]
fn of_what_is_live_while_the_newest_is_held() {
    for more in ["on_failure: Rollback", "releases: (keep: 3)"] {
        let (world, mut source) = World::with_source();
        let good = source.commit([("a", file("1"))]);
        let hook = hook(&world, "hook");
        world.config(&format!("hooks: [Exec(run: {hook})], {more}"));
        let daemon = start(&world);
        daemon.say("site\n");
        let sick = source.commit([("a", file("sick\n"))]);
        assert!(last_line(&daemon.say("site\n")).starts_with("error site rolled-back: "));
        told(&world);
        let before = status(&daemon);
        let answer = daemon.say(AGAIN);
        let expected = format!(
            "warning: {} is held; the hooks of {}",
            &sick.to_string()[..7],
            &good.to_string()[..7]
        );
        assert!(answer.contains(&expected), "{answer}");
        assert_eq!(
            last_line(&answer),
            format!("ok site up-to-date {}", &good.to_string()[..7])
        );
        assert_eq!(told(&world).len(), 1);
        let after = status(&daemon);
        for field in ["held", "failing", "commit"] {
            assert_eq!(before[field], after[field], "{more} {field}");
        }
        assert!(last_line(&daemon.say("site\n")).starts_with("error site held: "));
        assert!(told(&world).is_empty());
        // Hooks that fail stay pending, and the next trigger runs them.
        world.write("ill", "");
        assert!(last_line(&daemon.say(AGAIN)).starts_with("error site hook: "));
        assert_eq!(status(&daemon)["commit"], good.to_string());
        fs::remove_file(world.path("ill")).unwrap();
        assert_eq!(told(&world).len(), 1);
        daemon.answers(AGAIN, "ok site up-to-date ");
        assert_eq!(
            (told(&world).len(), &status(&daemon)["hooks_owed"]),
            (1, &false.into())
        );
    }
}
