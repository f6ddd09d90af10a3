//! Health against servers that answer as they are told.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    num::NonZeroU32,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use super::*;
use crate::base::{address::TcpAddr, watch::Stop};

/// Time enough for what does not hang.
const LONG: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(10);

/// What the server says to one connection.
#[derive(Clone, Copy)]
enum Say {
    Status(&'static str),
    Nothing,
    Hang,
}
use Say::{Hang, Nothing, Status};

/// A server that says one thing after the other, the last of them again and again; and where it tells what it was asked.
fn server(script: &'static [Say]) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut held = Vec::new();
        for (n, socket) in listener.incoming().map_while(Result::ok).enumerate() {
            match script[n.min(script.len() - 1)] {
                Status(status) => answer(socket, status, &tell),
                Nothing => {}
                Hang => held.push(socket),
            }
        }
    });
    (port, told)
}

fn answer(mut socket: TcpStream, status: &str, tell: &mpsc::Sender<String>) {
    let lines = BufReader::new(socket.try_clone().unwrap()).lines();
    let head = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
    tell.send(head.collect::<Vec<_>>().join("\n")).ok();
    // A body without end, which the check does not read.
    let head = format!("HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 99999\r\n\r\n");
    socket.write_all(head.as_bytes()).ok();
}

fn http(port: u16, within: Duration) -> Health {
    of(
        Check::Http {
            url: format!("http://u:s3cret@127.0.0.1:{port}/healthz?token=s3cret"),
            host: None,
        },
        within,
    )
}

fn of(check: Check, within: Duration) -> Health {
    Health {
        check,
        within,
        every: SOON,
        after: Duration::ZERO,
        times: NonZeroU32::MIN,
    }
}

/// How it ended, and the lines that were told.
fn ask_with(health: &Health, watch: &Watch, program: Program<'_>) -> (Result<(), Error>, Vec<String>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let to = lines.clone();
    let sink = Sink::new(move |event| to.lock().unwrap().extend(event.line()));
    let ended = wait(health, watch, &sink, program);
    let lines = lines.lock().unwrap().clone();
    (ended, lines)
}

fn ask(health: &Health) -> (Result<(), Error>, Vec<String>) {
    let watch = Watch::new(LONG, Stop::default(), None);
    ask_with(health, &watch, &|_, _| panic!("there is no program"))
}

#[test]
fn each_new_answer_is_told_until_it_is_good() {
    let script = &[
        Status("503 Gone fishing"),
        Status("503 Gone fishing"),
        Nothing,
        Status("404 Not Found"),
        Status("302 Found"),
    ];
    let (port, asked) = server(script);
    let mut health = http(port, LONG);
    if let Check::Http { host, .. } = &mut health.check {
        *host = Some("site.example".into());
    }
    let (ended, lines) = ask(&health);
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[0], "health 503 Service Unavailable, again in 10ms");
    assert_eq!(lines[2], "health 404 Not Found, again in 10ms");
    assert_eq!(lines[3], "health 302 Found", "it is not followed");
    let asked: Vec<String> = asked.try_iter().collect();
    assert_eq!(asked.len(), 4);
    assert!(
        asked[0].starts_with("GET /healthz?token=s3cret HTTP/1.1\n"),
        "{asked:?}"
    );
    assert!(
        asked[0].to_lowercase().contains("\nhost: site.example\n"),
        "{asked:?}"
    );
    assert!(!asked[0].to_lowercase().contains("authorization"), "{asked:?}");
}

#[test]
fn what_does_not_get_well_says_what_it_said_last() {
    let (port, asked) = server(&[Status("200 OK"), Status("500 No")]);
    let mut health = http(port, Duration::from_secs(1));
    health.times = NonZeroU32::new(2).unwrap();
    let (ended, lines) = ask(&health);
    let err = ended.unwrap_err();
    assert_eq!(err.kind(), Kind::Unhealthy);
    let text = err.to_string();
    assert!(
        text.contains(&format!(
            "http://127.0.0.1:{port}/healthz was not healthy within "
        )),
        "{text}"
    );
    assert!(
        text.ends_with(": 500 Internal Server Error") && !text.contains("s3cret"),
        "{text}"
    );
    let expected = [
        "health 200 OK, 1 of 2 times, again in 10ms",
        "health 500 Internal Server Error, again in 10ms",
    ];
    assert_eq!(lines, expected);
    assert!(asked.try_iter().count() > 2);
}

#[test]
fn good_answers_count_in_a_row() {
    const GOOD: Say = Status("204 No Content");
    let (port, asked) = server(&[GOOD, GOOD, Status("503 x"), GOOD]);
    let mut health = http(port, LONG);
    health.times = NonZeroU32::new(3).unwrap();
    let (ended, lines) = ask(&health);
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(asked.try_iter().count(), 6);
    assert_eq!(lines.last().unwrap(), "health 204 No Content");
}

#[test]
fn a_silent_server_holds_it_no_longer_than_it_may() {
    let (port, _asked) = server(&[Hang]);
    let began = Instant::now();
    let (ended, _) = ask(&http(port, Duration::from_millis(300)));
    let err = ended.unwrap_err();
    assert_eq!(err.kind(), Kind::Unhealthy);
    assert!(err.to_string().contains("no answer within "), "{err}");
    assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < PATIENCE);
}

#[test]
fn ports() {
    let (port, _asked) = server(&[Nothing]);
    let tcp = |port: u16| Check::Tcp(TcpAddr::parse(&port.to_string()).unwrap());
    let (ended, lines) = ask(&of(tcp(port), LONG));
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(lines, ["health a connection is accepted"]);
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (ended, _) = ask(&of(tcp(closed), Duration::from_millis(500)));
    let text = ended.unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("127.0.0.1:{closed} ")) && text.contains("refused"),
        "{text}"
    );
    assert_eq!(super::port(&of(tcp(closed), LONG)), Some(closed));
    assert_eq!(super::port(&http(closed, LONG)), Some(closed));
    let url = |url: &str| {
        of(
            Check::Http {
                url: url.into(),
                host: Some("h:1".into()),
            },
            LONG,
        )
    };
    assert_eq!(super::port(&url("https://[::1]/")), Some(443));
    assert_eq!(super::port(&url("http://h")), Some(80));
}

#[test]
fn the_lines_of_a_program_are_told_with_each_new_answer() {
    let statuses = Mutex::new(["1", "1", "1", "2"].iter());
    let program = |_: Duration, events: &Sink| {
        events.warn("line");
        match statuses.lock().unwrap().next() {
            Some(status) => Err(hook::Error::Failed {
                hook: "x".into(),
                status: format!("exit status {status}"),
            }),
            None => Ok(()),
        }
    };
    let hook = crate::config::Hook::PostCheckout;
    let watch = Watch::new(LONG, Stop::default(), None);
    let (ended, lines) = ask_with(&of(Check::Exec(hook), LONG), &watch, &program);
    assert!(ended.is_ok(), "{ended:?}");
    let expected = [
        "warning: line",
        "health exit status 1, again in 10ms",
        "warning: line",
        "health exit status 2, again in 10ms",
        "warning: line",
        "health exit status 0",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_end_of_the_daemon_and_of_the_run_end_it() {
    let (port, asked) = server(&[Status("503 x")]);
    let mut health = http(port, LONG);
    health.every = LONG / 2;
    let stop = Stop::default();
    let watch = Watch::new(LONG * 10, stop.clone(), None);
    let begin = Instant::now();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| ask_with(&health, &watch, &|_, _| Ok(())));
        asked.recv().unwrap();
        stop.set();
        let (ended, _) = waiting.join().unwrap();
        let err = ended.unwrap_err();
        assert_eq!(err.kind(), Kind::Stopping);
        assert!(err.to_string().contains("503"), "{err}");
    });
    // No question fits any more.
    let watch = Watch::new(LONG / 4, Stop::default(), None);
    let (ended, _) = ask_with(&health, &watch, &|_, _| Ok(()));
    assert_eq!(ended.unwrap_err().kind(), Kind::Timeout);
    health.after = LONG;
    let (ended, _) = ask_with(&health, &watch, &|_, _| Ok(()));
    assert!(ended.unwrap_err().to_string().contains("not checked yet"));
    assert!(begin.elapsed() < LONG / 4, "nothing was waited for");
}

#[test]
fn what_changes_all_the_time_is_not_told_all_the_time() {
    let told = Arc::new(Mutex::new(0));
    let count = told.clone();
    let sink = Sink::new(move |_| *count.lock().unwrap() += 1);
    let mut teller = Teller::new(&sink);
    for n in 0..100 {
        teller.tell(&n.to_string(), false, SOON);
    }
    assert_eq!(*told.lock().unwrap(), 10);
}

#[test]
fn pauses() {
    for (every, within, left, expected) in [
        (1000, 30_000, 5000, Some(1000)),
        (1000, 30_000, 1500, Some(500)),
        (1000, 30_000, 1000, None),
        (10_000, 30_000, 9_500, Some(8_500)),
        // However short the time is, there is more than one question.
        (1000, 2000, 2000, Some(1000)),
        (1000, 2000, 1000, Some(800)),
        (1000, 2000, 200, None),
        (1000, 1000, 999, Some(899)),
        (1000, 500, 500, Some(450)),
        (1000, 500, 50, None),
        (10, 500, 61, Some(10)),
        (10, 500, 0, None),
    ] {
        let [every, within, left] = [every, within, left].map(Duration::from_millis);
        let health = Health {
            every,
            ..of(Check::Tcp(TcpAddr::parse("127.0.0.1:1").unwrap()), within)
        };
        let expected = expected.map(Duration::from_millis);
        assert_eq!(pause(&health, left), expected, "{every:?} {within:?} {left:?}");
    }
}

/// A question that is cut short says nothing new.
#[test]
fn the_last_answer_is_one() {
    let (port, _asked) = server(&[Status("503 x"), Hang]);
    let (ended, _) = ask(&http(port, Duration::from_millis(200)));
    let text = ended.unwrap_err().to_string();
    assert!(text.ends_with(": 503 Service Unavailable"), "{text}");
}
