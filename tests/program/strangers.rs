//! Strangers at a listener take nothing from its clients, from other listeners or from the log.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Instant,
};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::{
    access::{say, with_tcp},
    world::{Daemon, World, last_line},
};

/// A world with a listener of each kind, and the trigger `site` with `more` of its fields.
fn world(more: &str) -> World {
    let world = World::sourced();
    world.secret("token", "s3cret\n");
    let text = format!(
        "(listen: [Unix(path: \"s.sock\"), Tcp(addr: \"127.0.0.1:0\", token_file: \"token\")],
          triggers: {{ \"site\": (repo: \"repo.git\", path: \"site\", {more}) }})"
    );
    world.write("config.ron", &text);
    world
}

/// So many connections to `address` that say nothing.
fn silent(address: &str, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}

/// Let this process open as many files as it may; how many connections it can hold.
fn room() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(65_536).min(65_536);
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(most),
            ..limit
        },
    );
    let open = raised.map_or(limit.current.unwrap_or(most), |()| most);
    (open as usize).saturating_sub(500).min(2000)
}

#[test]
fn silent_connections_take_no_place() {
    let world = world("hooks: [Exec(run: [\"/bin/sh\", \"-c\", \"echo started; read line < ../go\"])]");
    world.fifo("go");
    let (mut daemon, addresses) = with_tcp(&world, &[]);
    let log = daemon.collect();
    let [address] = addresses.as_slice() else {
        panic!("{addresses:?}");
    };
    // One that has said its token and follows a run.
    let mut follower = BufReader::new(TcpStream::connect(address).unwrap());
    follower.get_mut().write_all(b"token s3cret\nsite\n").unwrap();
    let mut line = String::new();
    while line != "| started\n" {
        line.clear();
        assert_ne!(follower.read_line(&mut line).unwrap(), 0);
    }
    let count = room();
    assert!(count > 600, "only {count} connections can be tried");
    let strangers = silent(address, count);
    for _ in 0..3 {
        world.run_to(0, ["status", "-s", address, "--token-file", "token"]);
        assert_eq!(say(address, "token s3cret\nping\n"), "pong\nok -\n");
        assert_eq!(daemon.say("ping\n"), "pong\nok -\n");
    }
    // The first of them has made way, and was told.
    let mut first = String::new();
    (&strangers[0]).read_to_string(&mut first).unwrap();
    assert!(first.starts_with("error - busy: "), "{first}");
    fs::write(world.path("go"), "\n").unwrap();
    let mut rest = String::new();
    follower.read_to_string(&mut rest).unwrap();
    assert!(last_line(&rest).starts_with("ok site "), "{rest}");
    drop(strangers);
    daemon.signal(Signal::TERM);
    let log = log.join().unwrap();
    assert!(log.matches("refused: ").count() < 300, "{log}");
    assert!(log.contains("more requests were refused"), "{log}");
}

#[test]
fn wrong_tokens_are_answered_and_logged_at_a_bounded_rate() {
    let world = world("");
    let (mut daemon, addresses) = with_tcp(&world, &[]);
    let log = daemon.collect();
    let began = Instant::now();
    let mut guesses = silent(&addresses[0], 500);
    for (number, guess) in guesses.iter_mut().enumerate() {
        // Some have made way for others by now.
        guess.write_all(format!("token {number}\nping\n").as_bytes()).ok();
    }
    for number in 0..250 {
        let mut guess = TcpStream::connect(&addresses[0]).unwrap();
        guess
            .write_all(format!("token x{number}\nping\n").as_bytes())
            .ok();
        guesses.push(guess);
    }
    assert_eq!(say(&addresses[0], "token s3cret\nping\n"), "pong\nok -\n");
    assert_eq!(daemon.say("ping\n"), "pong\nok -\n");
    let mut told = 0;
    for guess in &mut guesses {
        guess.set_nonblocking(true).unwrap();
        let mut answer = Vec::new();
        guess.read_to_end(&mut answer).ok();
        told += u64::from(String::from_utf8_lossy(&answer).contains("the token is wrong"));
    }
    let seconds = began.elapsed().as_secs() + 1;
    assert!(told >= 10, "{told}");
    assert!(told <= 100 + 20 * seconds, "{told} in {seconds} s");
    daemon.signal(Signal::TERM);
    drop(guesses);
    let log = log.join().unwrap();
    let refused = log.matches("refused: ").count() as u64;
    let seconds = began.elapsed().as_secs() + 1;
    assert!(refused <= 120 + seconds / 3 + 1, "{refused} in {seconds} s");
    assert!(log.contains("more requests were refused"), "{log}");
}

/// Strangers leave descriptors for runs: the limit is raised, or less of them are let in.
#[test]
fn descriptors_are_left_for_runs() {
    for (limit, is_raised) in [("-Sn 300", true), ("-n 300", false)] {
        let world = world("");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("ulimit {limit} && exec \"$0\" server")])
            .arg(env!("CARGO_BIN_EXE_gitsocket"))
            .current_dir(world.path(""));
        let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut daemon = Daemon::of(child, world.path("s.sock"));
        let line = daemon.wait_for("127.0.0.1:");
        let address = line.split("address=").nth(1).unwrap();
        let address = address
            .split_whitespace()
            .next()
            .unwrap()
            .trim_matches('"')
            .to_owned();
        if !is_raised {
            let line = daemon.wait_for("the limit of open files");
            assert!(
                line.contains("allows 50 connections of each listener only"),
                "{line}"
            );
        }
        daemon.wait_for("ready");
        let log = daemon.collect();
        let limits = format!("/proc/{}/limits", daemon.workers()[0].as_raw_nonzero());
        let limits = fs::read_to_string(limits).unwrap();
        let open = limits.lines().find(|line| line.starts_with("Max open files"));
        let open = open.unwrap().split_whitespace().nth(3).unwrap().to_owned();
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        if is_raised {
            assert_eq!(open, hard.min(512 + 2 * 384).to_string())
        } else {
            assert_eq!(open, "300")
        }
        let silent_ones: Vec<_> = (0..40).map(|_| daemon.connect()).collect();
        let strangers = silent(&address, 400);
        daemon.deploys("site");
        drop((silent_ones, strangers));
        daemon.signal(Signal::TERM);
        let log = log.join().unwrap();
        assert!(!log.contains("cannot accept"), "{log}");
    }
}
