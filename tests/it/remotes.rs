//! Remotes over the network, through the real binary: real servers where they are, silent ones always.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{
    source::file,
    world::{World, have},
};

/// `git daemon` for the repositories below a world, on a port that was free a moment ago.
struct GitDaemon {
    child: Child,
    port: u16,
}

impl GitDaemon {
    fn start(world: &World) -> Self {
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut child = Command::new("git")
                .args(["daemon", "--export-all", "--listen=127.0.0.1", "--verbose"])
                .arg(format!("--port={port}"))
                .arg(format!("--base-path={}", world.path("").display()))
                .stderr(Stdio::piped())
                // git starts the daemon as its child: both go together.
                .process_group(0)
                .spawn()
                .unwrap();
            let mut log = [0; 512];
            let mut said = String::new();
            let stderr = child.stderr.as_mut().unwrap();
            while !said.contains("Ready to rumble") {
                match stderr.read(&mut log).unwrap() {
                    0 => break,
                    n => said.push_str(&String::from_utf8_lossy(&log[..n])),
                }
            }
            if said.contains("Ready to rumble") {
                return Self { child, port };
            }
            child.wait().unwrap();
        }
        panic!("git daemon does not start");
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        kill_process_group(group, Signal::KILL).ok();
        self.child.wait().ok();
    }
}

#[test]
fn git_daemon() {
    if !have("git") {
        return;
    }
    let world = World::new();
    let mut source = world.source();
    source.commit([("a", file("1"))]);
    let daemon = GitDaemon::start(&world);
    let config = |repo: &str| {
        world.config_of(&format!(
            "\"site\": (repo: \"git://127.0.0.1:{}/{repo}\", branch: \"main\", path: \"site\"),",
            daemon.port
        ));
    };
    config("repo.git");
    world.deploy();
    let commit = source.commit([("a", file("2"))]);
    let ended = world.deploy();
    assert!(
        ended.out.contains(&commit.to_hex_with_len(7).to_string()),
        "{ended:?}"
    );
    assert!(world.deploy().out.starts_with("ok site up-to-date "));
    assert_eq!(world.site()["a"], file("2"));
    config("missing.git");
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 1, "{ended:?}");
    assert!(ended.err.contains("error site remote: "), "{ended:?}");
}

#[test]
fn a_silent_remote_is_given_up_on() {
    let world = World::new();
    // Connections are accepted by the system, and nobody ever says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    for scheme in ["git", "http"] {
        world.config_of(&format!(
            "\"site\": (repo: \"{scheme}://{address}/x\", path: \"site\", timeout: \"300ms\", retries: 0),"
        ));
        let ended = world.run(["once", "site"]);
        assert_eq!(ended.exit, 6, "{ended:?}");
        let last = ended.err.lines().next_back().unwrap();
        assert!(
            last.starts_with("error site timeout: ") && last.contains("300ms"),
            "{last}"
        );
        assert!(last.contains("`timeout`"), "no remedy: {last}");
        assert!(!world.path("site").exists());
    }
}

#[test]
fn nobody_at_home() {
    let world = World::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["git", "http", "https"] {
        world.config_of(&format!(
            "\"site\": (repo: \"{scheme}://{address}/x\", path: \"site\", retries: 0),"
        ));
        let ended = world.run(["once", "site"]);
        assert_eq!(ended.exit, 1, "{ended:?}");
        let last = ended.err.lines().next_back().unwrap();
        assert!(
            last.starts_with("error site unreachable: ") && last.contains("refused"),
            "{last}"
        );
    }
}

/// A way to the server at `port` on which the first connections are cut.
fn bad_line(port: u16, cut: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().skip(cut) {
            let client = client.unwrap();
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            std::thread::spawn(move || {
                std::thread::scope(|scope| {
                    scope.spawn(|| pass(&client, &server));
                    pass(&server, &client);
                });
            });
        }
    });
    here
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    io::copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
}

#[test]
fn faults_that_pass_are_tried_again() {
    if !have("git") {
        return;
    }
    let world = World::new();
    world.source().commit([("a", file("1"))]);
    let daemon = GitDaemon::start(&world);
    let config = |cut: usize, more: &str| {
        world.config_of(&format!(
            "\"site\": (repo: \"git://127.0.0.1:{}/repo.git\", path: \"site\", {more}),",
            bad_line(daemon.port, cut)
        ));
    };
    config(1, "retries: 1");
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert!(
        ended
            .err
            .contains("broke off the connection: unexpected end of file")
            && ended.err.contains("; trying again in "),
        "{ended:?}"
    );
    assert!(ended.err.contains(" (1 of 1)"), "{ended:?}");
    assert_eq!(world.site()["a"], file("1"));

    config(2, "retries: 1");
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 1, "{ended:?}");
    let last = ended.err.lines().next_back().unwrap();
    assert!(last.starts_with("error site unreachable: "), "{ended:?}");

    // A refusal stays one.
    world.config_of(&format!(
        "\"site\": (repo: \"git://127.0.0.1:{}/missing.git\", path: \"site\"),",
        daemon.port
    ));
    let ended = world.run(["once", "site"]);
    assert!(
        ended.exit == 1 && !ended.err.contains("trying again"),
        "{ended:?}"
    );
}

#[test]
fn a_daemon_that_stops_does_not_try_again() {
    let world = World::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.config_of(&format!(
        "\"site\": (repo: \"git://{address}/x\", path: \"site\", retries: 10),"
    ));
    let mut daemon = world.daemon();
    let mut socket = daemon.connect();
    socket.write_all(b"site\n").unwrap();
    let mut answer = BufReader::new(socket);
    let mut line = String::new();
    while !line.contains("(4 of 10)") {
        line.clear();
        assert_ne!(answer.read_line(&mut line).unwrap(), 0, "it ended");
    }
    // Four seconds at least, if nobody rang.
    let begin = Instant::now();
    daemon.signal(Signal::TERM);
    let mut rest = String::new();
    answer.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("error site unreachable: "), "{rest}");
    daemon.wait();
    assert!(begin.elapsed() < Duration::from_secs(3));
}
