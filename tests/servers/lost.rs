//! Connections that break: in the middle of a pack, at any byte, and for good.

use std::{
    net::{Shutdown, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use super::{
    configure,
    cut::{End, cut},
    fails,
    git_daemon::GitDaemon,
    https::TLS,
    nginx::Nginx,
    source::{Entry, Source, file},
    world::World,
};

/// In the middle of the pack of [`grow`].
const HALF: usize = 1 << 19;

/// What a silent server is given.
const TIMEOUT: &str = "timeout: \"1500ms\",";

fn grow(source: &mut Source, seed: u64) {
    let mut random = vec![0; 1 << 20];
    fastrand::Rng::with_seed(seed).fill(&mut random);
    source.commit([("a", file("2")), ("big", Entry::File(random))]);
}

/// A clone and an update of which only half comes, by a server at `port` whose URLs `url` makes of a port.
fn halves(world: &World, port: u16, url: impl Fn(u16) -> String, more: &str) {
    let mut source = world.source();
    for seed in [1, 2] {
        grow(&mut source, seed);
        let before = world.path("site").exists().then(|| world.site());
        configure(world, &url(cut(port, HALF, End::Closed)), more);
        let line = fails(world, 1);
        assert!(line.starts_with("error site unreachable: "), "{line}");
        assert!(
            line.contains(&url(0).split(':').next().unwrap().to_owned()),
            "{line}"
        );

        let silent = url(cut(port, HALF, End::Silent));
        configure(world, &silent, &format!("{more} {TIMEOUT}"));
        let start = Instant::now();
        let line = fails(world, 6);
        assert!(line.starts_with("error site timeout: "), "{line}");
        assert!(line.contains("within 1s 500ms"), "{line}");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it took {:?}",
            start.elapsed()
        );
        assert_eq!(
            world.path("site").exists().then(|| world.site()),
            before,
            "half a pack changes nothing"
        );

        configure(world, &url(port), more);
        world.deploy();
        assert_eq!(world.site()["a"], file("2"));
        let temporary: Vec<_> = std::fs::read_dir(world.path("site/.git/objects/pack"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("pack-") || name.ends_with(".keep"))
            .collect();
        assert!(temporary.is_empty(), "{temporary:?}");
    }
}

#[test]
fn half_a_pack_over_https() {
    let world = World::new();
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    let url = |port| format!("https://127.0.0.1:{port}/open/repo.git");
    halves(&world, nginx.tls, url, TLS);
}

#[test]
fn half_a_pack_over_http() {
    let world = World::new();
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    let url = |port| format!("http://127.0.0.1:{port}/open/repo.git");
    halves(&world, nginx.plain, url, "");
}

#[test]
fn half_a_pack_from_git_daemon() {
    let world = World::new();
    let Some(daemon) = GitDaemon::start(&world) else {
        return;
    };
    let url = |port| format!("git://127.0.0.1:{port}/repo.git");
    halves(&world, daemon.port, url, "");
}

/// However much of its answers comes: it is the connection that was lost, and nobody's repository.
#[test]
fn cut_off_anywhere() {
    let world = World::new();
    world.source().commit([("a", file("1"))]);
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    let Some(daemon) = GitDaemon::start(&world) else {
        return;
    };
    for (port, scheme, path, more, step) in [
        (nginx.plain, "http", "/open", "", 23),
        (nginx.tls, "https", "/open", TLS, 97),
        (daemon.port, "git", "", "", 11),
    ] {
        let mut bytes = 0;
        loop {
            let port = cut(port, bytes, End::Closed);
            configure(
                &world,
                &format!("{scheme}://127.0.0.1:{port}{path}/repo.git"),
                more,
            );
            let ended = world.run(["once", "site"]);
            if ended.exit == 0 {
                break;
            }
            let last = ended.err.lines().next_back().unwrap();
            assert!(
                last.starts_with("error site unreachable: "),
                "{scheme}, after {bytes} bytes: {last}"
            );
            assert!(!world.path("site").exists());
            bytes += step;
        }
        assert!(bytes > 10 * step, "{scheme}: whole after {bytes} bytes already");
        std::fs::remove_dir_all(world.path("site")).unwrap();
    }
}

/// A way to the server at `port` on which the first connections are closed at once.
fn bad_line(port: u16, closed: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().skip(closed) {
            let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap());
            let ends = [&client, &server].map(|end| end.try_clone().unwrap());
            std::thread::spawn(move || pass(&ends[0], &ends[1]));
            std::thread::spawn(move || pass(&server, &client));
        }
    });
    here
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    std::io::copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
}

#[test]
fn faults_that_pass_are_tried_again() {
    let world = World::new();
    world.source().commit([("a", file("1"))]);
    let Some(daemon) = GitDaemon::start(&world) else {
        return;
    };
    let config = |closed: usize, more: &str| {
        let port = bad_line(daemon.port, closed);
        world.config_of(&format!(
            "\"site\": (repo: \"git://127.0.0.1:{port}/repo.git\", path: \"site\", {more}),"
        ));
    };
    config(1, "retries: 1");
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert!(
        ended
            .err
            .contains("broke off the connection: unexpected end of file"),
        "{ended:?}"
    );
    assert!(
        ended.err.contains("; trying again in ") && ended.err.contains(" (1 of 1)"),
        "{ended:?}"
    );
    assert_eq!(world.site()["a"], file("1"));

    config(2, "retries: 1");
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 1, "{ended:?}");
    let last = ended.err.lines().next_back().unwrap();
    assert!(last.starts_with("error site unreachable: "), "{ended:?}");

    // A refusal stays one.
    world.config_of(&format!(
        "\"site\": (repo: \"{}/missing.git\", path: \"site\"),",
        daemon.base()
    ));
    let ended = world.run(["once", "site"]);
    assert!(
        ended.exit == 1 && !ended.err.contains("trying again"),
        "{ended:?}"
    );
}
