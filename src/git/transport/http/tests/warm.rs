//! Connections that outlive a fetch.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::*;
use crate::git::transport::deadline::PATIENCE;

fn ask() -> Ask {
    Ask {
        connections: Connections::new(Duration::from_secs(600)),
        ..Ask::default()
    }
}

#[test]
fn many_fetches_over_one_connection() {
    let server = Server::start(git);
    for rounds in 1..=3 {
        let ask = Ask::default();
        ask.line(&server.url("/x")).unwrap();
        assert_eq!(server.connections(), rounds, "nothing is kept without keep-alive");
    }
    let ask = ask();
    for _ in 0..3 {
        ask.line(&server.url("/x")).unwrap();
        ask.line(&server.url("/another")).unwrap();
    }
    assert_eq!(server.connections(), 4);
}

#[test]
fn an_answer_in_chunks_is_read_to_its_end() {
    let chunked = |kind: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: {kind}\r\n\r\n{:x}\r\n",
            body.len()
        );
        Answer::Say([head.as_bytes(), body, b"\r\n0\r\n\r\n"].concat())
    };
    let server = Server::start(move |request| match request.method() {
        "GET" => chunked(ADVERTISEMENT, REFS),
        _ => chunked(RESULT, LINE),
    });
    let ask = ask();
    for _ in 0..2 {
        ask.line(&server.url("/x")).unwrap();
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn two_at_once_have_two_connections() {
    let server = Server::start(git);
    let ask = ask();
    let url = RepoUrl::parse(&server.url("/x"), Path::new("/")).unwrap();
    let report = Reporter::new(|_| {});
    let options = ask.options(&report);
    for _ in 0..2 {
        let mut both = [0, 1].map(|_| connect(&url, &options, Proxies::default()).unwrap());
        for transport in &mut both {
            transport.handshake(Service::UploadPack, &[]).unwrap();
        }
        drop(both);
        assert_eq!(server.connections(), 2, "both are kept");
    }
}

#[test]
fn a_connection_that_the_server_closed_is_opened_anew_without_a_word() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let Answer::Say(bytes) = git(request) else {
            unreachable!()
        };
        match count.fetch_add(1, Ordering::SeqCst) {
            1 => Answer::Cut(bytes),
            // It looked alive, and was not: hung up in the middle of the head.
            4 => Answer::Cut(bytes[..9].to_vec()),
            _ => Answer::Say(bytes),
        }
    });
    let ask = ask();
    for connections in [1, 2, 3] {
        ask.line(&server.url("/x")).unwrap();
        assert_eq!(server.connections(), connections);
    }
}

/// A server that does not answer once the flag is set: one request, and then the flag is down again.
fn silenced() -> (Server, Arc<AtomicBool>) {
    let silent = Arc::<AtomicBool>::default();
    let flag = silent.clone();
    let server = Server::start(move |request| {
        if flag.swap(false, Ordering::SeqCst) {
            Answer::Nothing
        } else {
            git(request)
        }
    });
    (server, silent)
}

#[test]
fn a_connection_that_fell_silent_is_opened_anew_without_a_word() {
    let (server, silent) = silenced();
    let ask = ask();
    ask.line(&server.url("/x")).unwrap();
    silent.store(true, Ordering::SeqCst);
    let begin = Instant::now();
    ask.line(&server.url("/x")).unwrap();
    let took = begin.elapsed();
    assert!(took >= PATIENCE, "{took:?}");
    // On a busy machine the second one may fall silent, too, between its two answers.
    assert!((2..=3).contains(&server.connections()));
}

#[test]
fn one_that_failed_is_not_kept() {
    let server = Server::start(|_| Answer::Cut(Vec::new()));
    let ask = ask();
    for connections in [1, 2] {
        ask.line(&server.url("/x")).unwrap_err();
        assert_eq!(server.connections(), connections);
    }
}

#[test]
fn one_that_fell_silent_leaves_time_for_another() {
    let (server, silent) = silenced();
    let ask = Ask {
        timeout: PATIENCE,
        ..ask()
    };
    ask.line(&server.url("/x")).unwrap();
    silent.store(true, Ordering::SeqCst);
    ask.line(&server.url("/x")).unwrap();
    assert_eq!(server.connections(), 2);
}

#[test]
fn other_roots_are_another_connection() {
    let server = Server::start(git);
    let mut ask = ask();
    let url = server.url("/x");
    let roots = crate::machine::tempdir().unwrap();
    let pem = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.self_signed(&key).unwrap().pem()
    };
    let path = AbsPath::resolve(roots.path(), Path::new("ca.pem")).unwrap();
    ask.tls.roots = Roots::File(path.clone());
    std::fs::write(&path, pem("a")).unwrap();
    ask.line(&url).unwrap();
    ask.line(&url).unwrap();
    assert_eq!(server.connections(), 1);
    std::fs::write(&path, pem("another")).unwrap();
    ask.line(&url).unwrap();
    assert_eq!(server.connections(), 2, "the file has changed");
    ask.tls.roots = Roots::Mozilla;
    ask.line(&url).unwrap();
    assert_eq!(server.connections(), 3);
}

#[test]
fn passwords_are_read_anew_though_the_connection_stays() {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let log = seen.clone();
    let server = Server::start(move |request| {
        let said = request.header("authorization").unwrap_or_default().to_owned();
        log.lock().unwrap().push(said);
        git(request)
    });
    let (file, path) = secret("first");
    let ask = Ask {
        auth: Auth::Bearer { token_file: path },
        tls: Ask::plain().tls,
        ..ask()
    };
    ask.line(&server.url("/x")).unwrap();
    std::fs::write(file.path(), "second").unwrap();
    ask.line(&server.url("/x")).unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        ["Bearer first", "Bearer first", "Bearer second", "Bearer second"]
    );
    assert_eq!(server.connections(), 1);
}
