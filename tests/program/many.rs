//! One request for several triggers is sent, answered and ends as one.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use super::{supervisor::wait_until, world::World};

/// What listens where the daemon would, and says what the test says.
struct Listener(UnixListener);

/// A connection to it, and the request that came over it.
struct Asked {
    stream: BufReader<UnixStream>,
    request: Value,
}

impl Listener {
    fn new(world: &World) -> Self {
        Self(UnixListener::bind(world.path("s.sock")).unwrap())
    }

    fn next(&self) -> Asked {
        self.0.set_nonblocking(false).unwrap();
        let mut stream = BufReader::new(self.0.accept().unwrap().0);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let request = serde_json::from_str(&line).unwrap();
        Asked { stream, request }
    }

    /// That nobody else has connected by now.
    fn is_quiet(&self) {
        self.0.set_nonblocking(true).unwrap();
        assert_eq!(self.0.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

impl Asked {
    fn name(&self) -> &str {
        self.request["name"].as_str().unwrap()
    }

    /// The answer, and its end.
    fn accept(mut self) {
        let done = json!({"run": "-", "event": "done", "trigger": self.name(), "outcome": "accepted", "old": null,
            "new": null, "changed": 0, "exit": 0, "ms": 0});
        self.stream
            .get_mut()
            .write_all(format!("{done}\n").as_bytes())
            .unwrap();
    }
}

/// `slow` waits for the FIFO `go`, `gone` has no repository, the hook of `bad` fails.
fn world() -> World {
    let world = World::sourced();
    world.fifo("go");
    let slow = world.script("slow-hook", "echo begun; read line < ../go");
    let bad = world.script("bad-hook", "echo trying; exit 3");
    let triggers = format!(
        "\"slow\": (repo: \"repo.git\", path: \"slow\", hooks: [Exec(run: [{slow:?}])]),
         \"gone\": (repo: \"gone.git\", path: \"gone\"),
         \"bad\": (repo: \"repo.git\", path: \"bad\", hooks: [Exec(run: [{bad:?}])]),
         \"good\": (repo: \"repo.git\", path: \"good\"),"
    );
    // None waits for the slow one.
    let text = format!("(listen: [Unix(path: \"s.sock\")], jobs: 2, triggers: {{ {triggers} }})");
    world.write("config.ron", &text);
    world
}

/// All that a client of `args` prints, in the order in which it does; the slow one ends when all others have.
fn said(world: &World, args: &[&str]) -> (i32, String) {
    let daemon = world.daemon();
    let (mut reader, writer) = io::pipe().unwrap();
    let mut command = world.command(args);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    wait_until(|| {
        let status = daemon.say("status\n");
        let has_ended = |name: &str| {
            let line = status
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")))
                .unwrap();
            line.contains("; last run ")
        };
        ["gone", "bad", "good"].iter().all(|name| has_ended(name))
    });
    fs::write(world.path("go"), "\n").unwrap();
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code().unwrap(), said)
}

#[test]
fn each_says_whose_it_is_and_ends_come_in_order() {
    let (exit, text) = said(&world(), &["client", "slow", "gone", "bad", "good", "gone"]);
    assert_eq!(exit, 5, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        "slow: | begun",
        "bad: | trying",
        "gone: queued gone",
        "good: queued good",
    ] {
        assert!(lines.contains(&line), "{line}: {text}");
    }
    let (events, ends) = lines.split_at(lines.len() - 4);
    assert!(
        events
            .iter()
            .all(|line| line.contains(": ") && !line.starts_with("ok ")),
        "{text}"
    );
    for (line, begin) in ends
        .iter()
        .zip(["ok slow ", "error gone ", "error bad hook: ", "ok good "])
    {
        assert!(line.starts_with(begin), "{text}");
    }

    let (exit, text) = said(&world(), &["client", "--quiet", "good", "slow", "gone", "bad"]);
    let begins: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!((exit, begins), (5, vec!["good", "slow", "gone", "bad"]), "{text}");

    let (exit, text) = said(&world(), &["client", "--json", "slow", "bad", "good", "gone"]);
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ends: Vec<_> = records
        .iter()
        .filter(|record| record["event"] == "done")
        .map(|record| record["trigger"].as_str().unwrap())
        .collect();
    assert_eq!((exit, ends), (5, vec!["slow", "bad", "good", "gone"]), "{text}");
}

#[test]
fn a_name_that_cannot_be_stops_all_and_one_that_is_unknown_none() {
    let world = world();
    let daemon = world.daemon();
    let ended = world.run(["client", "good", "a/b"]);
    assert_eq!((ended.exit, ended.out.as_str()), (2, ""), "{ended:?}");
    let ended = world.run(["client", "--no-wait"]);
    assert!(
        ended.exit == 2 && ended.err.contains("NAME is missing"),
        "{ended:?}"
    );
    assert!(!daemon.say("status good\n").contains("last run"));
    let ended = world.run(["client", "good", "nosuch", "--no-wait"]);
    assert_eq!(
        (ended.exit, ended.out.as_str()),
        (4, "ok good accepted\n"),
        "{ended:?}"
    );
    assert!(
        ended.err.starts_with("error nosuch unknown-trigger: "),
        "{ended:?}"
    );
    let ended = world.run_to(3, ["client", "-s", "./nobody.sock", "good", "bad"]);
    let begins: Vec<_> = ended
        .err
        .lines()
        .filter_map(|line| line.split(": ").next())
        .collect();
    assert_eq!(begins, ["error good no-daemon", "error bad no-daemon"]);
}

fn spawn(world: &World, args: &[impl AsRef<OsStr>]) -> Child {
    let mut command = world.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn sixteen_at_a_time() {
    let world = World::new();
    let listener = Listener::new(&world);
    let names: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    let args = ["client", "-s", "s.sock"].into_iter().map(str::to_owned);
    let args: Vec<String> = args.chain(names.iter().cloned()).collect();
    let child = spawn(&world, &args);
    let mut open: Vec<Asked> = (0..16).map(|_| listener.next()).collect();
    let mut seen: BTreeSet<String> = open.iter().map(|asked| asked.name().to_owned()).collect();
    for left in (0..4).rev() {
        listener.is_quiet();
        open.remove(0).accept();
        open.push(listener.next());
        seen.insert(open.last().unwrap().name().to_owned());
        assert_eq!(seen.len(), 20 - left);
    }
    open.into_iter().for_each(Asked::accept);
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let expected: String = names.iter().map(|name| format!("ok {name} accepted\n")).collect();
    assert_eq!((output.status.code(), out), (Some(0), expected));
    listener.is_quiet();

    // Nobody answers: those whose turn has not come are not said to go on.
    let ended = world.run(args.iter().map(String::as_str).chain(["--timeout", "200ms"]));
    assert_eq!((ended.exit, ended.out.as_str()), (6, ""), "{ended:?}");
    let lines: Vec<_> = ended.err.lines().collect();
    assert_eq!(lines.len(), 20, "{ended:?}");
    for (at, (line, name)) in lines.iter().zip(&names).enumerate() {
        let why = match at {
            0..16 => "has not finished within 200ms; the run goes on",
            _ => "this request was not sent",
        };
        assert!(
            line.starts_with(&format!("error {name} timeout: ")) && line.contains(why),
            "{line}"
        );
    }
}

#[test]
fn what_is_sent() {
    let world = World::new();
    let listener = Listener::new(&world);
    for (args, request) in [
        (&["client", "site"][..], json!({"op": "trigger", "wait": true})),
        (
            &["client", "site", "--hooks", "--note", " by alice ", "--no-wait"],
            json!({"op": "trigger", "wait": false, "hooks": true, "note": "by alice"}),
        ),
        (&["pause", "site"], json!({"op": "pause"})),
        (
            &["pause", "--reason", "the holiday, ü", "site"],
            json!({"op": "pause", "reason": "the holiday, ü"}),
        ),
        (&["resume", "site"], json!({"op": "resume"})),
        (&["status", "site"], json!({"op": "status"})),
        (&["log", "site", "-n", "7"], json!({"op": "log", "limit": 7})),
    ] {
        let mut expected = request;
        expected["name"] = "site".into();
        let args = [args, &["-s", "s.sock"]].concat();
        let child = spawn(&world, &args);
        let asked = listener.next();
        assert_eq!(asked.request, expected, "{args:?}");
        asked.accept();
        assert!(child.wait_with_output().unwrap().status.success(), "{args:?}");
    }
    for (args, request) in [
        (
            &["status", "b", "a"][..],
            json!({"op": "status", "names": ["b", "a"]}),
        ),
        (&["status"], json!({"op": "status"})),
        (&["log"], json!({"op": "log"})),
    ] {
        let args = [args, &["-s", "s.sock"]].concat();
        let child = spawn(&world, &args);
        let mut asked = listener.next();
        assert_eq!(asked.request, request, "{args:?}");
        asked.request["name"] = "-".into();
        asked.accept();
        assert!(child.wait_with_output().unwrap().status.success(), "{args:?}");
    }
    let args = ["resume", "-s", "s.sock", "a", "b"];
    let child = spawn(&world, &args);
    let both = [listener.next(), listener.next()];
    let names: BTreeSet<_> = both.iter().map(|asked| asked.name().to_owned()).collect();
    assert!(names.iter().eq(["a", "b"]), "{names:?}");
    both.into_iter().for_each(Asked::accept);
    assert_eq!(
        child.wait_with_output().unwrap().stdout,
        b"ok a accepted\nok b accepted\n"
    );
    // What cannot be noted is not sent.
    let long = "x".repeat(201);
    for args in [
        &["client", "site", "--note", ""][..],
        &["client", "site", "--note", "a\nb"],
        &["client", "site", "--note", &long],
        &["pause", "site", "--reason", "\u{202e}"],
        &["log", "-n", "0"],
        &["log", "-n", "1001"],
        &["log", "site", "0198c0ffee0001", "-n", "3"],
        &["log", "-f"],
        &["log", "site", "0198c0ffee0001", "more"],
    ] {
        let ended = world.run([args, &["-s", "s.sock"]].concat());
        assert_eq!((ended.exit, ended.out.as_str()), (2, ""), "{args:?}: {ended:?}");
    }
    listener.is_quiet();
}
