//! A refusal by nginx, by git behind it or by TLS is told to the user as recorded.

use std::{fmt::Write as _, fs};

use super::{
    configure,
    https::{BEARER, PASSWORD, TLS},
    nginx::{self, Authority, BasicConstraints, IsCa, Nginx, TOKEN, USER},
    snapshot,
    source::{Source, file},
    world::{World, git},
};

/// A list of refusals, for a snapshot.
struct Refusals<'a> {
    world: &'a World,
    text: String,
}

impl<'a> Refusals<'a> {
    fn new(world: &'a World) -> Self {
        let text = String::new();
        Self { world, text }
    }

    /// `case`: from `url`, with `more` of a trigger's fields, which has to end with `exit`.
    fn add(&mut self, case: &str, exit: i32, url: &str, more: &str) {
        configure(self.world, url, more);
        let ended = self.world.run(["once", "site"]);
        assert_eq!((ended.exit, ended.out.as_str()), (exit, ""), "{case}: {ended:?}");
        let said = ended.err.lines().filter(|line| {
            // Not the configuration's lines, which say which test this is, nor the remote's, which gix takes apart.
            !["deploying ", "remote: ", " 1 |", "   :"]
                .iter()
                .any(|start| line.starts_with(start))
        });
        writeln!(self.text, "# {case}").unwrap();
        for line in said.map(without_clock).chain([String::new()]) {
            writeln!(self.text, "{}", line.trim_end()).unwrap();
        }
        assert!(
            !self.world.path("site").exists(),
            "{case}: nothing is left behind"
        );
    }
}

/// `line` without the time of day.
fn without_clock(line: &str) -> String {
    match line.split_once("and here it is ") {
        Some((before, after)) => format!("{before}and here it is NOW{}", &after[20..]),
        None => line.to_owned(),
    }
}

#[test]
fn statuses() {
    let world = World::sourced();
    let Some(mut nginx) = Nginx::start(&world) else {
        return;
    };
    // For those who serve files.
    git(&world.path("repo.git"), &["update-server-info"]);
    world.secret("password", "wrong-horse");
    world.secret("token", "wrong-token");
    let mut said = Refusals::new(&world);
    let private = nginx.https("/private/repo.git");
    said.add("no credentials", 1, &private, TLS);
    said.add("a wrong password", 1, &private, &format!("{TLS} {PASSWORD}"));
    let in_url = private.replace("://", "://ada:wrong-horse@");
    said.add("a wrong password in the URL", 1, &in_url, TLS);
    let token = nginx.https("/token/repo.git");
    said.add("no token", 1, &token, TLS);
    said.add("a wrong token", 1, &token, &format!("{TLS} {BEARER}"));
    for (case, path) in [
        ("403", "/403/repo.git"),
        ("404 of nginx", "/nowhere/repo.git"),
        ("404 of git", "/open/missing.git"),
        ("410", "/410/repo.git"),
        ("429", "/429/repo.git"),
        ("503", "/503/repo.git"),
        ("a page to log in", "/login/repo.git"),
        ("a repository's files only", "/files/repo.git"),
        ("a redirect in a circle", "/circle/repo.git"),
        ("a redirect to http", "/to-plain/repo.git"),
        ("a redirect out of a repository", "/open/../nowhere/repo.git"),
    ] {
        said.add(case, 1, &nginx.https(path), TLS);
    }
    // What most servers do with plain requests.
    let to_tls = nginx.http("/to-tls/repo.git");
    said.add("a redirect to a private authority's host", 1, &to_tls, "");
    world.secret("password", nginx::PASSWORD);
    let to_private = nginx.https("/to-private/repo.git");
    said.add(
        "a redirect to another host",
        1,
        &to_private,
        &format!("{TLS} {PASSWORD}"),
    );
    damage(&world);
    said.add("a damaged repository", 1, &nginx.https("/open/damaged.git"), TLS);
    nginx.kill_backend();
    said.add("502", 1, &nginx.https("/open/repo.git"), TLS);
    snapshot(&world, &nginx.ports(), "nginx-statuses", &said.text);
}

/// A repository `damaged.git` that lacks one of its blobs.
fn damage(world: &World) {
    let mut source = Source::new(&world.path("damaged.git"));
    source.commit([("a", file("1"))]);
    let blob = source.blob(b"1").to_string();
    let (dir, name) = blob.split_at(2);
    fs::remove_file(source.path.join("objects").join(dir).join(name)).unwrap();
}

#[test]
fn credentials_over_http() {
    let world = World::sourced();
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    world.secret("password", nginx::PASSWORD);
    world.secret("token", TOKEN);
    let mut said = Refusals::new(&world);
    let url = nginx.http("/private/repo.git");
    said.add("a password", 2, &url, PASSWORD);
    said.add("a token", 2, &nginx.http("/token/repo.git"), BEARER);
    let in_url = url.replace("://", &format!("://{USER}:hunter2@"));
    said.add("in the URL", 2, &in_url, "");
    snapshot(&world, &nginx.ports(), "nginx-plain", &said.text);
    configure(
        &world,
        &url,
        &format!("{PASSWORD} tls: (allow_plain_credentials: true),"),
    );
    world.deploy();
}

#[test]
fn certificates() {
    let world = World::sourced();
    let authority = Authority::new(&world);
    let mut ports = Vec::new();
    let mut said = Refusals::new(&world);
    for (case, names, year, more) in [
        ("an authority that is not trusted", ["127.0.0.1"], 2999, ""),
        ("the system's roots", ["127.0.0.1"], 2999, "tls: (roots: System),"),
        (
            "another authority",
            ["127.0.0.1"],
            2999,
            "tls: (ca_file: \"other.pem\"),",
        ),
        ("for another host", ["git.example"], 2999, TLS),
        ("for a host of that name only", ["localhost"], 2999, TLS),
        ("expired", ["127.0.0.1"], 2001, TLS),
        (
            "no certificates",
            ["127.0.0.1"],
            2999,
            "tls: (ca_file: \"repo.git/HEAD\"),",
        ),
        ("no file", ["127.0.0.1"], 2999, "tls: (ca_file: \"nowhere.pem\"),"),
    ] {
        let Some(nginx) = Nginx::certified(&world, &authority, &names, year) else {
            return;
        };
        let exit = if case.starts_with("no ") { 2 } else { 1 };
        if more.contains("other.pem") {
            let ours = fs::read(world.path("ca.pem")).unwrap();
            Authority::new(&world);
            fs::rename(world.path("ca.pem"), world.path("other.pem")).unwrap();
            fs::write(world.path("ca.pem"), ours).unwrap();
        }
        said.add(case, exit, &nginx.https("/open/repo.git"), more);
        ports.extend(nginx.ports());
    }
    let Some(nginx) = Nginx::certified(&world, &authority, &[], 2999) else {
        return;
    };
    ports.extend(nginx.ports());
    said.add("for nobody", 1, &nginx.https("/open/repo.git"), TLS);
    let Some(nginx) = Nginx::self_signed(&world, IsCa::Ca(BasicConstraints::Unconstrained)) else {
        return;
    };
    ports.extend(nginx.ports());
    said.add(
        "an authority's own",
        1,
        &nginx.https("/open/repo.git"),
        "tls: (ca_file: \"nginx.crt\"),",
    );
    let Some(nginx) = Nginx::certified(&world, &authority, &["127.0.0.1"], 2999) else {
        return;
    };
    ports.extend(nginx.ports());
    said.add(
        "TLS spoken to a port without",
        1,
        &nginx.http("/open/repo.git").replace("http:", "https:"),
        TLS,
    );
    said.add(
        "a port with TLS spoken to without",
        1,
        &nginx.https("/open/repo.git").replace("https:", "http:"),
        "",
    );
    snapshot(&world, &ports, "nginx-certificates", &said.text);
}
