//! A delivery that is proven starts one run, whatever happens to its connection, to the daemon or to the run.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    hear::{GITHUB, PUSH, SECRET, accepted, end, github, served},
    sender::{Front, sign},
    world::World,
};

#[test]
fn a_repeated_delivery_counts_once_unless_its_run_failed() {
    let world = World::sourced();
    world.secret("secret", SECRET);
    world.script("hook", &format!("test -e {:?}", world.path("good")));
    world.config(&format!(
        "hooks: [Exec(run: [{:?}], when: Always)]",
        world.path("hook")
    ));
    let _daemon = world.daemon();
    let front = Front::start(&world, GITHUB, "");
    let post = |id: &str| github(&front, "/hooks/site", SECRET, "push", id, PUSH);
    let first = accepted(&post("id-1"));
    assert_eq!(end(&world, &first), 5);
    let second = accepted(&post("id-1"));
    assert_ne!(first, second, "a failed run is tried again");
    assert_eq!(end(&world, &second), 5);
    world.write("good", "");
    let third = accepted(&post("id-1"));
    assert_eq!(end(&world, &third), 0);
    for _ in 0..3 {
        let answer = post("id-1");
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        assert_eq!(
            (&json["run"], &json["repeated"]),
            (&third.as_str().into(), &true.into())
        );
    }
    // Another id; none; the same, of another body: none is one that was before.
    let mut runs = vec![third];
    for (id, body) in [
        ("id-2", PUSH),
        ("", PUSH),
        ("", PUSH),
        ("id-1", r#"{"ref":"refs/heads/main","x":1}"#),
    ] {
        let run = accepted(&github(&front, "/hooks/site", SECRET, "push", id, body));
        assert_eq!(end(&world, &run), 0);
        assert!(!runs.contains(&run), "{id:?} {body}");
        runs.push(run);
    }
}

/// More deliveries than there is room for, and a daemon that takes its time: some connections are evicted, no name is lost, not
/// even if the process is to stop at once.
#[test]
fn what_is_proven_is_done_whatever_becomes_of_its_connection() {
    const MANY: usize = 600;
    let world = World::configured();
    world.secret("secret", SECRET);
    // It hears, and says nothing.
    let silent = UnixListener::bind(world.path("s.sock")).unwrap();
    let mut front = Front::start(&world, GITHUB, "");
    let log = front.process.collect();
    let signature = sign(SECRET, PUSH.as_bytes());
    let request = delivery(&signature);
    let (told, answers) = std::sync::mpsc::channel();
    for _ in 0..MANY {
        let mut stream = UnixStream::connect(&front.process.socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let told = told.clone();
        std::thread::spawn(move || {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok();
            told.send(answer).unwrap();
        });
    }
    // One is evicted.
    answers.recv().unwrap();
    drop(silent);
    let mut daemon = world.daemon();
    daemon.wait_for("ok site");
    assert_eq!(answers.iter().take(MANY - 1).count(), MANY - 1);
    front.process.signal(Signal::TERM);
    let log = log.join().unwrap();
    // The log does not wait for its reader, but counts what it has lost.
    let lost = |line: &str| {
        line.strip_suffix(" lines of the log are lost: the reader of the pipe was too slow")?
            .parse::<usize>()
            .ok()
    };
    let told = log.matches("triggered by the delivery").count();
    assert!(
        told + log.lines().filter_map(lost).sum::<usize>() >= MANY,
        "{log}"
    );
}

fn delivery(signature: &str) -> String {
    format!(
        "POST /hooks/site HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         X-GitHub-Event: push\r\nX-Hub-Signature-256: sha256={signature}\r\nContent-Length: {}\r\n\r\n{PUSH}",
        PUSH.len()
    )
}

/// What was waiting when the daemon was killed is gone with it: to deliver it once more is another try.
#[test]
fn a_run_that_the_daemon_has_lost_is_no_repeated_one() {
    let world = World::new();
    // A source that never answers.
    let source = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = source.local_addr().unwrap().port();
    world.config_of(&format!(
        "\"site\": (repo: \"git://127.0.0.1:{port}/x\", branch: \"main\", path: \"site\"),"
    ));
    world.secret("secret", SECRET);
    let mut daemon = world.daemon();
    let front = Front::start(&world, GITHUB, "");
    let post = |id: &str| github(&front, "/hooks/site", SECRET, "push", id, PUSH);
    accepted(&post("goes on"));
    let waits = accepted(&post("waits"));
    let answer = post("waits");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["run"], waits.as_str());
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let _daemon = world.daemon();
    assert_ne!(accepted(&post("waits")), waits);
}

#[test]
fn nothing_is_lost_while_the_daemon_is_away() {
    let world = World::configured();
    world.secret("secret", SECRET);
    let mut front = Front::start(&world, GITHUB, "");
    let post = || github(&front, "/hooks/site", SECRET, "push", "id-1", PUSH);
    let answer = post();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.head.contains("\r\nretry-after: "), "{answer:?}");
    assert!(answer.body.contains("the name site is kept"), "{answer:?}");
    let mut daemon = world.daemon();
    daemon.wait_for("ok site");
    assert!(world.site().contains_key("a"));
    // It was not delivered before.
    let run = accepted(&post());
    assert_eq!(end(&world, &run), 0);
    assert_eq!(post().json()["run"], run.as_str());
    front.process.signal(Signal::TERM);
    assert!(front.process.wait().0.success());
}

/// A daemon that closes each connection in which one name is sent keeps no other name waiting.
#[test]
fn a_name_that_breaks_its_connection_holds_up_no_other() {
    let world = World::new();
    world.secret("secret", SECRET);
    let daemon = UnixListener::bind(world.path("s.sock")).unwrap();
    let hook =
        |name: &str| format!("\"/{name}\": (trigger: {name:?}, from: Bearer(token_file: \"secret\")),");
    let front = Front::start(&world, &[hook("a"), hook("b")].concat(), "");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in daemon.incoming() {
            let mut request = String::new();
            BufReader::new(stream.unwrap()).read_line(&mut request).unwrap();
            let name = ["a", "b"]
                .into_iter()
                .find(|name| request.contains(&format!("\"{name}\"")));
            if name.is_some_and(|name| tell.send(name).is_err()) {
                return;
            }
        }
    });
    for name in ["a", "b"] {
        let token = format!("Bearer {SECRET}");
        let answer = front.ask(&format!("POST /{name}"), &[("Authorization", &token)], b"");
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    for name in ["a", "b", "a", "b"] {
        let until = Instant::now() + Duration::from_secs(60);
        while told.recv_timeout(until - Instant::now()).unwrap() != name {}
    }
}

#[test]
fn a_trigger_that_the_daemon_has_not_is_unavailable() {
    let (world, _daemon) = served();
    let hook = r#""/h": (trigger: "sight", from: Bearer(token_file: "secret")),"#;
    let front = Front::start(&world, hook, "");
    let answer = front.ask("POST /h", &[("Authorization", &format!("Bearer {SECRET}"))], b"");
    assert_eq!(
        (answer.status, &answer.json()["kind"]),
        (503, &"unknown-trigger".into())
    );
}
