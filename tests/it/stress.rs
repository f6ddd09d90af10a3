//! What strangers, accidents and history do to a target and a daemon.

use std::{fs, os::unix::fs::symlink};

use super::{
    source::file,
    world::{World, last_line},
};

/// Trigger `site` of the branch `branch` from now on.
fn follow(world: &World, branch: &str) {
    world.config_of(&format!(
        "\"site\": (repo: \"repo.git\", branch: {branch:?}, path: \"site\"),"
    ));
}

/// The commit in a loose ref of the deployed repository.
fn loose(world: &World, name: &str) -> Option<String> {
    fs::read_to_string(world.path(format!("site/.git/{name}"))).ok()
}

#[test]
fn a_path_that_is_a_symlink_to_nowhere() {
    let world = World::new();
    world.source().commit([("a", file("1"))]);
    world.config("");
    symlink("nowhere", world.path("site")).unwrap();
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 1, "{ended:?}");
    assert!(
        last_line(&ended.err).contains("a symlink that leads nowhere"),
        "{ended:?}"
    );
    fs::create_dir(world.path("nowhere")).unwrap();
    world.deploy();
    assert!(world.path("nowhere/a").exists());
}

#[test]
fn a_hook_that_deletes_the_worktree() {
    let world = World::new();
    world.source().commit([("a", file("1"))]);
    let hook = world.script("hook", "cd ..; /bin/rm -rf site");
    world.config(&format!("hooks: [Exec(run: [{hook:?}])]"));
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 1, "{ended:?}");
    assert!(!world.path("site").exists());
    world.script("hook", "exit 0");
    world.deploy();
    assert_eq!(world.site()["a"], file("1"));
}
