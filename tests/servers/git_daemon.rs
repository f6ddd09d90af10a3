//! Deploys from `git daemon` work, over `git://`.

use std::process::Command;

use super::{
    configure,
    daily::{Remote, life},
    foreign::{Server, find},
    snapshot,
    source::file,
    world::World,
};

/// It, serving the repositories below a world.
pub struct GitDaemon {
    _server: Server,
    pub port: u16,
}

impl GitDaemon {
    pub fn start(world: &World) -> Option<Self> {
        find("git")?;
        let (server, [port]) = Server::start_on("Ready to rumble", |[port]| {
            let mut command = Command::new("git");
            command
                .args(["daemon", "--export-all", "--listen=127.0.0.1", "--verbose"])
                .arg(format!("--port={port}"))
                .arg(format!("--base-path={}", world.path("").display()));
            command
        });
        Some(Self {
            _server: server,
            port,
        })
    }

    pub fn base(&self) -> String {
        format!("git://127.0.0.1:{}", self.port)
    }
}

#[test]
fn a_site_from_git_daemon() {
    let world = World::new();
    let Some(daemon) = GitDaemon::start(&world) else {
        return;
    };
    let (branch, repository) = life(&Remote {
        world: &world,
        base: daemon.base(),
        more: String::new(),
        lenient: true,
    });
    let text = format!("{branch}\n{repository}");
    snapshot(&world, &[daemon.port], "git-daemon", &text);
}

/// A large file of which a line changes comes as a delta of what is here: git can read what becomes of that.
#[test]
fn a_thin_pack_is_whole_for_git() {
    let world = World::new();
    let Some(daemon) = GitDaemon::start(&world) else {
        return;
    };
    let mut source = world.source();
    configure(&world, &format!("{}/repo.git", daemon.base()), "");
    let mut lines: Vec<String> = (0..20_000).map(|n| format!("line {n} {}", n * 7919)).collect();
    for round in 0..3 {
        lines[round * 5000] = format!("round {round}");
        source.commit([
            ("large", file(&lines.join("\n"))),
            ("b", file(&round.to_string())),
        ]);
        world.deploy();
        let git = |args: &[&str]| {
            let output = Command::new("git")
                .arg("-C")
                .arg(world.path("site"))
                .args(["-c", "safe.directory=*"])
                .args(args)
                .output()
                .unwrap();
            assert!(output.status.success(), "{round}: {output:?}");
        };
        git(&["fsck", "--full", "--strict"]);
        git(&["status"]);
    }
}
