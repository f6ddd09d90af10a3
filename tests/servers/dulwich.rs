//! Deploys from dulwich work, a second opinion on protocol versions 0 and 1.

use std::process::Command;

use super::{
    daily::{Remote, life},
    foreign::{Server, find, skipped},
    world::World,
};

/// A server of dulwich's, of one `kind`: `git` or `http`.
struct Dulwich {
    _server: Server,
    base: String,
}

impl Dulwich {
    fn start(world: &World, kind: &str) -> Option<Self> {
        let python = std::env::var("GITSOCKET_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
        let mut command = Command::new(find(&python)?);
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/support/serve_dulwich.py"
            ))
            .arg(kind)
            .arg(world.path(""));
        match Server::start(&mut command, "listening on") {
            Ok((server, line)) => Some(Self {
                _server: server,
                base: format!("{kind}://127.0.0.1:{}", line.trim().rsplit(' ').next().unwrap()),
            }),
            Err(said) => {
                let why = said.lines().next_back().unwrap_or("it says nothing");
                skipped(&format!("{python} cannot run dulwich's server: {why}"));
                None
            }
        }
    }
}

#[test]
fn a_site_from_dulwich() {
    for kind in ["git", "http"] {
        let world = World::new();
        let Some(dulwich) = Dulwich::start(&world, kind) else {
            return;
        };
        let (branch, repository) = life(&Remote {
            world: &world,
            base: dulwich.base.clone(),
            more: "timeout: \"30s\",".into(),
            lenient: false,
        });
        assert!(branch.contains("did you mean \"main\"?"), "{branch}");
        assert!(repository.contains("missing.git"), "{repository}");
    }
}
