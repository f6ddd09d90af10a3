//! The daemon answers on its socket, shares runs among clients, keeps its limits and stops in order.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
};

use rustix::process::Signal;

use super::{
    source::file,
    world::{Daemon, World, last_line},
};

#[test]
fn text_and_json_answers() {
    let world = World::configured();
    let daemon = world.daemon();
    daemon.answers("site\n", "ok site 0000000..");
    assert!(last_line(&daemon.say("trigger site\n")).starts_with("ok site up-to-date "));
    assert_eq!(daemon.say("ping\n"), "pong\nok -\n");
    let status = daemon.say("status site\n");
    assert!(status.starts_with("site idle "), "{status}");
    assert_eq!(last_line(&status), "ok site");

    let answer = daemon.say("{\"op\":\"trigger\",\"name\":\"site\"}\n");
    let records: Vec<serde_json::Value> = answer
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(records.iter().all(|record| record["run"] == records[0]["run"]));
    let done = records.last().unwrap();
    assert_eq!(
        (&done["event"], &done["outcome"], &done["exit"]),
        (&"done".into(), &"up-to-date".into(), &0.into())
    );
    assert_eq!(done["old"], done["new"]);

    let answer = daemon.say("{\"op\":\"trigger\",\"name\":\"site\",\"wait\":false}\n");
    assert!(last_line(&answer).contains("\"accepted\""), "{answer}");
}

#[test]
fn the_client_shows_the_same_and_exits_as_the_run_did() {
    let world = World::configured();
    let _daemon = world.daemon();
    let ended = world.run_to(0, ["client", "site"]);
    assert!(ended.out.starts_with("ok site 0000000.."), "{ended:?}");
    assert!(ended.err.contains("deploying"), "{ended:?}");
    let ended = world.run(["client", "-s", "s.sock", "--quiet", "site"]);
    assert_eq!(ended.err, "");
    let ended = world.run(["client", "sitte"]);
    assert_eq!(ended.exit, 4);
    assert!(ended.err.contains("did you mean site?"), "{ended:?}");
    world.run_to(2, ["client", "a/b"]);
    let ended = world.run(["client", "--no-wait", "site"]);
    assert_eq!((ended.exit, ended.out.as_str()), (0, "ok site accepted\n"));
    let ended = world.run(["status", "--json"]);
    assert!(ended.out.contains("\"event\":\"status\""), "{ended:?}");
    world.run_to(3, ["client", "-s", "./nobody.sock", "site"]);
}

/// The hook holds the run until the test lets it go, so that "during a run" needs no clock.
#[test]
fn a_burst_during_a_run_shares_one_run_that_starts_afterwards() {
    let (world, mut source) = World::with_source();
    let first = source.commit([("a", file("1"))]);
    let hook = world.script("hook", "echo started; read line < ../go");
    world.fifo("go");
    world.config(&format!("hooks: [Exec(run: [{:?}], when: Always)]", hook));
    let daemon = world.daemon();

    let mut running = BufReader::new(daemon.connect());
    running.get_mut().write_all(b"site\n").unwrap();
    let mut line = String::new();
    while line != "| started\n" {
        line.clear();
        assert_ne!(running.read_line(&mut line).unwrap(), 0);
    }
    // A push, and then a burst: all of it must see the new commit.
    let second = source.commit([("a", file("2"))]);
    let mut burst = Vec::new();
    for _ in 0..100 {
        let mut stream = daemon.connect();
        stream
            .write_all(b"{\"op\":\"trigger\",\"name\":\"site\"}\n")
            .unwrap();
        let mut reader = BufReader::new(stream);
        let mut queued = String::new();
        reader.read_line(&mut queued).unwrap();
        assert!(queued.contains("\"queued\""));
        burst.push(reader);
    }
    let status = daemon.say("status site\n");
    assert!(status.starts_with("site running-then-queued"), "{status}");
    fs::write(world.path("go"), "\n").unwrap();
    let mut rest = String::new();
    running.read_to_string(&mut rest).unwrap();
    assert!(
        last_line(&rest).ends_with(&first.to_hex_with_len(7).to_string()),
        "{rest}"
    );
    // The first hook has ended, so this line is for the second.
    fs::write(world.path("go"), "\n").unwrap();
    let mut runs = std::collections::BTreeSet::new();
    for mut reader in burst {
        let mut answer = String::new();
        reader.read_to_string(&mut answer).unwrap();
        let done: serde_json::Value = serde_json::from_str(last_line(&answer)).unwrap();
        assert_eq!(done["new"], second.to_string());
        runs.insert(done["run"].to_string());
    }
    assert_eq!(runs.len(), 1, "the burst cost more than one run");
}

#[test]
fn bad_requests_get_a_clear_answer() {
    let world = World::configured();
    let daemon = world.daemon();
    for (request, word) in [
        (&b"\n"[..], "empty"),
        (b"no such trigger\n", "not a valid request"),
        (b"nosuch\n", "unknown-trigger"),
        (b"a/../b\n", "not a valid name"),
        (b"\0\0\0\0\n", "control characters"),
        (b"\xff\xfe\xfd\n", "not UTF-8"),
        (b"site", "breaks off"),
        (b"{\"op\":\"trig", "breaks off"),
        (b"{\"op\":\"trig\n", "JSON"),
        (b"{\"op\":\"drop\"}\n", "unknown"),
        (b"{\"op\":\"trigger\",\"name\":7}\n", "JSON"),
        (b"token x\ntoken y\nsite\n", "twice"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not a valid request"),
    ] {
        let answer = daemon.say(request);
        let shown = String::from_utf8_lossy(request);
        assert!(answer.contains(word), "{shown:?} was answered with {answer:?}");
        let last = last_line(&answer);
        assert!(
            last.starts_with("error ") || last.contains("\"failed\""),
            "{shown:?}: {last}"
        );
        assert_eq!(answer.lines().count(), 1, "{shown:?}: {answer}");
    }
    let endless = vec![b'x'; 100_000];
    assert!(daemon.say(&endless).contains("longer than 8192 bytes"));
    assert!(
        !world.path("site/.git").exists(),
        "none of these deploys anything"
    );
    daemon.deploys("site");
}

#[test]
fn silent_connections_fill_the_house_but_not_for_long() {
    let world = World::configured();
    let mut daemon = world.daemon();
    let mut silent: Vec<_> = (0..256).map(|_| daemon.connect()).collect();
    // Accepting is in order: once this one is answered, all the others are inside.
    let answer = daemon.say("site\n");
    assert!(answer.starts_with("error - busy: "), "{answer}");
    assert_eq!(
        world.run(["client", "site"]).exit,
        4,
        "the client understands that"
    );
    daemon.wait_for("busy");
    // Each is told after five seconds that it said nothing; then there is room again.
    let mut answer = String::new();
    silent[0].read_to_string(&mut answer).unwrap();
    assert!(answer.contains("no request came within 5 s"), "{answer}");
    for stream in &mut silent[1..] {
        stream.read_to_string(&mut answer).unwrap();
    }
    daemon.deploys("site");
}

#[test]
fn thousands_of_connections_cost_nothing_but_an_answer() {
    let world = World::configured();
    let daemon = world.daemon();
    for _ in 0..10_000 {
        drop(daemon.connect());
    }
    daemon.deploys("site");
}

#[test]
fn a_client_that_never_reads_or_goes_away_does_not_hold_up_the_run() {
    let world = World::sourced();
    world.hook("i=0; while [ $i -lt 20000 ]; do echo \"line $i of a chatty hook\"; i=$((i+1)); done");
    let daemon = world.daemon();
    let mut deaf = daemon.connect();
    deaf.write_all(b"site\n").unwrap();
    let mut gone = daemon.connect();
    gone.write_all(b"site\n").unwrap();
    drop(gone);
    let answer = daemon.say("site\n");
    assert!(
        last_line(&answer).starts_with("ok site "),
        "{}",
        last_line(&answer)
    );
    drop(deaf);
}

#[test]
fn tcp_listeners_want_their_token() {
    let world = World::sourced();
    world.secret("token", "s3cret\n");
    world.write(
        "config.ron",
        "(listen: [Unix(path: \"s.sock\"), Tcp(addr: \"127.0.0.1:0\", token_file: \"token\")],
          triggers: { \"site\": (repo: \"repo.git\", path: \"site\") })",
    );
    let mut child = world
        .command(["server"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let address = loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0);
        if let Some((_, rest)) = line.split_once("127.0.0.1:") {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            break format!("127.0.0.1:{port}");
        }
    };
    let say = |request: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok();
        answer
    };
    for request in [
        "site\n",
        "nosuch\n",
        "token wrong\nsite\n",
        "{\"op\":\"trigger\",\"name\":\"site\"}\n",
    ] {
        let answer = say(request);
        assert!(answer.contains("not-allowed"), "{request:?}: {answer}");
    }
    assert!(last_line(&say("token s3cret\nsite\n")).starts_with("ok site "));
    assert!(say("{\"op\":\"ping\",\"token\":\"s3cret\"}\n").contains("pong"));
    world.run_to(0, ["client", "-s", &address, "--token-file", "token", "site"]);
    world.run_to(4, ["client", "-s", &address, "site"]);
    fs::set_permissions(world.path("token"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(
        say("token s3cret\nsite\n").contains("not-allowed"),
        "an exposed token is no token"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_socket_has_its_mode_and_goes_with_the_daemon() {
    let world = World::sourced();
    world.write(
        "config.ron",
        "(listen: [Unix(path: \"s.sock\", mode: \"0620\")],
          triggers: { \"site\": (repo: \"repo.git\", path: \"site\") })",
    );
    let mut daemon = world.daemon();
    let meta = fs::metadata(&daemon.socket).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o620);
    let ended = world.run(["server"]);
    assert_eq!(ended.exit, 2);
    assert!(ended.err.contains("already listening"), "{ended:?}");

    daemon.signal(Signal::KILL);
    daemon.wait();
    assert!(daemon.socket.exists(), "kill -9 leaves it");
    let mut daemon = world.daemon();
    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log}");
    assert!(!daemon.socket.exists());
}

#[test]
fn sigterm_lets_the_run_end_and_a_second_one_does_not() {
    for signals in [1, 2] {
        let world = World::sourced();
        world.fifo("go");
        world.hook("echo started; read line < ../go; echo done > ../done");
        let mut daemon = world.daemon();
        let mut client = BufReader::new(daemon.connect());
        client.get_mut().write_all(b"site\n").unwrap();
        let mut line = String::new();
        while line != "| started\n" {
            line.clear();
            assert_ne!(client.read_line(&mut line).unwrap(), 0);
        }
        daemon.signal(Signal::TERM);
        daemon.wait_for("stopping");
        if signals == 2 {
            daemon.signal(Signal::INT);
            let (status, _) = daemon.wait();
            assert_eq!(status.code(), Some(1));
            assert!(!world.path("done").exists());
            continue;
        }
        assert!(
            std::os::unix::net::UnixStream::connect(&daemon.socket).is_err(),
            "no new connections"
        );
        fs::write(world.path("go"), "\n").unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).unwrap();
        assert!(last_line(&rest).starts_with("ok site "), "{rest}");
        assert!(daemon.wait().0.success());
        assert!(world.path("done").exists());
    }
}

#[test]
fn one_line_a_run_in_the_log_and_none_of_a_clients_making() {
    let world = World::configured();
    let mut daemon = Daemon::start(&world, &["--log-format", "json"]);
    daemon.say("x\rERROR forged\n");
    daemon.say("site\n");
    daemon.signal(Signal::TERM);
    let (_, log) = daemon.wait();
    let records: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let run = records
        .iter()
        .find(|record| record["fields"]["trigger"] == "site")
        .unwrap();
    for field in ["run", "peer", "old", "new", "ms"] {
        assert!(run["fields"].get(field).is_some(), "{field}: {run}");
    }
    assert!(run["fields"]["peer"].as_str().unwrap().contains("uid="));
}

#[test]
fn pidfile_and_log_file() {
    let world = World::configured();
    let mut daemon = Daemon::start(&world, &["--pidfile", "pid"]);
    assert_eq!(
        fs::read_to_string(world.path("pid")).unwrap().trim(),
        daemon.child.id().to_string()
    );
    let second = world.run(["server", "--pidfile", "pid"]);
    assert_eq!(second.exit, 2);
    assert!(second.err.contains("already listening"), "{second:?}");
    assert_eq!(
        fs::read_to_string(world.path("pid")).unwrap().trim(),
        daemon.child.id().to_string(),
        "a second daemon leaves the file of the first alone"
    );
    daemon.signal(Signal::TERM);
    daemon.wait();
    assert!(!world.path("pid").exists());
    let ended = world.run(["server", "--pidfile", "not there/pid"]);
    assert_eq!(ended.exit, 2);
    assert!(ended.err.contains("cannot write the pidfile"), "{ended:?}");
    assert!(!world.path("s.sock").exists());
    let ended = world.run(["server", "-l", "0.0.0.0:0"]);
    assert_eq!(ended.exit, 2);
    assert!(ended.err.contains("token"), "{ended:?}");
}
