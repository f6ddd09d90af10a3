//! The front sends a trigger once a delivery is verified, and loses none while the daemon is away.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    time::Duration,
};

use rustix::process::Signal;

use super::{
    figures::Figures,
    front::{Front, Reply, reply},
    world::{Daemon, World, last_line},
};

/// A webhook for the trigger `site`, with a token.
const HOOK: &str = "webhooks: {\"/hooks/site\": (trigger: \"site\", from: Bearer(token_file: \"token\"))}";

/// The head of a delivery to it.
const DELIVERY: &str = "POST /hooks/site HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t0ken-of-the-hook\r\n";

fn delivery() -> String {
    format!("{DELIVERY}Content-Length: 0\r\n\r\n")
}

/// A world with something to deploy, a configuration with `more` fields of the trigger, and the webhook's token.
fn world(more: &str) -> World {
    let world = World::sourced();
    world.config(more);
    world.secret("token", "t0ken-of-the-hook\n");
    world
}

/// The ids of the runs of `site` that have ended or go on.
fn runs(daemon: &Daemon) -> Vec<String> {
    let answer = daemon.say("log site\n");
    let ids = answer.lines().filter(|line| !line.starts_with("ok "));
    ids.map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

/// Wait for the end of the run that goes on.
fn finish(daemon: &Daemon) -> String {
    last_line(&daemon.say("attach site\n")).to_owned()
}

fn accepted(reply: &Reply) -> String {
    assert_eq!(
        (reply.status, reply.json("trigger").as_str()),
        (202, "site"),
        "{reply:?}"
    );
    reply.json("run")
}

#[test]
fn a_delivery_becomes_a_run() {
    let world = world("");
    let daemon = world.daemon();
    let front = Front::start(&world, HOOK);
    let run = accepted(&front.say(delivery()));
    assert!(finish(&daemon).starts_with("ok site "));
    assert_eq!(runs(&daemon), [run]);
    assert!(world.site().contains_key("a"));
    // On one connection as many as one likes, one after the other or all at once.
    let mut stream = front.connect();
    stream.write_all(delivery().repeat(3).as_bytes()).unwrap();
    let ids: Vec<_> = (0..3).map(|_| accepted(&reply(&mut stream).unwrap())).collect();
    stream.write_all(delivery().as_bytes()).unwrap();
    accepted(&reply(&mut stream).unwrap());
    assert!(ids.iter().all(|id| !id.is_empty()));
    // Nothing of what it serves is guessed at, kept or framed.
    let reply = front.say(delivery());
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{reply:?}");
    }
    assert!(
        reply
            .header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    assert_eq!(reply.header("server"), None);
}

/// A run begins after the last delivery was heard, and a hundred deliveries are not a hundred runs.
#[test]
fn deliveries_share_what_is_said_to_the_daemon() {
    let world = world("hooks: [Exec(run: [\"/bin/sh\", \"-c\", \"read line < ../go\"])]");
    world.fifo("go");
    let daemon = world.daemon();
    let front = Front::start(&world, HOOK);
    let first = accepted(&front.say(delivery()));
    let ids: BTreeSet<String> = std::thread::scope(|scope| {
        let one = || accepted(&front.say(delivery()));
        let all: Vec<_> = (0..64).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(
        ids.len() <= 2,
        "the run that goes on, or the one that waits: {ids:?}"
    );
    assert!(ids.iter().chain([&first]).count() <= 3);
    // Only the first one has something new, and so a hook.
    let mut go = fs::OpenOptions::new().write(true).open(world.path("go")).unwrap();
    go.write_all(b"\n").unwrap();
    assert!(finish(&daemon).starts_with("ok site "));
}

/// The daemon may be away for longer than a forge waits. Then that is said, the name is kept, and one is enough.
#[test]
fn a_name_is_not_lost_while_the_daemon_is_away() {
    let world = world("");
    let mut front = Front::start(&world, HOOK);
    // A forge that does not wait for the answer has said its name.
    let mut hasty = front.connect();
    hasty.write_all(delivery().as_bytes()).unwrap();
    front.wait_for("names are kept");
    drop(hasty);
    let patient: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = front.connect();
            stream.write_all(delivery().as_bytes()).unwrap();
            stream
        })
        .collect();
    for mut stream in patient {
        let reply = reply(&mut stream).unwrap();
        assert_eq!(
            (reply.status, reply.json("kind").as_str()),
            (503, "no-daemon"),
            "{reply:?}"
        );
        assert_eq!(reply.header("retry-after"), Some("10"));
    }
    front.wait_for("the name site is kept");
    let mut daemon = world.daemon();
    front.wait_for("the daemon is back");
    daemon.wait_for("ok site");
    assert_eq!(runs(&daemon).len(), 1);
    assert!(world.site().contains_key("a"));
    // One that comes while it is away, and finds it back in time, is as any other.
    daemon.signal(Signal::TERM);
    daemon.wait();
    let mut waiting = front.connect();
    waiting.write_all(delivery().as_bytes()).unwrap();
    front.wait_for("names are kept");
    let daemon = world.daemon();
    let run = accepted(&reply(&mut waiting).unwrap());
    finish(&daemon);
    assert_eq!(runs(&daemon)[0], run);
    // What it takes with it, it says.
    drop(daemon);
    front.connect().write_all(delivery().as_bytes()).unwrap();
    front.wait_for("names are kept");
    front.signal(Signal::TERM);
    let (exit, log) = front.wait();
    assert_eq!(exit, Some(0));
    assert!(
        log.contains("the daemon has not answered: trigger these by hand: site"),
        "{log}"
    );
}

/// Its name is on the way to a daemon that is silent when a second signal ends the process at once.
#[test]
fn a_name_without_an_answer_is_named_at_the_end() {
    let world = world("");
    let silent = UnixListener::bind(world.path("s.sock")).unwrap();
    let mut front = Front::start(&world, HOOK);
    let mut waiting = front.connect();
    waiting.write_all(delivery().as_bytes()).unwrap();
    let _asked = silent.accept().unwrap();
    front.signal(Signal::TERM);
    front.wait_for("stopping");
    front.signal(Signal::TERM);
    let (exit, log) = front.wait();
    assert_eq!(exit, Some(0));
    assert!(
        log.contains("the daemon has not answered: trigger these by hand: site"),
        "{log}"
    );
}

/// Who has begun to speak is answered, and who has nothing to say does not hold up the end.
#[test]
fn what_was_heard_is_answered_before_the_end() {
    let world = world("");
    let daemon = world.daemon();
    let mut front = Front::start(&world, HOOK);
    let _silent = front.connect();
    let mut kept_alive = front.connect();
    kept_alive.write_all(delivery().as_bytes()).unwrap();
    accepted(&reply(&mut kept_alive).unwrap());
    // Its bytes are under way when the front is told to stop.
    let mut late = front.connect();
    let mut begun = front.connect();
    begun.write_all(DELIVERY.as_bytes()).unwrap();
    // It has been accepted once a later one has been answered.
    accepted(&front.say(delivery()));
    front.signal(Signal::TERM);
    front.wait_for("stopping");
    late.write_all(delivery().as_bytes()).unwrap();
    accepted(&reply(&mut late).unwrap());
    begun.write_all(b"Content-Length: 0\r\n\r\n").unwrap();
    let run = accepted(&reply(&mut begun).unwrap());
    let (exit, log) = front.wait();
    assert_eq!((exit, log.contains("WARN")), (Some(0), false), "{log}");
    assert!(TcpStream::connect(front.addrs[0]).is_err());
    finish(&daemon);
    assert!(runs(&daemon).contains(&run));
}

/// Its mode is that of the configuration from the first moment, and its file goes with the process.
#[test]
fn a_unix_socket_has_its_mode_and_group() {
    let world = world("");
    let _daemon = world.daemon();
    let gid = rustix::process::getegid().as_raw();
    let listen = format!("Unix(path: \"web.sock\", mode: \"0620\", group: \"{gid}\")");
    let mut front = Front::listening(&world, &listen, HOOK);
    let path = world.path("web.sock");
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.gid()), (0o620, gid));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(delivery().as_bytes()).unwrap();
    accepted(&reply(&mut stream).unwrap());
    // Another one leaves it alone.
    let second = world.run_to(2, ["web"]);
    assert!(second.err.contains("already listening on"), "{second:?}");
    assert!(second.err.contains("change `listen`"), "{second:?}");
    front.signal(Signal::TERM);
    assert_eq!(front.wait().0, Some(0));
    assert!(!path.exists());
}

/// As systemd passes them on: no delivery is refused while the front is restarted.
#[test]
fn a_socket_is_inherited() {
    let world = world("");
    let _daemon = world.daemon();
    world.write("web.ron", &format!("(listen: [], daemon: \"s.sock\", {HOOK})"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut early = TcpStream::connect(addr).unwrap();
    early.write_all(delivery().as_bytes()).unwrap();
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" web";
    let mut command = world.command([""; 0]);
    let program = command.get_program().to_owned();
    command = std::process::Command::new("/bin/sh");
    command
        .args(["-c", script])
        .arg(program)
        .current_dir(world.path("."));
    command.stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
    let front = Front::by(command);
    assert_eq!(front.addrs, [addr]);
    accepted(&reply(&mut early).unwrap());
}

/// All seats are taken by connections that say nothing, and still a delivery is heard at once.
#[test]
fn silence_takes_nothing_from_those_who_speak() {
    let world = world("");
    let _daemon = world.daemon();
    let front = Front::start(&world, HOOK);
    let mut silent: Vec<TcpStream> = (0..600).map(|_| front.connect()).collect();
    let mut half: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = front.connect();
            stream.write_all(DELIVERY.as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        accepted(&front.say(delivery()));
    }
    // The first have made way; the last are heard when they go on.
    let first = &mut silent[0];
    assert_eq!(first.read(&mut [0; 1]).ok().unwrap_or(0), 0);
    let last = half.last_mut().unwrap();
    last.write_all(b"Content-Length: 0\r\n\r\n").unwrap();
    accepted(&reply(last).unwrap());
    last.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
}

/// A forge's URL with a slip in it is told from a page that is not there.
#[test]
fn a_path_that_no_webhook_has() {
    let world = world("");
    let front = Front::start(&world, HOOK);
    let reply = front.say(delivery().replacen("/hooks/site", "/hooks/sit", 1));
    assert_eq!(reply.status, 404, "{reply:?}");
    assert_eq!(reply.json("message"), "no webhook has this path");
}

/// Whatever a stranger makes of a fault in it, it can start no program and gain nothing.
#[test]
fn it_is_shut_in_and_sleeps() {
    let world = world("");
    let daemon = world.daemon();
    let front = Front::start(&world, HOOK);
    let pid = front.child.id();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    accepted(&front.say(delivery()));
    assert!(finish(&daemon).starts_with("ok site "));
    // Threads that have had something to do go away after a moment; then nothing wakes it.
    for _ in 0..60 {
        let before = Figures::of(pid);
        std::thread::park_timeout(Duration::from_secs(1));
        let now = Figures::of(pid);
        if now.sleeps == before.sleeps && now.threads == before.threads {
            return;
        }
    }
    panic!("it does not come to rest");
}
