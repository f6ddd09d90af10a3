//! A browser follows a run's lines through a lost connection, up to the end of its session.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use super::{visitor::Visitor, world::World};

/// A stream of events, line by line.
struct Events(BufReader<TcpStream>);

impl Events {
    /// Follow the run at `path` from the line after `id`.
    fn follow(visitor: &Visitor, path: &str, id: &str) -> Self {
        let after = match id {
            "" => String::new(),
            id => format!("Last-Event-ID: {id}\r\n"),
        };
        let stream = visitor.begin("GET", &format!("{path}/events"), &after, "");
        // One that does not end is a failure, and not a test without an end.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut events = Self(BufReader::new(stream));
        assert!(events.until("\r\n").contains("content-type: text/event-stream"));
        events
    }

    /// All up to the line that contains `text`, or is empty.
    fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "no {text:?} in {seen}");
            let found = if text == "\r\n" {
                line == text
            } else {
                line.contains(text)
            };
            seen += &line;
            if found {
                return seen;
            }
        }
    }
}

#[test]
fn a_run_is_followed_and_a_lost_connection_found_again() {
    let world = World::sourced();
    world.config(
        "hooks: [Exec(run: [\"/bin/sh\", \"-c\", \"exec 3<>../go; echo one; read a <&3; echo two; read a <&3\"])]",
    );
    world.fifo("go");
    let go = || {
        fs::OpenOptions::new()
            .write(true)
            .open(world.path("go"))
            .unwrap()
            .write_all(b"\n")
            .unwrap()
    };
    let daemon = world.daemon();
    let visitor = Visitor::signed_in(&world);
    let run = visitor.press("/triggers/site", "/triggers/site/deploy");
    let page = visitor.get(&run);
    assert!(
        page.body.contains(&format!("data-events=\"{run}/events\"")),
        "{page:?}"
    );
    let mut first = Events::follow(&visitor, &run, "");
    let seen = first.until("\"text\":\"one\"");
    let ids: Vec<&str> = seen
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .collect();
    let last = ids.last().unwrap().to_string();
    assert!(ids.len() > 3 && seen.contains("event: again"), "{seen}");
    // The same place, for whoever comes back to it; from the beginning for others.
    let mut back = Events::follow(&visitor, &run, &last);
    go();
    let seen = back.until("\"text\":\"two\"");
    assert!(
        !seen.contains("again") && !seen.contains("\"text\":\"one\""),
        "{seen}"
    );
    let mut stranger = Events::follow(&visitor, &run, "ffffffff-0");
    let seen = stranger.until("\"text\":\"two\"");
    assert!(
        seen.contains("event: again") && seen.contains("\"text\":\"one\""),
        "{seen}"
    );
    go();
    for mut events in [first, back, stranger] {
        assert!(events.until("event: end").contains("ok site "));
        let mut rest = String::new();
        events.0.read_to_string(&mut rest).unwrap();
    }
    daemon.say("attach site\n");
    assert!(visitor.get(&run).body.contains("<li class=\"ln\">two</li>"));
}

/// What was followed by one who is no longer in is not told further.
#[test]
fn a_stream_ends_with_its_session() {
    let world = World::sourced();
    world.config("hooks: [Exec(run: [\"/bin/sh\", \"-c\", \"echo one; read a < ../go\"])]");
    world.fifo("go");
    let _daemon = world.daemon();
    let mut visitor = Visitor::signed_in(&world);
    let run = visitor.press("/triggers/site", "/triggers/site/deploy");
    let mut first = Events::follow(&visitor, &run, "");
    first.until("\"text\":\"one\"");
    visitor.sign_in();
    let mut second = Events::follow(&visitor, &run, "");
    second.until("\"text\":\"one\"");
    let token = visitor.get("/").field("form").to_owned();
    assert_eq!(visitor.post("/sign-out", &format!("form={token}")).status, 303);
    second.until("event: end");
    world.secret("password", "another\n");
    first.until("event: end");
    fs::write(world.path("go"), "\n").unwrap();
}
