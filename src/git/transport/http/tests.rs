//! Every fault that a server, a proxy or a certificate can have, against canned answers.

mod client_certificates;
mod credentials;
mod proxies;
mod redirects;
mod tls;
mod warm;

use std::{
    io::{BufRead as _, Write as _},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use gix_transport::{
    Service,
    client::{self, MessageKind, WriteMode, blocking_io::Transport as _},
};
use tempfile::NamedTempFile;

use super::{Proxies, connect};
use crate::{
    base::{
        fault::Kind,
        name::{AbsPath, RepoUrl},
        report::Reporter,
    },
    git::{
        origin::{Auth, Roots, Tls},
        transport::{
            Connections, Deadline, Error, Options, cause,
            tests::{
                refusal::{Refusal, assert_all_are_shown},
                server::{Answer, Request, Server, reply},
            },
        },
    },
};

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const RESULT: &str = "application/x-git-upload-pack-result";
const REFS: &[u8] = b"001e# service=git-upload-pack\n0000000eversion 2\n000cls-refs\n0000";
const LINE: &[u8] = b"000ahello\n0000";

struct Ask {
    auth: Auth,
    tls: Tls,
    proxies: Proxies,
    timeout: Duration,
    connections: Connections,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            tls: Tls::default(),
            proxies: Proxies::default(),
            timeout: Duration::from_secs(20),
            connections: Connections::new(Duration::ZERO),
        }
    }
}

impl Ask {
    /// It may send credentials that are not encrypted.
    fn plain() -> Self {
        let tls = Tls {
            allow_plain_credentials: true,
            ..Tls::default()
        };
        Self {
            tls,
            ..Self::default()
        }
    }

    /// Its environment has these variables.
    fn through(vars: &[(&str, String)]) -> Self {
        Self {
            proxies: proxies(vars),
            ..Self::default()
        }
    }

    fn options<'a>(&'a self, report: &'a Reporter) -> Options<'a> {
        Options {
            deadline: Deadline::new(self.timeout),
            auth: &self.auth,
            tls: &self.tls,
            report,
            connections: &self.connections,
            offers: None,
            scratch: Path::new("/"),
        }
    }

    /// Shake hands with the server at `url`, then ask it for a line.
    fn line(&self, url: &str) -> Result<String, Refusal> {
        let url = RepoUrl::parse(url, Path::new("/")).unwrap();
        let report = Reporter::new(|_| {});
        let mut transport = connect(&url, &self.options(&report), self.proxies.clone())
            .map_err(|err| Refusal::of(&Error::from(err)))?;
        transport
            .handshake(Service::UploadPack, &[])
            .map(drop)
            .map_err(failure)?;
        let mut request = transport
            .request(
                WriteMode::OneLfTerminatedLinePerWriteCall,
                MessageKind::Flush,
                false,
            )
            .map_err(failure)?;
        for word in ["command=ls-refs", "agent=test"] {
            request.write_all(word.as_bytes()).map_err(io_failure)?;
        }
        let mut answer = request.into_read().map_err(io_failure)?;
        let mut line = String::new();
        answer.read_line(&mut line).map_err(io_failure)?;
        Ok(line)
    }

    fn failure(&self, url: &str) -> Refusal {
        let failure = self.line(url).unwrap_err();
        let text = format!("{failure:?}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!text.contains(&base64("hunter2")), "{text}");
        assert!(failure.help.is_some(), "{text}");
        failure
    }
}

fn failure(err: client::Error) -> Refusal {
    let err = gix::Error::from(err);
    Refusal::of(cause(&err).unwrap_or_else(|| panic!("not ours: {err:?}")))
}

fn io_failure(err: std::io::Error) -> Refusal {
    failure(client::Error::Io(err))
}

/// A server that is a git server as far as [`Ask::line`] looks.
fn git(request: &Request) -> Answer {
    match request.method() {
        "GET" => reply("200 OK", &[("Content-Type", ADVERTISEMENT)], REFS),
        _ => reply("200 OK", &[("Content-Type", RESULT)], LINE),
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(text)
}

fn secret(text: &str) -> (NamedTempFile, AbsPath) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = AbsPath::resolve(Path::new("/"), file.path()).unwrap();
    (file, path)
}

fn proxies(vars: &[(&str, String)]) -> Proxies {
    Proxies::from_vars(|name| {
        vars.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.clone())
    })
}

#[test]
fn requests_are_git_s() {
    let server = Server::start(git);
    let line = Ask::default().line(&server.url("/me/a%20b.git")).unwrap();
    assert_eq!(line, "hello\n");
    let [refs, command] = &server.requests()[..] else {
        panic!("{:?}", server.requests());
    };
    assert_eq!(refs.target(), "/me/a%20b.git/info/refs?service=git-upload-pack");
    assert_eq!(refs.header("git-protocol"), Some("version=2"));
    assert_eq!(refs.header("accept-encoding"), Some("gzip"));
    assert!(refs.header("user-agent").unwrap().starts_with("git/gitsocket-"));
    assert_eq!(refs.header("authorization"), None);
    assert_eq!(command.target(), "/me/a%20b.git/git-upload-pack");
    assert_eq!(command.header("git-protocol"), Some("version=2"));
    assert_eq!(
        command.header("content-type"),
        Some("application/x-git-upload-pack-request")
    );
    assert_eq!(command.header("transfer-encoding"), None);
    assert_eq!(command.body, b"0014command=ls-refs\n000fagent=test\n0000");
    assert_eq!(server.connections(), 1, "the connection is kept");
}

#[test]
fn localhost_needs_no_resolver() {
    let server = Server::start(git);
    let url = format!("http://localhost:{}/x", server.port);
    assert_eq!(Ask::default().line(&url).unwrap(), "hello\n");
}

#[test]
fn gzip_is_undone() {
    // `printf '000ahello\n0000' | gzip -n`
    const ZIPPED: &[u8] = &[
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 51, 48, 48, 72, 204, 72, 205, 201, 201, 231, 50, 0, 2, 0, 234, 2,
        60, 121, 14, 0, 0, 0,
    ];
    let server = Server::start(|request| match request.method() {
        "GET" => git(request),
        _ => reply(
            "200 OK",
            &[("Content-Type", RESULT), ("Content-Encoding", "gzip")],
            ZIPPED,
        ),
    });
    assert_eq!(Ask::default().line(&server.url("/x")).unwrap(), "hello\n");
    let server = Server::start(|request| match request.method() {
        "GET" => git(request),
        _ => reply(
            "200 OK",
            &[("Content-Type", RESULT), ("Content-Encoding", "gzip")],
            LINE,
        ),
    });
    let failure = Ask::default().failure(&server.url("/x"));
    insta::assert_snapshot!(failure, @r"
    Protocol (remote): http://127.0.0.1:PORT/x answered what cannot be understood: its gzip data are damaged: invalid gzip header
    help: check the port in `repo`, and whether a proxy is between
    ");
}

#[test]
fn statuses() {
    let mut all = String::new();
    for status in [
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "410 Gone",
        "418 Teapot",
        "429 Too Many",
        "500 Oops",
        "501 Not Implemented",
        "503 Busy",
        "204 No Content",
        "304 Not Modified",
    ] {
        let [get, post] = ["GET", "POST"].map(|method| {
            let server = Server::start(move |request| {
                if request.method() == method {
                    reply(status, &[("Content-Type", "text/plain")], "\nno luck\nx")
                } else {
                    git(request)
                }
            });
            Ask::default().failure(&server.url("/x")).to_string()
        });
        assert_eq!(get, post);
        all += &format!("{get}\n\n");
    }
    insta::assert_snapshot!(all, @r#"
    Unauthenticated (remote): http://127.0.0.1:PORT/x asks for a user and password (401): it says "no luck"
    help: name them: auth: Basic(user: "…", password_file: "…"), or Bearer(token_file: "…"). Many hosts answer this for a repository that does not exist, too

    Forbidden (remote): http://127.0.0.1:PORT/x is forbidden (403): it says "no luck"
    help: the account that `auth` names must be allowed to read the repository

    NotFound (remote): there is no repository at http://127.0.0.1:PORT/x (404): it says "no luck"
    help: check the path in `repo`. Some hosts answer this for repositories that need `auth`, too

    NotFound (remote): there is no repository at http://127.0.0.1:PORT/x (410): it says "no luck"
    help: check the path in `repo`. Some hosts answer this for repositories that need `auth`, too

    Status (remote): http://127.0.0.1:PORT/x answered 418: it says "no luck"
    help: the server does not let git fetch there; check `repo`

    Status (unreachable): http://127.0.0.1:PORT/x answered 429: it says "no luck"
    help: the server has a difficulty that should pass; try again later

    Status (unreachable): http://127.0.0.1:PORT/x answered 500: it says "no luck"
    help: the server has a difficulty that should pass; try again later

    Status (remote): http://127.0.0.1:PORT/x answered 501: it says "no luck"
    help: the server does not let git fetch there; check `repo`

    Status (unreachable): http://127.0.0.1:PORT/x answered 503: it says "no luck"
    help: the server has a difficulty that should pass; try again later

    Status (remote): http://127.0.0.1:PORT/x answered 204
    help: the server does not let git fetch there; check `repo`

    Status (remote): http://127.0.0.1:PORT/x answered 304
    help: the server does not let git fetch there; check `repo`
    "#);
}

#[test]
fn what_is_not_git() {
    let mut all = String::new();
    for (content_type, body) in [
        ("text/html; charset=utf-8", "<html>"),
        ("application/json", "{}"),
        (
            "text/plain",
            "1234567890123456789012345678901234567890\trefs/heads/main\n",
        ),
        ("text/plain", ""),
    ] {
        let server = Server::start(move |_| reply("200 OK", &[("Content-Type", content_type)], body));
        all += &format!("{}\n\n", Ask::default().failure(&server.url("/x")));
    }
    insta::assert_snapshot!(all, @r#"
    NotGit (remote): http://127.0.0.1:PORT/x answered with a web page instead of git's protocol
    help: it may be a login page, or that of a network's portal; `repo` must be the URL that git clone takes

    NotGit (remote): http://127.0.0.1:PORT/x answered with application/json instead of git's protocol
    help: it may be a login page, or that of a network's portal; `repo` must be the URL that git clone takes

    Dumb (remote): http://127.0.0.1:PORT/x serves the repository's files only (the "dumb" protocol), which is not supported
    help: the server must run git http-backend, or use git:// or ssh://

    NotGit (remote): http://127.0.0.1:PORT/x answered with text/plain instead of git's protocol
    help: it may be a login page, or that of a network's portal; `repo` must be the URL that git clone takes
    "#);
    let server = Server::start(|_| Answer::Cut(b"220 mail.example ESMTP\r\n".to_vec()));
    insta::assert_snapshot!(Ask::default().failure(&server.url("/x")), @r"
    Protocol (remote): http://127.0.0.1:PORT/x answered what cannot be understood: protocol: http parse fail: invalid HTTP version
    help: check the port in `repo`, and whether a proxy is between
    ");
}

#[test]
fn a_type_with_parameters_is_git_s() {
    let server = Server::start(|request| match request.method() {
        "GET" => reply(
            "200 OK",
            &[(
                "Content-Type",
                "Application/X-Git-Upload-Pack-Advertisement; charset=utf-8",
            )],
            REFS,
        ),
        _ => git(request),
    });
    assert_eq!(Ask::default().line(&server.url("/x")).unwrap(), "hello\n");
}

#[test]
fn the_deadline_holds() {
    let silent = || Answer::Nothing;
    let slow_head = || Answer::Trickle(b"HTTP/1.1 200 OK\r\nX-Slow: ".to_vec());
    let slow_body = || {
        Answer::Trickle(
            format!("HTTP/1.1 200 OK\r\nContent-Type: {RESULT}\r\nContent-Length: 999999\r\n\r\nfff0")
                .into_bytes(),
        )
    };
    type Make = fn() -> Answer;
    let answers: [(&str, Make); 5] = [
        ("GET", silent),
        ("GET", slow_head),
        ("POST", silent),
        ("POST", slow_head),
        ("POST", slow_body),
    ];
    for (at, answer) in answers {
        let server = Server::start(move |request| {
            if request.method() == at {
                answer()
            } else {
                git(request)
            }
        });
        let ask = Ask {
            timeout: Duration::from_millis(300),
            ..Ask::default()
        };
        let begin = Instant::now();
        let failure = ask.failure(&server.url("/x"));
        insta::allow_duplicates!(insta::assert_snapshot!(failure, @r"
        Network::Timeout (timeout): 127.0.0.1:PORT did not deliver http://127.0.0.1:PORT/x within 300ms
        help: raise `timeout` if that is too short, or find out why the server is slow
        "));
        let took = begin.elapsed();
        assert!(
            took > Duration::from_millis(250) && took < Duration::from_secs(60),
            "{took:?}"
        );
    }
}

#[test]
fn a_host_that_accepts_but_says_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ask = Ask {
        timeout: Duration::from_millis(200),
        ..Ask::default()
    };
    insta::assert_snapshot!(ask.failure(&format!("http://127.0.0.1:{port}/x")), @r"
    Network::Timeout (timeout): 127.0.0.1:PORT did not deliver http://127.0.0.1:PORT/x within 200ms
    help: raise `timeout` if that is too short, or find out why the server is slow
    ");
    insta::assert_snapshot!(ask.failure(&format!("https://127.0.0.1:{port}/x")), @r"
    Network::Timeout (timeout): 127.0.0.1:PORT did not deliver https://127.0.0.1:PORT/x within 200ms
    help: raise `timeout` if that is too short, or find out why the server is slow
    ");
}

#[test]
fn broken_connections() {
    let closed = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap().port()
    };
    let failure = Ask::default().failure(&format!("https://127.0.0.1:{closed}/x"));
    insta::assert_snapshot!(failure, @r"
    Network::Connect (unreachable): cannot connect to 127.0.0.1:PORT for https://127.0.0.1:PORT/x: Connection refused (os error 111)
    help: check the host and the port, and that no firewall is between
    ");
    let failure = Ask::default().failure("https://no-such-host.invalid/x");
    insta::assert_snapshot!(failure, @r"
    Network::Resolve (unreachable): cannot find the address of no-such-host.invalid for https://no-such-host.invalid/x: no host has a name that ends in .invalid
    help: check the host's spelling, and the name servers in /etc/resolv.conf
    ");

    let half = format!("HTTP/1.1 200 OK\r\nContent-Type: {RESULT}\r\nContent-Length: 99\r\n\r\n000bhel");
    let within_chunks = [
        "",
        "1",
        "1f",
        "1f\r",
        "1f\r\n",
        "1f\r\n000bhel",
        "7\r\n000bhel",
        "7\r\n000bhel\r",
    ]
    .map(|chunks| {
        let said = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {RESULT}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        );
        ("POST", said)
    });
    for (method, said) in [("GET", String::new()), ("POST", String::new()), ("POST", half)]
        .into_iter()
        .chain(within_chunks)
    {
        let server = Server::start(move |request| {
            if request.method() == method {
                Answer::Cut(said.clone().into_bytes())
            } else {
                git(request)
            }
        });
        let failure = Ask::default().failure(&server.url("/x"));
        insta::allow_duplicates!(insta::assert_snapshot!(without_reason(failure), @r"
        Network::Lost (unreachable): the connection to 127.0.0.1:PORT for http://127.0.0.1:PORT/x was lost: REASON
        help: try again; if that does not help, the log of the server should say more
        "));
    }
}

/// The system says why, each in its own words.
fn without_reason(failure: Refusal) -> Refusal {
    assert_eq!(failure.kind, Kind::Unreachable, "{failure:?}");
    let (_, reason) = failure.message.rsplit_once(": ").unwrap();
    let reason = reason.to_owned();
    failure.map(|text| text.replace(&reason, "REASON"))
}

#[test]
fn urls_that_http_does_not_know() {
    let long = "x".repeat(70_000);
    let failure = Ask::default().failure(&format!("https://me:hunter2@127.0.0.1:1/{long}"));
    insta::assert_snapshot!(failure.map(|text| text.replace(&long[..9], "")), @r"
    Url (config): https://127.0.0.1:1/ …  cannot be used: uri too long
    help: correct `repo`
    ");
}

#[test]
fn every_refusal_is_shown() {
    let tests = [
        include_str!("tests.rs"),
        include_str!("tests/client_certificates.rs"),
        include_str!("tests/credentials.rs"),
        include_str!("tests/proxies.rs"),
        include_str!("tests/redirects.rs"),
        include_str!("tests/tls.rs"),
    ];
    assert_all_are_shown(include_str!("error.rs"), "", &["Network", "Secret"], &tests);
    assert_all_are_shown(include_str!("../tcp/error.rs"), "Network::", &[], &tests);
    let secrets = include_str!("../../../base/secret.rs");
    assert_all_are_shown(secrets, "Secret::", &[], &tests);
}
