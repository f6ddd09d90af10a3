//! A run names what would be lost in a worktree that gitsocket has not made before anything changes; `--adopt` accepts that.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    history::json,
    source::{Source, file},
    world::{Ended, World, git, need, tree},
};

/// A clone by git at `site`, and its source.
pub fn cloned(files: &[(&str, &str)]) -> Option<(World, Source, PathBuf)> {
    if !need("git") {
        return None;
    }
    let (world, mut source) = World::with_source();
    source.commit(files.iter().map(|(path, text)| (*path, file(text))));
    let site = clone(&world, &[]);
    world.config("");
    Some((world, source, site))
}

/// Clone `repo.git` to `site`, as an administrator would.
pub fn clone(world: &World, more: &[&str]) -> PathBuf {
    let url = format!("file://{}", world.path("repo.git").display());
    let args: Vec<&str> = ["clone", "-q"]
        .into_iter()
        .chain(more.iter().copied())
        .chain([url.as_str(), "site"])
        .collect();
    git(&world.path("."), &args);
    let site = world.path("site");
    git(&site, &["config", "user.name", "Me"]);
    git(&site, &["config", "user.email", "me@example.com"]);
    site
}

/// All that a run must leave alone: files, index, HEAD and refs.
pub fn standing(site: &Path) -> Vec<String> {
    let mut all = vec![format!("{:?}", tree(site))];
    for args in [
        ["show-ref", "--head"].as_slice(),
        &["ls-files", "--stage", "--debug"],
        &["symbolic-ref", "-q", "HEAD"],
        &["reflog"],
    ] {
        all.push(git(site, args));
    }
    all.push(fs::read_to_string(site.join(".git/config")).unwrap());
    all
}

pub fn refused(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.exit, 1, "{ended:?}");
    let line = ended.err.lines().find(|line| line.starts_with("error "));
    let line = line.unwrap_or_else(|| panic!("{ended:?}"));
    assert!(
        line.contains(" path: ") && line.contains("nothing was changed"),
        "{line}"
    );
    for word in words {
        assert!(line.contains(word), "{word:?}: {line}");
    }
}

#[test]
fn what_would_be_lost_is_named_and_stays() {
    let Some((world, mut source, site)) = cloned(&[
        ("edited", "1"),
        ("staged", "1"),
        ("same", "1"),
        ("gone", "1"),
        ("touched", "1"),
        (".gitignore", "*.log\n"),
    ]) else {
        return;
    };
    for at in 0..12 {
        world.write(&format!("site/many/{at:02}"), "x");
        world.write(&format!("site/new-{at:02}"), "x");
    }
    world.write("site/edited", "2");
    world.write("site/staged", "2");
    world.write("site/added", "2");
    git(&site, &["add", "staged", "added"]);
    world.write("site/config.local.php", "secret");
    world.write("site/error.log", "ignored");
    fs::create_dir_all(site.join("empty/er")).unwrap();
    fs::remove_file(site.join("gone")).unwrap();
    git(&site, &["commit", "-q", "--allow-empty", "-m", "never pushed"]);
    // What is as in the new commit is not lost.
    world.write("site/same", "3");
    filetime::set_file_mtime(site.join("touched"), filetime::FileTime::from_unix_time(1, 0)).unwrap();
    source.commit([
        ("edited", file("4")),
        ("staged", file("4")),
        ("same", file("3")),
        ("gone", file("4")),
        ("touched", file("4")),
        ("config.local.php", file("sample")),
        (".gitignore", file("*.log\n")),
    ]);
    // The index is committed with what was staged.
    let words = [
        "edited files: edited;",
        "untracked files: ",
        "config.local.php",
        "many",
        "new-00",
        "and 4 more",
        "commits in no remote: ",
        "never pushed",
        "or name untracked files that are to stay in `keep`",
        "gitsocket once --adopt site",
        "adopt: true",
    ];
    let before = standing(&site);
    let ended = world.run(["once", "site"]);
    refused(&ended, &words);
    for word in ["same", "touched", "gone", "error.log", "empty"] {
        assert!(!ended.err.contains(&format!(" {word}")), "{word}: {ended:?}");
    }
    assert_eq!(standing(&site), before);
    assert!(!site.join(".git/gitsocket/state.json").exists());
    // Nor is its history cut.
    world.config("depth: 1");
    refused(&world.run(["once", "site"]), &words);
    assert_eq!(standing(&site), before);
    assert!(!site.join(".git/shallow").exists());
    world.config("");

    // A dry run says it, with what it would do, and does as little.
    let ended = world.run_to(1, ["once", "--dry-run", "--json", "site"]);
    let records = json(&ended.out);
    assert!(
        records.iter().all(|record| record["dry_run"] == true),
        "{ended:?}"
    );
    let local = |path: &str| {
        let found = records.iter().find(|record| record["path"] == path);
        found.unwrap_or_else(|| panic!("{path}: {}", ended.out))["local"].clone()
    };
    assert_eq!(local("edited"), "edited");
    assert_eq!(local("config.local.php"), "untracked");
    assert_eq!(local("gone"), serde_json::Value::Null);
    let done = records.last().unwrap();
    assert_eq!((&done["event"], &done["kind"]), (&"done".into(), &"path".into()));
    let ended = world.run(["once", "--dry-run", "site"]);
    refused(&ended, &words);
    for line in ["would write edited (edited here)\n", "would clean new-00\n"] {
        assert!(ended.out.contains(line), "{ended:?}");
    }
    assert!(ended.err.contains("rewound: it no longer contains"), "{ended:?}");
    assert_eq!(standing(&site), before);

    // What the help says, and from then on it is gitsocket's.
    let ended = world.run_to(0, ["once", "--adopt", "site"]);
    for word in [
        "edits undone in: edited",
        "config.local.php",
        "never pushed",
        "and 4 more",
    ] {
        assert!(ended.err.contains(word), "{word}: {ended:?}");
    }
    assert_eq!(world.site()["error.log"], file("ignored"));
    assert_eq!(world.site().len(), 8);
    world.write("site/edited", "5");
    let ended = world.deploy();
    assert!(ended.err.contains("; edits undone in: edited\n"), "{ended:?}");
    assert_eq!(world.site()["edited"], file("4"));
}

/// Clean clones are taken as they are, and so is what nothing takes.
#[test]
fn where_nothing_is_lost_nothing_is_asked() {
    let Some((world, mut source, site)) = cloned(&[("a", "1"), (".gitignore", "*.log\n")]) else {
        return;
    };
    let files = [("a", file("2")), (".gitignore", file("*.log\n"))];
    world.write("site/error.log", "ignored");
    world.write("site/uploads/photo", "kept");
    git(&site, &["branch", "work"]);
    git(&site, &["checkout", "-q", "work"]);
    git(
        &site,
        &["commit", "-q", "--allow-empty", "-m", "stays on its branch"],
    );
    world.config("keep: [\"/uploads/\"]");
    source.commit(files.clone());
    world.deploy();
    assert_eq!(world.site()["a"], file("2"));
    assert_eq!(world.site().len(), 4);
    assert!(git(&site, &["log", "--format=%s", "work"]).contains("stays on its branch"));
    // It is gitsocket's by now.
    world.write("site/mine", "");
    let ended = world.deploy();
    assert!(ended.err.contains("untracked files gone: mine\n"), "{ended:?}");

    for (clone_args, more) in [
        (&["--depth", "1"][..], ""),
        (&["--depth", "1"], "depth: 1"),
        (&[], "clean: Nothing"),
    ] {
        fs::remove_dir_all(&site).unwrap();
        clone(&world, clone_args);
        if more.starts_with("clean") {
            world.write("site/mine", "");
        }
        world.config(more);
        source.commit(files.clone());
        let ended = world.run(["once", "site"]);
        assert_eq!(ended.exit, 0, "{more}: {ended:?}");
        assert!(!ended.err.contains("gone"), "{ended:?}");
    }
    // Of a shallow clone, a commit is one that was never pushed, too.
    fs::remove_dir_all(&site).unwrap();
    clone(&world, &["--depth", "1"]);
    git(&site, &["commit", "-q", "--allow-empty", "-m", "never pushed"]);
    world.config("depth: 1");
    source.commit(files);
    refused(
        &world.run(["once", "site"]),
        &["commits in no remote: ", "never pushed"],
    );
}

#[test]
fn a_daemon_and_a_clone_without_a_configuration() {
    let Some((world, mut source, site)) = cloned(&[("a", "1"), ("b", "1")]) else {
        return;
    };
    source.commit([("a", file("2")), ("b", file("1"))]);
    world.write("site/a", "edited");
    let daemon = world.daemon();
    let before = standing(&site);
    for _ in 0..2 {
        refused(
            &world.run(["client", "site"]),
            &[
                "edited files: a",
                "(push or copy away what is needed; then type: gitsocket once --adopt site",
            ],
        );
        assert_eq!(standing(&site), before);
    }
    drop(daemon);
    let ended = world.run(["once", "-g", "site"]);
    refused(
        &ended,
        &[
            "gitsocket once -g site --adopt",
            "gitsocket server -g site --adopt",
        ],
    );
    assert_eq!(standing(&site), before);
    let ended = world.run_to(2, ["server", "--adopt"]);
    assert!(ended.err.contains("adopt: true"), "{ended:?}");

    let daemon = super::world::Daemon::start(&world, &["-g", "site", "--adopt", "-l", "./s.sock"]);
    let ended = world.run_to(0, ["client", "-s", "./s.sock", "default"]);
    assert!(ended.err.contains("edits undone in: a"), "{ended:?}");
    drop(daemon);

    fs::remove_dir_all(&site).unwrap();
    clone(&world, &[]);
    world.write("site/b", "edited");
    world.run_to(0, ["once", "-g", "site", "--adopt"]);
    assert_eq!(world.site()["b"], file("1"));

    fs::remove_dir_all(&site).unwrap();
    clone(&world, &[]);
    world.write("site/b", "edited");
    world.config("adopt: true");
    assert!(!world.run(["check"]).out.contains("does nothing"));
    world.deploy();
    let ended = world.run_to(0, ["check"]);
    assert!(
        ended.out.contains("site: `adopt` does nothing any more"),
        "{ended:?}"
    );
}

/// As the version before left them: recognised by what it has written into reflogs.
#[test]
fn what_the_version_before_deployed_is_known() {
    let Some((world, mut source, site)) = cloned(&[("a", "1")]) else {
        return;
    };
    let head = git(&site, &["rev-parse", "HEAD"]);
    let line = |what: &str| {
        let zeros = "0".repeat(40);
        format!(
            "{zeros} {} gitsocket <gitsocket@localhost> 1795670091 +0000\tgitsocket site: {what}\n",
            head.trim()
        )
    };
    let clone_line = fs::read_to_string(site.join(".git/logs/HEAD")).unwrap();
    let edit = |text: &str| drop(world.write("site/a", text));
    edit("edited");
    // It had fetched there, and then failed.
    fs::create_dir_all(site.join(".git/logs/refs/remotes/origin")).unwrap();
    world.write("site/.git/logs/refs/remotes/origin/main", &line("fetch"));
    refused(&world.run(["once", "site"]), &["edited files: a"]);
    // It had deployed, and a user went on.
    world.write("site/.git/logs/HEAD", &format!("{}{clone_line}", line("deploy")));
    world.deploy();
    assert_eq!(world.site()["a"], file("1"));

    // Its state file, with reflogs that were expired.
    fs::remove_dir_all(site.join(".git/gitsocket")).unwrap();
    world.write("site/.git/logs/HEAD", "");
    edit("edited");
    refused(&world.run(["once", "site"]), &["edited files: a"]);
    world.write(
        "site/.git/gitsocket/state.json",
        &format!("{{\"hooks_succeeded_for\":\"{}\"}}", head.trim()),
    );
    world.deploy();
    assert_eq!(world.site()["a"], file("1"));

    // And its list of changed files, where hooks never succeeded.
    fs::remove_dir_all(site.join(".git/gitsocket")).unwrap();
    edit("edited");
    refused(&world.run(["once", "site"]), &["edited files: a"]);
    world.write("site/.git/gitsocket/changed-files", "a\n");
    world.deploy();
    assert_eq!(world.site()["a"], file("1"));

    // A clone that was killed before its files were there.
    fs::remove_dir_all(site.join(".git/gitsocket")).unwrap();
    for name in ["index", "refs/heads/main", "logs/HEAD"] {
        fs::remove_file(site.join(".git").join(name)).unwrap();
    }
    edit("half");
    let commit = source.commit([("a", file("2"))]);
    let ended = world.deploy();
    assert!(
        ended.out.contains(&commit.to_hex_with_len(7).to_string()),
        "{ended:?}"
    );
    assert_eq!(world.site()["a"], file("2"));
}

/// Where the file system knows no bit for it, each file looks as if it could be run.
#[test]
fn a_mode_that_git_overlooks_is_no_edit() {
    let Some((world, mut source, site)) = cloned(&[("a", "1"), ("b", "1")]) else {
        return;
    };
    let mode = |path: &str| fs::metadata(site.join(path)).unwrap().permissions().mode() & 0o111;
    let set = |path: &str| fs::set_permissions(site.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    ["a", "b"].into_iter().for_each(set);
    refused(&world.run(["once", "site"]), &["edited files: a, b;"]);
    git(&site, &["config", "core.fileMode", "false"]);
    assert_eq!(git(&site, &["status", "--short"]), "");
    world.write("site/b", "2");
    refused(&world.run(["once", "site"]), &["edited files: b;"]);
    git(&site, &["checkout", "b"]);
    set("b");
    source.commit([("a", file("1")), ("b", file("2"))]);
    let ended = world.deploy();
    assert!(!ended.err.contains("undone"), "{ended:?}");
    assert_eq!((mode("a"), mode("b")), (0, 0));
    set("a");
    let ended = world.deploy();
    assert!(!ended.err.contains("undone"), "{ended:?}");
    assert_eq!(mode("a"), 0);
    git(&site, &["config", "core.fileMode", "true"]);
    set("a");
    let ended = world.deploy();
    assert!(ended.err.contains("; edits undone in: a\n"), "{ended:?}");
}

/// What was staged is in the index, and may be nowhere else.
#[test]
fn what_was_staged_is_named() {
    let Some((world, mut source, site)) = cloned(&[("a", "1"), ("b", "1"), ("c", "1")]) else {
        return;
    };
    // In the index alone.
    world.write("site/a", "staged");
    world.write("site/new", "staged");
    git(&site, &["add", "a", "new"]);
    world.write("site/a", "1");
    fs::remove_file(site.join("new")).unwrap();
    let words = ["edited files: a; untracked files: new;"];
    refused(&world.run(["once", "site"]), &words);
    // In the worktree, too.
    git(&site, &["checkout-index", "-f", "a", "new"]);
    refused(&world.run(["once", "site"]), &words);
    git(&site, &["reset", "-q", "--hard"]);
    world.deploy();
    let staged = || {
        world.write("site/a", "staged");
        world.write("site/new", "staged");
        world.write("site/c", "edited");
        git(&site, &["add", "a", "new"]);
    };
    for commit in [false, true] {
        staged();
        if commit {
            source.commit([("a", file("2")), ("b", file("2")), ("c", file("1"))]);
        }
        let ended = world.deploy();
        assert!(
            ended
                .err
                .contains("; edits undone in: a, c; untracked files gone: new\n"),
            "{ended:?}"
        );
    }
    // Nothing was.
    fs::remove_file(site.join(".git/index")).unwrap();
    source.commit([("a", file("3")), ("b", file("2")), ("c", file("1"))]);
    let ended = world.deploy();
    assert!(
        !ended.err.contains("undone") && !ended.err.contains("gone"),
        "{ended:?}"
    );
}

/// The tag that a trigger follows moves, and holds nothing any more.
#[test]
fn what_only_that_tag_held_is_lost_with_it() {
    let Some((world, source, site)) = cloned(&[("a", "1")]) else {
        return;
    };
    let head = git(&site, &["rev-parse", "HEAD"]);
    source.point("refs/tags/v1", head.trim().parse().unwrap());
    world.config_of("\"site\": (repo: \"repo.git\", tag: \"v1\", path: \"site\"),");
    git(&site, &["checkout", "-q", "--detach"]);
    git(&site, &["commit", "-q", "--allow-empty", "-m", "never pushed"]);
    git(&site, &["tag", "v1"]);
    let words = ["commits in no remote: ", "never pushed"];
    refused(&world.run(["once", "site"]), &words);
    git(&site, &["checkout", "-q", "main"]);
    refused(&world.run(["once", "site"]), &words);
    git(&site, &["branch", "mine", "v1"]);
    world.deploy();
    assert_eq!(git(&site, &["rev-parse", "v1"]), head);
}

/// What the remote had is known even where its history is cut: the rest was never pushed.
#[test]
fn commits_that_were_never_pushed_are_named_where_history_is_cut() {
    if !need("git") {
        return;
    }
    let (world, mut source) = World::with_source();
    for at in 0..4 {
        source.commit([("a", file(&at.to_string()))]);
    }
    for depth in ["1", "2"] {
        world.config(&format!("depth: {depth}"));
        world.deploy();
        let site = world.path("site");
        git(&site, &["config", "user.name", "Me"]);
        git(&site, &["config", "user.email", "me@example.com"]);
        for at in 0..6 {
            if at % 2 == 0 {
                source.commit([("a", file(&format!("{depth} {at}")))]);
            }
            if at % 4 == 3 {
                git(&site, &["checkout", "-q", "--detach"]);
            }
            let is_local = at > 1;
            if is_local {
                let subject = format!("mine {at}");
                git(&site, &["commit", "-q", "--allow-empty", "-m", &subject]);
            }
            let ended = world.run_to(0, ["once", "--json", "site"]);
            let records = json(&ended.out);
            let fetched = records
                .iter()
                .find(|record| record["event"] == "fetched")
                .unwrap();
            assert_eq!(fetched["rewound"] == true, is_local, "{depth} {at}: {fetched}");
            if is_local {
                let names = &fetched["dropped"]["names"];
                assert_eq!(names.as_array().unwrap().len(), 1, "{fetched}");
                assert!(
                    names[0].as_str().unwrap().ends_with(&format!(" mine {at}")),
                    "{fetched}"
                );
            }
        }
        fs::remove_dir_all(site).unwrap();
    }
}

#[test]
fn a_rewind_is_called_one() {
    let (world, mut source) = World::with_commit();
    let second = source.commit([("a", file("2"))]);
    world.config("");
    world.deploy();
    source.commit([("a", file("3"))]);
    let ended = world.deploy();
    assert!(!ended.err.contains("rewound"), "{ended:?}");
    let mut daemon = world.daemon();
    source.point("refs/heads/main", second);
    let ended = world.run(["client", "--json", "site"]);
    let fetched = json(&ended.out)
        .into_iter()
        .find(|record| record["event"] == "fetched");
    let fetched = fetched.unwrap();
    assert_eq!(fetched["rewound"], true);
    assert!(
        fetched["dropped"]["names"][0]
            .as_str()
            .unwrap()
            .contains("commit at")
    );
    daemon.wait_for(", rewound: it no longer contains ");
    source.commit([("a", file("4"))]);
    assert!(!world.run(["client", "site"]).err.contains("rewound"));
    source.rewrite([("a", file("5"))]);
    let ended = world.run(["client", "site"]);
    assert!(
        ended.err.contains(", rewound: it no longer contains "),
        "{ended:?}"
    );
    // Another branch is no rewind.
    drop(daemon);
    source.commit_on("next", [("a", file("6"))]);
    world.config_of("\"site\": (repo: \"repo.git\", branch: \"next\", path: \"site\"),");
    assert!(!world.deploy().err.contains("rewound"));
}

/// Each way in which a file can go, in worktrees of our own.
#[test]
fn whatever_goes_is_named() {
    let (world, mut source) = World::with_source();
    let all = ["changed", "dropped", "same", "d/a"];
    source.commit(all.map(|path| (path, file("1"))));
    world.config("");
    world.deploy();
    let names = |ended: &Ended, what: &str| -> Vec<String> {
        let line = ended
            .err
            .lines()
            .find(|line| line.starts_with("worktree updated: "))
            .unwrap();
        let part = line.split("; ").find_map(|part| part.strip_prefix(what));
        let mut names: Vec<_> = part.unwrap_or_default().split(", ").map(str::to_owned).collect();
        names.sort();
        names
    };
    for path in ["changed", "dropped", "same"] {
        world.write(&format!("site/{path}"), "edited");
    }
    world.write("site/n", "a file where a directory comes");
    world.write("site/m/x/y", "a directory where a file comes");
    world.write("site/fresh", "untracked where a file comes");
    world.write("site/other/x", "untracked");
    fs::create_dir(world.path("site/void")).unwrap();
    let second = ["changed", "same", "n/a", "m", "fresh"];
    let text = |path: &str| file(if path == "same" { "1" } else { "2" });
    source.commit(second.map(|path| (path, text(path))));
    let dry = world.run(["once", "--dry-run", "site"]);
    for line in [
        "would write changed (edited here)",
        "would write same (edited here)",
        "would delete dropped (edited here)",
        "would delete d/a",
        "would write m (untracked here)",
        "would write fresh (untracked here)",
        "would clean n",
        "would clean other/",
        "would write n/a",
    ] {
        assert!(dry.out.lines().any(|said| said == line), "{line}: {dry:?}");
    }
    let ended = world.deploy();
    assert_eq!(names(&ended, "edits undone in: "), ["changed", "dropped", "same"]);
    assert_eq!(
        names(&ended, "untracked files gone: "),
        ["fresh", "m", "n", "other"]
    );
    // Touched, and replaced: nothing is lost of that.
    let past = filetime::FileTime::from_unix_time(1, 0);
    filetime::set_file_mtime(world.path("site/changed"), past).unwrap();
    source.commit([("changed", file("3"))]);
    let ended = world.deploy();
    assert!(ended.err.contains("deleted, 0 cleaned\n"), "{ended:?}");
}
