//! A connection that breaks at any byte, or for good, ends the run with an error, and the next run works.

use std::{
    io::Read as _,
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
    world::{World, machine},
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
        assert!(line.contains(" 1s 500ms"), "{line}");
        assert!(
            start.elapsed() < Duration::from_secs(60),
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
    let world = World::sourced();
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
        let mut whole = 0;
        for bytes in machine::points(4 * step) {
            let port = cut(port, bytes, End::Closed);
            configure(
                &world,
                &format!("{scheme}://127.0.0.1:{port}{path}/repo.git"),
                more,
            );
            let ended = world.run(["once", "site"]);
            if ended.exit == 0 {
                whole = bytes;
                break;
            }
            let last = ended.err.lines().next_back().unwrap();
            assert!(
                last.starts_with("error site unreachable: "),
                "{scheme}, after {bytes} bytes: {last}"
            );
            assert!(!world.path("site").exists());
        }
        assert!(whole > 10 * step, "{scheme}: whole after {whole} bytes already");
        std::fs::remove_dir_all(world.path("site")).unwrap();
    }
}

/// How a bad line ends a connection.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The client sees its end.
    End,
    /// The client sees a reset.
    Reset,
}

/// A way to the server at `port` on which the first `lost` connections end once the client has asked for something.
fn bad_line(port: u16, lost: usize, cut: Cut) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (n, client) in listener.incoming().enumerate() {
            let client = client.unwrap();
            if n < lost {
                lose(&client, cut);
                continue;
            }
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let ends = [&client, &server].map(|end| end.try_clone().unwrap());
            std::thread::spawn(move || pass(&ends[0], &ends[1]));
            std::thread::spawn(move || pass(&server, &client));
        }
    });
    here
}

/// Read the whole request of a client of `git daemon`, since what is left unread makes any end a reset.
fn lose(mut client: &TcpStream, cut: Cut) {
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
    client.read_exact(&mut vec![0; length - 4]).unwrap();
    if let Cut::Reset = cut {
        rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO)).unwrap();
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    std::io::copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
}

#[test]
fn faults_that_pass_are_tried_again() {
    for cut in [Cut::End, Cut::Reset] {
        let world = World::sourced();
        let Some(daemon) = GitDaemon::start(&world) else {
            return;
        };
        tried_again(&world, &daemon, cut);
    }
}

fn tried_again(world: &World, daemon: &GitDaemon, cut: Cut) {
    let config = |lost: usize| {
        let port = bad_line(daemon.port, lost, cut);
        world.config_of(&format!(
            "\"site\": (repo: \"git://127.0.0.1:{port}/repo.git\", path: \"site\", retries: 1),"
        ));
        port
    };
    let port = config(1);
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 0, "{cut:?}: {ended:?}");
    // The same words, whichever it was; the reason tells them apart.
    let said = match cut {
        Cut::End => {
            format!("the connection to git://127.0.0.1:{port}/repo.git was lost: unexpected end of file")
        }
        Cut::Reset => {
            let (host, reason) = (format!("127.0.0.1:{port}"), "Connection reset by peer");
            format!("the connection to {host} for git://{host}/repo.git was lost: {reason}")
        }
    };
    assert!(ended.err.contains(&said), "{said}: {ended:?}");
    assert!(
        ended.err.contains("; trying again in ") && ended.err.contains(" (1 of 1)"),
        "{cut:?}: {ended:?}"
    );
    assert_eq!(world.site()["a"], file("1"));

    config(2);
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 1, "{cut:?}: {ended:?}");
    let last = ended.err.lines().next_back().unwrap();
    assert!(
        last.starts_with("error site unreachable: the connection to ")
            && last.ends_with("(try again; if that does not help, the log of the server should say more)"),
        "{cut:?}: {ended:?}"
    );

    // A refusal stays one.
    world.config_of(&format!(
        "\"site\": (repo: \"{}/missing.git\", path: \"site\"),",
        daemon.base()
    ));
    let ended = world.run(["once", "site"]);
    assert!(
        ended.exit == 1 && !ended.err.contains("trying again"),
        "{cut:?}: {ended:?}"
    );
}
