//! Deploys over SSH work with OpenSSH's own server, with nothing in the program's environment.
//!
//! Each test starts an sshd of its own on a high port of the loopback. Where sshd or git are missing, it says so; with
//! `GITSOCKET_TEST_SERVERS=required`, it fails.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    unreachable_pub,
    reason = "this is a test"
)]

#[path = "support/foreign.rs"]
mod foreign;
#[path = "support/source.rs"]
mod source;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "support/world.rs"]
mod world;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use foreign::deploy_as_nobody;
use source::file;
use sshd::{Sshd, keygen, tool};
use world::{Ended, World, machine, need};

const AUTH: &str = r#"Ssh(key: "key", known_hosts: "known_hosts")"#;

/// `once site`, which has to fail and say all of `words`.
fn fails(world: &World, words: &[&str]) -> Ended {
    let ended = world.run(["once", "site"]);
    assert!(ended.exit == 1 || ended.exit == 2, "{ended:?}");
    let last = ended.err.lines().next_back().unwrap();
    for word in words {
        assert!(last.contains(word), "{word:?} is not in: {last}");
    }
    ended
}

#[test]
fn clone_update_and_nothing_to_do() {
    for (accept, depth) in [("AcceptEnv GIT_PROTOCOL", "depth: 1"), ("", "depth: 1"), ("", "")] {
        let (world, mut source) = World::with_source();
        source.commit([("a", file("0"))]);
        source.commit([("a", file("1")), ("dir/b", file("2"))]);
        let Some(sshd) = Sshd::start(&world, accept) else {
            return;
        };
        sshd.config(&world, AUTH, depth);
        world.deploy();
        assert_eq!(world.site()["dir/b"], file("2"));
        assert_eq!(world.path("site/.git/shallow").exists(), !depth.is_empty());
        let random: Vec<u8> = {
            let mut bytes = vec![0; 5 << 20];
            fastrand::Rng::with_seed(7).fill(&mut bytes);
            bytes
        };
        source.commit([("a", file("2")), ("big", source::Entry::File(random.clone()))]);
        world.deploy();
        assert_eq!(world.site()["big"], source::Entry::File(random));
        assert!(world.deploy().out.contains("up-to-date"), "nothing was pushed");
        let ended = world.run(["check", "--remote"]);
        assert!(ended.out.contains("site: main of ssh://"), "{ended:?}");
    }
}

#[test]
fn keys_that_ssh_keygen_makes() {
    let world = World::sourced();
    let Some(sshd) = Sshd::start(&world, "") else {
        return;
    };
    world.secret("passphrase", "correct horse\n");
    for (name, kind, passphrase) in [
        ("k1", &["-t", "ed25519"][..], "correct horse"),
        ("k2", &["-t", "ecdsa", "-b", "521"], ""),
        ("k3", &["-t", "rsa", "-b", "2048"], ""),
        ("k4", &["-t", "rsa", "-b", "2048", "-m", "PEM"], "correct horse"),
        ("k5", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"], "correct horse"),
        ("k6", &["-t", "ecdsa", "-m", "PEM"], ""),
        (
            "k7",
            &["-t", "ed25519", "-Z", "chacha20-poly1305@openssh.com"],
            "correct horse",
        ),
        (
            "k8",
            &["-t", "ed25519", "-Z", "aes256-gcm@openssh.com"],
            "correct horse",
        ),
        ("k9", &["-t", "ed25519", "-Z", "aes256-cbc"], "correct horse"),
    ] {
        keygen(&world, kind, name, passphrase);
        fs::copy(world.path(name).with_extension("pub"), world.path("authorized")).unwrap();
        let passphrase = match passphrase {
            "" => "",
            _ => "passphrase_file: \"passphrase\"",
        };
        let auth = format!("Ssh(key: {name:?}, known_hosts: \"known_hosts\", {passphrase})");
        sshd.config(&world, &auth, "");
        world.deploy();
    }
}

#[test]
fn an_agent() {
    let world = World::sourced();
    let Some(sshd) = Sshd::start(&world, "") else {
        return;
    };
    if !need("ssh-agent") || !need("ssh-add") {
        return;
    }
    let socket = world.path("agent");
    // It says where it listens, and then goes on listening.
    let mut agent = Command::new("ssh-agent")
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(agent.stdout.take().unwrap())
        .read_line(&mut String::new())
        .unwrap();
    let add = |key: &str| {
        let output = Command::new("ssh-add")
            .arg(world.path(key))
            .env("SSH_AUTH_SOCK", &socket)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let deploy = || {
        Ended::from(
            world
                .command(["once", "site"])
                .env("SSH_AUTH_SOCK", &socket)
                .output()
                .unwrap(),
        )
    };
    sshd.config(&world, r#"Ssh(known_hosts: "known_hosts")"#, "");
    fails(&world, &["$SSH_AUTH_SOCK is not set", "auth: Ssh(key:"]);
    assert!(deploy().err.contains("holds no keys"));
    keygen(&world, &["-t", "rsa", "-b", "2048"], "other", "");
    add("other");
    add("key");
    let ended = deploy();
    assert_eq!(ended.exit, 0, "{ended:?}");
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn known_hosts_that_ssh_keygen_hashes_and_signs() {
    let world = World::sourced();
    let Some(sshd) = Sshd::start(&world, "") else {
        return;
    };
    sshd.config(&world, AUTH, "");
    tool(
        "ssh-keygen",
        &["-q", "-H", "-f", world.path("known_hosts").to_str().unwrap()],
    );
    assert!(
        fs::read_to_string(world.path("known_hosts"))
            .unwrap()
            .starts_with("|1|")
    );
    world.deploy();
    // Known by another of its keys.
    sshd.know(&world, "host_ecdsa");
    world.deploy();

    // The line that the error gives is the one to write.
    world.write("known_hosts", "");
    let ended = fails(&world, &["is not known", "SHA256:"]);
    let (_, line) = ended.err.trim_end().rsplit_once("known_hosts: ").unwrap();
    let line = line.trim_end_matches(')').trim_end();
    let checked = world.run(["check", "--remote"]);
    assert!(
        checked.err.lines().any(|alone| alone == line),
        "it stands alone, to be copied: {line:?} {checked:?}"
    );
    world.write("known_hosts", &format!("{line}\n"));
    world.deploy();
    let fingerprint = tool(
        "ssh-keygen",
        &["-lf", world.path("host_ed25519.pub").to_str().unwrap()],
    );
    assert!(
        ended.err.contains(fingerprint.split(' ').nth(1).unwrap()),
        "{ended:?}"
    );
    sshd.know(&world, "key");
    fails(&world, &["does not match", "known_hosts, line 1"]);
    drop(sshd);

    // A certificate made by ssh-keygen.
    keygen(&world, &["-t", "ed25519"], "authority", "");
    let (authority, host) = (world.path("authority"), world.path("host_ed25519.pub"));
    let sign = |principal: &str| {
        let (authority, host) = (authority.to_str().unwrap(), host.to_str().unwrap());
        tool(
            "ssh-keygen",
            &["-q", "-s", authority, "-I", "test", "-h", "-n", principal, host],
        );
        let certificate = world.path("host_ed25519-cert.pub");
        Sshd::start(&world, &format!("HostCertificate {}", certificate.display())).unwrap()
    };
    let authority = fs::read_to_string(authority.with_extension("pub")).unwrap();
    let trust = format!("@cert-authority [127.0.0.1]:* {authority}");
    let sshd = sign("127.0.0.1");
    world.write("known_hosts", &trust);
    sshd.config(&world, AUTH, "");
    world.deploy();
    drop(sshd);
    let sshd = sign("example.org");
    world.write("known_hosts", &trust);
    sshd.config(&world, AUTH, "");
    fails(&world, &["it is for example.org, not for 127.0.0.1"]);
}

#[test]
fn refusals_in_the_hosts_own_words() {
    let world = World::sourced();
    let Some(sshd) = Sshd::start(&world, "") else {
        return;
    };
    let url = sshd.url(&world.path("missing.git"));
    world.config_of(&format!(
        "\"site\": (repo: {url:?}, path: \"site\", auth: {AUTH}),"
    ));
    let ended = fails(
        &world,
        &["error site remote:", "does not appear to be a git repository"],
    );
    assert!(
        ended.err.lines().count() > 1,
        "its lines are reported as they come: {ended:?}"
    );

    keygen(&world, &["-t", "ed25519"], "other", "");
    sshd.config(&world, r#"Ssh(key: "other", known_hosts: "known_hosts")"#, "");
    fails(&world, &["does not let the user", "SHA256:", "authorized_keys"]);
    fs::set_permissions(world.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    sshd.config(&world, AUTH, "");
    fails(&world, &["can be read by others", "chmod 600"]);
    fs::set_permissions(world.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    drop(sshd);

    let sshd = Sshd::start(
        &world,
        "ForceCommand echo ERROR: deploy key is read-only >&2; exit 1",
    )
    .unwrap();
    sshd.config(&world, AUTH, "");
    fails(&world, &["ERROR: deploy key is read-only"]);
    drop(sshd);
    let sshd = Sshd::start(&world, "ForceCommand echo Welcome; exec $SSH_ORIGINAL_COMMAND").unwrap();
    sshd.config(&world, AUTH, "");
    fails(&world, &["not git's protocol", "Welcome"]);
}

/// As a user without a passwd entry, without HOME; nothing is executed.
#[test]
fn as_another_user_and_without_other_programs() {
    let world = World::sourced();
    let Some(sshd) = Sshd::start(&world, "AcceptEnv GIT_PROTOCOL") else {
        return;
    };
    sshd.config(&world, AUTH, "");
    let Some(ended) = deploy_as_nobody(&world, Path::new(env!("CARGO_BIN_EXE_gitsocket")), "key") else {
        return;
    };
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert_eq!(world.site()["a"], file("1"));

    if !machine::need(machine::Need::Tracing) {
        return;
    }
    fs::remove_dir_all(world.path("site")).unwrap();
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=execve,execveat", "-o"])
        .arg(world.path("trace"))
        .args([env!("CARGO_BIN_EXE_gitsocket"), "once", "site"])
        .current_dir(world.path("."))
        .output()
        .unwrap();
    let ended = Ended::from(output);
    assert_eq!(ended.exit, 0, "{ended:?}");
    let trace = fs::read_to_string(world.path("trace")).unwrap();
    assert_eq!(
        trace.lines().filter(|line| line.contains("execve")).count(),
        1,
        "{trace}"
    );
}
