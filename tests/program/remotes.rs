//! Remotes that do not answer end a run with an error in time.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::world::World;

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
        let ended = world.run_to(6, ["once", "site"]);
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
        let ended = world.run_to(1, ["once", "site"]);
        let last = ended.err.lines().next_back().unwrap();
        assert!(
            last.starts_with("error site unreachable: ") && last.contains("refused"),
            "{last}"
        );
    }
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
    while !line.contains("(5 of 10)") {
        line.clear();
        assert_ne!(answer.read_line(&mut line).unwrap(), 0, "it ended");
    }
    // Eight seconds at least, if nobody rang.
    let begin = Instant::now();
    daemon.signal(Signal::TERM);
    let mut rest = String::new();
    answer.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("error site unreachable: "), "{rest}");
    daemon.wait();
    assert!(begin.elapsed() < Duration::from_secs(8));
}
