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

/// `a` and `a/b` cannot be branches at a time: who has followed the one must get to the other by himself.
#[test]
fn a_branch_becomes_a_directory_of_branches_and_back() {
    let world = World::new();
    let mut source = world.source();
    let old = source.commit_on("a", [("f", file("1"))]).to_string();
    follow(&world, "a");
    world.deploy();
    let heads = source.path.join("refs/heads");
    fs::remove_file(heads.join("a")).unwrap();
    source.commit_on("a/b", [("f", file("2"))]);
    follow(&world, "a/b");
    world.deploy();
    assert_eq!(world.site()["f"], file("2"));
    assert_eq!(
        loose(&world, &format!("refs/gitsocket/kept/{old}")),
        Some(format!("{old}\n")),
        "nothing that could be somebody's work is lost"
    );
    fs::remove_dir_all(heads.join("a")).unwrap();
    source.commit_on("a", [("f", file("3"))]);
    follow(&world, "a");
    world.deploy();
    assert_eq!(world.site()["f"], file("3"));
    let head = fs::read_to_string(world.path("site/.git/HEAD")).unwrap();
    assert_eq!(head, "ref: refs/heads/a\n");
}

#[test]
fn a_merge_that_was_under_way_has_ended() {
    let world = World::new();
    let mut source = world.source();
    let first = source.commit([("a", file("1"))]);
    world.config("");
    world.deploy();
    for name in ["MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "CHERRY_PICK_HEAD"] {
        world.write(&format!("site/.git/{name}"), &format!("{first}\n"));
    }
    world.deploy();
    for name in ["MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "CHERRY_PICK_HEAD"] {
        assert!(!world.path(format!("site/.git/{name}")).exists(), "{name}");
    }
}

/// What the hook has deleted must not come back as half a repository, which no later run could use.
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
