//! Programs that no one here wrote: found, started, and killed with all they started.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};

pub use super::world::machine::{find, skipped};
use super::world::{
    Ended, World,
    machine::{self, STRANGER, install},
};

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A running server; it and what it started are killed when this is dropped.
pub struct Server {
    child: Child,
}

impl Server {
    /// Start it, and wait until it says `ready` on stderr. Gives that line, too; or all it said, if it ends before.
    pub fn start(command: &mut Command, ready: &str) -> Result<(Self, String), String> {
        let mut server = Self::launch(command.stderr(Stdio::piped()));
        let mut log = BufReader::new(server.child.stderr.take().unwrap());
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            if log.read_line(&mut line).unwrap() == 0 {
                return Err(seen);
            }
            if line.contains(ready) {
                // It must not stall on a log that nobody reads.
                std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                return Ok((server, line));
            }
            seen.push_str(&line);
        }
    }

    /// As [`Self::start`], on ports that `command` is told; others, if somebody takes them in between.
    pub fn start_on<const N: usize>(ready: &str, command: impl Fn([u16; N]) -> Command) -> (Self, [u16; N]) {
        let mut said = String::new();
        for _ in 0..5 {
            let ports = [(); N].map(|()| free_port());
            match Self::start(&mut command(ports), ready) {
                Ok((server, _)) => return (server, ports),
                Err(log) => said = log,
            }
        }
        panic!("it does not start: {said}");
    }

    /// Start it without waiting for anything.
    pub fn launch(command: &mut Command) -> Self {
        // Its children are in its group.
        let child = command.process_group(0).spawn().unwrap();
        Self { child }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
        self.child.wait().ok();
    }
}

/// `once site`, run by `program` and by a user without a passwd entry, who owns `secret` and nothing but the empty `site`; with nothing in
/// the environment, not even PATH. Only root can become somebody else.
pub fn deploy_as_nobody(world: &World, program: &Path, secret: &str) -> Option<Ended> {
    if !machine::need(machine::Need::Root) {
        return None;
    }
    let copy = world.path("gitsocket");
    install(program, &copy);
    std::fs::create_dir(world.path("site")).unwrap();
    for name in ["site", secret] {
        chown(world.path(name), Some(STRANGER), Some(STRANGER)).unwrap();
    }
    let output = world.command_as(STRANGER, ["once", "site"]).output().unwrap();
    chown(world.path(secret), Some(0), Some(0)).unwrap();
    Some(Ended::from(output))
}
