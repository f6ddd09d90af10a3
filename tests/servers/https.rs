//! Deploys over HTTPS and HTTP work.

use std::{fs, path::Path};

use super::{
    configure,
    daily::{Remote, life},
    foreign::deploy_as_nobody,
    nginx::{self, IsCa, Nginx, TOKEN},
    snapshot,
    source::{Source, file},
    world::World,
};

pub const TLS: &str = "tls: (ca_file: \"ca.pem\"),";
pub const PASSWORD: &str = "auth: Basic(user: \"ada\", password_file: \"password\"),";
pub const BEARER: &str = "auth: Bearer(token_file: \"token\"),";

#[test]
fn a_site_from_git_behind_nginx() {
    let world = World::new();
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    world.secret("password", nginx::PASSWORD);
    let (branch, repository) = life(&Remote {
        world: &world,
        base: nginx.https("/private"),
        more: format!("{TLS} {PASSWORD}"),
        lenient: true,
    });
    let text = format!("{branch}\n{repository}");
    snapshot(&world, &nginx.ports(), "nginx-missing", &text);
}

#[test]
fn a_site_over_http_compressed_and_in_the_old_protocol() {
    for path in ["/gzip", "/old"] {
        let world = World::new();
        let Some(nginx) = Nginx::start(&world) else {
            return;
        };
        life(&Remote {
            world: &world,
            base: nginx.http(path),
            more: String::new(),
            lenient: true,
        });
    }
}

#[test]
fn a_repository_of_sha256() {
    let world = World::new();
    let mut source = Source::with_format(&world.path("repo.git"), "sha256");
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    for path in ["/open", "/old"] {
        configure(&world, &nginx.http(&format!("{path}/repo.git")), "");
        for text in ["1", "2"] {
            source.commit([("a", file(text)), ("b", file(path))]);
            world.deploy();
            assert_eq!(world.site()["a"], file(text));
        }
        fs::remove_dir_all(world.path("site")).unwrap();
    }
}

/// As they are made by hand; the same as an authority's is refused, see `refusals`.
#[test]
fn a_self_signed_certificate() {
    let world = World::sourced();
    let Some(nginx) = Nginx::self_signed(&world, IsCa::ExplicitNoCa) else {
        return;
    };
    configure(
        &world,
        &nginx.https("/open/repo.git"),
        "tls: (ca_file: \"nginx.crt\"),",
    );
    world.deploy();
}

/// The goal of it all: a private repository, deployed by a user without a passwd entry, with an empty environment.
#[test]
fn by_nobody_with_nothing() {
    for (path, auth, secret, content) in [
        ("/private", PASSWORD, "password", nginx::PASSWORD),
        ("/token", BEARER, "token", TOKEN),
    ] {
        let world = World::sourced();
        let Some(nginx) = Nginx::start(&world) else {
            return;
        };
        world.secret(secret, content);
        configure(
            &world,
            &nginx.https(&format!("{path}/repo.git")),
            &format!("{TLS} {auth}"),
        );
        let Some(ended) = deploy_as_nobody(&world, Path::new(env!("CARGO_BIN_EXE_gitsocket")), secret) else {
            return;
        };
        assert_eq!(ended.exit, 0, "{ended:?}");
        assert_eq!(world.site()["a"], file("1"));
    }
}

#[test]
fn a_bearer_token_and_names_for_the_loopback() {
    let (world, mut source) = World::with_source();
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    world.secret("token", &format!("{TOKEN}\n"));
    for (i, host) in ["127.0.0.1", "localhost", "LOCALHOST"].iter().enumerate() {
        source.commit([("a", file(&i.to_string()))]);
        let url = format!("https://{host}:{}/token/repo.git", nginx.tls);
        configure(&world, &url, &format!("{TLS} {BEARER}"));
        world.deploy();
        assert_eq!(world.site()["a"], file(&i.to_string()));
    }
}

/// A user in the URL is named only when the server asks, a password at once; a slash at the end changes nothing.
#[test]
fn credentials_in_the_url() {
    let world = World::sourced();
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    nginx::passwords(&world, &[("ada", "p@ss/word%"), ("token", "")]);
    for (user, path) in [
        ("ada:p%40ss%2Fword%25@", "/private/repo.git"),
        ("token@", "/private/repo.git"),
        ("token@", "/open/repo.git"),
        ("token:@", "/private/repo.git/"),
    ] {
        let url = format!("https://{user}127.0.0.1:{}{path}", nginx.tls);
        configure(&world, &url, TLS);
        world.deploy();
        fs::remove_dir_all(world.path("site")).unwrap();
    }
}

#[test]
fn redirects() {
    let (world, mut source) = World::with_source();
    let Some(nginx) = Nginx::start(&world) else {
        return;
    };
    for (i, url) in [nginx.https("/moved/repo.git"), nginx.http("/moved/repo.git")]
        .iter()
        .enumerate()
    {
        source.commit([("a", file(&i.to_string()))]);
        configure(&world, url, if url.starts_with("https") { TLS } else { "" });
        world.deploy();
        assert_eq!(world.site()["a"], file(&i.to_string()));
    }
}
