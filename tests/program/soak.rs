//! A daemon's memory, descriptors and threads stay flat under hostile clients, and an idle daemon sleeps.
//!
//! `GITSOCKET_SOAK=SECONDS` makes it longer.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    access::{say, with_tcp},
    figures::Figures,
    source::{Source, file},
    world::{Daemon, World, ask, last_line},
};

/// Targets that work; some of the others fail at once, some are refused.
const TARGETS: usize = 12;
/// Clients of each kind.
const CLIENTS: usize = 2;

#[test]
fn memory_descriptors_and_threads_stay_flat() {
    let seconds = match std::env::var("GITSOCKET_SOAK") {
        Ok(seconds) => seconds.parse().unwrap(),
        Err(_) => 4,
    };
    let soak = Soak::new();
    let (daemon, addresses) = with_tcp(&soak.world, &[]);
    let (mut daemon, tcp) = (daemon, addresses[0].clone());
    let log = daemon.collect();
    let pid = daemon.child.id();

    // Long enough for every thread pool and cache to have its size.
    soak.run(&daemon, &tcp, Duration::from_secs(seconds / 2));
    let before = soak.settled(&daemon);
    soak.run(&daemon, &tcp, Duration::from_secs(seconds - seconds / 2));
    let after = soak.settled(&daemon);
    let requests = soak.requests.load(Ordering::Relaxed);
    eprintln!(
        "{seconds} s, {requests} requests, {} deploys",
        soak.deploys.load(Ordering::Relaxed)
    );
    eprintln!("after the warm-up: {before:?}\nat the end:        {after:?}");
    assert!(requests > 20 * seconds, "only {requests} requests");
    assert_eq!(after.processes, before.processes);
    // Pools let idle threads go, and take new ones, a few at a time.
    assert!(after.threads <= before.threads + 4, "{before:?} {after:?}");
    assert!(
        after.descriptors <= before.descriptors + 8,
        "{before:?} {after:?}"
    );
    assert!(
        after.resident <= before.resident + before.resident / 4 + 16 * 1024,
        "{before:?} {after:?}"
    );

    // For those who behave, nothing has changed.
    for n in 0..TARGETS {
        daemon.answers(format!("site-{n}\n"), &format!("ok site-{n} "));
    }
    assert!(last_line(&say(&tcp, "token s3cret\nsite-0\n")).starts_with("ok site-0 "));

    daemon.signal(rustix::process::Signal::TERM);
    let log = log.join().unwrap();
    assert!(daemon.child.wait().unwrap().success());
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(Figures::of(pid).threads, 0, "something is left of it");
}

struct Soak {
    world: World,
    source: Mutex<Source>,
    requests: AtomicU64,
    deploys: AtomicUsize,
    /// Accepts connections, and never says a word.
    _silent: TcpListener,
}

impl Soak {
    fn new() -> Self {
        let (world, mut source) = World::with_source();
        source.commit([("a", file("1")), ("d/b", file("2"))]);
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let flood = world.script(
            "flood",
            "i=0; while [ $i -lt 300 ]; do echo \"line $i of many\"; i=$((i+1)); done",
        );
        let mut triggers = String::new();
        for n in 0..TARGETS {
            let hooks = match n % 3 {
                0 => format!("[Exec(run: [{flood:?}], when: Always)]"),
                1 => "[Exec(run: [\"/bin/sh\", \"-c\", \"exit 0\"])]".to_owned(),
                _ => "[]".to_owned(),
            };
            triggers += &format!(
                "\"site-{n}\": (repo: \"repo.git\", path: \"sites/{n}\", hooks: {hooks}, fsync: false),"
            );
        }
        let silent_at = silent.local_addr().unwrap();
        triggers += &format!(
            "\"nobody\": (repo: \"git://{nobody}/x\", path: \"sites/x\", retries: 0),
             \"silent\": (repo: \"http://{silent_at}/x\", path: \"sites/y\", retries: 0, timeout: \"700ms\"),
             \"missing\": (repo: \"not-there.git\", path: \"sites/z\", retries: 0),
             \"bad-hook\": (repo: \"repo.git\", path: \"sites/h\", hooks: [Exec(run: [\"/bin/false\"], when: Always)]),
             \"secret\": (repo: \"repo.git\", path: \"sites/s\", allow: [User(4242424242)]),"
        );
        world.write(
            "config.ron",
            &format!(
                "(listen: [Unix(path: \"s.sock\"), Tcp(addr: \"127.0.0.1:0\", token_file: \"token\")],
                  jobs: 4, triggers: {{ {triggers} }})"
            ),
        );
        world.secret("token", "s3cret\n");
        Self {
            world,
            source: Mutex::new(source),
            requests: AtomicU64::new(0),
            deploys: AtomicUsize::new(0),
            _silent: silent,
        }
    }

    fn run(&self, daemon: &Daemon, tcp: &str, time: Duration) {
        let end = Instant::now() + time;
        let kinds: [fn(&Self, &Path, &str, &mut fastrand::Rng); 6] = [
            Self::behave,
            Self::vanish,
            Self::stall,
            Self::flood,
            Self::lie,
            Self::lie_over_tcp,
        ];
        let start = Barrier::new(kinds.len() * CLIENTS + 1);
        let seed = super::world::machine::seed();
        std::thread::scope(|scope| {
            for (n, kind) in kinds.iter().cycle().take(kinds.len() * CLIENTS).enumerate() {
                let start = &start;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed.wrapping_add(n as u64));
                    start.wait();
                    while Instant::now() < end {
                        kind(self, &daemon.socket, tcp, &mut random);
                        self.requests.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| {
                // Pushes, so that there is something to deploy.
                let mut source = self.source.lock().unwrap();
                start.wait();
                let mut n = 0;
                while Instant::now() < end {
                    n += 1;
                    source.rewrite([("a", file(&n.to_string())), ("d/b", file("2"))]);
                    let answer = ask(&daemon.socket, "site-1\n");
                    self.deploys
                        .fetch_add(usize::from(answer.contains("\nok site-1 ")), Ordering::Relaxed);
                }
            });
        });
    }

    /// Its figures, once all runs have ended and all clients are forgotten.
    fn settled(&self, daemon: &Daemon) -> Figures {
        let begin = Instant::now();
        loop {
            let status = daemon.say("status\n");
            let busy = ["waiting", "running"].iter().any(|state| {
                status
                    .lines()
                    .any(|line| line.split(' ').nth(1).is_some_and(|word| word.starts_with(state)))
            });
            if !busy {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{status}");
        }
        // Those who stall are given up on after five seconds, and idle threads of pools after ten.
        let mut last = Figures::of(daemon.child.id());
        loop {
            std::thread::sleep(Duration::from_secs(3));
            let now = Figures::of(daemon.child.id());
            let settled = now.threads >= last.threads && now.descriptors >= last.descriptors;
            if settled || begin.elapsed() > Duration::from_secs(60) {
                return now;
            }
            last = now;
        }
    }

    fn behave(&self, socket: &Path, tcp: &str, random: &mut fastrand::Rng) {
        let name = ["nobody", "silent", "missing", "bad-hook", "secret", "unknown"];
        let name = match random.usize(..TARGETS * 2) {
            n if n < TARGETS => format!("site-{n}"),
            n => name[n % name.len()].to_owned(),
        };
        let answer = match random.u8(..4) {
            0 => ask(socket, format!("{name}\n")),
            1 => ask(socket, format!("{{\"op\":\"trigger\",\"name\":\"{name}\"}}\n")),
            2 => say(tcp, format!("token s3cret\nstatus {name}\n")),
            _ => ask(socket, "status\n"),
        };
        // All places may be taken by the others.
        assert!(!answer.is_empty());
        assert!(!answer.contains("no request came"), "{answer}");
    }

    fn vanish(&self, socket: &Path, tcp: &str, random: &mut fastrand::Rng) {
        let line = format!("site-{}\n", random.usize(..TARGETS));
        match random.u8(..3) {
            0 => drop(UnixStream::connect(socket).ok()),
            1 => drop(UnixStream::connect(socket).map(|mut stream| stream.write_all(line.as_bytes()))),
            _ => drop(TcpStream::connect(tcp).map(|mut stream| stream.write_all(&line.as_bytes()[..3]))),
        }
    }

    /// Begin to speak or to listen, and do not go on.
    fn stall(&self, socket: &Path, _: &str, random: &mut fastrand::Rng) {
        let streams: Vec<_> = (0..random.usize(1..4))
            .filter_map(|_| UnixStream::connect(socket).ok())
            .map(|mut stream| {
                let half = [&b"sit"[..], b"{\"op\":", b"site-0\n", b""];
                stream.write_all(half[random.usize(..half.len())]).ok();
                stream
            })
            .collect();
        std::thread::sleep(Duration::from_millis(random.u64(..1500)));
        drop(streams);
    }

    fn flood(&self, socket: &Path, tcp: &str, random: &mut fastrand::Rng) {
        let noise = vec![b'x'; random.usize(1..200_000)];
        if random.bool() {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.write_all(&noise).ok();
        } else {
            let mut stream = TcpStream::connect(tcp).unwrap();
            stream.write_all(&noise).ok();
        }
    }

    fn lie(&self, socket: &Path, _: &str, random: &mut fastrand::Rng) {
        ask(socket, lie(random));
    }

    fn lie_over_tcp(&self, _: &Path, tcp: &str, random: &mut fastrand::Rng) {
        let lie = [b"token ".to_vec(), lie(random)].concat();
        if let Ok(mut stream) = TcpStream::connect(tcp) {
            stream.write_all(&lie).ok();
            stream.shutdown(Shutdown::Write).ok();
            std::io::copy(&mut stream, &mut std::io::sink()).ok();
        }
    }
}

fn lie(random: &mut fastrand::Rng) -> Vec<u8> {
    let truths: [&[u8]; 4] = [
        b"site-1\n",
        b"{\"op\":\"trigger\",\"name\":\"site-1\"}\n",
        b"status secret\n",
        b"secret\n",
    ];
    let mut lie = truths[random.usize(..truths.len())].to_vec();
    match random.u8(..4) {
        0 => lie.truncate(random.usize(..lie.len())),
        1 => {
            let at = random.usize(..lie.len());
            lie[at] = random.u8(..);
        }
        2 => {
            lie = vec![0; random.usize(..2000)];
            random.fill(&mut lie);
        }
        _ => {}
    }
    lie
}

/// A daemon that nobody asks does nothing: no thread of it wakes.
#[test]
fn an_idle_daemon_sleeps() {
    let world = World::configured();
    let mut daemon = world.daemon();
    let _log = daemon.collect();
    for _ in 0..5 {
        daemon.deploys("site");
    }
    // A client that waits for its run, while nothing else happens, would be looked after; there is none.
    let mut kept = BufReader::new(daemon.connect());
    kept.get_mut().write_all(b"ping\n").unwrap();
    kept.read_line(&mut String::new()).unwrap();
    drop(kept);
    let pid = daemon.child.id();
    // Idle threads of pools go after ten seconds or so, and wake for that.
    let begin = Instant::now();
    let mut before = Figures::of(pid);
    let quiet = loop {
        std::thread::sleep(Duration::from_secs(5));
        let now = Figures::of(pid);
        if now.sleeps == before.sleeps && now.threads == before.threads {
            break now;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "it wakes though nobody asks: {before:?}, five seconds later {now:?}"
        );
        before = now;
    };
    eprintln!("idle: {quiet:?}, quiet {:?} after the last run", begin.elapsed());
    daemon.deploys("site");
}
