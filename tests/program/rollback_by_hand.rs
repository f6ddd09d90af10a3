//! A user whom `operate` names rolls a trigger back, also where history is cut or a run is killed.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    process::Stdio,
};

use serde_json::{Value, json};

use super::{
    access::{say, with_tcp},
    rollback::{ROLLBACK, Ward, short},
    source::file,
    world::{Daemon, Ended, Need, git, last_line, machine::STRANGER, need},
};

/// In place, a rollback to a good commit by its id forgets those that were good after it. A release that is there can be gone to
/// all the same, with a warning as it is newer.
#[test]
fn after_a_rollback_by_id() {
    for (more, goes_forward) in [("", false), ("releases: (keep: 4)", true)] {
        let mut ward = Ward::new(more);
        let commits: Vec<String> = (0..3)
            .map(|n| {
                let commit = ward.push(&format!("good {n}"));
                ward.world.deploy();
                commit
            })
            .collect();
        let first = ward.once(&["--rollback", "site", &commits[0]]);
        assert_eq!(first.exit, 0, "{first:?}");
        let ended = ward.once(&["--rollback", "site"]);
        if goes_forward {
            let expected = format!("ok site {}..{}\n", commits[0], commits[1]);
            assert_eq!(ended.out, expected, "{ended:?}");
            assert!(ended.err.contains("so this goes forward"), "{ended:?}");
        } else {
            let expected = format!("error site path: no good commit before {} is known", commits[0]);
            assert!(ended.exit == 1 && ended.err.contains(&expected), "{ended:?}");
            assert!(!ended.err.contains("goes forward"), "{ended:?}");
            // What the help says.
            assert_eq!(ward.once(&["--retry", "site"]).exit, 0);
            assert_eq!(ward.live(), "good 2");
        }
    }
}

/// Deploy `good 0` to `good 5`, and give their commits: more than are remembered as good.
fn six_good(ward: &mut Ward) -> Vec<String> {
    let deployed = |n| {
        let commit = ward.push(&format!("good {n}"));
        ward.world.deploy();
        commit
    };
    (0..6).map(deployed).collect()
}

#[test]
fn back_by_hand() {
    let mut ward = Ward::new("");
    let commits = six_good(&mut ward);
    let daemon = ward.world.daemon();
    ward.log();
    // From one good commit to the one before, as far as these are remembered.
    for n in [4, 3, 2] {
        let (old, new) = (&commits[n + 1], &commits[n]);
        let ended = ward.world.run(["rollback", "site"]);
        assert_eq!(
            (ended.exit, ended.out),
            (0, format!("ok site {old}..{new}\n")),
            "{}",
            ended.err
        );
        assert_eq!((ward.live(), ward.head()), (format!("good {n}"), new.clone()));
        assert_eq!(ward.log(), [format!("{old} {new} good {n}"), "a".into()]);
    }
    let answer = daemon.say("rollback site\n");
    let expected = format!("error site path: no good commit before {} is known", commits[2]);
    assert!(last_line(&answer).starts_with(&expected), "{answer}");
    for way in [
        "gitsocket rollback site COMMIT",
        "gitsocket log site",
        "gitsocket retry site",
    ] {
        assert!(answer.contains(way), "{way}: {answer}");
    }
    let status = ward.status(&daemon);
    assert_eq!(
        status["failing"],
        Value::Null,
        "what cannot be done is no fault of the trigger"
    );
    assert_eq!(
        (
            &status["held"][0]["kind"],
            status["held"].as_array().unwrap().len()
        ),
        (&json!("by-hand"), 3)
    );

    // The next trigger does not undo it.
    let answer = daemon.say("site\n");
    assert!(
        answer.contains(&format!("error site held: {} was rolled back ", commits[5])),
        "{answer}"
    );
    assert!(answer.contains(" ago by ") && answer.contains("uid="), "{answer}");
    assert_eq!(ward.head(), commits[2]);

    // By name: one that was never good since, and forward again.
    let answer = daemon.say(format!("rollback site {}\n", commits[0]));
    assert_eq!(
        last_line(&answer),
        format!("ok site {}..{}", commits[2], commits[0])
    );
    let answer = daemon.say(format!(
        "{{\"op\":\"rollback\",\"name\":\"site\",\"to\":\"{}\"}}\n",
        commits[5]
    ));
    assert!(answer.contains("\"outcome\":\"updated\""), "{answer}");
    assert_eq!(ward.head(), commits[5]);
    assert_eq!(
        last_line(&daemon.say("site\n")),
        format!("ok site up-to-date {}", commits[5])
    );
    // To where it is: nothing is left, and nothing held.
    let answer = daemon.say(format!("rollback site {}\n", commits[5]));
    assert_eq!(last_line(&answer), format!("ok site up-to-date {}", commits[5]));
    assert_eq!(
        last_line(&daemon.say("site\n")),
        format!("ok site up-to-date {}", commits[5])
    );
    assert!(
        daemon
            .say("log site\n")
            .contains(&format!(" rollback {} by ", commits[5]))
    );

    for (to, expected) in [
        ("ffff", "the clone has no commit ffff (those that were good: "),
        (
            "20261125T201500Z-5d6e7f8",
            "is deployed in place, so there is no release 20261125T201500Z-5d6e7f8 (",
        ),
    ] {
        let answer = daemon.say(format!("rollback site {to}\n"));
        assert!(
            last_line(&answer).starts_with("error site repository: "),
            "{answer}"
        );
        assert!(
            answer.contains(expected) && answer.contains(&commits[5]),
            "{answer}"
        );
    }
    if need("git") {
        let text = format!(
            "tree {}\nauthor A <a> 1 +0000\ncommitter A <a> 1 +0000\n\nx\n",
            "a".repeat(40)
        );
        let text = ward.world.write("commit", &text).display().to_string();
        let half = git(
            &ward.world.path("site"),
            &["hash-object", "-t", "commit", "-w", &text],
        );
        let answer = daemon.say(format!("rollback site {half}"));
        assert!(
            answer.contains(&format!(
                "the clone does not have all objects of the commit {}: the tree aaaa",
                half.trim()
            )),
            "{answer}"
        );
    }
    assert_eq!(ward.head(), commits[5]);
    drop(daemon);
    let ended = ward.once(&["--rollback", "site", &commits[3]]);
    let expected = format!("ok site {}..{}\n", commits[5], commits[3]);
    assert_eq!(ended.out, expected, "{ended:?}");
    let ended = ward.once(&["--rollback", "site"]);
    assert!(
        ended.exit == 1 && ended.err.contains("no good commit before "),
        "{ended:?}"
    );
    for args in [
        &["--rollback", "--all"][..],
        &["--rollback", "--retry", "site"],
        &["--rollback", "site", "main"],
        &["--rollback", "site", "5d6e", "5d6e"],
        &["--rollback", "--dry-run", "site"],
    ] {
        assert_eq!(ward.once(args).exit, 2, "{args:?}");
    }
}

/// Hooks of the older commit fail: it stays there, and nothing goes back further.
#[test]
fn back_by_hand_to_what_is_no_better() {
    let mut ward = Ward::new(ROLLBACK);
    for n in 0..3 {
        ward.push(&format!("good {n}"));
        ward.world.deploy();
    }
    ward.world.write("ill", "");
    let ended = ward.once(&["--rollback", "site"]);
    assert_eq!((ended.exit, ward.live().as_str()), (5, "good 1"), "{ended:?}");
    // They are pending: a trigger runs them again, and says why it deploys nothing.
    fs::remove_file(ward.world.path("ill")).unwrap();
    ward.log();
    let ended = ward.once(&["site"]);
    assert!(
        ended.exit == 1 && ended.err.contains("error site held: "),
        "{ended:?}"
    );
    assert_eq!(ward.log().len(), 1 + 1);
    assert!(ward.once(&["site"]).err.contains("error site held: "));
    assert!(ward.log().is_empty());
    let nothing = Ward::new("");
    for args in [&["--rollback", "site"][..], &["--rollback", "site", "5d6e"]] {
        let ended = nothing.once(args);
        assert!(
            ended.exit == 1 && ended.err.contains("nothing has been deployed to "),
            "{ended:?}"
        );
    }
}

/// The old commits stay, whatever is pushed and however little history there is.
#[test]
fn back_where_there_is_no_history() {
    let mut ward = Ward::new("depth: 1, on_failure: Rollback,");
    let mut commits = Vec::new();
    for n in 0..5 {
        let a = [("a", file(&format!("good {n}\n"))), ("b", file("b"))];
        let commit = match n % 2 {
            0 => ward.source.rewrite(a),
            _ => ward.source.commit(a),
        };
        commits.push(short(commit));
        ward.world.deploy();
    }
    let daemon = ward.world.daemon();
    for n in [3, 2, 1] {
        let answer = daemon.say("rollback site\n");
        let expected = format!("ok site {}..{}", commits[n + 1], commits[n]);
        assert_eq!(last_line(&answer), expected, "{answer}");
        assert_eq!(ward.live(), format!("good {n}"));
    }
    if need("git") {
        git(&ward.world.path("site"), &["fsck", "--strict"]);
        assert_eq!(git(&ward.world.path("site"), &["status", "--porcelain"]), "");
        let gone = git(&ward.world.path("site"), &["log", "--format=%H", "--all"]);
        assert!(
            !gone.contains(&commits[0]),
            "more are kept than there is a use for:\n{gone}"
        );
    }
    let answer = daemon.say("retry site\n");
    assert_eq!(
        last_line(&answer),
        format!("ok site {}..{}", commits[1], commits[4])
    );
    ward.source.rewrite([("a", file("sick\n"))]);
    let answer = daemon.say("site\n");
    assert!(
        last_line(&answer).starts_with(&format!("error site rolled-back: {}", commits[4])),
        "{answer}"
    );
}

/// What was pushed after the way back replaces nothing that was never pushed, however little history there is.
#[test]
fn a_push_after_the_way_back_is_no_rewind() {
    let mut ward = Ward::new("depth: 1, on_failure: Rollback,");
    for n in 0..4 {
        for text in ["good", "sick", "sick again"] {
            ward.push(&format!("{text} {n}"));
            let ended = ward.once(&["site"]);
            let exit = if text == "good" { 0 } else { 7 };
            assert_eq!(ended.exit, exit, "{ended:?}");
            assert!(!ended.err.contains("rewound"), "{ended:?}");
        }
        let back = ward.once(&["--rollback", "site"]);
        assert_eq!(back.exit, if n == 0 { 1 } else { 0 }, "{back:?}");
    }
}

/// The version before held no good commits, and knew only for which one hooks had succeeded.
#[test]
fn back_to_what_the_version_before_deployed() {
    let mut ward = Ward::new(ROLLBACK);
    let good = ward.push("good");
    ward.world.deploy();
    fs::remove_dir_all(ward.world.path("site/.git/refs/gitsocket")).unwrap();
    assert_eq!(ward.once(&["site"]).exit, 0);
    let sick = ward.push("sick");
    let ended = ward.once(&["site"]);
    assert!(
        ended.err.contains(&format!("rolled-back: {good} is live again")),
        "{ended:?}"
    );
    // That version deploys what is held, and its hooks succeed.
    git_dir_at(&ward, &sick);
    let ended = ward.once(&["site"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert!(!ward.world.path("site/.git/gitsocket/held.json").exists());
}

/// As that version leaves it: the commit, whose first digits are `short`, is deployed, and good.
fn git_dir_at(ward: &Ward, short: &str) {
    let git_dir = ward.world.path("site/.git");
    let commit = fs::read_to_string(git_dir.join("refs/remotes/origin/main")).unwrap();
    let commit = commit.trim_end();
    assert!(commit.starts_with(short));
    fs::write(git_dir.join("refs/heads/main"), format!("{commit}\n")).unwrap();
    let state = fs::read_to_string(git_dir.join("gitsocket/state.json")).unwrap();
    let mut state: Value = serde_json::from_str(&state).unwrap();
    state["triggers"]["site"]["succeeded_for"] = json!(commit);
    fs::write(git_dir.join("gitsocket/state.json"), state.to_string()).unwrap();
    fs::write(ward.world.path("site/a"), "sick\n").unwrap();
}

/// Killed at each event of a run that goes back, and finished by the next one.
#[test]
fn killed_on_the_way_back() {
    let mut ward = Ward::new(ROLLBACK);
    ward.push("good 0");
    ward.world.deploy();
    let mut before = ward.push("good");
    ward.world.deploy();
    let mut points = 0;
    for n in 0..24 {
        let by_hand = n % 2 == 1;
        let args: &[&str] = if by_hand {
            &["once", "--json", "--rollback", "site"]
        } else {
            &["once", "--json", "site"]
        };
        let newest = if by_hand {
            let newest = ward.push("good");
            ward.world.deploy();
            newest
        } else {
            ward.push(&format!("sick {n}"))
        };
        let mut child = ward
            .world
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let seen: Vec<String> = lines.map_while(Result::ok).take(n / 2).collect();
        points += seen.len();
        child.kill().unwrap();
        child.wait().unwrap();
        // By hand, it may not have begun; else it goes on, and is held then.
        let ended = ward.once(&["site"]);
        let is_held = ward.world.path("site/.git/gitsocket/held.json").exists();
        assert_eq!(
            ended.exit == 0,
            by_hand && !is_held,
            "{n}: {ended:?} after {seen:?}"
        );
        let expected = match ended.exit {
            0 => &newest,
            _ => &before,
        };
        assert_eq!(
            (&ward.head(), ward.live().as_str()),
            (expected, "good"),
            "{n}: {ended:?} after {seen:?}"
        );
        assert!(ward.log().iter().all(|line| !line.is_empty()));
        let ended = ward.once(&["site"]);
        assert!(ended.exit <= 1, "nothing is left to do: {ended:?}");
        assert!(ward.log().is_empty(), "{ended:?}");
        before = ward.push("good");
        assert_eq!(ward.world.deploy().err.matches("error").count(), 0);
    }
    assert!(points > 60, "only {points} events were waited for");
    if need("git") {
        git(&ward.world.path("site"), &["fsck", "--strict"]);
        assert_eq!(git(&ward.world.path("site"), &["status", "--porcelain"]), "");
    }
}

/// Two who want the same get the same; what else is asked for is done in its order, or refused.
#[test]
fn what_is_asked_for_at_once() {
    let mut ward = Ward::new("");
    let commits = ["0", "1", "2"].map(|text| {
        let commit = ward.push(text);
        ward.world.deploy();
        commit
    });
    ward.world.fifo("go");
    ward.world.write("wait", "");
    let daemon = ward.world.daemon();
    let ask = |request: &str| {
        let mut stream = daemon.connect();
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        BufReader::new(stream)
    };
    let line = |reader: &mut BufReader<UnixStream>, text: &str| {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(reader.read_line(&mut line).unwrap(), 0, "it ended without {text}");
        }
        line
    };
    let mut first = ask("rollback site");
    line(&mut first, "hook ");
    let mut same = ask("rollback site");
    let mut update = ask("site");
    line(&mut update, "queued");
    // Behind the update, and with it all places are taken.
    let mut retry = ask("retry site");
    line(&mut retry, "queued");
    let refused = daemon.say(format!("rollback site {}\n", commits[0]));
    assert!(
        refused.starts_with("error site busy: a retry of site waits already ("),
        "{refused}"
    );
    let accepted = daemon.say("{\"op\":\"retry\",\"name\":\"site\",\"wait\":false}\n");
    assert!(accepted.contains("\"outcome\":\"accepted\""), "{accepted}");
    let status = ward.status(&daemon);
    let tasks: Vec<_> = status["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| &run["task"])
        .collect();
    assert_eq!(tasks, [&json!("rollback"), &Value::Null, &json!("retry")]);
    fs::remove_file(ward.world.path("wait")).unwrap();
    fs::write(ward.world.path("go"), "\n").unwrap();
    let back = format!("ok site {}..{}\n", commits[2], commits[1]);
    assert_eq!(
        [line(&mut first, "ok site"), line(&mut same, "ok site")],
        [back.clone(), back]
    );
    assert!(line(&mut update, "error site").starts_with("error site held: "));
    assert_eq!(
        line(&mut retry, "ok site"),
        format!("ok site {}..{}\n", commits[1], commits[2])
    );
}

/// A daemon that is killed while hooks run for the way back finishes it when it is started.
#[test]
fn a_way_back_is_finished_at_the_start() {
    let mut ward = Ward::new("");
    let [old, new] = ["0", "1"].map(|text| {
        let commit = ward.push(text);
        ward.world.deploy();
        commit
    });
    ward.world.fifo("go");
    ward.world.write("wait", "");
    let start = || Daemon::start_with(&ward.world, &[], &[("STATE_DIRECTORY", ward.world.path("state"))]);
    let mut daemon = start();
    let mut stream = daemon.connect();
    stream.write_all(b"rollback site\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("hook ")));
    daemon.child.kill().unwrap();
    daemon.wait();
    assert_eq!(ward.head(), old);
    ward.log();
    fs::remove_file(ward.world.path("wait")).unwrap();
    daemon = start();
    daemon.wait_for("error site held: ");
    assert_eq!(ward.log(), [format!("{new} {old} 0"), "a".into()]);
    // The line comes before the run is remembered; this one follows it.
    assert!(last_line(&daemon.say("site\n")).starts_with("error site held: "));
    let status = ward.status(&daemon);
    assert_eq!(
        (&status["failing"], &status["hooks_owed"]),
        (&Value::Null, &json!(false)),
        "{status}"
    );
    assert_eq!(status["commit"].as_str().unwrap()[..7], old);
    let runs = daemon.say("log site\n");
    assert!(last_line(&daemon.say("site\n")).starts_with("error site held: "));
    assert_eq!(daemon.say("log site\n"), runs);
}

/// Triggers that were called so before there were these words.
#[test]
fn triggers_that_are_called_like_the_words() {
    let mut ward = Ward::new("");
    let hook = "hooks: []";
    ward.world.config_of(&format!(
        "\"rollback\": (repo: \"repo.git\", path: \"one\", {hook}), \"retry\": (repo: \"repo.git\", path: \"two\", {hook})"
    ));
    ward.push("1");
    let daemon = ward.world.daemon();
    for name in ["rollback", "retry"] {
        let answer = daemon.say(format!("{name}\n"));
        let expected = format!(
            "error - bad-request: the trigger's name is missing; if {name} is one, say: trigger {name}"
        );
        assert!(answer.starts_with(&expected), "{answer}");
        assert!(last_line(&daemon.say(format!("trigger {name}\n"))).starts_with(&format!("ok {name} ")));
        assert_eq!(ward.world.run(["client", name]).exit, 0);
        assert!(
            daemon
                .say(format!("status {name}\n"))
                .starts_with(&format!("{name} idle "))
        );
        let answer = daemon.say(format!("retry {name}\n"));
        assert!(
            last_line(&answer).starts_with(&format!("ok {name} up-to-date ")),
            "{answer}"
        );
    }
}

/// Who may trigger may not go back for that: root and the daemon's user may, and whom `operate` names.
#[test]
fn who_may_go_back() {
    let mut ward = Ward::new("");
    if !need(Need::Root) {
        return;
    }
    let [old, new] = ["1", "2"].map(|text| {
        let commit = ward.push(text);
        ward.world.deploy();
        commit
    });
    let listen = |operate: &str| {
        let hook = ward.world.path("hook");
        let text = format!(
            "(listen: [Unix(path: \"s.sock\", mode: \"0666\"), Tcp(addr: \"127.0.0.1:0\", token_file: \"token\")],
              triggers: {{ \"site\": (repo: \"repo.git\", branch: \"main\", path: \"site\", hooks: [Exec(run: [{hook:?}])], {operate}),
              \"other\": (repo: \"repo.git\", path: \"other\", allow: [User(0)]) }})"
        );
        ward.world.secret("token", "s3cret\n");
        ward.world.write("config.ron", &text)
    };
    listen("");
    let stranger = |args: &[&str]| {
        let output = ward.world.command_as(STRANGER, args).output().unwrap();
        Ended::from(output)
    };
    let daemon = ward.world.daemon();
    assert_eq!(stranger(&["client", "-s", "./s.sock", "site"]).exit, 0);
    for args in [
        ["rollback", "-s", "./s.sock", "site"],
        ["retry", "-s", "./s.sock", "site"],
    ] {
        let ended = stranger(&args);
        assert_eq!(ended.exit, 4, "{ended:?}");
        let expected = format!("error site not-allowed: uid={STRANGER} ");
        assert!(
            ended.err.contains(&expected) && ended.err.contains("`operate`"),
            "{ended:?}"
        );
    }
    // What it may not use looks as if it were not there.
    let [there, not_there] = ["other", "othe7"].map(|name| {
        let ended = stranger(&["rollback", "-s", "./s.sock", name]);
        assert_eq!(ended.exit, 4, "{ended:?}");
        let pid = ended.err.find("pid=").unwrap();
        ended.err[..pid].replace(name, "NAME")
    });
    assert_eq!(there, not_there);
    assert_eq!(ward.head(), new);
    drop(daemon);
    listen(&format!("operate: [User({STRANGER})]"));
    let daemon = ward.world.daemon();
    let ended = stranger(&["rollback", "-s", "./s.sock", "site"]);
    assert_eq!(ended.out, format!("ok site {new}..{old}\n"), "{ended:?}");
    // Root may whatever is written there.
    assert_eq!(
        last_line(&daemon.say("retry site\n")),
        format!("ok site {old}..{new}")
    );
    drop(daemon);
    // Over TCP, whoever has said the token may if `Token` is named, and root is not known there.
    for (operate, expected) in [
        ("", "error site not-allowed: "),
        ("operate: [User(0)]", "error site not-allowed: "),
        ("operate: [Token]", "ok site "),
    ] {
        listen(operate);
        let (_daemon, addresses) = with_tcp(&ward.world, &[]);
        let answer = say(&addresses[0], "token s3cret\nrollback site\n");
        assert!(last_line(&answer).starts_with(expected), "{answer}");
        let answer = say(&addresses[0], "rollback site\n");
        assert!(answer.contains("this listener requires a token"), "{answer}");
    }
}

/// After a way back to a commit by its name, the last good one may be newer than what is live: that is told before it is live.
#[test]
fn forward_without_a_name_is_told() {
    let mut ward = Ward::new("");
    let commits = six_good(&mut ward);
    let _daemon = ward.world.daemon();
    // One that is older than all that are remembered as good.
    let ended = ward.world.run(["rollback", "site", &commits[0]]);
    assert!(ended.exit == 0 && !ended.err.contains("warning: "), "{ended:?}");
    let ended = ward.world.run(["rollback", "site"]);
    assert_eq!(
        (ended.exit, ended.out.trim_end()),
        (0, format!("ok site {}..{}", commits[0], commits[4]).as_str()),
        "{ended:?}"
    );
    let told = format!(
        "warning: {}, the last good commit, is newer than {}",
        commits[4], commits[0]
    );
    let [told, went] = [&told, "rolled back "].map(|words| ended.err.find(words).unwrap());
    assert!(told < went, "{ended:?}");
    // Back is back.
    let ended = ward.world.run(["rollback", "site"]);
    assert!(ended.exit == 0 && !ended.err.contains("warning: "), "{ended:?}");
}
