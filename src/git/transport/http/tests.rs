//! Every fault that a server, a proxy or a certificate can have, against canned answers.

mod client_certificates;
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
    /// Shake hands with the server at `url`, then ask it for a line.
    fn line(&self, url: &str) -> Result<String, Refusal> {
        let url = RepoUrl::parse(url, Path::new("/")).unwrap();
        let options = Options {
            deadline: Deadline::new(self.timeout),
            auth: &self.auth,
            tls: &self.tls,
            report: &Reporter::new(|_| {}),
            connections: &self.connections,
            offers: None,
            scratch: Path::new("/"),
        };
        let mut transport =
            connect(&url, &options, self.proxies.clone()).map_err(|err| Refusal::of(&Error::from(err)))?;
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

/// [`Ask::failure`] sees to it that nothing of them is shown.
#[test]
fn credentials_that_a_server_repeats() {
    let (_file, password_file) = secret("hunter2");
    let ask = Ask {
        auth: Auth::Basic {
            user: "me".into(),
            password_file,
        },
        tls: plain(),
        ..Ask::default()
    };
    for decoded in [false, true] {
        let server = Server::start(move |request| {
            let sent = request.header("authorization").unwrap();
            let said = if decoded { "wrong password: hunter2" } else { sent };
            reply("401 Unauthorized", &[("Content-Type", "text/plain")], said)
        });
        let failure = ask.failure(&server.url("/x"));
        assert!(!failure.message.contains("it says"), "{failure:?}");
    }
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

/// Whatever is logged, by whom ever: nothing that holds a secret shows it.
#[test]
fn debug_shows_no_secret() {
    use crate::{
        base::secret::Secret,
        config::{Config, Source},
    };
    let (_file, password_file) = secret("hunter2");
    let text = format!(
        r#"(triggers: {{
            "url": (repo: "https://hunter2:hunter2@example.com/x.git", path: "/srv/a"),
            "basic": (
                repo: "https://example.com/x.git",
                path: "/srv/b",
                auth: Basic(user: "me", password_file: "{password_file}"),
                hooks: [Exec(run: ["x"], user_env: {{"PASSWORD": "hunter2"}})],
            ),
        }})"#
    );
    let source = Source {
        file: "/etc/config.ron".into(),
        text,
    };
    let config = Config::parse(&source).unwrap();
    let mut all = format!(
        "{source:?} {source:#?} {config:?} {:?}",
        Secret::read(&password_file).unwrap()
    );
    for target in config.triggers.values() {
        let options = Options {
            deadline: Deadline::new(Duration::from_secs(1)),
            auth: &target.origin.auth,
            tls: &target.origin.tls,
            report: &Reporter::new(|_| {}),
            connections: &Connections::new(Duration::ZERO),
            offers: None,
            scratch: Path::new("/"),
        };
        let credentials =
            super::auth::Credentials::read(&target.origin.repo, &target.origin.auth, &target.origin.tls)
                .unwrap();
        all += &format!(
            "{target:?} {} {:?} {options:?} {credentials:#?}",
            target.origin.repo, target.origin.repo
        );
        all += &target.origin.repo.without_secrets().to_bstring().to_string();
        assert!(credentials.is_some());
    }
    let proxies = proxies(&[("all_proxy", "http://me:hunter2@p".into())]);
    all += &format!("{proxies:?}");
    assert!(all.contains("example.com"), "{all}");
    for secret in [
        "hunter2".to_owned(),
        base64("hunter2:hunter2"),
        base64("me:hunter2"),
    ] {
        assert!(!all.contains(&secret), "{all}");
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
            password_file,
        },
        tls: plain(),
        ..Ask::default()
    };
    insta::assert_snapshot!(ask.failure(&server.url("/x")), @r"
    Refused (remote): http://127.0.0.1:PORT/x refused the credentials from FILE (401)
    help: they are wrong, have expired, or are not meant for this repository; write the right ones there
    ");
    assert_eq!(server.requests().len(), 1);
    let ask = Ask {
        tls: plain(),
        ..Ask::default()
    };
    let failure = ask.failure(&format!("http://me:hunter2@127.0.0.1:{}/x", server.port));
    insta::assert_snapshot!(failure, @r"
    Refused (remote): http://127.0.0.1:PORT/x refused the credentials from the URL (401)
    help: they are wrong, have expired, or are not meant for this repository; write the right ones there
    ");
}

#[test]
fn credentials_are_not_sent_in_the_clear() {
    let server = Server::start(git);
    let failure = Ask::default().failure(&format!("http://me:hunter2@127.0.0.1:{}/x", server.port));
    insta::assert_snapshot!(failure, @r"
    PlainCredentials (config): http://127.0.0.1:PORT/x is not encrypted, so the credentials for it are not sent
    help: use https://; or, where you trust the network in between, write tls: (allow_plain_credentials: true)
    ");
    assert_eq!(server.connections(), 0);
}

#[test]
fn unusable_credentials() {
    let (_file, path) = secret("hunter2");
    let (_empty, empty) = secret("\n");
    let (_wide, wide) = secret("hunter2ä");
    let (_control, control) = secret("hunter2\x1b[2J");
    let (_binary, binary) = secret("hunter2");
    std::fs::write(&binary, b"hunter2\xff").unwrap();
    let (_shared, shared) = secret("hunter2");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o644)).unwrap();
    let missing = AbsPath::resolve(Path::new("/"), Path::new("/no/such/password")).unwrap();
    let mut all = String::new();
    for auth in [
        Auth::Basic {
            user: "a:b".into(),
            password_file: path,
        },
        Auth::Bearer { token_file: empty },
        Auth::Bearer { token_file: wide },
        Auth::Bearer { token_file: control },
        Auth::Bearer { token_file: binary },
        Auth::Bearer { token_file: shared },
        Auth::Bearer { token_file: missing },
    ] {
        let ask = Ask {
            auth,
            ..Ask::default()
        };
        all += &format!("{}\n\n", ask.failure("https://127.0.0.1:1/x"));
    }
    insta::assert_snapshot!(all, @r"
    Credentials (config): the credentials for https://127.0.0.1:1/x cannot be sent: a user's name cannot contain ':'
    help: correct `auth`

    Secret::Content (config): the secret in FILE is not usable: its first line is empty
    help: write the secret alone on the first line

    Credentials (config): the credentials for https://127.0.0.1:1/x cannot be sent: they contain characters that a header cannot hold
    help: correct `auth`

    Secret::Content (config): the secret in FILE is not usable: it contains control characters
    help: write the secret alone on the first line

    Secret::Content (config): the secret in FILE is not usable: it is not UTF-8
    help: write the secret alone on the first line

    Secret::Exposed (config): the secret in FILE can be read by others (its mode is 0644)
    help: type: chmod 600 FILE

    Secret::Read (config): cannot read the secret in /no/such/password: No such file or directory (os error 2)
    help: it must exist and be readable for the user that gitsocket runs as
    ");
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
    insta::assert_snapshot!(failure, @r"
    Unauthenticated (remote): http://127.0.0.1:PORT/x asks for a user and password (401)
    help: `auth` is only ever sent to 127.0.0.1:PORT, and it redirected here: write this URL as `repo`
    ");
    assert!(
        failure
            .help
            .as_ref()
            .unwrap()
            .contains(&format!("127.0.0.1:{},", first.port)),
        "the first, not the other"
    );
    assert_eq!(other.requests()[0].header("authorization"), None);
    assert_eq!(other.requests().len(), 1);
}

#[test]
fn redirects_that_are_not_followed() {
    let mut all = String::new();
    for location in [
        "file:///etc/passwd",
        "/login?next=/x",
        "/x/info/refs?service=git-upload-pack",
    ] {
        let server = Server::start(move |request| {
            if request.target().starts_with("/login") {
                git(request)
            } else {
                reply("302 Found", &[("Location", location)], "")
            }
        });
        all += &format!("{}\n\n", Ask::default().failure(&server.url("/x")));
        assert!(server.requests().len() <= 11, "{}", server.requests().len());
    }
    insta::assert_snapshot!(all, @r"
    Redirect (remote): http://127.0.0.1:PORT/x redirects to a file URL, which is not followed: it is neither http:// nor https://
    help: if that is where the repository is now, write it as `repo`

    Redirect (remote): http://127.0.0.1:PORT/x redirects to http://127.0.0.1:PORT/login, which is not followed: it is not that of a git repository
    help: if that is where the repository is now, write it as `repo`

    Redirect (remote): http://127.0.0.1:PORT/x redirects to http://127.0.0.1:PORT/x, which is not followed: there are too many redirects
    help: if that is where the repository is now, write it as `repo`
    ");
    let server = Server::start(|request| match request.method() {
        "GET" => git(request),
        _ => reply("307 Moved", &[("Location", "/elsewhere")], ""),
    });
    insta::assert_snapshot!(Ask::default().failure(&server.url("/x")), @r"
    Status (remote): http://127.0.0.1:PORT/x answered 307
    help: the server does not let git fetch there; check `repo`
    ");
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
        insta::allow_duplicates!(insta::assert_snapshot!(failure, @r"
        Proxy (remote): the proxy 127.0.0.1:PORT did not connect to git.invalid: it asks for a user and password (407)
        help: write them into the variable that names the proxy: http://USER:PASSWORD@HOST:PORT, or name the host in $NO_PROXY
        "));
    }
    let proxy = Server::start(|_| reply("502 Bad Gateway", &[], ""));
    let ask = Ask {
        proxies: proxies(&[("https_proxy", format!("127.0.0.1:{}", proxy.port))]),
        ..Ask::default()
    };
    let failure = ask.failure("https://git.invalid/x");
    insta::assert_snapshot!(failure, @r"
    Proxy (unreachable): the proxy 127.0.0.1:PORT did not connect to git.invalid: it answered 502
    help: correct $HTTPS_PROXY, $http_proxy or $ALL_PROXY, or name the host in $NO_PROXY
    ");
    let closed = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap().port()
    };
    let ask = Ask {
        proxies: proxies(&[("all_proxy", format!("127.0.0.1:{closed}"))]),
        ..Ask::default()
    };
    insta::assert_snapshot!(ask.failure("http://git.invalid/x"), @r"
    Network::Connect (unreachable): cannot connect to git.invalid (by way of the proxy 127.0.0.1:PORT) for http://git.invalid/x: Connection refused (os error 111)
    help: check the host and the port, and that no firewall is between
    ");
    insta::assert_snapshot!(ask.failure("https://git.invalid/x"), @r"
    Network::Connect (unreachable): cannot connect to git.invalid (by way of the proxy 127.0.0.1:PORT) for https://git.invalid/x: Connection refused (os error 111)
    help: check the host and the port, and that no firewall is between
    ");
    let mut all = String::new();
    for url in ["socks5://127.0.0.1:1", "http://"] {
        let ask = Ask {
            proxies: proxies(&[("all_proxy", url.into())]),
            ..Ask::default()
        };
        all += &format!("{}\n\n", ask.failure("https://git.invalid/x"));
    }
    insta::assert_snapshot!(all, @r"
    ProxyUrl (config): the proxy in $all_proxy cannot be used: only http:// and https:// proxies are supported
    help: write it as http://host:port, or unset it

    ProxyUrl (config): the proxy in $all_proxy cannot be used: it is not a URL
    help: write it as http://host:port, or unset it
    ");
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
    ];
    assert_all_are_shown(include_str!("error.rs"), "", &["Network", "Secret"], &tests);
    assert_all_are_shown(include_str!("../tcp/error.rs"), "Network::", &[], &tests);
    let secrets = include_str!("../../../base/secret.rs");
    assert_all_are_shown(secrets, "Secret::", &[], &tests);
}

mod tls {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
    use rustls::{
        ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::{NoClientAuth, danger::ClientCertVerifier},
    };

    use super::*;

    /// A private authority, and the file that names it.
    pub(super) struct Authority {
        pub(super) issuer: CertifiedIssuer<'static, KeyPair>,
        _file: NamedTempFile,
        path: AbsPath,
    }

    impl Authority {
        pub(super) fn new() -> Self {
            Self::named("Authority")
        }

        pub(super) fn named(name: &str) -> Self {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let (file, path) = secret(&issuer.pem());
            Self {
                issuer,
                _file: file,
                path,
            }
        }

        pub(super) fn trusted(&self) -> Ask {
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
        pub(super) fn server(
            &self,
            name: &str,
            year: i32,
            answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
        ) -> Server {
            let (cert, key) = self.certificate(name, year);
            serve_with(cert, &key, Arc::new(NoClientAuth), rustls::ALL_VERSIONS, answer)
        }

        /// A certificate for `name`, or for none if that is empty, that ends in `year`, and its key.
        pub(super) fn certificate(&self, name: &str, year: i32) -> (CertificateDer<'static>, KeyPair) {
            let names = Some(name.to_owned()).filter(|name| !name.is_empty());
            let mut params = CertificateParams::new(Vec::from_iter(names)).unwrap();
            params.not_after = date_time_ymd(year, 1, 1);
            let key = KeyPair::generate().unwrap();
            let cert = params.signed_by(&key, &self.issuer).unwrap();
            (cert.der().clone(), key)
        }
    }

    /// A server with this certificate, whose clients `verifier` looks at.
    pub(super) fn serve_with(
        cert: CertificateDer<'static>,
        key: &KeyPair,
        verifier: Arc<dyn ClientCertVerifier>,
        versions: &[&'static SupportedProtocolVersion],
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
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

    pub(super) fn url(server: &Server) -> String {
        format!("https://localhost:{}/x", server.port)
    }

    #[test]
    fn a_private_authority_is_trusted_where_it_is_named() {
        let authority = Authority::new();
        let server = authority.server("localhost", 4000, git);
        assert_eq!(authority.trusted().line(&url(&server)).unwrap(), "hello\n");
        assert_eq!(server.connections(), 1);

        insta::assert_snapshot!(Ask::default().failure(&url(&server)), @r#"
        UnknownIssuer (remote): the certificate of localhost:PORT was issued by an authority that is not trusted here: Mozilla's roots were used
        help: if its authority is a private one, name that: tls: (ca_file: "/path/ca.pem"), or tls: (roots: System)
        "#);
        let other = Authority::new();
        insta::assert_snapshot!(other.trusted().failure(&url(&server)), @r#"
        UnknownIssuer (remote): the certificate of localhost:PORT was issued by an authority that is not trusted here: only the roots in FILE (`tls.ca_file`) were used
        help: if its authority is a private one, name that: tls: (ca_file: "/path/ca.pem"), or tls: (roots: System)
        "#);
    }

    #[test]
    fn certificates_that_are_not_accepted() {
        let authority = Authority::new();
        let server = authority.server("localhost", 2001, git);
        let failure = authority.trusted().failure(&url(&server));
        let (_, times) = failure.message.split_once("at this time: ").unwrap();
        let times = times.to_owned();
        insta::assert_snapshot!(failure.map(|text| text.replace(&times, "TIMES")), @r"
        Expired (remote): the certificate of localhost:PORT is not valid at this time: TIMES
        help: the host's administrator must renew it; or this machine's clock is wrong
        ");
        let server = authority.server("other.example", 4000, git);
        insta::assert_snapshot!(authority.trusted().failure(&url(&server)), @r"
        WrongName (remote): the certificate of localhost:PORT is for another name: it is for other.example
        help: use the name that the certificate is for in `repo`
        ");
        let server = authority.server("", 4000, git);
        insta::assert_snapshot!(authority.trusted().failure(&url(&server)), @r"
        HostCertificate (remote): the certificate of localhost:PORT cannot be trusted: it names no host (as subjectAltName)
        help: the host needs one of X.509 version 3 with its name as subjectAltName, basicConstraints=CA:FALSE, and signed with SHA-256 or better; a self-signed one is trusted where `tls.ca_file` names it
        ");
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
        insta::assert_snapshot!(failure, @r#"
        Tls (remote): no secure connection to localhost:PORT: what answers there does not speak TLS
        help: check the port; a private authority's certificate is named by tls: (ca_file: "/path/ca.pem"), one that the server wants to see of ours by tls: (cert_file: "/path/client.pem", key_file: "/path/client.key")
        "#);
    }

    #[test]
    fn unusable_roots() {
        let (_file, path) = secret("no certificate");
        let (_bad, bad) = secret("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let missing = AbsPath::resolve(Path::new("/"), Path::new("/no/such/file.pem")).unwrap();
        let mut all = String::new();
        for path in [path, bad, missing] {
            let tls = Tls {
                roots: Roots::File(path),
                ..Tls::default()
            };
            let ask = Ask {
                tls,
                ..Ask::default()
            };
            all += &format!("{}\n\n", ask.failure("https://127.0.0.1:1/x"));
        }
        insta::assert_snapshot!(all, @r"
        Roots (config): the certificates in FILE cannot be used: it holds no certificate
        help: `tls.ca_file` must name a file with one or more certificates as PEM (-----BEGIN CERTIFICATE-----)

        Roots (config): the certificates in FILE cannot be used: one is damaged
        help: `tls.ca_file` must name a file with one or more certificates as PEM (-----BEGIN CERTIFICATE-----)

        Roots (config): the certificates in /no/such/file.pem cannot be used: No such file or directory (os error 2)
        help: `tls.ca_file` must name a file with one or more certificates as PEM (-----BEGIN CERTIFICATE-----)
        ");
        let none = super::super::tls::system(Default::default()).unwrap_err();
        insta::assert_snapshot!(Refusal::of(&none.into()), @r"
        SystemRoots (config): this system's certificates cannot be used: there are none
        help: install the package ca-certificates, or leave `tls.roots` out to use Mozilla's roots
        ");
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
        insta::assert_snapshot!(failure, @r"
        Redirect (remote): https://localhost:PORT/x redirects to http://127.0.0.1:PORT/x, which is not followed: it is not encrypted
        help: if that is where the repository is now, write it as `repo`
        ");
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
        insta::assert_snapshot!(ask.failure(&url(&server)), @r"
        Network::Timeout (timeout): localhost:PORT did not deliver https://localhost:PORT/x within 500ms
        help: raise `timeout` if that is too short, or find out why the server is slow
        ");
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}
