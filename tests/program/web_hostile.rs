//! Hostile requests to the front are refused or cut off, and the next one is served.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    time::{Duration, Instant},
};

use super::{
    front::{Front, reply},
    world::World,
};

/// A front with numbers, which needs no daemon to be alive.
fn front(world: &World) -> Front {
    world.secret("token", "t0ken-of-the-hook\n");
    Front::start(
        world,
        "metrics: true, webhooks: {\"/hooks/site\": (trigger: \"site\", from: Bearer(token_file: \"token\"))}",
    )
}

/// The status of the answer to `request`; 0 if the connection ends without one.
fn status(front: &Front, request: &[u8]) -> u16 {
    let mut stream = front.connect();
    stream.write_all(request).ok();
    stream.shutdown(Shutdown::Write).ok();
    reply(&mut stream).map_or(0, |reply| reply.status)
}

#[test]
fn bad_requests_are_refused() {
    let world = World::new();
    let front = front(&world);
    let many = "A: b\r\n".repeat(100);
    let long = "x".repeat(1 << 20);
    let path = "y".repeat(100_000);
    let head = "GET /healthz HTTP/1.1\r\nHost: x\r\n";
    let post = "POST /healthz HTTP/1.1\r\nHost: x\r\n";
    let delivery = "POST /hooks/site HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t0ken-of-the-hook\r\n";
    for (request, expected) in [
        (format!("{head}\r\n"), 200),
        // Both lengths, in either order; one length twice.
        (
            format!("{delivery}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            format!("{delivery}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            format!("{delivery}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
            400,
        ),
        (
            format!("{delivery}Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
            400,
        ),
        (format!("{delivery}Content-Length: +1\r\n\r\na"), 400),
        (
            format!("{delivery}Content-Length: 18446744073709551616\r\n\r\na"),
            400,
        ),
        (format!("{delivery}Transfer-Encoding: gzip\r\n\r\na"), 400),
        (
            format!("{delivery}Transfer-Encoding: chunked, identity\r\n\r\na"),
            400,
        ),
        (format!("{delivery}Content-Length : 1\r\n\r\na"), 400),
        // Lines that are folded, and other spaces.
        (format!("{head}A: b\r\n c\r\n\r\n"), 400),
        (format!("{head} A: b\r\n\r\n"), 400),
        (format!("{head}A: b\0c\r\n\r\n"), 400),
        (format!("{head}A\0: b\r\n\r\n"), 400),
        (format!("{head}A: b\rc\r\n\r\n"), 400),
        ("GET /healthz\0 HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        // Targets that are no paths, or not those that are served.
        ("GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("GET healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("GET /a/../healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), 404),
        ("GET //healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), 404),
        ("GET /%68ealthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), 404),
        ("GET /healthz/ HTTP/1.1\r\nHost: x\r\n\r\n".into(), 404),
        ("GET /healthz%00 HTTP/1.1\r\nHost: x\r\n\r\n".into(), 404),
        ("GET /triggers/..%2f HTTP/1.1\r\nHost: x\r\n\r\n".into(), 404),
        ("GET /healthz?x=../.. HTTP/1.1\r\nHost: x\r\n\r\n".into(), 200),
        // Hosts.
        ("GET /healthz HTTP/1.1\r\n\r\n".into(), 400),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".into(), 400),
        ("GET /healthz HTTP/1.0\r\n\r\n".into(), 200),
        // Too much.
        (format!("{head}{many}\r\n"), 431),
        (format!("{head}A: {long}\r\n\r\n"), 431),
        (format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n"), 414),
        (format!("{long}{long}"), 0),
        // Other methods, and other protocols.
        (format!("{post}Content-Length: 0\r\n\r\n"), 405),
        ("BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), 405),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 0),
        ("GET /healthz HTTP/3.7\r\nHost: x\r\n\r\n".into(), 400),
        ("GET /healthz\r\n".into(), 400),
        ("trigger site\n".into(), 400),
        ("\0\0\0\0".into(), 400),
        (String::new(), 0),
        // An upgrade is passed over.
        (format!("{head}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), 200),
        (format!("{head}Expect: 100-continue\r\n\r\n"), 200),
    ] {
        let shown: String = request.chars().take(120).collect();
        let got = status(&front, request.as_bytes());
        assert!(
            got == expected || expected == 414 && got == 431 || expected == 0 && got >= 400,
            "{shown:?}: {got}"
        );
    }
    // TLS where there is none.
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    assert!([0, 400].contains(&status(&front, &hello)));
    assert_eq!(front.get("/healthz").status, 200);
}

/// What comes behind a request that means two things is not a request.
#[test]
fn no_request_is_smuggled() {
    let world = World::new();
    let front = front(&world);
    let second = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut stream = front.connect();
        let head = "POST /healthz HTTP/1.1\r\nHost: x\r\n";
        stream
            .write_all(format!("{head}{lengths}{second}").as_bytes())
            .unwrap();
        let first = reply(&mut stream).unwrap();
        assert_eq!(
            (first.status, first.header("connection")),
            (400, Some("close")),
            "{first:?}"
        );
        assert_eq!(reply(&mut stream), None, "{lengths:?}");
    }
    // After a body in chunks, which may end where another says that it does not, the connection ends.
    let mut stream = front.connect();
    let chunked = "POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(format!("{chunked}{second}").as_bytes()).unwrap();
    assert_eq!(reply(&mut stream).unwrap().status, 405);
    assert_eq!(reply(&mut stream), None);
    // Requests in one go are answered in their order.
    let mut stream = front.connect();
    stream.write_all(second.repeat(50).as_bytes()).unwrap();
    for _ in 0..50 {
        assert_eq!(reply(&mut stream).unwrap().status, 200);
    }
}

/// A client that sends a large body without asking whether it may sees why that is refused.
#[test]
fn who_is_refused_in_the_middle_sees_why() {
    let world = World::new();
    let front = front(&world);
    let body = "x".repeat(8 << 20);
    let request = format!(
        "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..3 {
        let mut stream = front.connect();
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(reply(&mut stream).unwrap().status, 405);
    }
    // One that asks is not told to go on.
    let mut stream = front.connect();
    let head = "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(reply(&mut stream).unwrap().status, 405);
}

/// A byte now and then buys no time, and no other waits.
#[test]
fn a_head_that_trickles_is_cut_off() {
    let world = World::new();
    let front = front(&world);
    let begin = Instant::now();
    let mut slow = front.connect();
    let mut idle = front.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert_eq!(reply(&mut idle).unwrap().status, 200);
    slow.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ")
        .unwrap();
    loop {
        slow.write_all(b"x").ok();
        match slow.read(&mut [0; 1024]) {
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {
                assert_eq!(front.get("/healthz").status, 200);
            }
            _ => break,
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "it waits for ever");
    }
    assert!(begin.elapsed() >= Duration::from_secs(4));
    // So is one that has been answered and says nothing more.
    assert_eq!(idle.read(&mut [0; 1]).unwrap_or(0), 0);
}
