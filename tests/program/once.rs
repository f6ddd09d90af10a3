//! `once` makes a directory the newest commit, and git agrees.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{
    source::{Entry, Source, file},
    world::{World, git, need},
};

fn files() -> Vec<(&'static str, Entry)> {
    vec![
        ("a.txt", file("a\n")),
        ("bin/run", Entry::Executable(b"#!/bin/sh\n".to_vec())),
        ("deep/er/still/b.txt", file("b\n")),
        ("link", Entry::Symlink("deep/er".into())),
        (".gitignore", file("*.log\n")),
    ]
}

/// What a `BTreeMap` of the site should be.
fn expected(files: &[(&str, Entry)]) -> std::collections::BTreeMap<String, Entry> {
    files
        .iter()
        .map(|(path, entry)| ((*path).to_owned(), entry.clone()))
        .collect()
}

#[test]
fn clones_updates_and_then_has_nothing_to_do() {
    let (world, mut source) = World::with_source();
    let first = source.commit(files());
    world.config("");

    let ended = world.deploy();
    assert_eq!(
        ended.out,
        format!("ok site 0000000..{}\n", first.to_hex_with_len(7))
    );
    assert_eq!(world.site(), expected(&files()));

    let mut next = files();
    next.retain(|(path, _)| !path.starts_with("deep"));
    next.push(("deep", file("now a file\n")));
    next[0].1 = Entry::Executable(b"a\n".to_vec());
    let second = source.commit(next.clone());
    let ended = world.deploy();
    let [old, new] = [first, second].map(|id| id.to_hex_with_len(7).to_string());
    assert_eq!(ended.out, format!("ok site {old}..{new}\n"));
    assert_eq!(world.site(), expected(&next));

    // The files are as young as the index, so it may be written once more to settle that (git's racy rule);
    // then it stays as it is.
    let index = || {
        fs::metadata(world.path("site/.git/index"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let settled = (0..100).any(|_| {
        let before = index();
        assert_eq!(world.deploy().out, format!("ok site up-to-date {new}\n"));
        index() == before
    });
    assert!(settled, "a run with nothing to do writes no index");

    if need("git") {
        let site = world.path("site");
        assert_eq!(
            git(&site, &["status", "--porcelain", "--branch"]),
            "## main...origin/main\n"
        );
        git(&site, &["fsck", "--strict"]);
        assert_eq!(git(&site, &["rev-parse", "HEAD"]).trim(), second.to_string());
        assert_eq!(git(&site, &["reflog"]).lines().count(), 2);
        assert_eq!(git(&site, &["symbolic-ref", "HEAD"]), "refs/heads/main\n");
    }
}

#[test]
fn undoes_local_changes_but_keeps_what_is_ignored_or_kept() {
    let (world, mut source) = World::with_source();
    source.commit(files());
    world.config("keep: [\"uploads/\"]");
    world.deploy();

    world.write("site/a.txt", "changed\n");
    world.write("site/untracked/x", "");
    world.write("site/error.log", "ignored");
    world.write("site/uploads/photo", "kept");
    fs::remove_file(world.path("site/bin/run")).unwrap();
    fs::create_dir(world.path("site/empty")).unwrap();
    let ended = world.deploy();
    assert!(ended.out.starts_with("ok site up-to-date "), "{ended:?}");
    let mut want = expected(&files());
    want.insert("error.log".into(), file("ignored"));
    want.insert("uploads/photo".into(), file("kept"));
    assert_eq!(world.site(), want);
    assert!(!world.path("site/empty").exists());
}

#[test]
fn follows_force_pushes_and_switches_branches() {
    let (world, mut source) = World::with_commit();
    source.commit([("a", file("2"))]);
    world.config("");
    world.deploy();
    let rewritten = source.rewrite([("b", file("other"))]);
    let ended = world.deploy();
    assert!(
        ended
            .out
            .ends_with(&format!("..{}\n", rewritten.to_hex_with_len(7)))
    );
    assert_eq!(world.site(), expected(&[("b", file("other"))]));

    source.commit_on("next", [("c", file("3"))]);
    world.config_of("\"site\": (repo: \"repo.git\", branch: \"next\", path: \"site\"),");
    world.deploy();
    assert_eq!(world.site(), expected(&[("c", file("3"))]));
    let head = fs::read_to_string(world.path("site/.git/HEAD")).unwrap();
    assert_eq!(head, "ref: refs/heads/next\n");
}

#[test]
fn without_a_branch_the_remotes_head_decides() {
    let (world, mut source) = World::with_source();
    source.commit([("a", file("main"))]);
    source.commit_on("trunk", [("a", file("trunk"))]);
    source.set_head("trunk");
    world.config_of("\"site\": (repo: \"repo.git\", path: \"site\"),");
    world.deploy();
    assert_eq!(world.site(), expected(&[("a", file("trunk"))]));
}

#[test]
fn a_tag_is_deployed_detached() {
    let (world, mut source) = World::with_source();
    let first = source.commit([("a", file("1"))]);
    source.point("refs/tags/v1", first);
    source.commit([("a", file("2"))]);
    world.config_of("\"site\": (repo: \"repo.git\", tag: \"v1\", path: \"site\"),");
    world.deploy();
    assert_eq!(world.site(), expected(&[("a", file("1"))]));
    let head = fs::read_to_string(world.path("site/.git/HEAD")).unwrap();
    assert_eq!(head.trim(), first.to_string());
}

#[test]
fn depth_bounds_the_history() {
    let (world, mut source) = World::with_source();
    for n in 0..5 {
        source.commit([("a", file(&n.to_string()))]);
    }
    world.config("depth: 1");
    world.deploy();
    assert_eq!(world.site(), expected(&[("a", file("4"))]));
    source.commit([("a", file("5"))]);
    world.deploy();
    assert_eq!(world.site(), expected(&[("a", file("5"))]));
    if need("git") {
        let site = world.path("site");
        assert_eq!(git(&site, &["rev-list", "--count", "HEAD"]), "1\n");
        git(&site, &["fsck", "--strict"]);
    }
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let (world, mut source) = World::with_source();
    source.commit([("a", file("1")), ("b", file("1"))]);
    world.config("");
    let ended = world.run_to(0, ["once", "--dry-run", "site"]);
    assert!(ended.out.contains("would write a\n"), "{ended:?}");
    assert!(!world.path("site").exists());

    world.deploy();
    source.commit([("a", file("2"))]);
    world.write("site/new", "");
    world.write("site/stray/a", "");
    world.write("site/stray/b", "");
    let before = world.site();
    let ended = world.run(["once", "--dry-run", "site"]);
    let mut said: Vec<_> = ended
        .out
        .lines()
        .filter(|line| line.starts_with("would"))
        .collect();
    said.sort_unstable();
    let expected = [
        "would clean new",
        "would clean stray/",
        "would delete b",
        "would write a",
    ];
    assert_eq!(said, expected);
    assert_eq!(world.site(), before);
    let last = ended.out.lines().next_back().unwrap();
    assert!(
        last.starts_with("ok site ")
            && last.ends_with(" (dry run: 4 changes would be made; nothing was changed)"),
        "{ended:?}"
    );

    // What is edited would be restored, and is not yet.
    world.deploy();
    world.write("site/a", "edited");
    let ended = world.run(["once", "--dry-run", "site"]);
    let last = ended.out.lines().next_back().unwrap();
    assert!(
        !last.contains("up-to-date")
            && last.ends_with(" (dry run: 1 change would be made; nothing was changed)"),
        "{ended:?}"
    );
    world.deploy();
    let ended = world.run(["once", "--dry-run", "site"]);
    let last = ended.out.lines().next_back().unwrap();
    assert!(
        last.starts_with("ok site up-to-date ") && last.ends_with(" (dry run: nothing was changed)"),
        "{ended:?}"
    );
}

#[test]
fn a_run_that_finds_nothing_new_counts_the_changes_that_it_undid() {
    let world = World::new();
    let new = world.source().commit([("a", file("1")), ("b", file("1"))]);
    let new = new.to_hex_with_len(7);
    world.config("");
    world.deploy();
    world.write("site/a", "edited");
    let ended = world.deploy();
    assert_eq!(
        ended.out,
        format!("ok site up-to-date {new} (1 local change undone)\n")
    );
    world.write("site/a", "edited");
    world.write("site/untracked", "");
    fs::remove_file(world.path("site/b")).unwrap();
    let ended = world.deploy();
    assert_eq!(
        ended.out,
        format!("ok site up-to-date {new} (3 local changes undone)\n")
    );
    assert_eq!(world.deploy().out, format!("ok site up-to-date {new}\n"));
}

#[test]
fn several_names_all_of_them_and_json() {
    let world = World::sourced();
    world
        .config_of("\"one\": (repo: \"repo.git\", path: \"1\"), \"two\": (repo: \"repo.git\", path: \"2\"),");
    assert_eq!(world.run(["once", "one", "two"]).out.lines().count(), 2);
    let ended = world.run(["once", "--all", "--json"]);
    assert_eq!(ended.exit, 0);
    let records: Vec<serde_json::Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        records
            .iter()
            .all(|record| record["event"].is_string() && record["run"].is_string())
    );
    let done: Vec<_> = records
        .iter()
        .filter(|record| record["event"] == "done")
        .collect();
    assert_eq!(done.len(), 2);
    for field in ["outcome", "old", "new", "changed", "exit"] {
        assert!(done[0].get(field).is_some(), "{field}");
    }
    assert_eq!(done[0]["outcome"], "up-to-date");
    assert_eq!(done[0]["exit"], 0);
}

#[test]
fn an_existing_clone_is_adopted_and_its_history_kept() {
    if !need("git") {
        return;
    }
    let (world, mut source) = World::with_commit();
    let site = world.path("site");
    git(&world.path("."), &["clone", "-q", "repo.git", "site"]);
    git(&site, &["config", "user.name", "Me"]);
    git(&site, &["config", "user.email", "me@example.com"]);
    fs::write(site.join("mine"), "local commit").unwrap();
    git(&site, &["add", "-A"]);
    git(&site, &["commit", "-q", "-m", "local"]);
    let local = git(&site, &["rev-parse", "HEAD"]);
    source.commit([("a", file("2"))]);
    world.config("");
    // The commit is in no remote.
    assert_eq!(world.run(["once", "site"]).exit, 1);
    assert_eq!(git(&site, &["rev-parse", "HEAD"]), local);
    assert_eq!(world.run(["once", "--adopt", "site"]).exit, 0);
    assert_eq!(world.site(), expected(&[("a", file("2"))]));
    git(&site, &["cat-file", "-e", local.trim()]);
    assert_eq!(git(&site, &["status", "--porcelain"]), "");
    assert!(git(&site, &["reflog"]).lines().count() >= 3);

    // In the middle of somebody's merge that has conflicts.
    git(&site, &["checkout", "-q", "-b", "theirs", "HEAD~1"]);
    fs::write(site.join("a"), "theirs").unwrap();
    git(&site, &["commit", "-q", "-a", "-m", "theirs"]);
    git(&site, &["checkout", "-q", "main"]);
    let merge = std::process::Command::new("git")
        .args(["merge", "-q", "theirs"])
        .current_dir(&site)
        .output()
        .unwrap();
    assert!(!merge.status.success(), "the merge should have conflicts");
    world.deploy();
    assert_eq!(git(&site, &["status", "--porcelain"]), "");
    assert!(!git(&site, &["status"]).contains("merging"));

    // The same clone without a configuration.
    source.commit([("a", file("3"))]);
    let ended = world.run_to(0, ["once", "-g", "site"]);
    assert!(ended.out.starts_with("ok default "), "{ended:?}");
    assert_eq!(world.site(), expected(&[("a", file("3"))]));
}

#[test]
fn modes_follow_the_umask() {
    let (world, mut source) = World::with_source();
    source.commit(files());
    world.config("");
    world.deploy();
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    let mode = |path: &str| {
        fs::metadata(world.path("site").join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("a.txt"), 0o666 & !umask.as_raw_mode());
    assert_eq!(mode("bin/run"), 0o777 & !umask.as_raw_mode());
    assert_eq!(mode("deep/er"), 0o777 & !umask.as_raw_mode());
}

#[test]
fn one_commit_for_ever() {
    let (world, mut source) = World::with_source();
    let first = source.commit([("a", file("1"))]);
    let second = source.commit([("a", file("2"))]);
    let config = |rev: &str| {
        world.config_of(&format!(
            "\"site\": (repo: \"repo.git\", rev: \"{rev}\", path: \"site\"),"
        ));
    };
    for id in [second, first, second] {
        config(&id.to_string());
        assert!(
            world
                .deploy()
                .out
                .ends_with(&format!("..{}\n", id.to_hex_with_len(7)))
        );
        assert!(world.deploy().out.starts_with("ok site up-to-date "));
        assert_eq!(world.site()["a"], file(if id == first { "1" } else { "2" }));
    }
    if need("git") {
        let site = world.path("site");
        assert_eq!(
            git(&site, &["status", "--porcelain", "--branch"]),
            "## HEAD (no branch)\n"
        );
        git(&site, &["fsck", "--strict"]);
    }

    config("5d6e7f8a9b5d6e7f8a9b5d6e7f8a9b5d6e7f8a9b");
    let ended = world.run_to(1, ["once", "site"]);
    assert!(ended.err.contains("not our ref 5d6e7f8a9b5d"), "{ended:?}");
    assert!(ended.err.contains("correct `rev`"), "{ended:?}");
    // The id of a SHA-256 repository's commit, in one of SHA-1: for the clone that is there, and for a new one.
    config(&"5d6e7f8a".repeat(8));
    for _ in 0..2 {
        let ended = world.run_to(1, ["once", "site"]);
        assert!(ended.err.contains("it names its objects by sha1"), "{ended:?}");
        assert_eq!(world.run(["check", "--remote"]).exit, 1);
        fs::rename(world.path("site"), world.path("earlier")).ok();
    }
    fs::remove_dir_all(world.path("site")).ok();
    fs::rename(world.path("earlier"), world.path("site")).unwrap();

    // What is there will never be another one: the remote is not asked.
    config(&second.to_string());
    fs::rename(world.path("repo.git"), world.path("gone.git")).unwrap();
    assert!(world.deploy().out.starts_with("ok site up-to-date "));
}

/// That is nobody's fault but this machine's, and trying again does not help.
#[test]
fn a_git_directory_that_takes_no_packs() {
    let world = World::sourced();
    gix::init(world.path("site")).unwrap();
    fs::remove_dir_all(world.path("site/.git/objects/pack")).unwrap();
    world.config("");
    let ended = world.run_to(1, ["once", "site"]);
    assert!(ended.err.contains("error site path: cannot store"), "{ended:?}");
    assert!(!ended.err.contains("trying again"), "{ended:?}");
}

#[test]
fn the_umask_of_the_configuration_counts() {
    let world = World::new();
    world
        .source()
        .commit([("d/a", file("1")), ("x", Entry::Executable(b"x".to_vec()))]);
    world.config("umask: \"0027\"");
    world.deploy();
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["site/d", "site/d/a", "site/x"].map(mode), [0o750, 0o640, 0o750]);
}

#[test]
fn the_git_directory_is_elsewhere() {
    let (world, mut source) = World::with_commit();
    let hook = world.script("hook", "echo \"$GIT_DIR $GIT_WORK_TREE\"");
    world.config(&format!(
        "git_dir: \"lib/site.git\", hooks: [Exec(run: [{hook:?}])]"
    ));
    let ended = world.deploy();
    let [git_dir, site] = ["lib/site.git", "site"].map(|name| world.path(name).display().to_string());
    assert!(ended.err.contains(&format!("{git_dir} {site}")), "{ended:?}");
    source.commit([("b", file("2"))]);
    fs::write(world.path("site/untracked"), "x").unwrap();
    world.deploy();
    // Nothing of git's is in the worktree.
    let names: Vec<_> = fs::read_dir(world.path("site"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["b"]);
    if need("git") {
        let status = git(
            &world.path("."),
            &["--git-dir=lib/site.git", "status", "--porcelain", "--branch"],
        );
        assert_eq!(status, "## main...origin/main\n");
    }
    // The worktree is lost, the repository is not.
    fs::remove_dir_all(world.path("site")).unwrap();
    assert!(world.deploy().out.starts_with("ok site "));
    assert_eq!(world.site()["b"], file("2"));
}

#[test]
fn a_repository_of_sha256() {
    let world = World::new();
    let mut source = Source::with_format(&world.path("repo.git"), "sha256");
    world.config("");
    for text in ["1", "2"] {
        let commit = source.commit([("a", file(text))]);
        assert_eq!(commit.as_bytes().len(), 32);
        let ended = world.deploy();
        assert!(
            ended.out.contains(&commit.to_hex_with_len(7).to_string()),
            "{ended:?}"
        );
        assert_eq!(world.site()["a"], file(text));
    }
}

#[test]
fn the_last_lines_alone() {
    let (world, mut source) = World::with_commit();
    let hook = world.script("hook", "echo said; exit 3");
    world.config_of(&format!(
        "\"good\": (repo: \"repo.git\", path: \"good\"),
         \"bad\": (repo: \"repo.git\", path: \"bad\", hooks: [Exec(run: [{hook:?}])]),"
    ));
    let ended = world.run_to(5, ["once", "--quiet", "--all"]);
    assert!(
        ended.out.starts_with("ok good ") && ended.out.lines().count() == 1,
        "{ended:?}"
    );
    assert!(
        ended.err.starts_with("error bad hook: ") && ended.err.lines().count() == 1,
        "{ended:?}"
    );
    // What a rehearsal finds is what was asked for.
    source.commit([("b", file("2"))]);
    let ended = world.run(["once", "--quiet", "--dry-run", "good"]);
    assert!(ended.out.contains("would write b\n"), "{ended:?}");
}
