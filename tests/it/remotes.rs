//! Remotes over the network that do not answer. Those that do are in `servers`.

use std::net::TcpListener;

use super::world::World;

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
