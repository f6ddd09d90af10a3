//! The daemon is a good service: it reloads, speaks to systemd, detaches, and survives the death of its worker.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::process::Signal;

use super::world::{Daemon, Need, World, children, last_line, machine, need};

/// A configuration that listens on `s.sock` and `more`, with a trigger of each of `names`.
fn configure(world: &World, more: &str, names: &[&str]) {
    let trigger = |name: &&str| format!("{name:?}: (repo: \"repo.git\", path: {name:?}),");
    let triggers: String = names.iter().map(trigger).collect();
    let text = format!("(listen: [Unix(path: \"s.sock\"), {more}], triggers: {{ {triggers} }})");
    world.write("config.ron", &text);
}

#[test]
fn a_reload_changes_triggers_and_listeners() {
    let world = World::sourced();
    configure(&world, "Unix(path: \"old.sock\")", &["site", "gone"]);
    let mut daemon = world.daemon();
    let before = fs::metadata(&daemon.socket).map(inode).unwrap();
    daemon.deploys("gone");
    configure(&world, "Unix(path: \"new.sock\")", &["site", "added"]);
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for("configuration reloaded");
    assert!(
        line.contains("triggers added: added; triggers removed: gone; no longer listening on"),
        "{line}"
    );
    daemon.wait_for("ready triggers=2");
    daemon.deploys("added");
    assert!(daemon.say("gone\n").contains("unknown-trigger"));
    assert_eq!(
        fs::metadata(&daemon.socket).map(inode).unwrap(),
        before,
        "a listener that stays is not opened anew"
    );
    assert!(UnixStream::connect(world.path("new.sock")).is_ok());
    assert!(!world.path("old.sock").exists());

    daemon.signal(Signal::HUP);
    daemon.wait_for("nothing changed");
    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log}");
    assert!(!daemon.socket.exists() && !world.path("new.sock").exists());
}

fn inode(meta: fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&meta)
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let world = World::sourced();
    configure(&world, "", &["site"]);
    let mut daemon = world.daemon();
    world.write(
        "config.ron",
        "(triggers: {\"site\": (pth: \"x\", repo: \"r\")}, jobs: 0)",
    );
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for("config.ron:1:");
    assert!(line.contains("did you mean `path`?"), "{line}");
    daemon.wait_for("config.ron:1:");
    daemon.wait_for("still using the previous one");
    daemon.deploys("site");
    // One that is right, but asks for what cannot be had.
    world.write("in-the-way", "");
    configure(&world, "Unix(path: \"in-the-way\")", &["site", "added"]);
    daemon.signal(Signal::HUP);
    daemon.wait_for("is not a socket");
    daemon.wait_for("still using the previous one");
    assert!(daemon.say("added\n").contains("unknown-trigger"));
    daemon.deploys("site");
    fs::remove_file(world.path("in-the-way")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready triggers=2");
    daemon.deploys("added");
}

/// The hook holds the run until the test lets it go.
fn held(world: &World) -> String {
    world.fifo("go");
    let hook = world.script("hook", "echo started; read line < ../go; echo done");
    format!("hooks: [Exec(run: [{hook:?}])]")
}

fn until(reader: &mut BufReader<UnixStream>, wanted: &str) {
    let mut line = String::new();
    while line.trim_end() != wanted {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "no {wanted:?}");
    }
}

#[test]
fn a_run_goes_on_through_a_reload_and_others_begin() {
    let world = World::sourced();
    let hooks = held(&world);
    let site = format!("\"site\": (repo: \"repo.git\", path: \"site\", {hooks}),");
    world.config_of(&site);
    let mut daemon = world.daemon();
    let mut client = BufReader::new(daemon.connect());
    client.get_mut().write_all(b"site\n").unwrap();
    until(&mut client, "| started");
    world.config_of(&format!(
        "{site} \"other\": (repo: \"repo.git\", path: \"other\"),"
    ));
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready triggers=2");
    // The new worker serves while the old one is still at work.
    daemon.deploys("other");
    fs::write(world.path("go"), "\n").unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("| done\n"), "{rest}");
    assert!(last_line(&rest).starts_with("ok site "), "{rest}");
    daemon.stop();
}

/// A client that connected before the daemon was told to stop, or to reload, may send its request after that.
#[test]
fn a_name_said_late_gets_its_whole_run() {
    for signal in [Signal::TERM, Signal::HUP] {
        let world = World::sourced();
        let hooks = held(&world);
        world.config_of(&format!(
            "\"site\": (repo: \"repo.git\", path: \"site\", {hooks}),"
        ));
        let mut daemon = world.daemon();
        let mut client = daemon.connect();
        // Whoever came later is answered: so the first one has been accepted.
        assert!(daemon.say("ping\n").starts_with("pong"));
        daemon.signal(signal);
        daemon.wait_for(match signal {
            Signal::HUP => "ready triggers=1",
            _ => "stopping",
        });
        // It does not wait for the end: no connection holds the worker.
        client
            .write_all(b"{\"op\":\"trigger\",\"name\":\"site\",\"wait\":false}\n")
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\"accepted\""), "{answer}");
        // Open for reading, too: so this waits for nobody, whatever has become of the hook.
        let mut options = fs::OpenOptions::new();
        let mut go = options.read(true).write(true).open(world.path("go")).unwrap();
        go.write_all(b"\n").unwrap();
        daemon.wait_for("ok site ");
    }
}

#[test]
fn a_log_that_nobody_reads_ends_nothing() {
    let world = World::sourced();
    configure(&world, "", &["site"]);
    let mut command = world.command(["server"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready triggers=1") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0);
    }
    drop(log);
    let say = |text: &str| {
        let mut client = UnixStream::connect(world.path("s.sock")).unwrap();
        client.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    };
    for _ in 0..2 {
        assert!(last_line(&say("site\n")).starts_with("ok site "));
    }
    // The supervisor logs that it stops.
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_killed_daemon_leaves_no_worker_and_can_be_started_at_once() {
    let world = World::sourced();
    configure(&world, "", &["site"]);
    for _ in 0..5 {
        let mut daemon = world.daemon();
        daemon.deploys("site");
        daemon.signal(Signal::KILL);
        // The log's pipe is closed only when the last of its processes is gone.
        daemon.wait();
    }
}

#[test]
fn a_worker_that_dies_ends_the_daemon() {
    let world = World::sourced();
    configure(&world, "", &["site"]);
    let mut daemon = world.daemon();
    for worker in daemon.workers() {
        rustix::process::kill_process(worker, Signal::KILL).unwrap();
    }
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the worker ended with signal: 9"), "{log}");
    assert!(!daemon.socket.exists());
}

/// The old worker's run may take hours: until then the socket must not look like one that somebody serves.
#[test]
fn a_worker_that_dies_while_an_old_one_works_leaves_no_socket() {
    let world = World::sourced();
    let hooks = held(&world);
    world.config_of(&format!(
        "\"site\": (repo: \"repo.git\", path: \"site\", {hooks}),"
    ));
    let mut daemon = world.daemon();
    let mut client = BufReader::new(daemon.connect());
    client.get_mut().write_all(b"site\n").unwrap();
    until(&mut client, "| started");
    let old = daemon.workers();
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready triggers=1");
    for worker in daemon.workers() {
        let name = fs::read_to_string(format!("/proc/{}/comm", worker.as_raw_nonzero())).unwrap();
        let is_hook = name != "gitsocket\n";
        if !is_hook && !old.contains(&worker) {
            rustix::process::kill_process(worker, Signal::KILL).unwrap();
        }
    }
    daemon.wait_for("the worker ended with signal: 9");
    wait_until(|| !daemon.socket.exists());
    fs::write(world.path("go"), "\n").unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert!(last_line(&rest).starts_with("ok site "), "{rest}");
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(1), "{log}");
}

/// However long it cannot hear, and whatever it is told meanwhile.
#[test]
fn a_worker_that_is_held_up_misses_no_order() {
    let world = World::sourced();
    let hooks = held(&world);
    world.config_of(&format!(
        "\"site\": (repo: \"repo.git\", path: \"site\", {hooks}),"
    ));
    let mut daemon = world.daemon();
    let worker = daemon.workers()[0];
    let mut client = BufReader::new(daemon.connect());
    client.get_mut().write_all(b"site\n").unwrap();
    until(&mut client, "| started");
    let hook = daemon.workers().into_iter().find(|pid| *pid != worker).unwrap();
    rustix::process::kill_process(worker, Signal::STOP).unwrap();
    // More than its end of the channel has room for.
    for _ in 0..3000 {
        daemon.signal(Signal::USR1);
        std::thread::yield_now();
    }
    fs::write(world.path("go"), "\n").unwrap();
    wait_until(|| !fs::exists(format!("/proc/{}", hook.as_raw_nonzero())).unwrap());
    daemon.signal(Signal::TERM);
    rustix::process::kill_process(worker, Signal::CONT).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert!(last_line(&rest).starts_with("ok site "), "{rest}");
    assert!(daemon.wait().0.success());
}

#[test]
fn the_log_is_opened_anew() {
    let world = World::sourced();
    configure(&world, "", &["site"]);
    let mut child = world.command(["server", "-o", "log"]).spawn().unwrap();
    wait_until(|| fs::read_to_string(world.path("log")).is_ok_and(|log| log.contains("ready")));
    fs::rename(world.path("log"), world.path("log.1")).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::USR1).unwrap();
    wait_until(|| world.path("log").exists());
    world.run_to(0, ["client", "site"]);
    // Both processes write to the new one.
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    let log = fs::read_to_string(world.path("log")).unwrap();
    assert!(log.contains("ok site ") && log.contains("stopped"), "{log}");
    assert!(
        !fs::read_to_string(world.path("log.1"))
            .unwrap()
            .contains("stopped")
    );
}

/// For what nobody tells: look again and again, for a while.
pub fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "this took a minute");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn detaching_returns_when_the_socket_accepts() {
    let world = World::sourced();
    configure(&world, "", &["site"]);
    // Its output is read to its end: a daemon that held on to it would never let this return.
    let ended = world.run(["server", "-d", "-o", "log", "--pidfile", "pid"]);
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{ended:?}");
    let pid: i32 = fs::read_to_string(world.path("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    world.run_to(0, ["client", "site"]);
    let again = world.run(["server", "-d"]);
    assert_eq!(again.exit, 2);
    assert!(again.err.contains("already listening"), "{again:?}");
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    wait_until(|| !world.path("pid").exists());

    world.write("config.ron", "(");
    let wrong = world.run(["server", "-d", "-o", "log"]);
    assert_eq!(wrong.exit, 2);
    assert!(wrong.err.contains("config.ron"), "{wrong:?}");
}

/// What systemd would get.
struct Notified(UnixDatagram);

impl Notified {
    fn next(&self) -> String {
        let mut text = [0; 4096];
        let length = self.0.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    fn wait_for(&self, wanted: &str) -> String {
        loop {
            let text = self.next();
            if text.contains(wanted) {
                return text;
            }
        }
    }
}

#[test]
fn systemd_is_told() {
    let world = World::sourced();
    configure(&world, "", &["site"]);
    let notified = Notified(UnixDatagram::bind(world.path("notify")).unwrap());
    notified
        .0
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut command = world.command(["server"]);
    command
        .env("NOTIFY_SOCKET", world.path("notify"))
        .env("WATCHDOG_USEC", "100000")
        .stderr(Stdio::piped());
    let mut daemon = Daemon::of(command.spawn().unwrap(), world.path("s.sock"));
    assert_eq!(notified.next(), "READY=1\n");
    notified.wait_for("STATUS=1 trigger, no run");
    notified.wait_for("WATCHDOG=1");
    notified.wait_for("WATCHDOG=1");
    configure(&world, "", &["site", "added"]);
    daemon.signal(Signal::HUP);
    let reloading = notified.wait_for("RELOADING=1");
    let usec = reloading
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(
        usec.is_some_and(|usec| usec.parse::<u64>().is_ok()),
        "{reloading}"
    );
    notified.wait_for("READY=1");
    notified.wait_for("STATUS=2 triggers");
    world.write("config.ron", "(");
    daemon.signal(Signal::HUP);
    notified.wait_for("RELOADING=1");
    notified.wait_for("READY=1");
    notified.wait_for("STATUS=configuration rejected");
    daemon.signal(Signal::TERM);
    notified.wait_for("STOPPING=1");
    assert!(daemon.wait().0.success());
}

/// A daemon that gets `listener` as systemd would pass it on: as descriptor 3.
fn activated(world: &World, listener: OwnedFd) -> Command {
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" server";
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_gitsocket")])
        .env_clear()
        .current_dir(world.path("."))
        .stdin(listener)
        .stderr(Stdio::piped());
    command
}

#[test]
fn sockets_are_taken_over_from_systemd() {
    let world = World::sourced();
    configure(&world, "Tcp(addr: \"127.0.0.1:0\")", &["site"]);
    let listener = UnixListener::bind(world.path("s.sock")).unwrap();
    let early = UnixStream::connect(world.path("s.sock")).unwrap();
    let mut daemon = Daemon::of(
        activated(&world, listener.into()).spawn().unwrap(),
        world.path("s.sock"),
    );
    daemon.wait_for("ready");
    // Who came before the daemon is served, too.
    let mut early = BufReader::new(early);
    early.get_mut().write_all(b"ping\n").unwrap();
    let mut line = String::new();
    early.read_line(&mut line).unwrap();
    assert_eq!(line, "pong\n");
    daemon.deploys("site");
    configure(&world, "", &["site", "added"]);
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready triggers=2");
    daemon.deploys("added");
    daemon.stop();
    assert!(daemon.socket.exists(), "it is systemd's");
}

#[test]
fn a_passed_on_socket_that_others_can_reach_needs_a_token() {
    let world = World::sourced();
    world.write(
        "config.ron",
        "(triggers: {\"site\": (repo: \"repo.git\", path: \"site\")})",
    );
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let output = activated(&world, listener.into()).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("needs a token"), "{err}");
    // And something that is no listening socket at all.
    let (one, _two) = UnixStream::pair().unwrap();
    let output = activated(&world, one.into()).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("socket number 1"), "{err}");
}

/// The daemon, started by `program` with `args`.
fn started_by(world: &World, program: &Path, args: &[&str]) -> Daemon {
    let mut command = Command::new(program);
    command
        .args(args)
        .args([env!("CARGO_BIN_EXE_gitsocket"), "server"])
        .env_clear()
        .current_dir(world.path("."))
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    Daemon::of(command.spawn().unwrap(), world.path("s.sock"))
}

/// As process 1 of a container it waits for those whose parents have gone.
#[test]
fn orphans_are_reaped_by_process_1() {
    if !need(Need::Root) || !need("unshare") {
        return;
    }
    let world = World::sourced();
    world.fifo("go");
    let hook = world.script(
        "hook",
        "(echo $$ > ../orphan; read line < ../go) > /dev/null 2>&1 & echo left",
    );
    world.config(&format!("hooks: [Exec(run: [{hook:?}], when: Always)]"));
    let unshare = machine::find("unshare").unwrap();
    let mut daemon = started_by(&world, &unshare, &["--pid", "--fork", "--kill-child"]);
    if !daemon.says("ready") {
        machine::skipped("a namespace of processes cannot be made here");
        return;
    }
    daemon.deploys("site");
    let [init] = daemon.workers()[..] else {
        panic!("not one process");
    };
    let of_init = || children(init.as_raw_nonzero().get().cast_unsigned()).len();
    assert_eq!(of_init(), 2, "the worker and the orphan");
    fs::write(world.path("go"), "\n").unwrap();
    wait_until(|| of_init() == 1);
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let world = World::sourced();
    configure(&world, "", &["site"]);
    let mut daemon = world.daemon();
    // More than a pipe holds: 64 KiB, see pipe(7).
    for _ in 0..1000 {
        assert!(daemon.say("nosuch\n").contains("unknown-trigger"));
    }
    daemon.deploys("site");
    // Once there is room again, the next line comes with how many are missing.
    let socket = daemon.socket.clone();
    let is_said = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_said.load(Ordering::Acquire) {
                let mut stream = UnixStream::connect(&socket).unwrap();
                stream.write_all(b"nosuch\n").unwrap();
                stream.read_to_end(&mut Vec::new()).unwrap();
            }
        });
        daemon.wait_for("lines of the log are lost");
        is_said.store(true, Ordering::Release);
    });
}

#[test]
fn what_the_old_worker_finishes_shows_in_the_new_one() {
    let world = World::sourced();
    world.fifo("go");
    world.hook("echo started; read line < ../go; exit 1");
    let mut daemon = Daemon::start_with(&world, &[], &[("STATE_DIRECTORY", world.path("state"))]);
    let mut client = BufReader::new(daemon.connect());
    client.get_mut().write_all(b"site\n").unwrap();
    until(&mut client, "| started");
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready");
    assert!(!daemon.say("status\n").contains("exit status 1"));
    fs::write(world.path("go"), "\n").unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert!(last_line(&rest).contains("exit status 1"), "{rest}");
    let status = daemon.say("status\n");
    assert!(status.contains("exit status 1"), "{status}");
    world.run_to(1, ["healthcheck", "--failing-for", "0s"]);
}

#[test]
fn a_directory_that_somebody_locks_is_not_waited_for() {
    let world = World::sourced();
    configure(&world, "", &["site"]);
    let mut daemon = world.daemon();
    fs::create_dir(world.path("public")).unwrap();
    let held = fs::File::open(world.path("public")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockShared).unwrap();
    configure(&world, "Unix(path: \"public/s.sock\")", &["site"]);
    daemon.signal(Signal::HUP);
    daemon.wait_for("another process holds a lock");
    daemon.wait_for("ready");
    assert!(UnixStream::connect(world.path("public/s.sock")).is_ok());
    drop(held);
}

/// As under a parent that has blocked what the daemon wants to hear.
#[test]
fn blocked_signals_are_heard() {
    let world = World::sourced();
    world.hook("echo hook");
    let mut daemon = started_by(&world, "/usr/bin/env".as_ref(), &["--block-signal=TERM,HUP,CHLD"]);
    if !daemon.says("ready") {
        machine::skipped("env cannot block signals here");
        return;
    }
    daemon.deploys("site");
    daemon.stop();
}
