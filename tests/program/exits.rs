//! Each end of `once` and `client` has the exit status that the table says.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::Stdio,
};

use super::{
    history::{holding_hook, start},
    source::file,
    unfinished::kill,
    world::{Daemon, World, last_line},
};

/// `site` updates, `bad-hook` updates and its hook fails, `gone` has no repository, `slow` is a remote that is silent.
fn world() -> (World, std::net::TcpListener) {
    let world = World::sourced();
    // Whoever connects is never accepted, and never answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = world.script("hook", "exit 3");
    world.config_of(&format!(
        "\"site\": (repo: \"repo.git\", branch: \"main\", path: \"site\"),
         \"bad-hook\": (repo: \"repo.git\", path: \"bad-hook\", hooks: [Exec(run: [{hook:?}])]),
         \"gone\": (repo: \"gone.git\", path: \"gone\"),
         \"slow\": (repo: \"git://{}/x\", path: \"slow\", timeout: \"200ms\", retries: 0),",
        silent.local_addr().unwrap()
    ));
    (world, silent)
}

/// The exit status, and a word of the last line. It is on stdout if it is good.
fn ends(world: &World, args: &[&str], exit: i32, word: &str) {
    let ended = world.run(args);
    assert_eq!(ended.exit, exit, "{args:?}: {ended:?}");
    let last = if exit == 0 { &ended.out } else { &ended.err };
    assert!(last_line(last).contains(word), "{args:?}: {ended:?}");
    assert_eq!(exit == 0, !ended.out.is_empty(), "{args:?}: {ended:?}");
}

#[test]
fn of_once() {
    let (world, _silent) = world();
    let table: [(&[&str], i32, &str); 11] = [
        (&["site"], 0, "ok site 0000000.."),
        (&["site"], 0, "ok site up-to-date "),
        (&["gone"], 1, "error gone "),
        (&["-c", "missing.ron", "site"], 2, "are looked for"),
        (&["--nonsense"], 2, "--help"),
        (&["a/b"], 2, "bad-request"),
        (&["nosuch"], 4, "unknown-trigger"),
        (&["site", "nosuch"], 4, "unknown-trigger"),
        (&["bad-hook"], 5, "error bad-hook hook: "),
        // It has been updated, and its hook is still pending.
        (&["bad-hook"], 5, "error bad-hook hook: "),
        (&["slow"], 6, "error slow timeout: "),
    ];
    for (args, exit, word) in table {
        ends(&world, &[&["once"], args].concat(), exit, word);
    }
    // The first that fails counts, and the others run all the same.
    let ended = world.run_to(1, ["once", "gone", "bad-hook", "site"]);
    assert!(ended.out.starts_with("ok site "), "{ended:?}");
}

#[test]
fn of_what_is_looked_for() {
    let (world, _silent) = world();
    ends(
        &world,
        &["once", "-c", "missing.ron", "site"],
        2,
        "without these, ./config.ron and /etc/gitsocket/config.ron are looked for",
    );
    let places = "./web.ron, /etc/gitsocket-web/web.ron and /etc/gitsocket/web.ron";
    let expected = format!("without these, {places} are looked for");
    ends(&world, &["web", "-c", "missing.ron"], 2, &expected);
}

#[test]
fn of_client() {
    let (world, _silent) = world();
    ends(&world, &["client", "site"], 3, "error site no-daemon: ");
    let mut daemon = world.daemon();
    let table: [(&[&str], i32, &str); 13] = [
        (&["site"], 0, "ok site 0000000.."),
        (&["site"], 0, "ok site up-to-date "),
        (&["--no-wait", "site"], 0, "ok site accepted"),
        // What it is accepted for may fail.
        (&["--no-wait", "gone"], 0, "ok gone accepted"),
        (&["gone"], 1, "error gone "),
        (&["--nonsense"], 2, "--help"),
        (&["a/b"], 2, "bad-request"),
        (&["-s", "nonsense", "site"], 2, "not an address"),
        (&["-s", "./nobody.sock", "site"], 3, "error site no-daemon: "),
        (&["nosuch"], 4, "error nosuch unknown-trigger: "),
        (&["--no-wait", "nosuch"], 4, "error nosuch unknown-trigger: "),
        (&["bad-hook"], 5, "error bad-hook hook: "),
        (&["slow"], 6, "error slow timeout: "),
    ];
    for (args, exit, word) in table {
        ends(&world, &[&["client"], args].concat(), exit, word);
    }
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait();
    ends(&world, &["client", "site"], 3, "error site no-daemon: ");
}

#[test]
fn of_client_when_the_daemon_is_killed_before_its_end() {
    let world = World::sourced();
    holding_hook(&world);
    let daemon = start(&world);
    let mut client = world
        .command(["client", "site"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(client.stderr.take().unwrap());
    let mut lines = String::new();
    while !lines.ends_with("| started\n") {
        assert_ne!(said.read_line(&mut lines).unwrap(), 0, "{lines}");
    }
    kill(daemon);
    said.read_to_string(&mut lines).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(3), "{lines}");
    let last = last_line(&lines);
    assert!(
        last.starts_with("error site no-daemon: the daemon at ")
            && last.contains(" closed the connection before finishing"),
        "{lines}"
    );
}

/// All connections that there may be are taken by others.
#[test]
fn of_client_when_the_daemon_is_busy() {
    let (world, _silent) = world();
    let daemon = world.daemon();
    let mut others = Vec::new();
    loop {
        let ended = world.run(["client", "site"]);
        if ended.exit == 4 {
            assert!(
                ended.err.contains("error site busy: ") || ended.err.contains("error - busy: "),
                "{ended:?}"
            );
            break;
        }
        assert_eq!(ended.exit, 0, "{ended:?}");
        assert!(others.len() < 300, "it takes any number of connections");
        others.extend((0..64).map(|_| daemon.connect()));
    }
}

/// The client gives up; the run does not.
#[test]
fn of_client_that_gives_up() {
    let world = World::sourced();
    world.fifo("go");
    world.hook("read line < ../go; echo done > ../done");
    let mut daemon = world.daemon();
    // Its hook, begun by then or not, holds the run.
    let ended = world.run_to(6, ["client", "--timeout", "1s", "site"]);
    assert!(
        last_line(&ended.err).starts_with("error site timeout: "),
        "{ended:?}"
    );
    assert!(ended.err.contains("the run goes on"), "{ended:?}");
    fs::write(world.path("go"), "\n").unwrap();
    daemon.wait_for("site");
    daemon.stop();
    assert!(world.path("done").exists());
    assert_eq!(world.site()["a"], file("1"));
}

/// The token of the configuration's first listener is used without being asked for, by those who may read it.
#[test]
fn the_clients_own_token() {
    let world = World::sourced();
    world.secret("token", "s3cret\n");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    world.write(
        "config.ron",
        &format!(
            "(listen: [Tcp(addr: \"{address}\", token_file: \"token\")],
              triggers: {{ \"site\": (repo: \"repo.git\", path: \"site\") }})"
        ),
    );
    let _daemon = Daemon::start(&world, &[]);
    ends(&world, &["client", "site"], 0, "ok site ");
    assert_eq!(world.run(["status"]).exit, 0);
    assert_eq!(world.run(["completions", "triggers"]).out, "site\n");
    // An address of one's own may be anybody's: it is not told the token.
    ends(&world, &["client", "-s", &address, "site"], 4, "not-allowed");
    ends(
        &world,
        &["client", "-s", &address, "--token-file", "token", "site"],
        0,
        "ok site ",
    );
    world.secret("wrong", "other\n");
    ends(
        &world,
        &["client", "--token-file", "wrong", "site"],
        4,
        "not-allowed",
    );
    fs::remove_file(world.path("token")).unwrap();
    let ended = world.run_to(2, ["client", "site"]);
    assert!(ended.err.contains("cannot read the secret"), "{ended:?}");
}

/// What says where the token is, the nearest first: the option, the variable, the configuration.
#[test]
fn where_the_token_is() {
    use std::io::Write as _;
    let world = World::sourced();
    world.secret("token", "s3cret\n");
    world.secret("wrong", "other\n");
    world.write(
        "config.ron",
        "(listen: [Tcp(addr: \"127.0.0.1:0\", token_file: \"token\")],
          triggers: { \"site\": (repo: \"repo.git\", path: \"site\") })",
    );
    let mut daemon = Daemon::spawn(&world, &[], &[]);
    let port = daemon.port().to_string();
    // A configuration that leads to it, but to another token.
    world.write(
        "config.ron",
        &format!(
            "(listen: [Tcp(addr: \"127.0.0.1:{port}\", token_file: \"wrong\")],
              triggers: {{ \"site\": (repo: \"repo.git\", path: \"site\") }})"
        ),
    );
    let run = |args: &[&str], variable: &str| {
        let mut command = world.command(args);
        if !variable.is_empty() {
            command.env("GITSOCKET_TOKEN_FILE", variable);
        }
        super::world::Ended::from(command.output().unwrap())
    };
    for args in [
        &["status"][..],
        &["log", "site"],
        &["healthcheck"],
        &["client", "site"],
        &["pause", "nosuch"],
    ] {
        assert_eq!(run(args, "").exit, 4, "{args:?}");
        let ended = run(args, "token");
        assert!(!ended.err.contains("token is wrong"), "{args:?}: {ended:?}");
        let with_option = [args, &["--token-file", "token"]].concat();
        let ended = run(&with_option, "wrong");
        assert!(!ended.err.contains("token is wrong"), "{args:?}: {ended:?}");
    }
    assert_eq!(
        run(&["status", "-s", &port], "token").exit,
        0,
        "who sets it says for which daemon"
    );
    assert_eq!(
        run(&["status", "-s", &port, "--token-file", "wrong"], "token").exit,
        4
    );
    let ended = run(&["status"], "missing");
    assert!(
        ended.exit == 2
            && ended
                .err
                .contains("$GITSOCKET_TOKEN_FILE: cannot read the secret"),
        "{ended:?}"
    );
    // A Unix socket needs no token.
    let other = World::sourced();
    other.config("");
    let _daemon = Daemon::start(&other, &[]);
    let socket = other.path("s.sock").display().to_string();
    let ended = run(&["status", "-s", &socket], "missing");
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{ended:?}");
    let ended = run(&["status", "-s", &socket, "--token-file", "missing"], "");
    assert_eq!(ended.exit, 2, "who names it means it: {ended:?}");
    assert_eq!(run(&["completions", "triggers"], "missing").out, "site\n");
    fs::rename(world.path("config.ron"), world.path("hidden.ron")).unwrap();
    let ended = run(&["completions", "triggers", "--", "client", "-s", &port], "token");
    assert_eq!(ended.out, "site\n");

    // From standard input, of which the first line is enough, whoever holds it open.
    let piped = |args: &[&str], said: &[u8], is_held: bool| {
        let mut child = world
            .command(args)
            .env("GITSOCKET_TOKEN_FILE", "wrong")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(said).unwrap();
        let held = is_held.then_some(stdin);
        let ended = super::world::Ended::from(child.wait_with_output().unwrap());
        drop(held);
        ended
    };
    let status = ["status", "-s", port.as_str(), "--token-file", "-"];
    for (said, is_held) in [
        (&b"s3cret\n"[..], true),
        (b"s3cret", false),
        (b"s3cret\nmore\n", true),
    ] {
        let ended = piped(&status, said, is_held);
        assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{said:?}: {ended:?}");
    }
    let several = [
        "client",
        "-s",
        port.as_str(),
        "--token-file",
        "-",
        "site",
        "nosuch",
    ];
    let ended = piped(&several, b"s3cret\n", true);
    assert!(ended.exit == 4 && ended.out.starts_with("ok site "), "{ended:?}");
    for (said, why) in [
        (&b""[..], "its first line is empty"),
        (b"\n", "its first line is empty"),
        (b"\xff\n", "it is not UTF-8"),
        (&[b'x'; 64 * 1024], "the request is longer"),
    ] {
        let ended = piped(&status, said, false);
        assert!(ended.exit == 2 && ended.err.contains(why), "{why}: {ended:?}");
    }
}
