//! Remotes over the network, through the real binary: real servers where they are, silent ones always.

use std::{
    io::Read as _,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
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
            "\"site\": (repo: \"{scheme}://{address}/x\", path: \"site\", timeout: \"300ms\"),"
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
            "\"site\": (repo: \"{scheme}://{address}/x\", path: \"site\"),"
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
