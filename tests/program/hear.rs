//! A forge's delivery starts a run if its proof is right, and is refused otherwise.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use rustix::process::Signal;

use super::{
    sender::{Answer, Front, JSON, sign},
    source::file,
    world::{Daemon, World, machine},
};

pub const PUSH: &str = r#"{"ref":"refs/heads/main"}"#;

/// A delivery of GitHub's.
pub fn github(front: &Front, path: &str, secret: &str, event: &str, id: &str, body: &str) -> Answer {
    let signature = format!("sha256={}", sign(secret, body.as_bytes()));
    let head = [
        JSON,
        ("X-GitHub-Event", event),
        ("X-GitHub-Delivery", id),
        ("X-Hub-Signature-256", &signature),
    ];
    front.ask(&format!("POST {path}"), &head, body.as_bytes())
}

/// The run of a 202.
pub fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    let json = answer.json();
    assert_eq!(json["trigger"], "site");
    json["run"].as_str().unwrap().to_owned()
}

/// Wait for the run's end, and give its exit status.
pub fn end(world: &World, run: &str) -> i32 {
    world.run(["log", "site", run, "-s", "s.sock"]).exit
}

/// A source, a daemon with the trigger `site`, and a secret.
pub fn served() -> (World, Daemon) {
    let world = World::configured();
    world.secret("secret", "It's a Secret\n");
    let daemon = world.daemon();
    (world, daemon)
}

pub const SECRET: &str = "It's a Secret";
pub const GITHUB: &str =
    r#""/hooks/site": (trigger: "site", from: GitHub(secret_file: "secret"), refs: ["refs/heads/main"]),"#;

#[test]
fn a_signed_push_is_live() {
    let (world, _daemon) = served();
    let front = Front::start(&world, GITHUB, "");
    let post = |event, body: &str| github(&front, "/hooks/site", SECRET, event, "", body);
    for (event, body, why) in [
        ("ping", r#"{"zen":"x"}"#, "a ping"),
        ("issues", "{}", "the event `issues` is not a push"),
        ("push", r#"{"ref":"refs/heads/other"}"#, "a push to other refs"),
        ("push", r#"{"ref":"refs/tags/main"}"#, "a push to other refs"),
        (
            "push",
            r#"{"ref":"refs/heads/main","deleted":true}"#,
            "a ref was deleted",
        ),
    ] {
        let answer = post(event, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["ignored"], why);
    }
    assert!(!world.path("site/a").exists());
    let run = accepted(&post("push", PUSH));
    assert_eq!(end(&world, &run), 0);
    assert!(world.site().contains_key("a"));
}

#[test]
fn each_kind_of_sender_is_proven_or_refused() {
    let (world, _daemon) = served();
    world.secret("standard", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let hook = |path: &str, from: &str| format!(r#""{path}": (trigger: "site", from: {from}),"#);
    let hooks = [
        hook("/github", r#"GitHub(secret_files: ["standard", "secret"])"#),
        hook("/gitea", r#"Gitea(secret_file: "secret")"#),
        hook("/bitbucket", r#"Bitbucket(secret_file: "secret")"#),
        hook("/gitlab", r#"GitLab(token_file: "secret")"#),
        hook("/standard", r#"StandardWebhooks(secret_file: "standard")"#),
        hook("/bearer", r#"Bearer(token_file: "secret")"#),
        hook("/basic", r#"Basic(user: "azure", password_file: "secret")"#),
        hook(
            "/hmac",
            r#"Hmac(header: "X-Sig", prefix: "v0=", secret_file: "secret")"#,
        ),
    ];
    let front = Front::start(&world, &hooks.concat(), "max_body: \"2KiB\"");
    let cloud = r#"{"push":{"changes":[{"new":{"type":"branch","name":"main"},"old":null}]}}"#;
    let hub = format!("sha256={}", sign(SECRET, PUSH.as_bytes()));
    let bucket = format!("sha256={}", sign(SECRET, cloud.as_bytes()));
    let bare = sign(SECRET, PUSH.as_bytes());
    let own = format!("v0={}", sign(SECRET, b"anything"));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let standard = |at: u64| {
        let signed = format!("id-1.{at}.{PUSH}");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    };
    let (fresh, stale) = (standard(now), standard(now - 1000));
    let (fresh_at, stale_at) = (now.to_string(), (now - 1000).to_string());
    let bearer = format!("Bearer {SECRET}");
    let basic = format!("Basic {}", STANDARD.encode(format!("azure:{SECRET}")));
    let events = |name: &'static str, value: &'static str| (name, value);
    for (path, head, body, status) in [
        (
            "/github",
            vec![
                JSON,
                ("X-Hub-Signature-256", &*hub),
                events("X-GitHub-Event", "push"),
            ],
            PUSH,
            202,
        ),
        (
            "/gitea",
            vec![
                JSON,
                ("X-Gitea-Signature", &bare),
                events("X-Gitea-Event", "push"),
            ],
            PUSH,
            202,
        ),
        (
            "/bitbucket",
            vec![
                JSON,
                ("X-Hub-Signature", &bucket),
                events("X-Event-Key", "repo:push"),
            ],
            cloud,
            202,
        ),
        (
            "/gitlab",
            vec![
                JSON,
                ("X-Gitlab-Token", SECRET),
                events("X-Gitlab-Event", "Push Hook"),
            ],
            PUSH,
            202,
        ),
        (
            "/standard",
            vec![
                JSON,
                ("webhook-id", "id-1"),
                ("webhook-timestamp", &fresh_at),
                ("webhook-signature", &fresh),
            ],
            PUSH,
            202,
        ),
        (
            "/standard",
            vec![
                JSON,
                ("webhook-id", "id-1"),
                ("webhook-timestamp", &stale_at),
                ("webhook-signature", &stale),
            ],
            PUSH,
            400,
        ),
        (
            "/standard",
            vec![
                JSON,
                ("webhook-id", "id-2"),
                ("webhook-timestamp", &fresh_at),
                ("webhook-signature", &fresh),
            ],
            PUSH,
            401,
        ),
        ("/bearer", vec![("Authorization", &*bearer)], "", 202),
        ("/basic", vec![("Authorization", &*basic)], "not=json", 202),
        ("/hmac", vec![("x-sig", &*own)], "anything", 202),
        // A proof for another webhook, or for another body.
        (
            "/gitea",
            vec![
                JSON,
                ("X-Hub-Signature-256", &*hub),
                events("X-GitHub-Event", "push"),
            ],
            PUSH,
            401,
        ),
        (
            "/github",
            vec![
                JSON,
                ("X-Hub-Signature-256", &*hub),
                events("X-GitHub-Event", "push"),
            ],
            cloud,
            401,
        ),
        ("/gitlab", vec![JSON, ("X-Gitlab-Token", "x")], PUSH, 401),
        ("/bearer", vec![("Authorization", &*basic)], "", 401),
        ("/basic", vec![("Authorization", &*bearer)], "", 401),
        ("/hmac", vec![("X-Sig", &own[3..])], "anything", 401),
        (
            "/github",
            vec![
                ("X-Hub-Signature-256", &*hub),
                ("X-Hub-Signature-256", &*hub),
                JSON,
            ],
            PUSH,
            401,
        ),
        (
            "/gitea",
            vec![
                JSON,
                ("X-Gitea-Signature", ""),
                ("X-Hub-Signature-256", "sha256="),
            ],
            PUSH,
            401,
        ),
        // What is signed, but of no use.
        ("/github", vec![JSON, ("X-Hub-Signature-256", &*hub)], PUSH, 400),
        (
            "/github",
            vec![
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("X-Hub-Signature-256", &*hub),
                events("X-GitHub-Event", "push"),
            ],
            PUSH,
            415,
        ),
        (
            "/github",
            vec![JSON, ("X-Hub-Signature-256", &*hub), ("Content-Encoding", "gzip")],
            PUSH,
            415,
        ),
        (
            "/github",
            vec![JSON, ("X-Hub-Signature-256", &*hub), ("Content-Length", "3000")],
            PUSH,
            413,
        ),
        (
            "/bearer",
            vec![("Authorization", &*bearer), ("Content-Length", "99999999999")],
            "",
            413,
        ),
        ("/none", vec![], PUSH, 404),
    ] {
        let answer = front.ask(&format!("POST {path}"), &head, body.as_bytes());
        assert_eq!(answer.status, status, "{path} {head:?}: {answer:?}");
        if status == 401 {
            let said = format!("{}{}", answer.head, answer.body);
            assert!(!said.contains("match") && !said.contains("secret"), "{said}");
            let is_asked_for = ["/bearer", "/basic"].contains(&path);
            assert_eq!(
                answer.head.contains("\r\nwww-authenticate: "),
                is_asked_for,
                "{said}"
            );
        }
    }
    for method in ["GET", "PUT", "HEAD", "OPTIONS"] {
        let answer = front.ask(&format!("{method} /github"), &[], b"");
        assert_eq!(answer.status, 405);
        assert!(answer.head.contains("\r\nallow: post"), "{answer:?}");
    }
}

/// What the head of a request tells is said before the body is asked for; and a body in chunks has a bound as well.
#[test]
fn a_body_is_not_asked_for_in_vain() {
    let (world, _daemon) = served();
    let bearer = r#""/ci": (trigger: "site", from: Bearer(token_file: "secret")),"#;
    let front = Front::start(&world, &format!("{GITHUB}{bearer}"), "max_body: \"2KiB\"");
    let expecting = |path: &str, head: &str| {
        let mut stream = UnixStream::connect(&front.process.socket).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{head}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        line
    };
    let signed = format!("X-Hub-Signature-256: sha256={}\r\n", "0".repeat(64));
    for (path, head, status) in [
        ("/hooks/site", "Content-Length: 5".to_owned(), "401"),
        ("/hooks/site", format!("{signed}Content-Length: 5"), "415"),
        (
            "/hooks/site",
            format!("{signed}Content-Type: application/json\r\nContent-Length: 5000"),
            "413",
        ),
        ("/hooks/other", "Content-Length: 5".into(), "404"),
        (
            "/ci",
            "Authorization: Bearer x\r\nContent-Length: 5".into(),
            "401",
        ),
        (
            "/ci",
            format!("Authorization: Bearer {SECRET}\r\nContent-Length: 5"),
            "100",
        ),
    ] {
        let line = expecting(path, &head);
        assert!(
            line.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path} {head}: {line}"
        );
    }
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    let auth = format!("Bearer {SECRET}");
    let head = [
        ("Authorization", auth.as_str()),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", ""),
    ];
    // `ask` adds no length of its own; this one is taken out.
    let head = &head[..2];
    for (chunks, status) in [(2, 202), (3, 413)] {
        let body = format!("{}0\r\n\r\n", chunk.repeat(chunks));
        let mut stream = UnixStream::connect(&front.process.socket).unwrap();
        let lines: String = head
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let request = format!("POST /ci HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n{body}");
        stream.write_all(request.as_bytes()).ok();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        assert!(
            line.starts_with(&format!("HTTP/1.1 {status} ")),
            "{chunks}: {line}"
        );
    }
}

/// Two of the largest bodies may be read at a time; one that takes long makes way for a third, and a small one does not wait.
#[test]
fn large_bodies_hold_up_no_small_one() {
    let (world, _daemon) = served();
    let mut front = Front::start(&world, GITHUB, "max_body: \"25MiB\"");
    let large = format!(r#"{{"ref":"refs/heads/main","x":"{}"}}"#, "x".repeat(2 << 20));
    let _stalled = [(), ()].map(|()| {
        let mut stream = UnixStream::connect(&front.process.socket).unwrap();
        let head = format!(
            "POST /hooks/site HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             X-Hub-Signature-256: sha256={}\r\nContent-Length: {}\r\n\r\n",
            "0".repeat(64),
            large.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&large.as_bytes()[..large.len() - 1]).unwrap();
        stream
    });
    std::thread::scope(|scope| {
        let third = scope.spawn(|| github(&front, "/hooks/site", SECRET, "push", "", &large));
        accepted(&github(&front, "/hooks/site", SECRET, "push", "", PUSH));
        accepted(&third.join().unwrap());
    });
    front
        .process
        .wait_for("reading the body was stopped for another one");
}

#[test]
fn secrets_are_read_again_when_they_have_changed() {
    let (world, _daemon) = served();
    let mut front = Front::start(&world, GITHUB, "");
    let post = |front: &Front, secret: &str| github(front, "/hooks/site", secret, "push", "", PUSH).status;
    assert_eq!((post(&front, SECRET), post(&front, "new")), (202, 401));
    for secret in ["new", "older"] {
        world.secret("secret", &format!("{secret}\n"));
        assert_eq!((post(&front, SECRET), post(&front, secret)), (401, 202));
    }
    // No secret is none that anybody could know.
    for empty in ["", "\n", "\n\n"] {
        world.secret("secret", empty);
        assert_eq!((post(&front, ""), post(&front, "older")), (503, 503), "{empty:?}");
    }
    front.process.wait_for("its first line is empty");
    fs::remove_file(world.path("secret")).unwrap();
    assert_eq!(post(&front, "older"), 503);
    world.secret("secret", "back\n");
    assert_eq!(post(&front, "back"), 202);
}

#[test]
fn a_front_whose_secret_is_of_no_use_does_not_start() {
    let world = World::new();
    for (text, mode, why) in [
        ("", 0o600, "its first line is empty"),
        ("\n", 0o600, "its first line is empty"),
        ("\u{feff}s3cret", 0o600, "it begins with a byte order mark"),
        ("s3cret", 0o604, "can be read by others"),
        ("not Base64", 0o600, "it is not `whsec_` and a key in Base64"),
    ] {
        world.secret("secret", text);
        let path = world.path("secret");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        world.write(
            "web.ron",
            r#"(listen: [Unix(path: "web.sock")], daemon: "./s.sock",
                webhooks: {"/h": (trigger: "site", from: StandardWebhooks(secret_file: "secret"))})"#,
        );
        let ended = world.run_to(2, ["web", "-c", "web.ron"]);
        assert!(
            ended.err.contains(why) && !ended.err.contains("s3cret"),
            "{ended:?}"
        );
        let ended = world.run_to(2, ["check", "--web", "web.ron"]);
        assert!(
            ended.err.contains("webhooks: /h: from: ") && ended.err.contains(why),
            "{ended:?}"
        );
    }
}

/// Why is for the operator, at a bounded rate.
#[test]
fn refusals_are_explained_in_the_log_and_do_not_fill_it() {
    let (world, _daemon) = served();
    let mut front = Front::start(&world, GITHUB, "");
    let log = front.process.collect();
    github(&front, "/hooks/site", "wrong", "push", "", PUSH);
    for _ in 0..300 {
        let answer = front.ask("POST /hooks/site", &[JSON], PUSH.as_bytes());
        assert_eq!(answer.status, 401);
    }
    front.process.signal(Signal::TERM);
    let log = log.join().unwrap();
    for why in [
        "the signature does not match: another secret, or a proxy that changed the body",
        "no X-Hub-Signature-256: does the webhook have a secret?",
    ] {
        assert!(log.contains(why), "{log}");
    }
    assert!(log.lines().count() < 150, "{log}");
    assert!(!log.contains(SECRET), "{log}");
}

#[test]
fn check_asks_the_daemon_too() {
    let (world, mut daemon) = served();
    let write = |hook: &str| {
        let text =
            format!("(listen: [Unix(path: \"web.sock\")], daemon: \"./s.sock\", webhooks: {{ {hook} }})");
        world.write("web.ron", &text)
    };
    write(GITHUB);
    let check = || world.run(["check", "--web", "web.ron"]);
    let ended = check();
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert!(
        ended
            .out
            .contains("web.ron is right: 1 webhook(s), 1 listener(s)"),
        "{ended:?}"
    );
    assert_eq!(
        ended.err.is_empty(),
        !rustix::process::geteuid().is_root(),
        "{ended:?}"
    );
    write(&GITHUB.replace("\"site\", from", "\"sight\", from"));
    let ended = check();
    assert_eq!(ended.exit, 4, "{ended:?}");
    assert!(
        ended.err.contains("webhooks: /hooks/site: trigger: ") && ended.err.contains("sight"),
        "{ended:?}"
    );
    daemon.signal(Signal::TERM);
    daemon.wait();
    let ended = check();
    assert_eq!(ended.exit, 3, "{ended:?}");
    assert!(ended.err.contains("daemon: no daemon answers"), "{ended:?}");
    for (socket, why) in [
        ("path: \"s.sock\"", "that is the socket of the daemon"),
        (
            "path: \"web.sock\", group: \"no-such-group\"",
            "/etc/group has no such name",
        ),
    ] {
        let text = format!("(listen: [Unix({socket})], daemon: \"./s.sock\", webhooks: {{ {GITHUB} }})");
        world.write("web.ron", &text);
        let ended = check();
        assert_eq!(ended.exit, 2, "{ended:?}");
        assert!(
            ended.err.contains("listen: ") && ended.err.contains(why),
            "{ended:?}"
        );
    }
    write("\"/h\": (trigger: \"site\", from: GitHub(secret: \"hunter2\"))");
    let ended = check();
    assert_eq!(ended.exit, 2, "{ended:?}");
    assert!(
        ended.err.contains("a configuration holds no secrets") && !ended.err.contains("hunter2"),
        "{ended:?}"
    );
    assert!(!Path::new(&world.path("web.sock")).exists());
}

#[test]
fn a_push_in_the_repository_is_deployed() {
    let (world, mut source) = World::with_commit();
    world.config("");
    world.secret("secret", SECRET);
    let _daemon = world.daemon();
    let front = Front::start(&world, GITHUB, "");
    let run = accepted(&github(&front, "/hooks/site", SECRET, "push", "1", PUSH));
    assert_eq!(end(&world, &run), 0);
    source.commit([("a", file("2"))]);
    let run = accepted(&github(&front, "/hooks/site", SECRET, "push", "2", PUSH));
    assert_eq!(end(&world, &run), 0);
    assert_eq!(world.site()["a"], file("2"));
}

#[test]
fn each_webhook_is_explained() {
    let world = World::new();
    world.secret("secret", SECRET);
    let hook = r#""/ci": (trigger: "shop", from: Bearer(token_file: "secret")),"#;
    let text = format!("(listen: [Unix(path: \"web.sock\")], webhooks: {{ {GITHUB} {hook} }})");
    world.write("web.ron", &text);
    let ended = world.run(["web", "--explain"]);
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{ended:?}");
    for line in [
        "/ci triggers shop\n",
        "  URL            https://HOST/ci\n",
        "/hooks/site triggers site\n",
        "  content type   application/json\n",
        "  events         just the push event\n",
        "  triggers       for refs/heads/main alone\n",
    ] {
        assert!(ended.out.contains(line), "{line}{ended:?}");
    }
    assert!(!ended.out.contains(SECRET) && !world.path("web.sock").exists());
    // What it says of a secret makes one, and never another in place of one that the forge has.
    let line = ended
        .out
        .lines()
        .find_map(|line| line.trim().strip_prefix("make one"));
    let make = || {
        Command::new("/bin/sh")
            .args(["-c", line.unwrap().trim()])
            .output()
            .unwrap()
    };
    assert!(!make().status.success());
    assert_eq!(fs::read_to_string(world.path("secret")).unwrap(), SECRET);
    fs::remove_file(world.path("secret")).unwrap();
    if make().status.success() {
        let meta = fs::metadata(world.path("secret")).unwrap();
        assert_eq!((meta.permissions().mode() & 0o777, meta.len()), (0o600, 45));
        // In a directory that gives its group to files, as in docs/web.md, the group reads it: the front is in that group.
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o2750)).unwrap();
        let ended = world.run(["web", "--explain"]);
        assert!(ended.out.contains("(set -C; umask 027; "), "{ended:?}");
    } else {
        machine::skipped("head and base64 are not here");
    }
}
