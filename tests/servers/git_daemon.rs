//! `git daemon`, over `git://`.

use std::process::Command;

use super::{
    daily::{Remote, life},
    foreign::{Server, find},
    snapshot,
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
