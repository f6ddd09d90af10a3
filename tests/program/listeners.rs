//! Listeners open in spite of what others do, and a reload changes all of them or none.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
};

use rustix::{
    fs::{FlockOperation, flock},
    net::sockopt::socket_peercred,
    process::{Signal, kill_process},
};

use super::{
    access::say,
    supervisor::wait_until,
    world::{Daemon, World, last_line},
};

/// Any user may lock a directory that it can read.
#[test]
fn a_lock_on_the_sockets_directory_keeps_no_daemon_from_starting() {
    let world = World::configured();
    let dir = File::open(world.path("")).unwrap();
    flock(&dir, FlockOperation::LockShared).unwrap();
    // Nor do two share a socket then: not even if one that was killed has left it.
    drop(UnixListener::bind(world.path("s.sock")).unwrap());
    let mut daemons: Vec<_> = (0..4).map(|_| Daemon::spawn(&world, &[], &[])).collect();
    let mut ready = 0;
    for daemon in &mut daemons {
        if daemon.says("ready triggers") {
            ready += 1;
        } else {
            assert_eq!(daemon.child.wait().unwrap().code(), Some(2));
        }
    }
    assert_eq!(ready, 1);
    assert!(last_line(&daemons[0].say("site\n")).starts_with("ok site "));
    drop(daemons);
    fs::remove_file(world.path("s.sock")).unwrap();
    let left: Vec<_> = fs::read_dir(world.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_str().unwrap().contains("gitsocket"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Signals interrupt the wait for its answer.
#[test]
fn a_socket_whose_process_is_silent_is_left_to_it() {
    let world = World::configured();
    let silent = UnixListener::bind(world.path("s.sock")).unwrap();
    let interrupting = std::thread::spawn(move || {
        loop {
            let (client, _) = silent.accept().unwrap();
            let mut asked = String::new();
            BufReader::new(&client).read_line(&mut asked).unwrap();
            if asked != "ping\n" {
                return asked;
            }
            let asking = socket_peercred(&client).unwrap().pid;
            let stat = format!("/proc/{}/stat", asking.as_raw_nonzero());
            kill_process(asking, Signal::STOP).unwrap();
            wait_until(|| fs::read_to_string(&stat).unwrap().contains(") T "));
            kill_process(asking, Signal::CONT).unwrap();
            // It is held until the other end goes.
            (&client).read_to_end(&mut Vec::new()).unwrap();
        }
    });
    let mut daemon = Daemon::spawn(&world, &[], &[]);
    assert!(!daemon.says("ready triggers"), "the socket was taken over");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(2));
    daemon.connect().write_all(b"mine\n").unwrap();
    assert_eq!(interrupting.join().unwrap(), "mine\n");
}

/// A configuration that listens on `s.sock`, on `tcp` and on `more`.
fn configure(world: &World, tcp: &str, more: &str) {
    let text = format!(
        "(listen: [Unix(path: \"s.sock\"), Tcp(addr: \"{tcp}\", token_file: \"token\"), {more}],
          triggers: {{ \"site\": (repo: \"repo.git\", path: \"site\",
            hooks: [Exec(run: [\"/bin/sh\", \"-c\", \"echo started; read line < ../go\"])]) }})"
    );
    world.write("config.ron", &text);
}

#[test]
fn a_listener_is_narrowed_and_widened() {
    let world = World::sourced();
    world.secret("token", "s3cret\n");
    world.fifo("go");
    let port = TcpListener::bind("0.0.0.0:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let pings = |host: &str| say(&format!("{host}:{port}"), "token s3cret\nping\n") == "pong\nok -\n";
    let refuses = |host: &str| TcpStream::connect((host, port)).is_err();
    configure(&world, &format!("0.0.0.0:{port}"), "");
    let mut daemon = world.daemon();
    assert!(pings("127.0.0.1") && pings("127.0.0.2"));
    // One that has been accepted follows its run through all that comes.
    let mut follower = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
    follower.get_mut().write_all(b"token s3cret\nsite\n").unwrap();
    let mut line = String::new();
    while line != "| started\n" {
        line.clear();
        assert_ne!(follower.read_line(&mut line).unwrap(), 0);
    }
    // All or nothing: with something that cannot be had, the old one stays.
    world.write("in-the-way", "");
    for narrow in ["127.0.0.1", "127.0.0.2"] {
        configure(&world, &format!("{narrow}:{port}"), "Unix(path: \"in-the-way\")");
        daemon.signal(Signal::HUP);
        daemon.wait_for("is not a socket");
        daemon.wait_for("still using the previous one");
        assert!(pings("127.0.0.1") && pings("127.0.0.2"));
    }
    for (host, other_works) in [("127.0.0.1", false), ("0.0.0.0", true), ("127.0.0.1", false)] {
        configure(&world, &format!("{host}:{port}"), "");
        daemon.signal(Signal::HUP);
        daemon.wait_for("ready triggers=1");
        assert!(pings("127.0.0.1"), "{host}");
        assert!(daemon.say("ping\n").starts_with("pong"));
        if other_works {
            assert!(pings("127.0.0.2"))
        } else {
            super::supervisor::wait_until(|| refuses("127.0.0.2"))
        }
    }
    // No other daemon takes half of the connections.
    let second = world.run_to(2, ["server", "-l", &format!("127.0.0.1:{port}")]);
    assert!(second.err.contains("another program listens there"), "{second:?}");
    fs::write(world.path("go"), "\n").unwrap();
    let mut rest = String::new();
    follower.read_to_string(&mut rest).unwrap();
    assert!(last_line(&rest).starts_with("ok site "), "{rest}");
    daemon.stop();
}
