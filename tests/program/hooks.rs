//! Hooks run when they should, with what they should, and their ends are reported.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{
    source::file,
    world::{Need, World, need},
};

fn log(world: &World) -> Vec<String> {
    fs::read_to_string(world.path("log"))
        .unwrap_or_default()
        .lines()
        .map(Into::into)
        .collect()
}

#[test]
fn exec_runs_on_changes_with_its_environment() {
    let (world, mut source) = World::with_source();
    let first = source.commit([("a", file("1")), ("b", file("1"))]);
    let hook = world.script(
        "hook",
        "echo out; echo err >&2; pwd >> ../log; \
         echo $GITSOCKET_TRIGGER $GITSOCKET_BRANCH:$GITSOCKET_REVISION $STAGE $1 >> ../log; \
         echo $GITSOCKET_OLD $GITSOCKET_NEW >> ../log; while read f; do echo \"changed $f\" >> ../log; done < $GITSOCKET_CHANGED_FILES",
    );
    world.config(&format!(
        "hooks: [Exec(run: [{hook:?}, \"arg\"], user_env: {{\"STAGE\": \"live\"}})]"
    ));
    let ended = world.deploy();
    assert!(
        ended.err.contains("| out\n") && ended.err.contains("| err\n"),
        "{ended:?}"
    );
    let site = world.path("site").canonicalize().unwrap();
    let null = "0".repeat(40);
    assert_eq!(
        log(&world),
        [
            site.to_str().unwrap(),
            "site main:main live arg",
            &format!("{null} {first}"),
            "changed a",
            "changed b"
        ]
    );
    world.deploy();
    assert_eq!(log(&world).len(), 5, "nothing changed, so it does not run");
    let second = source.commit([("a", file("1")), ("c d", file("1"))]);
    world.deploy();
    assert_eq!(
        log(&world)[7..],
        [
            format!("{first} {second}"),
            "changed b".into(),
            "changed c d".into()
        ]
    );
}

#[test]
fn always_runs_always() {
    let world = World::sourced();
    let hook = world.script("hook", "echo ran >> ../log");
    world.config(&format!("hooks: [Exec(run: [{hook:?}], when: Always)]"));
    for n in 1..=3 {
        world.deploy();
        assert_eq!(log(&world).len(), n);
    }
}

#[test]
fn a_failed_hook_is_pending_until_it_succeeds() {
    let (world, mut source) = World::with_source();
    let first = source.commit([("a", file("1"))]);
    let hook = world.script("hook", "echo $GITSOCKET_OLD >> ../log; test -e ../well");
    let after = world.script("after", "echo after >> ../log");
    world.config(&format!("hooks: [Exec(run: [{hook:?}]), Exec(run: [{after:?}])]"));
    for _ in 0..2 {
        let ended = world.run_to(5, ["once", "site"]);
        let last = ended.err.lines().next_back().unwrap();
        assert!(
            last.contains("exit status 1") && last.contains("error site hook: "),
            "{last}"
        );
        assert!(last.contains(&first.to_hex_with_len(7).to_string()), "{last}");
    }
    assert_eq!(
        log(&world).len(),
        2,
        "it runs again though nothing changed, and stops those after it"
    );
    world.write("well", "");
    world.deploy();
    assert_eq!(log(&world)[3], "after");
    world.deploy();
    assert_eq!(log(&world).len(), 4);
    // What the hook has not seen counts from the last success.
    fs::remove_file(world.path("well")).unwrap();
    source.commit([("a", file("2"))]);
    assert_eq!(world.run(["once", "site"]).exit, 5);
    source.commit([("a", file("3"))]);
    assert_eq!(world.run(["once", "site"]).exit, 5);
    assert_eq!(log(&world)[4..], [first.to_string(), first.to_string()]);
}

#[test]
fn what_clean_took_from_a_hook_is_made_again() {
    let world = World::sourced();
    world.hook("echo built > built; echo ran >> ../log");
    world.deploy();
    world.deploy();
    assert_eq!(world.site()["built"], file("built\n"));
}

#[test]
fn post_checkout_is_gits() {
    let (world, mut source) = World::with_source();
    let first = source.commit([("a", file("1"))]);
    world.config("");
    world.deploy();
    world.script("site/.git/hooks/post-checkout", "echo $1 $2 $3 >> ../log");
    let second = source.commit([("a", file("2"))]);
    world.deploy();
    assert_eq!(log(&world), [format!("{first} {second} 1")]);
    fs::set_permissions(
        world.path("site/.git/hooks/post-checkout"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    source.commit([("a", file("3"))]);
    let ended = world.deploy();
    assert!(
        ended.err.contains("not executable") && ended.err.contains("chmod +x"),
        "{ended:?}"
    );
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_all_it_started() {
    let world = World::sourced();
    // The child ignores SIGTERM and holds the output open; both are gone when the run ends.
    let hook = world.script(
        "hook",
        "(trap '' TERM; while :; do read x < ../never; done) & echo $! > ../child; wait",
    );
    world.fifo("never");
    world.config(&format!("hooks: [Exec(run: [{hook:?}], timeout: \"1s\")]"));
    let ended = world.run_to(5, ["once", "site"]);
    assert!(ended.err.contains("killed after 1s"), "{ended:?}");
    let child = fs::read_to_string(world.path("child")).unwrap();
    // On a busy machine it takes a moment to die.
    super::supervisor::wait_until(|| {
        let status = fs::read_to_string(format!("/proc/{}/status", child.trim())).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    });
}

#[test]
fn a_hook_that_cannot_start_says_why() {
    let world = World::sourced();
    for (name, text, mode, word) in [
        ("missing", None, 0, "not there"),
        ("plain", Some("#!/bin/sh\n"), 0o644, "chmod +x"),
        ("shell", Some("echo no first line\n"), 0o755, "#!/bin/sh"),
        (
            "interpreter",
            Some("#!/no/such/interpreter\n"),
            0o755,
            "interpreter",
        ),
    ] {
        let path = world.path(name);
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        world.config(&format!("hooks: [Exec(run: [{path:?}])]"));
        let ended = world.run(["once", "site"]);
        assert_eq!(ended.exit, 5, "{name}: {ended:?}");
        assert!(ended.err.contains(word), "{name}: {ended:?}");
    }
}

#[test]
fn what_a_hook_prints_cannot_forge_the_last_line() {
    let world = World::sourced();
    world.hook("printf 'a\\rok site\\033[2K\\n'; printf 'no end'");
    let ended = world.deploy();
    assert!(ended.err.contains("| a ok site\u{fffd}[2K\n"), "{ended:?}");
    assert!(ended.err.contains("| no end\n"), "{ended:?}");
}

/// A clone that somebody else may write runs no hook of its own: as root, whoever it belongs to had root.
#[test]
fn post_checkout_of_somebody_elses_clone_does_not_run() {
    if !need(Need::Root) {
        return;
    }
    let (world, mut source) = World::deployed();
    let dot_git = world.path("site/.git");
    world.script("site/.git/hooks/post-checkout", "echo ran >> ../log");
    let give = |path: &str, user| std::os::unix::fs::chown(world.path(path), Some(user), None).unwrap();
    let mut expected = 0;
    let mut daemon = super::world::Daemon::start(&world, &[]);
    for path in [
        "site",
        "site/.git",
        "site/.git/hooks",
        "site/.git/hooks/post-checkout",
    ] {
        give(path, 12345);
        source.commit([("a", file(path))]);
        let ended = world.run_to(0, ["once", "--as-root", "-g", "site"]);
        let warnings = ended
            .err
            .lines()
            .filter(|line| line.contains("belongs to the user"));
        let warnings: Vec<_> = warnings.collect();
        assert_eq!(warnings.len(), 1, "{ended:?}");
        let named = format!(
            "{} belongs to the user with the number 12345",
            world.path(path).display()
        );
        assert!(
            warnings[0].contains(&named) && warnings[0].contains("chown -R 0"),
            "{warnings:?}"
        );
        source.commit([("a", file(&format!("{path} again")))]);
        let answer = daemon.say("site\n");
        assert!(
            answer.contains("12345") && answer.contains("\nok site"),
            "{answer}"
        );
        assert_eq!(log(&world).len(), expected, "{path}");
        give(path, 0);
        source.commit([("a", file(&format!("{path} back")))]);
        assert!(daemon.say("site\n").contains("\nok site"));
        expected += 1;
        assert_eq!(log(&world).len(), expected, "{path}");
    }
    // A link to what somebody else has written.
    fs::remove_file(dot_git.join("hooks/post-checkout")).unwrap();
    world.script("theirs", "echo ran >> ../log");
    give("theirs", 12345);
    std::os::unix::fs::symlink(world.path("theirs"), dot_git.join("hooks/post-checkout")).unwrap();
    source.commit([("a", file("linked"))]);
    assert!(world.deploy().err.contains("belongs to the user"));
    assert_eq!(log(&world).len(), expected);
    daemon.child.kill().unwrap();
}

/// `GITSOCKET_REVISION` says what is deployed, whatever kind of revision that is.
#[test]
fn a_hook_gets_the_revision() {
    let (world, mut source) = World::with_source();
    let commit = source.commit([("a", file("1"))]);
    source.point("refs/tags/v1", commit);
    let say = "echo $0:$GITSOCKET_REVISION:$GITSOCKET_BRANCH >> ../log";
    let live = world.script("live", &format!("{say}; exit 1"));
    let failed = world.script("failed", say);
    let [live, failed] = [live.display(), failed.display()];
    let hooks = format!("[Exec(run: [\"{live}\"]), Exec(run: [\"{failed}\"], at: Failed)]");
    for (field, revision, branch) in [
        ("branch: \"main\"", "main", "main"),
        ("tag: \"v1\"", "v1", "v1"),
        (&format!("rev: \"{commit}\""), &commit.to_string(), ""),
    ] {
        fs::remove_file(world.path("log")).ok();
        world.config_of(&format!(
            "\"site\": (repo: \"repo.git\", path: \"site\", {field}, hooks: {hooks}),"
        ));
        assert_eq!(world.run(["once", "site"]).exit, 5);
        let branch_asked = if branch.is_empty() { revision } else { branch };
        assert_eq!(
            log(&world),
            [
                format!("{live}:{revision}:{branch}"),
                format!("{failed}:{revision}:{branch_asked}")
            ]
        );
    }
}

/// Two hooks of one program are told apart by their positions; one that is alone needs none.
#[test]
fn hooks_of_one_program_have_numbers() {
    let world = World::sourced();
    let [hook, other] = ["hook", "other"].map(|name| {
        let path = world.script(name, "exit ${1:-0}");
        path.to_str().unwrap().to_owned()
    });
    world.config(&format!(
        "hooks: [Exec(run: [{hook:?}]), Exec(run: [{other:?}]), Exec(run: [{hook:?}, \"4\"])]"
    ));
    let ended = world.run(["once", "site"]);
    let lines: Vec<&str> = ended
        .err
        .lines()
        .filter(|line| line.starts_with("hook "))
        .collect();
    assert_eq!(
        lines,
        [
            format!("hook 1 of 3: {hook}"),
            format!("hook {other}"),
            format!("hook 3 of 3: {hook}"),
            format!("hook 3 of 3: {hook} failed: exit status 4"),
        ]
    );
    let failed = format!("error site hook: the hook {hook} (3 of 3) ended with exit status 4; ");
    assert!(ended.err.contains(&failed), "{ended:?}");
    let ended = world.run(["once", "--json", "site"]);
    let started = ended.out.lines().filter(|line| line.contains("\"hook-started\""));
    let started: Vec<serde_json::Value> = started.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        started
            .iter()
            .map(|one| (&one["hook"], &one["number"], &one["of"]))
            .collect::<Vec<_>>(),
        [
            (&hook.as_str().into(), &1.into(), &3.into()),
            (
                &other.as_str().into(),
                &serde_json::Value::Null,
                &serde_json::Value::Null
            ),
            (&hook.as_str().into(), &3.into(), &3.into()),
        ]
    );
}

/// `env` is another name of `user_env`; elsewhere it is no field, and the answer says where it is one.
#[test]
fn user_env_answers_to_env() {
    let world = World::sourced();
    let hook = world.script("hook", "echo $STAGE >> ../log");
    world.config(&format!(
        "hooks: [Exec(run: [{hook:?}], env: {{\"STAGE\": \"live\"}})]"
    ));
    assert_eq!(world.run(["check"]).exit, 0);
    world.deploy();
    assert_eq!(log(&world), ["live"]);
    for (fields, said) in [
        (
            format!("hooks: [Exec(run: [{hook:?}], env: {{}}, user_env: {{}})]"),
            "`env` and `user_env` are one field, which is given twice",
        ),
        ("env: {}".into(), "`env` is a field of `Exec`"),
    ] {
        world.config(&fields);
        let ended = world.run_to(2, ["check"]);
        assert!(ended.err.contains(said), "{ended:?}");
    }
}
