//! `status` and `healthcheck` say how triggers are.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
};

use rustix::process::Signal;

use super::{
    history::{hold, holding_hook, id, json, restart, start, status, trigger},
    source::file,
    supervisor::wait_until,
    world::{Daemon, Ended, World, last_line},
};

#[test]
fn runs_that_wait_and_go_on_are_shown() {
    let world = World::sourced();
    holding_hook(&world);
    let daemon = start(&world);
    let (_first, _) = hold(&daemon);
    let mut next = BufReader::new(daemon.connect());
    next.get_mut()
        .write_all(b"{\"op\":\"trigger\",\"name\":\"site\"}\n")
        .unwrap();
    let mut queued = String::new();
    next.read_line(&mut queued).unwrap();
    let next = id(&json(&queued));

    let now = status(&daemon);
    assert_eq!(now["state"], "running-then-queued");
    let runs = now["runs"].as_array().unwrap();
    assert!(runs[0]["began"].is_u64() && runs[1]["began"].is_null(), "{now}");
    assert_eq!(runs[1]["run"], next);
    assert!(runs[1]["peer"].as_str().unwrap().contains("uid="), "{now}");
    let list = daemon.say("log site\n");
    let lines: Vec<&str> = list.lines().collect();
    assert!(
        lines[0].starts_with(&next) && lines[0].ends_with(": waiting"),
        "{list}"
    );
    assert!(lines[1].ends_with(": running"), "{list}");
    let ended = world.run(["status"]);
    for word in ["site running ", "\n  running ", "\n  waiting "] {
        assert!(ended.out.contains(word), "{word:?}: {ended:?}");
    }
    // One that waits can be followed, too.
    let mut waiting = BufReader::new(daemon.connect());
    waiting
        .get_mut()
        .write_all(format!("log site {next}\n").as_bytes())
        .unwrap();
    let mut line = String::new();
    waiting.read_line(&mut line).unwrap();
    assert_eq!(line, "queued site\n");
    // Each run waits for a line of its own.
    fs::write(world.path("go"), "\n").unwrap();
    while line != "| started\n" {
        line.clear();
        assert_ne!(waiting.read_line(&mut line).unwrap(), 0);
    }
    fs::write(world.path("go"), "\n").unwrap();
    let mut rest = String::new();
    waiting.read_to_string(&mut rest).unwrap();
    assert!(last_line(&rest).starts_with("ok site up-to-date "), "{rest}");
    assert_eq!(status(&daemon)["state"], "idle");
}

#[test]
fn hooks_that_failed_or_were_killed_are_pending() {
    let world = World::sourced();
    holding_hook(&world);
    let mut daemon = start(&world);
    let _first = hold(&daemon);
    daemon.signal(Signal::KILL);
    daemon.wait();
    // The run had deployed. Another one begins with the daemon, and its hook waits, too.
    let daemon = start(&world);
    let now = status(&daemon);
    assert_eq!(now["hooks_owed"], true, "{now}");
    let failing = &now["failing"];
    assert!(failing.is_null() || failing["kind"] == "interrupted", "{now}");
    assert!(now["commit"].is_string(), "{now}");
    let ended = world.run(["status"]);
    assert!(ended.out.contains("\n  hooks     pending"), "{ended:?}");

    fs::write(world.path("go"), "\n").unwrap();
    world.script("hook", "exit 7");
    trigger(&daemon);
    let now = status(&daemon);
    assert_eq!(
        (&now["hooks_owed"], &now["failing"]["kind"]),
        (&true.into(), &"hook".into())
    );
    assert!(daemon.say("status\n").contains("; failing since "));
    world.script("hook", "exit 0");
    trigger(&daemon);
    assert_eq!(status(&daemon)["hooks_owed"], false);
}

#[test]
fn healthcheck() {
    let world = World::new();
    world.config("");
    let check = |args: &[&str]| -> Ended { world.run([&["healthcheck"], args].concat()) };
    let ended = check(&[]);
    assert_eq!(ended.exit, 3, "{ended:?}");
    let daemon = start(&world);
    assert_eq!(check(&[]).exit, 0, "a trigger that never ran is no fault");
    trigger(&daemon);
    let ended = check(&[]);
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "not for an hour yet");
    let ended = check(&["--failing-for", "0s"]);
    assert_eq!((ended.exit, ended.out.as_str()), (1, ""));
    assert!(ended.err.starts_with("site has been failing for "), "{ended:?}");
    assert!(ended.err.contains("repo.git"), "{ended:?}");
    // After a restart as well.
    let daemon = restart(&world, daemon);
    assert_eq!(check(&["--failing-for", "0s"]).exit, 1);
    world.source().commit([("a", file("1"))]);
    trigger(&daemon);
    assert_eq!(check(&["--failing-for", "0s"]).exit, 0);
    for args in [&["--failing-for", "long"][..], &["--timeout", "soon"]] {
        assert_eq!(check(args).exit, 2, "{args:?}");
    }
}

/// What is no fault of the daemon's, or not for long: a check of its health that failed would have it started again.
#[test]
fn what_should_be_known_is_told_and_makes_nothing_ill() {
    let world = World::sourced();
    world.script("hook", "exit 7");
    let site =
        "\"site\": (repo: \"repo.git\", branch: \"main\", path: \"site\", hooks: [Exec(run: [\"./hook\"])]),";
    let new = "\"new\": (repo: \"repo.git\", path: \"new\"),";
    let rev = "\"rev\": (repo: \"repo.git\", tag: \"v1.2\", path: \"rev\"),";
    world.config_of(&[site, new, rev].concat());
    let mut daemon = start(&world);
    trigger(&daemon);
    let ended = world.run(["healthcheck"]);
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{ended:?}");
    let commit = status(&daemon)["commit"].as_str().unwrap()[..7].to_owned();
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(
        lines[..2],
        ["new has not been deployed yet", "rev has not been deployed yet"]
    );
    // It fails, if not for long.
    let (failing, pending) = lines[2].rsplit_once("; ").unwrap();
    assert!(
        failing.starts_with("site has been failing since 2") && failing.contains(", 1 run: hook: "),
        "{ended:?}"
    );
    assert!(
        pending.starts_with(&format!("hooks have been pending for {commit} since 2")),
        "{ended:?}"
    );
    assert_eq!(lines.len(), 3, "{ended:?}");
    let ended = world.run(["healthcheck", "--failing-for", "0s"]);
    assert!(
        ended.exit == 1 && ended.err.contains("; hooks have been pending for "),
        "{ended:?}"
    );
    let ended = world.run(["status"]);
    for word in [
        "\n  follows   branch main\n",
        "\nnew never deployed -\n  follows   the remote's default branch\n",
        "\nrev never deployed -\n  follows   tag v1.2\n",
        &format!("\n  hooks     pending for {commit} since 2"),
    ] {
        assert!(
            format!("\n{}", ended.out).contains(word),
            "{word:?}: {}",
            ended.out
        );
    }
    let now = status(&daemon);
    assert_eq!(now["follows"], "branch main");
    assert!(
        now["hooks_since"].is_u64() && now["reload_refused"].is_null(),
        "{now}"
    );

    // A reload is refused, for two reasons; and another one. The last one counts.
    world.config_of(&[site, "\"new\": (pth: \"x\")"].concat());
    daemon.signal(Signal::HUP);
    daemon.wait_for("still using the previous one");
    let refused = || status(&daemon)["reload_refused"]["message"].clone();
    wait_until(|| !refused().is_null());
    let why = refused().as_str().unwrap().to_owned();
    let (count, rest) = why.split_once(" errors; see all: gitsocket check -c ").unwrap();
    let (file, first) = rest.split_once("; the first: ").unwrap();
    assert!(first.starts_with(&format!("{file}:1:")), "{why}");
    let all = world.run_to(2, ["check", "-c", file]);
    assert!(
        all.err.contains(&format!(" has {count} errors")),
        "{why}: {all:?}"
    );
    world.write("in-the-way", "");
    let triggers = [site, new].concat();
    let text =
        format!("(listen: [Unix(path: \"s.sock\"), Unix(path: \"in-the-way\")], triggers: {{ {triggers} }})");
    world.write("config.ron", &text);
    daemon.signal(Signal::HUP);
    daemon.wait_for("still using the previous one");
    // The worker is told beside its clients.
    wait_until(|| {
        let refused = status(&daemon)["reload_refused"]["message"].clone();
        refused.as_str().is_some_and(|why| why.contains("in-the-way"))
    });
    let said = "in-the-way exists and is not a socket\n";
    for command in ["status", "healthcheck"] {
        let ended = world.run([command]);
        assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{ended:?}");
        let last = last_line(&ended.out).to_owned() + "\n";
        assert!(
            last.starts_with("configuration rejected at 2") && last.ends_with(said),
            "{ended:?}"
        );
        assert_eq!(
            ended.out.matches("configuration rejected").count(),
            1,
            "{ended:?}"
        );
    }
    assert!(daemon.say("status site\n").contains("; reload refused 2"));

    // To a peer that may not use all of the triggers, it may name one that is none of its business.
    let hidden = "\"hidden\": (repo: \"repo.git\", path: \"hidden\", allow: [User(54321)]),";
    world.config_of(&[site, hidden].concat());
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready triggers=2");
    assert!(status(&daemon)["reload_refused"].is_null());
    world.write("config.ron", "(triggers: {\"hidden\": 7})");
    daemon.signal(Signal::HUP);
    daemon.wait_for("still using the previous one");
    wait_until(|| !status(&daemon)["reload_refused"].is_null());
    let now = status(&daemon);
    assert!(now["reload_refused"]["since"].is_u64(), "{now}");
    assert!(now["reload_refused"]["message"].is_null(), "{now}");
}

#[test]
fn questions_want_the_token_too() {
    let world = World::sourced();
    world.secret("token", "s3cret\n");
    world.write(
        "config.ron",
        "(listen: [Tcp(addr: \"127.0.0.1:0\", token_file: \"token\")],
          triggers: { \"site\": (repo: \"repo.git\", path: \"site\") })",
    );
    let mut daemon = Daemon::spawn(&world, &[], &[]);
    let port = daemon.port().to_string();
    for args in [
        &["healthcheck", "-s", port.as_str()][..],
        &["status", "-s", port.as_str()],
        &["log", "-s", port.as_str(), "site"],
        &["log", "-s", port.as_str(), "site", "0198c0ffee0001"],
        &["log", "-s", port.as_str(), "nosuch"],
    ] {
        let ended = world.run(args);
        assert_eq!((ended.exit, ended.out.as_str()), (4, ""), "{args:?}: {ended:?}");
        assert!(
            ended.err.contains("not-allowed: this listener requires a token"),
            "{ended:?}"
        );
    }
    let ended = world.run(["healthcheck", "-s", &port, "--token-file", "token"]);
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{ended:?}");
    let ended = world.run(["log", "-s", &port, "--token-file", "token", "site"]);
    assert_eq!((ended.exit, ended.out.as_str()), (0, ""), "{ended:?}");
}

/// A daemon that hangs accepts nothing; once its backlog is full, connecting itself waits.
#[test]
fn a_daemon_that_hangs_is_not_waited_for() {
    let world = World::configured();
    let daemon = start(&world);
    let worker = daemon.workers()[0];
    rustix::process::kill_process(worker, Signal::STOP).unwrap();
    for args in [
        &["healthcheck", "--timeout", "100ms"][..],
        &["status", "--timeout", "100ms"],
        &["log", "site", "--timeout", "100ms"],
    ] {
        let ended = world.run(args);
        assert_eq!(ended.exit, 6, "{args:?}: {ended:?}");
        assert!(ended.err.contains("has not answered within 100ms"), "{ended:?}");
    }
    // Fill the backlog: the first connection that does not come at once finds it full. One that is closed keeps its place
    // in it, and takes none of the descriptors, of which there may be fewer.
    loop {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match connect(&socket, &SocketAddrUnix::new(&daemon.socket).unwrap()) {
            Ok(()) => drop(socket),
            Err(err) => {
                assert_eq!(err, rustix::io::Errno::AGAIN);
                break;
            }
        }
    }
    let ended = world.run_to(6, ["healthcheck", "--timeout", "100ms"]);
    assert!(ended.err.contains("has not answered within 100ms"), "{ended:?}");
    rustix::process::kill_process(worker, Signal::CONT).unwrap();
}

#[test]
fn status_on_the_command_line() {
    let world = World::new();
    world.config_of(
        "\"good\": (repo: \"repo.git\", path: \"good\"),
         \"bad\": (repo: \"missing.git\", path: \"bad\"),
         \"new\": (repo: \"repo.git\", path: \"new\"),",
    );
    world.source().commit([("a", file("1"))]);
    let daemon = start(&world);
    daemon.say("good\n");
    daemon.say("bad\n");
    let ended = world.run(["status"]);
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""));
    let begins: Vec<&str> = ended.out.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(begins[0].starts_with("bad failing -"), "{ended:?}");
    assert!(
        begins[1].starts_with("good idle ") && begins[1].contains(" since 2"),
        "{ended:?}"
    );
    assert_eq!(begins[2..], ["new never deployed -"]);
    for word in [
        "\n  failing   since ",
        ", 1 run\n",
        "\n  error     ",
        "\n  help      ",
        "ok good 0000000..",
    ] {
        assert!(ended.out.contains(word), "{word:?}: {}", ended.out);
    }
    let ended = world.run(["status", "good"]);
    assert_eq!(ended.out.lines().count(), 4, "{ended:?}");
    assert!(
        ended.out.contains("gitsocket rollback good COMMIT goes back"),
        "{ended:?}"
    );
    // The error is followed by what shows the lines of its run.
    let ended = world.run(["status", "bad"]);
    let shows = ended
        .out
        .lines()
        .find_map(|line| line.strip_prefix("  lines     gitsocket "));
    let shown = world.run(shows.unwrap().split(' '));
    assert!(shown.exit == 1 && shown.out.contains("error bad "), "{shown:?}");
    let ended = world.run(["status", "--json", "bad"]);
    let records = json(&ended.out);
    for field in [
        "trigger",
        "state",
        "commit",
        "since",
        "failing",
        "hooks_owed",
        "hooks_since",
        "follows",
        "reload_refused",
        "runs",
        "last",
    ] {
        assert!(records[0].get(field).is_some(), "{field}: {ended:?}");
    }
    let ended = world.run(["status", "nosuch"]);
    assert_eq!((ended.exit, ended.out.as_str()), (4, ""), "{ended:?}");
}
