//! An error says what went wrong and what to do.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
};

use super::{
    source::{Source, file},
    world::{Need, World, need},
};

/// Run `once site`, which has to fail with `exit` and say all of `words`.
fn fails(world: &World, exit: i32, words: &[&str]) {
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, exit, "{ended:?}");
    assert_eq!(ended.out, "", "a failure is no result");
    let last = ended.err.lines().next_back().unwrap();
    assert!(last.starts_with("error site "), "{last}");
    for word in words {
        assert!(last.contains(word), "{word:?} is not in: {last}");
    }
    assert!(last.ends_with(')'), "no remedy: {last}");
}

#[test]
fn usage() {
    let world = World::configured();
    for (args, exit, word) in [
        (&["once"][..], 2, "there are: site"),
        (&["once", "sitte"], 4, "did you mean site?"),
        (&["once", "--all", "site"], 2, "not both"),
        (&["once", "-b", "main"], 2, "-g"),
        (&["nonsense"], 2, "nonsense"),
        (&["once", "--nonsense"], 2, "nonsense"),
        (&[], 2, "--help"),
        (&["client", "site"], 3, "gitsocket server"),
        (&["status"], 3, "gitsocket server"),
        (&["client", "-s", "nonsense", "site"], 2, "not an address"),
        (&["client", "--timeout", "soon", "site"], 2, "90s"),
        (&["once", "-c", "missing.ron", "site"], 2, "missing.ron"),
        (&["once", "-g", "nowhere"], 2, "there is no clone at"),
    ] {
        let ended = world.run(args);
        assert_eq!(ended.exit, exit, "{args:?}: {ended:?}");
        assert!(ended.err.contains(word), "{args:?}: {ended:?}");
    }
    let ended = world.run(["--version"]);
    assert_eq!((ended.exit, ended.out.starts_with("gitsocket ")), (0, true));
    assert_eq!(world.run(["check"]).exit, 0);
    let ended = world.run(["check", "--remote"]);
    assert!(ended.out.contains("site: main of "), "{ended:?}");
}

#[test]
fn a_wrong_configuration_is_shown_with_all_its_errors() {
    let world = World::new();
    world.write(
        "config.ron",
        "(\n    triggers: {\n        \"site\": (\n            repo: \"x\",\n            brunch: \"main\",\n            \
         path: \"site\",\n            timeout: \"soon\",\n        ),\n    },\n)\n",
    );
    for command in [&["check"][..], &["once", "site"], &["server"]] {
        let ended = world.run_to(2, command);
        for word in ["branch", "brunch", "soon", "config.ron"] {
            assert!(ended.err.contains(word), "{word}: {ended:?}");
        }
    }
}

#[test]
fn the_repository() {
    let world = World::new();
    world.config("");
    fails(&world, 1, &["repo.git"]);
    assert!(!world.path("site").exists(), "nothing is left behind");
    fs::create_dir(world.path("repo.git")).unwrap();
    fails(&world, 1, &["repo.git", "repository"]);
    fs::remove_dir(world.path("repo.git")).unwrap();
    world.write("repo.git", "a file");
    fails(&world, 1, &["repo.git"]);
    fs::remove_file(world.path("repo.git")).unwrap();
    let mut source = world.source();
    fails(&world, 1, &["repo.git", "empty", "push"]);
    source.commit_on("maim", [("a", file("1"))]);
    fails(&world, 1, &["no branch \"main\"", "did you mean \"maim\"?"]);
    assert!(!world.path("site").exists());
    source.commit([("a", file("1"))]);
    world.deploy();

    // The branch goes away: the worktree stays.
    drop(source);
    fs::remove_dir_all(world.path("repo.git")).unwrap();
    let mut source = Source::new(&world.path("repo.git"));
    source.commit_on("other", [("a", file("2"))]);
    fails(&world, 1, &["no branch \"main\"", "it has other"]);
    assert_eq!(world.site()["a"], file("1"));
}

#[test]
fn the_path() {
    let world = World::configured();
    world.write("site", "a file");
    fails(&world, 1, &["site is not a directory"]);
    fs::remove_file(world.path("site")).unwrap();
    world.write("site/mine", "precious");
    fails(&world, 1, &["\"mine\"", "not a git worktree"]);
    assert_eq!(world.site().len(), 1);
    fs::remove_dir_all(world.path("site")).unwrap();
    world.write("site/.git", "gitdir: ../elsewhere\n");
    fails(&world, 1, &["site/.git is a file"]);
    fs::remove_file(world.path("site/.git")).unwrap();
    world.write("site/.git/mine", "precious");
    fails(
        &world,
        1,
        &["not a usable git repository", "the next run clones again"],
    );
    // An empty one is what a run leaves that was killed before it had its lock.
    fs::remove_file(world.path("site/.git/mine")).unwrap();
    world.deploy();
}

#[test]
fn directories_that_cannot_be_written() {
    if !need(Need::Ordinary) {
        return;
    }
    let world = World::configured();
    fs::create_dir(world.path("site")).unwrap();
    fs::set_permissions(world.path("site"), fs::Permissions::from_mode(0o555)).unwrap();
    fails(&world, 1, &["site", "Permission denied"]);
}

#[test]
fn a_damaged_source_is_an_error_and_the_worktree_stays() {
    let (world, mut source) = World::deployed();
    let blob = source.blob(b"never seen");
    let commit = source.commit([("a", file("never seen"))]);
    let hex = blob.to_string();
    fs::remove_file(world.path("repo.git/objects").join(&hex[..2]).join(&hex[2..])).unwrap();
    fails(&world, 1, &[]);
    assert_eq!(world.site()["a"], file("1"));
    // Mended, the next run brings it.
    source.blob(b"never seen");
    let ended = world.deploy();
    assert!(ended.out.contains(&commit.to_hex_with_len(7).to_string()));
}

#[test]
fn a_damaged_index_or_object_heals_or_says_so() {
    let (world, mut source) = World::with_source();
    source.commit([("a", file("1")), ("b", file("2"))]);
    world.config("");
    world.deploy();
    fs::write(world.path("site/.git/index"), "garbage").unwrap();
    world.deploy();
    fs::remove_file(world.path("site/.git/index")).unwrap();
    world.write("site/a", "dirt");
    world.deploy();
    assert_eq!(world.site()["a"], file("1"));
}

/// `plain`, where the user `uid` may have no more than `limit` threads and processes.
fn limited(world: &World, plain: &Command, limit: u32, uid: u32) -> Command {
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--nproc={limit}"))
        .arg(plain.get_program())
        .args(plain.get_args());
    command.env_clear().current_dir(world.path("")).uid(uid);
    command
}

/// Where the system has no more threads or processes, the run does with those it has, or says so.
#[test]
fn a_limit_of_threads() {
    if !need(Need::Root) || !need("prlimit") {
        return;
    }
    const USER: u32 = 54_329;
    let (world, mut source) = World::with_source();
    for n in 0..70 {
        let names: Vec<String> = (0..20).map(|i| format!("d{i}/{n}")).collect();
        source.commit(names.iter().map(|name| (name.as_str(), file(name))));
    }
    world.config("");
    let mut endings = Vec::new();
    for limit in 2..12 {
        fs::remove_dir_all(world.path("site")).ok();
        fs::create_dir(world.path("site")).unwrap();
        std::os::unix::fs::chown(world.path("site"), Some(USER), Some(USER)).unwrap();
        let plain = world.command_as(USER, ["once", "site"]);
        let mut command = limited(&world, &plain, limit, USER);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().next_back().unwrap_or_default();
        match output.status.code() {
            Some(0) => endings.push(true),
            Some(1) => {
                assert!(last.starts_with("error site resources: "), "{limit}: {said}");
                endings.push(false);
            }
            other => panic!("{limit}: {other:?}: {said}"),
        }
    }
    assert!(endings.contains(&true) && endings.contains(&false), "{endings:?}");
}

/// The daemon says that it cannot begin.
#[test]
fn a_limit_of_threads_of_a_daemon() {
    if !need(Need::Root) || !need("prlimit") {
        return;
    }
    const USER: u32 = 54_330;
    let world = World::new();
    world.config("");
    let plain = world.command_as(USER, ["server"]);
    std::os::unix::fs::chown(world.path(""), Some(USER), Some(USER)).unwrap();
    let mut endings = Vec::new();
    for limit in 2.. {
        let mut command = limited(&world, &plain, limit, USER);
        command.env("ASYNC_STD_THREAD_COUNT", "3");
        let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut daemon = super::world::Daemon::of(child, world.path("s.sock"));
        match daemon.look_for(" ready ") {
            Ok(_) => break,
            Err(seen) => {
                assert_eq!(daemon.wait().0.code(), Some(1), "{limit}: {seen}");
                assert!(!seen.contains("panicked"), "{limit}: {seen}");
                assert!(seen.contains("cannot start a "), "{limit}: {seen}");
                endings.push(seen.contains("raise the limit of processes and threads"));
            }
        }
    }
    assert!(endings.len() > 4 && endings.contains(&true), "{endings:?}");
}
