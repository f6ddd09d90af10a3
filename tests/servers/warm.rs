//! Connections that a daemon keeps serve only their own trigger's secrets, and dead ones harm no run.

use super::{
    https::{PASSWORD, TLS},
    nginx::{self, Authority, Nginx},
    source::file,
    world::{Daemon, World, last_line},
};

/// Say `name`; the end of the answer has to begin with `start` and to contain `word`.
fn say(daemon: &Daemon, name: &str, start: &str, word: &str) {
    let answer = daemon.say(format!("{name}\n"));
    let last = last_line(&answer);
    assert!(
        last.starts_with(&format!("{start} {name} ")) && last.contains(word),
        "{answer}"
    );
}

/// Triggers of these names, all for `url`, with what each says besides.
fn configure(world: &World, url: &str, triggers: &[(&str, &str)]) {
    let triggers: String = triggers
        .iter()
        .map(|(name, more)| {
            let options = super::OPTIONS.replace("site", name);
            format!("{name:?}: (repo: {url:?}, branch: \"main\", {options} {more}),")
        })
        .collect();
    world.config_of(&triggers);
}

#[test]
fn nobody_is_let_in_by_another_s_credentials() {
    let world = World::sourced();
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    world.secret("password", nginx::PASSWORD);
    world.secret("other-password", "wrong-horse");
    let wrong = PASSWORD.replace("\"password\"", "\"other-password\"");
    configure(
        &world,
        &nginx.https("/private/repo.git"),
        &[
            ("right", &format!("{TLS} {PASSWORD}")),
            ("wrong", &format!("{TLS} {wrong}")),
            ("none", TLS),
        ],
    );
    let daemon = world.daemon();
    for _ in 0..2 {
        say(&daemon, "right", "ok", "");
        say(&daemon, "wrong", "error", "refused the credentials");
        say(&daemon, "none", "error", "asks for a user and password");
    }
}

#[test]
fn nobody_trusts_what_another_trusts() {
    let world = World::sourced();
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    std::fs::rename(world.path("ca.pem"), world.path("ours.pem")).unwrap();
    Authority::new(&world);
    configure(
        &world,
        &nginx.https("/open/repo.git"),
        &[
            ("ours", "tls: (ca_file: \"ours.pem\"),"),
            ("other", TLS),
            ("mozilla", ""),
        ],
    );
    let daemon = world.daemon();
    for _ in 0..2 {
        say(&daemon, "ours", "ok", "");
        say(
            &daemon,
            "other",
            "error",
            "issued by an authority that is not trusted",
        );
        say(
            &daemon,
            "mozilla",
            "error",
            "issued by an authority that is not trusted",
        );
    }
    // The file is read anew.
    std::fs::rename(world.path("ca.pem"), world.path("ours.pem")).unwrap();
    say(
        &daemon,
        "ours",
        "error",
        "issued by an authority that is not trusted",
    );
}

#[test]
fn a_server_that_was_away() {
    let (world, mut source) = World::with_source();
    let Some(mut nginx) = Nginx::start(&world) else {
        return;
    };
    configure(&world, &nginx.https("/open/repo.git"), &[("site", TLS)]);
    source.commit([("a", file("0"))]);
    let daemon = world.daemon();
    say(&daemon, "site", "ok", "");
    for text in ["1", "2"] {
        source.commit([("a", file(text))]);
        nginx.restart(&world);
        say(&daemon, "site", "ok", "..");
        assert_eq!(world.site()["a"], file(text));
        say(&daemon, "site", "ok", "up-to-date");
    }
    nginx.kill_backend();
    say(&daemon, "site", "error", "502");
}
