//! Every fault that a server, a proxy or a certificate can have, against canned answers.

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
    config::{Auth, Roots, Tls},
    event::Reporter,
    fault::{Failure, Kind},
    name::{AbsPath, RepoUrl},
    transport::{
        Deadline, Error, Options, cause,
        tests::server::{Answer, Request, Server, reply},
    },
};

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const RESULT: &str = "application/x-git-upload-pack-result";
const REFS: &[u8] = b"001e# service=git-upload-pack\n0000000eversion 2\n000cls-refs\n0000";
const LINE: &[u8] = b"000ahello\n0000";

/// What the tests vary.
struct Ask {
    auth: Auth,
    tls: Tls,
    proxies: Proxies,
    timeout: Duration,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            tls: Tls::default(),
            proxies: Proxies::default(),
            timeout: Duration::from_secs(20),
        }
    }
}

impl Ask {
    /// Shake hands with the server at `url`, then ask it for a line.
    fn line(&self, url: &str) -> Result<String, Failure> {
        let url = RepoUrl::parse(url, Path::new("/")).unwrap();
        let options = Options {
            deadline: Deadline::new(self.timeout),
            auth: &self.auth,
            tls: &self.tls,
            report: &Reporter::new(|_| {}),
        };
        let mut transport =
            connect(&url, &options, self.proxies.clone()).map_err(|err| Failure::of(&Error::from(err)))?;
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

    fn failure(&self, url: &str) -> Failure {
        let failure = self.line(url).unwrap_err();
        let text = format!("{failure:?}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!text.contains(&base64("hunter2")), "{text}");
        assert!(failure.help.is_some(), "{text}");
        failure
    }
}

fn failure(err: client::Error) -> Failure {
    let err = gix::Error::from(err);
    Failure::of(cause(&err).unwrap_or_else(|| panic!("not ours: {err:?}")))
}

fn io_failure(err: std::io::Error) -> Failure {
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

fn plain() -> Tls {
    Tls {
        allow_plain_credentials: true,
        ..Tls::default()
    }
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
    assert_eq!(failure.kind, Kind::Remote, "{failure:?}");
}

#[test]
fn statuses() {
    for (status, kind, message) in [
        (
            "401 Unauthorized",
            Kind::Remote,
            "asks for a user and password (401)",
        ),
        ("403 Forbidden", Kind::Remote, "is forbidden (403)"),
        ("404 Not Found", Kind::Remote, "there is no repository at"),
        ("410 Gone", Kind::Remote, "there is no repository at"),
        ("418 Teapot", Kind::Remote, "answered 418"),
        ("429 Too Many", Kind::Unreachable, "answered 429"),
        ("500 Oops", Kind::Unreachable, "answered 500"),
        ("501 Not Implemented", Kind::Remote, "answered 501"),
        ("503 Busy", Kind::Unreachable, "answered 503"),
        ("204 No Content", Kind::Remote, "answered 204"),
        ("304 Not Modified", Kind::Remote, "answered 304"),
    ] {
        for method in ["GET", "POST"] {
            let server = Server::start(move |request| match request.method() == method {
                true => reply(status, &[("Content-Type", "text/plain")], "\nno luck\nx"),
                false => git(request),
            });
            let failure = Ask::default().failure(&server.url("/x"));
            assert_eq!(failure.kind, kind, "{failure:?}");
            assert!(failure.message.contains(message), "{failure:?}");
            assert!(failure.message.contains(&server.url("/x")), "{failure:?}");
            if kind == Kind::Remote && !status.starts_with(['2', '3']) {
                assert!(failure.message.ends_with("it says \"no luck\""), "{failure:?}");
            }
        }
    }
}

#[test]
fn what_is_not_git() {
    for (content_type, body, message) in [
        ("text/html; charset=utf-8", "<html>", "answered with a web page"),
        ("application/json", "{}", "answered with application/json"),
        (
            "text/plain",
            "1234567890123456789012345678901234567890\trefs/heads/main\n",
            "serves the repository's files only",
        ),
        (
            "text/plain",
            "",
            "answered with text/plain instead of git's protocol",
        ),
    ] {
        let server = Server::start(move |_| reply("200 OK", &[("Content-Type", content_type)], body));
        let failure = Ask::default().failure(&server.url("/x"));
        assert_eq!(failure.kind, Kind::Remote);
        assert!(failure.message.contains(message), "{failure:?}");
    }
    let server = Server::start(|_| Answer::Cut(b"220 mail.example ESMTP\r\n".to_vec()));
    let failure = Ask::default().failure(&server.url("/x"));
    assert!(
        failure.message.contains("answered what cannot be understood"),
        "{failure:?}"
    );
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
fn credentials_are_sent_at_once() {
    let (_file, password_file) = secret("hunter2\n");
    let basic = Auth::Basic {
        user: "me".into(),
        password_file: password_file.clone(),
    };
    let bearer = Auth::Bearer {
        token_file: password_file,
    };
    let expected = format!("Basic {}", base64("me:hunter2"));
    for (auth, user, expected) in [
        (basic, "", expected.as_str()),
        (bearer, "", "Bearer hunter2"),
        (Auth::None, "me:hunter2@", &expected),
    ] {
        let server = Server::start(git);
        let ask = Ask {
            auth,
            tls: plain(),
            ..Ask::default()
        };
        ask.line(&format!("http://{user}127.0.0.1:{}/x", server.port))
            .unwrap();
        for request in server.requests() {
            assert_eq!(request.header("authorization"), Some(expected));
        }
    }
}

#[test]
fn a_user_alone_waits_to_be_asked() {
    let expected = format!("Basic {}", base64("hunter2:"));
    let public = Server::start(git);
    let ask = Ask {
        tls: plain(),
        ..Ask::default()
    };
    ask.line(&format!("http://hunter2@127.0.0.1:{}/x", public.port))
        .unwrap();
    assert!(
        public
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    let private = Server::start(|request| match request.header("authorization") {
        Some(_) => git(request),
        None => reply("401 Unauthorized", &[], ""),
    });
    ask.line(&format!("http://hunter2@127.0.0.1:{}/x", private.port))
        .unwrap();
    let sent: Vec<_> = private
        .requests()
        .iter()
        .map(|request| request.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(sent, [None, Some(expected.clone()), Some(expected)]);
}

#[test]
fn refused_credentials_are_not_shown() {
    let server = Server::start(|_| reply("401 Unauthorized", &[], "wrong"));
    let (_file, password_file) = secret("hunter2");
    let ask = Ask {
        auth: Auth::Basic {
            user: "me".into(),
            password_file: password_file.clone(),
        },
        tls: plain(),
        ..Ask::default()
    };
    let failure = ask.failure(&server.url("/x"));
    assert_eq!(failure.kind, Kind::Remote);
    assert!(
        failure
            .message
            .contains(&format!("refused the credentials from {password_file}")),
        "{failure:?}"
    );
    assert_eq!(server.requests().len(), 1);
    let ask = Ask {
        tls: plain(),
        ..Ask::default()
    };
    let failure = ask.failure(&format!("http://me:hunter2@127.0.0.1:{}/x", server.port));
    assert!(failure.message.contains("from the URL"), "{failure:?}");
}

#[test]
fn credentials_are_not_sent_in_the_clear() {
    let server = Server::start(git);
    let failure = Ask::default().failure(&format!("http://me:hunter2@127.0.0.1:{}/x", server.port));
    assert_eq!(failure.kind, Kind::Config);
    assert!(
        failure.help.unwrap().contains("allow_plain_credentials"),
        "names the remedy"
    );
    assert_eq!(server.connections(), 0);
}

#[test]
fn unusable_credentials() {
    let (_file, path) = secret("hunter2");
    let (_empty, empty) = secret("\n");
    let (_wide, wide) = secret("hunter2ä");
    for auth in [
        Auth::Basic {
            user: "a:b".into(),
            password_file: path,
        },
        Auth::Bearer { token_file: empty },
        Auth::Bearer { token_file: wide },
    ] {
        let ask = Ask {
            auth,
            ..Ask::default()
        };
        assert_eq!(ask.failure("https://127.0.0.1:1/x").kind, Kind::Config);
    }
}

#[test]
fn redirects_are_followed_but_credentials_stay() {
    let other = Server::start(git);
    let to = other.url("/moved/y.git/info/refs?service=git-upload-pack");
    let first = Server::start(move |request| match request.target() {
        "/x/info/refs?service=git-upload-pack" => reply(
            "301 Moved",
            &[("Location", "/y/info/refs?service=git-upload-pack")],
            "",
        ),
        "/y/info/refs?service=git-upload-pack" => reply("302 Found", &[("Location", &to)], "a page"),
        other => panic!("{other}"),
    });
    let (_file, password_file) = secret("hunter2");
    let ask = Ask {
        auth: Auth::Bearer {
            token_file: password_file,
        },
        tls: plain(),
        ..Ask::default()
    };
    assert_eq!(ask.line(&first.url("/x")).unwrap(), "hello\n");
    let authorized = |server: &Server| -> Vec<_> {
        server
            .requests()
            .iter()
            .map(|request| request.header("authorization").is_some())
            .collect()
    };
    assert_eq!(authorized(&first), [true, true], "the same origin");
    assert_eq!(authorized(&other), [false, false], "another port");
    assert_eq!(other.requests()[1].target(), "/moved/y.git/git-upload-pack");
}

#[test]
fn withheld_credentials_are_explained() {
    let other = Server::start(|_| reply("401 Unauthorized", &[], ""));
    let to = other.url("/x/info/refs?service=git-upload-pack");
    let first = Server::start(move |_| reply("307 Moved", &[("Location", &to)], ""));
    let ask = Ask {
        tls: plain(),
        ..Ask::default()
    };
    let failure = ask.failure(&format!("http://hunter2@127.0.0.1:{}/x", first.port));
    assert!(
        failure
            .help
            .as_ref()
            .unwrap()
            .contains(&format!("only ever sent to 127.0.0.1:{}", first.port)),
        "{failure:?}"
    );
    assert_eq!(other.requests()[0].header("authorization"), None);
    assert_eq!(other.requests().len(), 1);
}

#[test]
fn redirects_that_are_not_followed() {
    for (location, reason) in [
        ("file:///etc/passwd", "neither http:// nor https://"),
        ("/login?next=/x", "not that of a git repository"),
        (
            "/x/info/refs?service=git-upload-pack",
            "there are too many redirects",
        ),
    ] {
        let server = Server::start(move |request| match request.target().starts_with("/login") {
            true => git(request),
            false => reply("302 Found", &[("Location", location)], ""),
        });
        let failure = Ask::default().failure(&server.url("/x"));
        assert_eq!(failure.kind, Kind::Remote);
        assert!(failure.message.contains(reason), "{failure:?}");
        assert!(server.requests().len() <= 11, "{}", server.requests().len());
    }
    let server = Server::start(|request| match request.method() {
        "GET" => git(request),
        _ => reply("307 Moved", &[("Location", "/elsewhere")], ""),
    });
    let failure = Ask::default().failure(&server.url("/x"));
    assert!(failure.message.contains("answered 307"), "{failure:?}");
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
        let server = Server::start(move |request| match request.method() == at {
            true => answer(),
            false => git(request),
        });
        let ask = Ask {
            timeout: Duration::from_millis(300),
            ..Ask::default()
        };
        let begin = Instant::now();
        let failure = ask.failure(&server.url("/x"));
        assert_eq!(failure.kind, Kind::Timeout, "{failure:?}");
        assert!(failure.message.contains("within 300ms"), "{failure:?}");
        let took = begin.elapsed();
        assert!(
            took > Duration::from_millis(250) && took < Duration::from_secs(5),
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
    for scheme in ["http", "https"] {
        let failure = ask.failure(&format!("{scheme}://127.0.0.1:{port}/x"));
        assert_eq!(failure.kind, Kind::Timeout, "{failure:?}");
    }
}

#[test]
fn broken_connections() {
    let closed = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap().port()
    };
    let failure = Ask::default().failure(&format!("https://127.0.0.1:{closed}/x"));
    assert_eq!(failure.kind, Kind::Unreachable);
    assert!(failure.message.starts_with("cannot connect to"), "{failure:?}");

    let failure = Ask::default().failure("https://no-such-host.invalid/x");
    assert_eq!(failure.kind, Kind::Unreachable);
    assert!(
        failure
            .message
            .starts_with("cannot find the address of no-such-host.invalid for"),
        "{failure:?}"
    );

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
        let server = Server::start(move |request| match request.method() == method {
            true => Answer::Cut(said.clone().into_bytes()),
            false => git(request),
        });
        let failure = Ask::default().failure(&server.url("/x"));
        assert_eq!(failure.kind, Kind::Unreachable, "{failure:?}");
        assert!(failure.message.contains("was lost"), "{failure:?}");
    }
}

#[test]
fn a_proxy_passes_plain_requests_on() {
    let proxy = Server::start(git);
    let through = |no_proxy: &str| Ask {
        proxies: proxies(&[
            (
                "http_proxy",
                format!("http://me:hunter2@127.0.0.1:{}", proxy.port),
            ),
            ("NO_PROXY", no_proxy.into()),
        ]),
        ..Ask::default()
    };
    assert_eq!(
        through("").line("http://git.invalid:8080/x.git").unwrap(),
        "hello\n"
    );
    let targets: Vec<_> = proxy
        .requests()
        .iter()
        .map(|request| request.target().to_owned())
        .collect();
    assert_eq!(
        targets,
        [
            "http://git.invalid:8080/x.git/info/refs?service=git-upload-pack",
            "http://git.invalid:8080/x.git/git-upload-pack",
        ]
    );
    let expected = format!("Basic {}", base64("me:hunter2"));
    for request in proxy.requests() {
        assert_eq!(request.header("host"), Some("git.invalid:8080"));
        assert_eq!(request.header("proxy-authorization"), Some(expected.as_str()));
    }
    let direct = Server::start(git);
    through("127.0.0.0/8").line(&direct.url("/x")).unwrap();
    assert_eq!(proxy.requests().len(), 2, "not asked again");
    assert_eq!(
        direct.requests()[0].target(),
        "/x/info/refs?service=git-upload-pack"
    );
}

#[test]
fn a_proxy_that_refuses() {
    let proxy = Server::start(|_| reply("407 Proxy Authentication Required", &[], ""));
    let through = Ask {
        proxies: proxies(&[("all_proxy", format!("http://me:hunter2@127.0.0.1:{}", proxy.port))]),
        ..Ask::default()
    };
    for scheme in ["http", "https"] {
        let failure = through.failure(&format!("{scheme}://git.invalid/x"));
        let expected = format!(
            "the proxy 127.0.0.1:{} did not connect to git.invalid",
            proxy.port
        );
        assert!(failure.message.starts_with(&expected), "{failure:?}");
        assert!(
            failure.message.ends_with("it asks for a user and password (407)"),
            "{failure:?}"
        );
        assert_eq!(failure.kind, Kind::Remote);
    }
    let proxy = Server::start(|_| reply("502 Bad Gateway", &[], ""));
    let ask = Ask {
        proxies: proxies(&[("https_proxy", format!("127.0.0.1:{}", proxy.port))]),
        ..Ask::default()
    };
    let failure = ask.failure("https://git.invalid/x");
    assert!(failure.message.ends_with("it answered 502"), "{failure:?}");
    assert_eq!(failure.kind, Kind::Unreachable);
    let closed = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap().port()
    };
    let ask = Ask {
        proxies: proxies(&[("all_proxy", format!("127.0.0.1:{closed}"))]),
        ..Ask::default()
    };
    for scheme in ["http", "https"] {
        let failure = ask.failure(&format!("{scheme}://git.invalid/x"));
        assert!(
            failure
                .message
                .contains(&format!("by way of the proxy 127.0.0.1:{closed}")),
            "{failure:?}"
        );
    }
}

mod tls {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
    use rustls::{
        ServerConfig, ServerConnection, StreamOwned,
        pki_types::{CertificateDer, PrivateKeyDer},
    };

    use super::*;

    /// A private authority, and the file that names it.
    struct Authority {
        issuer: CertifiedIssuer<'static, KeyPair>,
        _file: NamedTempFile,
        path: AbsPath,
    }

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let (file, path) = secret(&issuer.pem());
            Self {
                issuer,
                _file: file,
                path,
            }
        }

        fn trusted(&self) -> Ask {
            let tls = Tls {
                roots: Roots::File(self.path.clone()),
                ..Tls::default()
            };
            Ask {
                tls,
                ..Ask::default()
            }
        }

        /// A server with a certificate for `name` that ends in `year`.
        fn server(
            &self,
            name: &str,
            year: i32,
            answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
        ) -> Server {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 1, 1);
            let key = KeyPair::generate().unwrap();
            let cert = params.signed_by(&key, &self.issuer).unwrap();
            serve(cert.der().clone(), &key, answer)
        }
    }

    fn serve(
        cert: CertificateDer<'static>,
        key: &KeyPair,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        let config = Arc::new(config);
        Server::start_with(
            move |socket| {
                let connection = ServerConnection::new(config.clone()).unwrap();
                Box::new(StreamOwned::new(connection, socket))
            },
            answer,
        )
    }

    fn url(server: &Server) -> String {
        format!("https://localhost:{}/x", server.port)
    }

    #[test]
    fn a_private_authority_is_trusted_where_it_is_named() {
        let authority = Authority::new();
        let server = authority.server("localhost", 4000, git);
        assert_eq!(authority.trusted().line(&url(&server)).unwrap(), "hello\n");
        assert_eq!(server.connections(), 1);

        let failure = Ask::default().failure(&url(&server));
        assert_eq!(failure.kind, Kind::Remote);
        assert!(
            failure.message.contains("Mozilla's roots were used"),
            "{failure:?}"
        );
        assert!(failure.help.unwrap().contains("ca_file"));

        let other = Authority::new();
        let failure = other.trusted().failure(&url(&server));
        assert!(
            failure
                .message
                .contains(&format!("only the roots in {} were used", other.path)),
            "{failure:?}"
        );
    }

    #[test]
    fn certificates_that_are_not_accepted() {
        let authority = Authority::new();
        for (name, year, expected) in [
            (
                "localhost",
                2001,
                "the certificate of localhost:PORT is not valid at this time: it ended at 2001-01-01T00:00:00Z, and here it is 2",
            ),
            (
                "other.example",
                4000,
                "the certificate of localhost:PORT is for another name",
            ),
        ] {
            let server = authority.server(name, year, git);
            let failure = authority.trusted().failure(&url(&server));
            assert_eq!(failure.kind, Kind::Remote);
            let expected = expected.replace("PORT", &server.port.to_string());
            assert!(failure.message.starts_with(&expected), "{failure:?}");
        }
    }

    #[test]
    fn a_server_that_speaks_no_tls() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut client, _) = socket.accept().unwrap();
            client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let failure = Ask::default().failure(&format!("https://localhost:{port}/x"));
        assert!(
            failure.message.starts_with("no secure connection to localhost"),
            "{failure:?}"
        );
        assert_eq!(failure.kind, Kind::Remote);
    }

    #[test]
    fn unusable_roots() {
        let (_file, path) = secret("no certificate");
        let (_bad, bad) = secret("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let missing = AbsPath::resolve(Path::new("/"), Path::new("/no/such/file.pem")).unwrap();
        for path in [path, bad, missing] {
            let tls = Tls {
                roots: Roots::File(path.clone()),
                ..Tls::default()
            };
            let ask = Ask {
                tls,
                ..Ask::default()
            };
            let failure = ask.failure("https://127.0.0.1:1/x");
            assert_eq!(failure.kind, Kind::Config);
            assert!(failure.message.contains(&path.to_string()), "{failure:?}");
        }
    }

    #[test]
    fn no_redirect_leads_out_of_tls() {
        let authority = Authority::new();
        let plain = Server::start(git);
        let to = plain.url("/x/info/refs?service=git-upload-pack");
        let server = authority.server("localhost", 4000, move |_| {
            reply("302 Found", &[("Location", &to)], "")
        });
        let failure = authority.trusted().failure(&url(&server));
        assert!(
            failure.message.contains("is not followed: it is not encrypted"),
            "{failure:?}"
        );
        assert_eq!(plain.connections(), 0);
    }

    #[test]
    fn a_proxy_tunnels_tls() {
        let authority = Authority::new();
        let server = authority.server("git.invalid", 4000, git);
        let behind = server.port;
        let proxy = Server::start(move |_| Answer::Tunnel(behind));
        let (_file, token_file) = secret("hunter2");
        let ask = Ask {
            proxies: proxies(&[("HTTPS_PROXY", format!("http://127.0.0.1:{}", proxy.port))]),
            auth: Auth::Bearer { token_file },
            ..authority.trusted()
        };
        assert_eq!(ask.line("https://git.invalid/x").unwrap(), "hello\n");
        let [connect] = &proxy.requests()[..] else {
            panic!("{:?}", proxy.requests());
        };
        assert!(
            connect.head.starts_with("CONNECT git.invalid:443 HTTP/1.1\r\n"),
            "{connect:?}"
        );
        assert_eq!(connect.header("authorization"), None);
        assert_eq!(
            server.requests()[0].header("authorization"),
            Some("Bearer hunter2")
        );
    }

    #[test]
    fn the_deadline_holds_in_the_handshake_and_in_the_body() {
        let authority = Authority::new();
        let server = authority.server("localhost", 4000, |request| match request.method() {
            "GET" => git(request),
            _ => Answer::Trickle(
                format!("HTTP/1.1 200 OK\r\nContent-Type: {RESULT}\r\nContent-Length: 9999\r\n\r\nfff0")
                    .into_bytes(),
            ),
        });
        let ask = Ask {
            timeout: Duration::from_millis(500),
            ..authority.trusted()
        };
        let begin = Instant::now();
        let failure = ask.failure(&url(&server));
        assert_eq!(failure.kind, Kind::Timeout, "{failure:?}");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
