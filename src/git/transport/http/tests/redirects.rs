//! Redirects that are followed, and others.

use super::*;

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
        ..Ask::plain()
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
    let ask = Ask::plain();
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
