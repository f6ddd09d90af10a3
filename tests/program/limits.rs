//! The limits of the socket's protocol hold, as a client meets them.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::UnixStream,
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::process::getegid;

use super::{
    figures::Figures,
    world::{Need, World, last_line, need},
};

#[test]
fn a_line_has_8192_bytes_at_most() {
    let world = World::configured();
    let daemon = world.daemon();
    for (bytes, fits) in [(8191, true), (8192, true), (8193, false), (8300, false)] {
        for line in ["ping", "{\"op\":\"ping\"}"] {
            let padding = " ".repeat(bytes - line.len() - 1);
            let answer = daemon.say(format!("{line}{padding}\n"));
            assert_eq!(answer.contains("pong"), fits, "{bytes} {line}: {answer}");
            assert_eq!(
                answer.contains("longer than 8192 bytes"),
                !fits,
                "{bytes} {line}: {answer}"
            );
        }
    }
    // As many tokens as one likes are one too many.
    let answer = daemon.say("token a\n".repeat(500) + "ping\n");
    assert!(answer.contains("sent twice"), "{answer}");
}

/// A byte now and then buys no time, and nobody else waits.
#[test]
fn a_line_that_trickles_is_cut_off_after_five_seconds() {
    let world = World::configured();
    let daemon = world.daemon();
    let begin = Instant::now();
    let mut slow = daemon.connect();
    slow.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = Vec::new();
    loop {
        // It ends when the daemon has had enough; then its answer is still to be read.
        slow.write_all(b"x").ok();
        let mut some = [0; 1024];
        match slow.read(&mut some) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&some[..n]),
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {
                assert!(daemon.say("ping\n").contains("pong"));
            }
            Err(_) => break,
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "it waits for ever");
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("no request came within 5 s"), "{answer}");
    assert!(begin.elapsed() >= Duration::from_secs(5));
}

/// `nc -N` and its like close their half when they have spoken.
#[test]
fn who_has_only_finished_speaking_gets_his_answer() {
    let world = World::sourced();
    world.fifo("go");
    world.hook("echo started; read line < ../go");
    let daemon = world.daemon();
    let mut stream = daemon.connect();
    stream.write_all(b"site\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    while line != "| started\n" {
        line.clear();
        assert_ne!(answer.read_line(&mut line).unwrap(), 0);
    }
    // Longer than the glance at silent clients takes to come round.
    std::thread::sleep(Duration::from_millis(1500));
    fs::write(world.path("go"), "\n").unwrap();
    answer.read_to_string(&mut line).unwrap();
    assert!(last_line(&line).starts_with("ok site "), "{line}");
}

/// 80 MB of hook output, for clients who do not read a byte of it.
#[test]
fn a_flood_that_nobody_reads_is_not_kept() {
    let world = World::sourced();
    world.hook("i=0; l=$(printf '%04000d' 0); while [ $i -lt 20000 ]; do echo $l; i=$((i+1)); done");
    let daemon = world.daemon();
    assert!(daemon.say("ping\n").contains("pong"));
    let before = Figures::of(daemon.child.id()).resident / 1024;
    let deaf: Vec<UnixStream> = ["site\n", "{\"op\":\"trigger\",\"name\":\"site\"}\n"]
        .iter()
        .cycle()
        .take(20)
        .map(|line| {
            let mut stream = daemon.connect();
            stream.write_all(line.as_bytes()).unwrap();
            stream
        })
        .collect();
    let answer = daemon.say("site\n");
    assert!(
        last_line(&answer).starts_with("ok site "),
        "{}",
        last_line(&answer)
    );
    let peak = Figures::of(daemon.child.id()).peak / 1024;
    eprintln!("80 MB of output: from {before} MiB to {peak} at most");
    assert!(peak < before + 50, "from {before} MiB to {peak}");
    // The deaf are told what they missed, if they ever listen. Some came after the run had begun, and shared the next.
    let mut lagged = 0;
    for mut stream in deaf {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(last_line(&answer).contains("site"), "{}", last_line(&answer));
        lagged += usize::from(answer.contains("lost") || answer.contains("\"lagged\""));
    }
    assert!(lagged > 0, "nobody missed anything");
}

/// Set when this is dropped.
struct Set<'a>(&'a AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Whenever the socket can be seen, its mode and group are right, and before that nobody can reach it: also where the
/// umask would let everybody in. strace slows the moment in between down, if it is there.
#[test]
fn nobody_connects_before_mode_and_group_are_right() {
    let world = World::sourced();
    // Only root can give things to groups that it is not in.
    let group = if rustix::process::geteuid().is_root() {
        4242
    } else {
        getegid().as_raw()
    };
    world.write(
        "config.ron",
        &format!(
            "(listen: [Unix(path: \"s.sock\", mode: \"0620\", group: \"{group}\")],
              triggers: {{ \"site\": (repo: \"repo.git\", path: \"site\") }})"
        ),
    );
    let slowly = need(Need::Tracing);
    let strace = "strace -D -f -o /dev/null -e trace=$calls -e inject=$calls:delay_enter=100000";
    let program = env!("CARGO_BIN_EXE_gitsocket");
    let script = world.script(
        "start",
        &format!(
            "umask 0; calls=chmod,fchmodat,?fchmodat2,chown,lchown,fchownat; exec {} {program} server",
            if slowly { strace } else { "" }
        ),
    );
    for _ in 0..3 {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut child = Command::new(&script)
            .env_clear()
            .env("PATH", path)
            .current_dir(world.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let _killed = Killed(child);
        let ready = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _whatever_happens = Set(&ready);
                let mut line = String::new();
                while !line.contains("ready") {
                    line.clear();
                    assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
                }
            });
            while !ready.load(Ordering::Acquire) {
                look(&world.path("s.sock"), group);
                for entry in fs::read_dir(world.path("")).unwrap() {
                    let path = entry.unwrap().path();
                    let name = path.file_name().unwrap().to_str().unwrap();
                    if !name.starts_with(".gitsocket-") {
                        continue;
                    }
                    // Gone, or out of reach, or right.
                    match fs::metadata(&path) {
                        Ok(meta) if meta.is_dir() => assert_eq!(meta.mode() & 0o077, 0, "{name}"),
                        _ => drop(look(&path, group)),
                    }
                }
            }
        });
        assert!(look(&world.path("s.sock"), group), "it is not there");
    }
}

/// Killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Whether there is a socket at `path`, whose mode and group are right then.
fn look(path: &Path, group: u32) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return false;
    };
    assert!(meta.file_type().is_socket());
    assert_eq!(
        (meta.mode() & 0o777, meta.gid()),
        (0o620, group),
        "{}",
        path.display()
    );
    true
}

#[test]
fn two_hundred_clients_at_once_cost_three_runs_at_most() {
    let world = World::configured();
    let daemon = world.daemon();
    let barrier = std::sync::Barrier::new(200);
    let begin = Instant::now();
    let runs: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..200)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let answer = daemon.say("{\"op\":\"trigger\",\"name\":\"site\"}\n");
                    let done: serde_json::Value = serde_json::from_str(last_line(&answer)).unwrap();
                    assert_eq!(done["exit"], 0, "{answer}");
                    done["run"].to_string()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let took = begin.elapsed();
    assert_eq!(runs.len(), 200);
    let different: std::collections::BTreeSet<_> = runs.iter().collect();
    eprintln!("200 clients: {} runs, {took:?}", different.len());
    assert!(different.len() <= 3, "{} runs", different.len());
}

#[test]
fn a_thousand_triggers_start_at_once() {
    let world = World::sourced();
    let triggers: String = (0..1000)
        .map(|n| {
            format!(
                "\"site-{n}\": (repo: \"repo.git\", branch: \"main\", path: \"sites/{n}\", keep: [\"uploads/\"], \
                 allow: [User({}), User(\"nobody-{n}\")]),\n",
                rustix::process::geteuid().as_raw()
            )
        })
        .collect();
    world.config_of(&triggers);
    let daemon = world.daemon();
    // Of the processor's time, which does not grow with what else the machine does.
    let ready = Figures::of(daemon.child.id()).busy;
    let begin = Instant::now();
    let status = daemon.say("status\n");
    let asked = begin.elapsed();
    assert_eq!(status.lines().count(), 1001);
    let begin = Instant::now();
    assert!(daemon.say("no-such-site\n").contains("unknown-trigger"));
    let refused = begin.elapsed();
    eprintln!("1,000 triggers: ready after {ready:?}, status {asked:?}, refusal {refused:?}");
    assert!(ready < Duration::from_secs(2), "{ready:?}");
    daemon.deploys("site-999");
}
