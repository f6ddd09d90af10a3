//! Lines that clients send, good and bad.

use super::*;

fn trigger(name: &str, wait: bool) -> Request {
    operation(name, Task::Update, wait)
}

fn operation(name: &str, task: Task, wait: bool) -> Request {
    Request::Trigger {
        name: TriggerName::new(name).unwrap(),
        task,
        wait,
        note: None,
    }
}

fn rollback(to: Option<&str>) -> Task {
    Task::Rollback {
        to: to.map(|to| Earlier::parse(to).unwrap()),
    }
}

fn log(run: Option<Which>) -> Request {
    Request::Log {
        name: Some(TriggerName::new("site").unwrap()),
        run,
        limit: None,
    }
}

fn all(limit: Option<u32>) -> Request {
    Request::Log {
        name: None,
        run: None,
        limit,
    }
}

fn pause(reason: Option<&str>) -> Request {
    Request::Pause {
        name: TriggerName::new("site").unwrap(),
        reason: reason.map(|reason| Note::new(reason).unwrap()),
    }
}

fn noted(task: Task, note: &str) -> Request {
    Request::Trigger {
        name: TriggerName::new("site").unwrap(),
        task,
        wait: true,
        note: Some(Note::new(note).unwrap()),
    }
}

fn id() -> Which {
    Which::Id(RunId::parse("0198c0ffee0001").unwrap())
}

#[test]
fn good_lines() {
    let text = |request| Line::Request(request, Format::Text, None);
    let json = |request, token: Option<&str>| Line::Request(request, Format::Json, token.map(Into::into));
    let name = || TriggerName::new("site").unwrap();
    for (line, expected) in [
        ("site", text(trigger("site", true))),
        ("  site \r", text(trigger("site", true))),
        ("trigger site", text(trigger("site", true))),
        ("status", text(Request::Status { names: Vec::new() })),
        ("status site", text(Request::Status { names: vec![name()] })),
        ("log site", text(log(None))),
        ("log site 0198c0ffee0001", text(log(Some(id())))),
        ("log site newest", text(log(Some(Which::Newest)))),
        ("attach site", text(log(Some(Which::Newest)))),
        ("rollback site", text(operation("site", rollback(None), true))),
        (
            "rollback site 5D6E7F8",
            text(operation("site", rollback(Some("5d6e7f8")), true)),
        ),
        (
            "rollback site 20261125T201500Z-5d6e7f8",
            text(operation(
                "site",
                rollback(Some("20261125T201500Z-5d6e7f8")),
                true,
            )),
        ),
        ("retry site", text(operation("site", Task::Retry, true))),
        // Names that were there before the words.
        ("trigger rollback", text(trigger("rollback", true))),
        ("trigger retry", text(trigger("retry", true))),
        (
            "rollback rollback",
            text(operation("rollback", rollback(None), true)),
        ),
        (
            r#"{"op":"rollback","name":"site","to":"5d6e7f8"}"#,
            json(operation("site", rollback(Some("5d6e7f8")), true), None),
        ),
        (
            r#"{"op":"rollback","name":"site","wait":false,"token":"t"}"#,
            json(operation("site", rollback(None), false), Some("t")),
        ),
        (
            r#"{"op":"retry","name":"site"}"#,
            json(operation("site", Task::Retry, true), None),
        ),
        (r#"{"op":"log","name":"site"}"#, json(log(None), None)),
        (
            r#"{"op":"log","name":"site","run":"0198c0ffee0001"}"#,
            json(log(Some(id())), None),
        ),
        (
            r#"{"op":"log","name":"site","run":"newest"}"#,
            json(log(Some(Which::Newest)), None),
        ),
        ("trigger site nowait", text(trigger("site", false))),
        ("trigger site hooks", text(operation("site", Task::Hooks, true))),
        (
            "trigger site nowait hooks",
            text(operation("site", Task::Hooks, false)),
        ),
        ("trigger pause", text(trigger("pause", true))),
        ("pause site", text(pause(None))),
        (
            "pause site before the holiday",
            text(pause(Some("before the holiday"))),
        ),
        ("resume site", text(Request::Resume { name: name() })),
        (
            "status site site",
            text(Request::Status {
                names: vec![name(), name()],
            }),
        ),
        ("log", text(all(None))),
        (
            r#"{"op":"trigger","name":"site","hooks":true,"note":"by alice"}"#,
            json(noted(Task::Hooks, "by alice"), None),
        ),
        (
            r#"{"op":"trigger","name":"site","hooks":false}"#,
            json(trigger("site", true), None),
        ),
        (
            r#"{"op":"retry","name":"site","note":"by alice"}"#,
            json(noted(Task::Retry, "by alice"), None),
        ),
        (
            r#"{"op":"pause","name":"site","reason":"before the holiday"}"#,
            json(pause(Some("before the holiday")), None),
        ),
        (
            r#"{"op":"resume","name":"site"}"#,
            json(Request::Resume { name: name() }, None),
        ),
        (
            r#"{"op":"status","names":["site","site"]}"#,
            json(
                Request::Status {
                    names: vec![name(), name()],
                },
                None,
            ),
        ),
        (r#"{"op":"log"}"#, json(all(None), None)),
        (r#"{"op":"log","limit":7}"#, json(all(Some(7)), None)),
        ("ping", text(Request::Ping)),
        ("metrics", text(Request::Metrics)),
        ("trigger metrics", text(trigger("metrics", true))),
        (r#"{"op":"metrics"}"#, json(Request::Metrics, None)),
        ("token s3cret", Line::Token("s3cret".into())),
        (r#"{"op":"ping"}"#, json(Request::Ping, None)),
        (
            r#"{"op":"trigger","name":"site"}"#,
            json(trigger("site", true), None),
        ),
        (
            r#" {"op":"trigger","name":"site","wait":false,"token":"t"}"#,
            json(trigger("site", false), Some("t")),
        ),
    ] {
        assert_eq!(parse(line.as_bytes()), Ok(expected), "{line}");
    }
}

#[test]
fn bad_lines_are_answered_in_their_format() {
    for (line, format) in [
        (&b""[..], Format::Text),
        (b"\0\0\0", Format::Text),
        (b"\xff\xfe", Format::Text),
        (b"two words", Format::Text),
        (b"../etc", Format::Text),
        (b"token", Format::Text),
        (b"trigger", Format::Text),
        (b"trigger a b", Format::Text),
        (b"attach", Format::Text),
        (b"log site ../0198c0ffee0001", Format::Text),
        (b"log site /etc/passwd", Format::Text),
        (b"log site -", Format::Text),
        (b"log site 0198c0ffee0001 more", Format::Text),
        (b"rollback", Format::Text),
        (b"retry", Format::Text),
        (b"retry site 5d6e7f8", Format::Text),
        (b"rollback site ../5d6e7f8", Format::Text),
        (b"rollback site 5d6", Format::Text),
        (b"rollback site 5d6e7f8 more", Format::Text),
        (
            b"{\"op\":\"retry\",\"name\":\"a\",\"to\":\"5d6e7f8\"}",
            Format::Json,
        ),
        (
            b"{\"op\":\"trigger\",\"name\":\"a\",\"to\":\"5d6e7f8\"}",
            Format::Json,
        ),
        (
            b"{\"op\":\"rollback\",\"name\":\"a\",\"to\":\"HEAD\"}",
            Format::Json,
        ),
        (b"{\"op\":\"rollback\",\"to\":\"5d6e7f8\"}", Format::Json),
        (b"{\"op\":\"log\",\"run\":\"newest\"}", Format::Json),
        (b"{\"op\":\"log\",\"name\":\"a\",\"run\":\"../b\"}", Format::Json),
        (b"{\"op\":\"log\",\"name\":\"a\",\"run\":7}", Format::Json),
        (
            b"{\"op\":\"status\",\"name\":\"a\",\"run\":\"newest\"}",
            Format::Json,
        ),
        (b"pause", Format::Text),
        (b"resume", Format::Text),
        (b"resume site now", Format::Text),
        (b"trigger site later", Format::Text),
        (b"status ../site", Format::Text),
        (b"{\"op\":\"pause\"}", Format::Json),
        (b"{\"op\":\"pause\",\"name\":\"a\",\"reason\":\"\"}", Format::Json),
        (b"{\"op\":\"pause\",\"name\":\"a\",\"note\":\"b\"}", Format::Json),
        (
            b"{\"op\":\"trigger\",\"name\":\"a\",\"note\":\"b\\nc\"}",
            Format::Json,
        ),
        (b"{\"op\":\"retry\",\"name\":\"a\",\"hooks\":true}", Format::Json),
        (
            b"{\"op\":\"trigger\",\"name\":\"a\",\"names\":[\"b\"]}",
            Format::Json,
        ),
        (b"{\"op\":\"status\",\"limit\":1}", Format::Json),
        (b"{\"op\":\"log\",\"limit\":-1}", Format::Json),
        (b"GET / HTTP/1.1", Format::Text),
        (b"{", Format::Json),
        (b"{\"op\":\"trigger\"", Format::Json),
        (b"{\"op\":\"trigger\"}", Format::Json),
        (b"{\"op\":\"trigger\",\"name\":\"a b\"}", Format::Json),
        (b"metrics site", Format::Text),
        (b"{\"op\":\"metrics\",\"name\":\"a\"}", Format::Json),
        (b"{\"op\":\"format\"}", Format::Json),
        (b"{\"op\":\"ping\",\"extra\":1}", Format::Json),
        (b"{\"op\":\"ping\xff\"}", Format::Json),
    ] {
        let (failure, answered) = parse(line).unwrap_err();
        assert_eq!(failure.kind, Kind::BadRequest);
        assert_eq!(answered, format, "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn what_the_client_sends_is_understood() {
    for request in [
        trigger("site", false),
        operation("site", rollback(None), true),
        operation("site", rollback(Some("5d6e7f8")), false),
        operation("site", Task::Retry, true),
        operation("site", Task::Hooks, true),
        noted(Task::Update, "by alice"),
        pause(None),
        pause(Some("before the holiday")),
        Request::Resume {
            name: TriggerName::new("site").unwrap(),
        },
        Request::Status { names: Vec::new() },
        Request::Status {
            names: ["a", "b"].map(|name| TriggerName::new(name).unwrap()).into(),
        },
        all(Some(7)),
        log(None),
        log(Some(id())),
        log(Some(Which::Newest)),
        Request::Metrics,
        Request::Ping,
    ] {
        let line = request_line(&request, Some("t"));
        let parsed = parse(line.trim_end().as_bytes()).unwrap();
        assert_eq!(parsed, Line::Request(request, Format::Json, Some("t".into())));
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut rng = fastrand::Rng::with_seed(crate::machine::seed());
    let seeds: [&[u8]; 7] = [
        b"rollback site 5d6e7f8",
        br#"{"op":"rollback","name":"s","to":"5d6e"}"#,
        b"trigger site",
        b"token x",
        br#"{"op":"trigger","name":"s"}"#,
        b"status",
        b"log site 0198c0ffee0001",
    ];
    for _ in 0..20_000 {
        let mut line = seeds[rng.usize(..seeds.len())].to_vec();
        for _ in 0..rng.usize(0..4) {
            let at = rng.usize(..line.len());
            match rng.u8(0..3) {
                0 => line[at] = rng.u8(..),
                1 => line.insert(at, rng.u8(..)),
                _ => line.truncate(at.max(1)),
            }
        }
        if let Err((failure, _)) = parse(&line) {
            assert!(!failure.message.contains(char::is_control), "{failure:?}");
        }
    }
}
