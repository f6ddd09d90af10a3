//! A changed password counts at once, and no password appears anywhere.

use std::{fs, path::Path};

use super::{
    configure,
    https::{PASSWORD, TLS},
    nginx::{self, Nginx, USER},
    source::file,
    world::{Daemon, World, last_line},
};

#[test]
fn a_password_that_changes_under_a_daemon() {
    let (world, mut source) = World::with_commit();
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    world.secret("password", nginx::PASSWORD);
    configure(
        &world,
        &nginx.https("/private/repo.git"),
        &format!("{TLS} {PASSWORD}"),
    );
    let daemon = world.daemon();
    daemon.answers("site\n", "ok site 0000000..");

    nginx::passwords(&world, &[(USER, "next")]);
    source.commit([("a", file("2"))]);
    let answer = daemon.say("site\n");
    let last = last_line(&answer);
    assert!(
        last.starts_with("error site remote: ") && last.contains("(401)"),
        "{answer}"
    );
    assert_eq!(world.site()["a"], file("1"));
    world.secret("password", "next\n");
    daemon.deploys("site");
    assert_eq!(world.site()["a"], file("2"));

    // The authority changes, too.
    drop(nginx);
    fs::write(world.path("password"), "").unwrap();
    daemon.answers("site\n", "error site config: ");
    world.secret("password", "next");
    daemon.answers("site\n", "error site unreachable: ");
}

/// The password as it is written in the URL, decoded, and as it goes over the wire.
const SECRETS: [&str; 3] = ["hunter%402", "hunter@2", "aHVudGVyQDI"];

/// No file of the world but those that have to, and no output, holds the password.
#[test]
fn a_password_in_the_url_is_shown_nowhere() {
    let (world, mut source) = World::with_commit();
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    let dump = world.script("dump", "env; /usr/bin/env > hook-env; exit $1");
    let hook = |exit: u8| {
        format!(
            "{TLS} keep: [\"hook-env\"], hooks: [Exec(run: [{:?}, \"{exit}\"], when: Always)],",
            dump.to_str().unwrap()
        )
    };
    let url = |path: &str| format!("https://xyz:hunter%402@127.0.0.1:{}{path}", nginx.tls);
    let mut reflogs = false;
    for (password, path, more) in [
        ("hunter@2", "/private/repo.git", hook(0)),
        ("hunter@2", "/private/repo.git", hook(1)),
        ("another", "/private/repo.git", hook(0)),
        ("hunter@2", "/private/missing.git", hook(0)),
        ("hunter@2", "/503/repo.git", hook(0)),
        ("hunter@2", "/login/repo.git", hook(0)),
        ("hunter@2", "/circle/repo.git", hook(0)),
        ("hunter@2", "/to-plain/repo.git", hook(0)),
        ("hunter@2", "/private/repo.git", String::new()),
    ] {
        nginx::passwords(&world, &[("xyz", password)]);
        configure(&world, &url(path), &more);
        fs::remove_dir_all(world.path("site")).ok();
        for commit in ["1", "2"] {
            source.commit([("a", file(commit))]);
            for args in [
                &["once", "site"][..],
                &["once", "--json", "site"],
                &["once", "--dry-run", "site"],
                &["check", "--remote"],
            ] {
                let ended = world.run(args);
                assert_shows_nothing(&format!("{path} {args:?}"), &(ended.out + &ended.err));
            }
        }
        for format in ["text", "json"] {
            source.commit([("a", file(format))]);
            let mut daemon = Daemon::start(&world, &["--log-format", format]);
            let said = [
                daemon.say("site\n"),
                daemon.say("{\"op\":\"trigger\",\"name\":\"site\"}\n"),
                daemon.say("status\n"),
                daemon.say("{\"op\":\"status\"}\n"),
            ];
            let client = world.run(["client", "--json", "site"]);
            daemon.signal(rustix::process::Signal::TERM);
            let (_, log) = daemon.wait();
            assert!(log.contains("site"), "there is a log: {log}");
            assert_shows_nothing(
                &format!("{path} {format}"),
                &(said.concat() + &client.out + &client.err + &log),
            );
        }
        let ended = world.run(["once", "-g", "site"]);
        assert_shows_nothing(path, &(ended.out + &ended.err));
        let read = search(&world.path(""));
        assert!(read > 10, "only {read} files were looked into");
        reflogs |= world.path("site/.git/logs/HEAD").is_file();
    }
    assert!(reflogs, "no reflog was looked into");
}

fn assert_shows_nothing(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what}: {text}");
    }
}

/// Search everything below `dir`; gives the number of files.
fn search(dir: &Path) -> usize {
    let mut read = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            read += search(&path);
        } else if path.is_file() && !["config.ron", "htpasswd"].contains(&name) {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            assert_shows_nothing(&path.display().to_string(), &text);
            read += 1;
        }
    }
    read
}
