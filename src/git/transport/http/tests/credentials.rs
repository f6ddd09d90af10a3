//! Users, passwords and tokens: when they are sent, and that none is shown.

use super::*;

/// [`Ask::failure`] sees to it that nothing of them is shown.
#[test]
fn credentials_that_a_server_repeats() {
    let (_file, password_file) = secret("hunter2");
    let ask = Ask {
        auth: Auth::Basic {
            user: "me".into(),
            password_file,
        },
        ..Ask::plain()
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
        let ask = Ask { auth, ..Ask::plain() };
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
        let credentials = super::super::auth::Credentials::read(
            &target.origin.repo,
            &target.origin.auth,
            &target.origin.tls,
        )
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
    let ask = Ask::plain();
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
        ..Ask::plain()
    };
    insta::assert_snapshot!(ask.failure(&server.url("/x")), @r"
    Refused (remote): http://127.0.0.1:PORT/x refused the credentials from FILE (401)
    help: they are wrong, have expired, or are not meant for this repository; write the right ones there
    ");
    assert_eq!(server.requests().len(), 1);
    let ask = Ask::plain();
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
