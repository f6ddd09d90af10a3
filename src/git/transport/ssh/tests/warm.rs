//! Connections that outlive a fetch: used again, by one at a time, and only as long as nothing has changed.

use std::{
    net::{Shutdown, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use std::io::Read as _;

use super::*;
use crate::git::transport::deadline::PATIENCE;

fn world() -> World {
    World {
        connections: Connections::new(Duration::from_secs(600)),
        ..World::new()
    }
}

fn connections(server: &Server) -> usize {
    server.connections.load(Ordering::SeqCst)
}

/// Until one of its connections has ended.
fn wait_for_end(server: &Server) {
    let ended = server.ended.lock().unwrap();
    ended.recv_timeout(Duration::from_secs(20)).unwrap();
}

#[test]
fn without_keep_alive_a_connection_ends_with_the_fetch() {
    let world = World::new();
    let server = world.server(world.plan());
    for _ in 0..2 {
        world.fetch(server.port, world.ssh()).unwrap();
        wait_for_end(&server);
    }
    assert_eq!(connections(&server), 2);
}

#[test]
fn many_fetches_over_one_connection() {
    let world = world();
    let server = world.server(Plan {
        banner: Some("be nice\n".into()),
        ..world.plan()
    });
    for _ in 0..3 {
        world.fetch(server.port, world.ssh()).unwrap();
    }
    assert_eq!(connections(&server), 1);
    assert_eq!(*world.heard.lock().unwrap(), ["be nice"], "at the login only");
    let asked = server.asked.lock().unwrap();
    let commands = asked
        .iter()
        .filter(|asked| asked.starts_with("git-upload-pack"))
        .count();
    assert_eq!(commands, 3);
    // Idle ones stay.
    assert!(server.ended.lock().unwrap().try_recv().is_err());
}

#[test]
fn it_ends_when_nobody_has_used_it_for_that_long() {
    let world = World {
        connections: Connections::new(Duration::from_millis(100)),
        ..World::new()
    };
    let server = world.server(world.plan());
    world.fetch(server.port, world.ssh()).unwrap();
    wait_for_end(&server);
    world.fetch(server.port, world.ssh()).unwrap();
    assert_eq!(connections(&server), 2);
}

#[test]
fn two_at_once_have_two_connections() {
    let world = world();
    let server = world.server(world.plan());
    let remote = Remote::new(&url(server.port)).unwrap();
    for _ in 0..2 {
        world.options(world.ssh(), |options| {
            let mut both = [0, 1].map(|_| start(&remote, options, &world.around()).unwrap());
            for stream in &mut both {
                let mut line = [0; 13];
                stream.read_exact(&mut line).unwrap();
                assert_eq!(&line, b"000eversion 2");
            }
        });
        assert_eq!(connections(&server), 2, "both are kept");
    }
}

#[test]
fn another_key_or_another_trust_is_another_connection() {
    let world = world();
    let server = world.server(world.plan());
    world.fetch(server.port, world.ssh()).unwrap();

    world.put("other", key_text("ecdsa-256"));
    let other = Ssh {
        key: Some(world.abs("other")),
        ..world.ssh()
    };
    world.fetch(server.port, other).unwrap();
    assert_eq!(connections(&server), 2);

    // The same file with another key in it.
    world.put("key", key_text("ecdsa-256"));
    world.fetch(server.port, world.ssh()).unwrap();
    assert_eq!(connections(&server), 3);

    // A key that others can read is refused, whatever is open.
    fs::set_permissions(world.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let failure = world.fails(server.port, world.ssh());
    assert!(failure.message.contains("can be read by others"), "{failure:?}");
    fs::set_permissions(world.path("key"), fs::Permissions::from_mode(0o600)).unwrap();

    // And so is a host that is no longer trusted.
    let revoked = format!("@revoked * {}\n", openssh(&world.host_key));
    world.put("known_hosts", revoked);
    let failure = world.fails(server.port, world.ssh());
    assert!(failure.message.contains("revoked"), "{failure:?}");
}

#[test]
fn a_connection_that_was_cut_is_opened_anew_without_a_word() {
    let world = world();
    let (server, line) = lined(&world);
    line.cut();
    wait_for_end(&server);
    world.fetch(line.port, world.ssh()).unwrap();
    assert_eq!(connections(&server), 2);
}

#[test]
fn a_connection_that_fell_silent_is_opened_anew_without_a_word() {
    let world = world();
    let (server, line) = lined(&world);
    line.silence();
    let begin = Instant::now();
    world.fetch(line.port, world.ssh()).unwrap();
    let took = begin.elapsed();
    assert!(took >= PATIENCE && took < PATIENCE * 6, "{took:?}");
    assert_eq!(connections(&server), 2);
}

#[test]
fn one_that_fell_silent_leaves_time_for_another() {
    let mut world = world();
    world.timeout = PATIENCE * 3;
    let (server, line) = lined(&world);
    line.silence();
    world.fetch(line.port, world.ssh()).unwrap();
    assert_eq!(connections(&server), 2);
}

#[test]
fn one_that_failed_is_not_kept() {
    let mut world = world();
    let server = world.server(world.plan());
    world.fetch(server.port, world.ssh()).unwrap();
    world.timeout = Duration::from_millis(300);
    let silent = world.server(Plan {
        command: Command::Nothing,
        ..world.plan()
    });
    let failure = world.fails(silent.port, world.ssh());
    assert_eq!(failure.kind, Kind::Timeout);
    wait_for_end(&silent);
}

/// A server, and a line to it that a first fetch has used.
fn lined(world: &World) -> (Server, Line) {
    let server = world.server(world.plan());
    let line = Line::to(server.port);
    world.know(line.port);
    world.fetch(line.port, world.ssh()).unwrap();
    (server, line)
}

/// A line to a server that can fail.
struct Line {
    port: u16,
    open: Arc<Mutex<Vec<Wire>>>,
}

struct Wire {
    ends: [TcpStream; 2],
    silent: Arc<AtomicBool>,
}

impl Line {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap().port();
        let open = Arc::<Mutex<Vec<Wire>>>::default();
        let wires = open.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let ends = [client.unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap()];
                let silent = Arc::<AtomicBool>::default();
                for (from, to) in [(0, 1), (1, 0)] {
                    let (from, to) = (ends[from].try_clone().unwrap(), ends[to].try_clone().unwrap());
                    let silent = silent.clone();
                    thread::spawn(move || pass(&from, &to, &silent));
                }
                wires.lock().unwrap().push(Wire { ends, silent });
            }
        });
        Self { port: here, open }
    }

    fn cut(&self) {
        for wire in self.open.lock().unwrap().drain(..) {
            for end in &wire.ends {
                end.shutdown(Shutdown::Both).ok();
            }
        }
    }

    /// Let nothing come through what is open.
    fn silence(&self) {
        for wire in self.open.lock().unwrap().iter() {
            wire.silent.store(true, Ordering::SeqCst);
        }
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, silent: &AtomicBool) {
    let mut buf = [0; 16 * 1024];
    while let Ok(length @ 1..) = std::io::Read::read(&mut from, &mut buf) {
        if !silent.load(Ordering::SeqCst) && std::io::Write::write_all(&mut to, &buf[..length]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}
