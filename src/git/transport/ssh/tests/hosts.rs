//! Hosts that are known, and others.

use russh::keys::{
    Certificate,
    ssh_key::certificate::{Builder, CertType},
};

use super::*;

#[test]
fn hosts_that_are_not_trusted() {
    let world = World::new();
    let server = world.server(world.plan());
    let port = server.port;
    let other = openssh(&random());
    world.put("known_hosts", "");
    insta::assert_snapshot!(world.fails(port, world.ssh()), @r"
    UnknownHost (remote): the host 127.0.0.1:PORT is not known; it offers the ssh-ed25519 key FINGERPRINT
    help: compare FINGERPRINT with the fingerprint that the owner of the host publishes; if they are the same, add this line to DIR/known_hosts:
    [127.0.0.1]:PORT KEY
    ");
    world.put("known_hosts", "nonsense\n");
    insta::assert_snapshot!(world.fails(port, world.ssh()), @r"
    UnknownHost (remote): the host 127.0.0.1:PORT is not known; it offers the ssh-ed25519 key FINGERPRINT (DIR/known_hosts, line 1 was skipped: it has no key)
    help: compare FINGERPRINT with the fingerprint that the owner of the host publishes; if they are the same, add this line to DIR/known_hosts:
    [127.0.0.1]:PORT KEY
    ");
    world.put("known_hosts", format!("# mine\n[127.0.0.1]:{port} {other}\n"));
    insta::assert_snapshot!(world.fails(port, world.ssh()), @r"
    ChangedHost (remote): the host key of 127.0.0.1:PORT does not match DIR/known_hosts, line 2: it offers the ssh-ed25519 key FINGERPRINT
    help: this may be a man-in-the-middle attack, or the host has a new key: compare FINGERPRINT with the fingerprint that its owner publishes; only if they are the same, replace that line by this one:
    [127.0.0.1]:PORT KEY
    ");
    world.put(
        "known_hosts",
        format!("\n\n{} {other}\n", hashed(&format!("[127.0.0.1]:{port}"))),
    );
    insta::assert_snapshot!(world.fails(port, world.ssh()), @r"
    ChangedHost (remote): the host key of 127.0.0.1:PORT does not match DIR/known_hosts, line 3: it offers the ssh-ed25519 key FINGERPRINT
    help: this may be a man-in-the-middle attack, or the host has a new key: compare FINGERPRINT with the fingerprint that its owner publishes; only if they are the same, replace that line by this one:
    [127.0.0.1]:PORT KEY
    ");
    world.put(
        "known_hosts",
        format!("{} {}\n", hashed("another.example"), openssh(&world.host_key)),
    );
    insta::assert_snapshot!(world.fails(port, world.ssh()), @r"
    UnknownHost (remote): the host 127.0.0.1:PORT is not known; it offers the ssh-ed25519 key FINGERPRINT
    help: compare FINGERPRINT with the fingerprint that the owner of the host publishes; if they are the same, add this line to DIR/known_hosts:
    [127.0.0.1]:PORT KEY
    ");

    let known = format!("[127.0.0.1]:{port} {}", openssh(&world.host_key));
    world.put(
        "known_hosts",
        format!("{known}\n@revoked * {}\n", openssh(&world.host_key)),
    );
    insta::assert_snapshot!(world.fails(port, world.ssh()), @r"
    RevokedHost (remote): the host 127.0.0.1:PORT offers the ssh-ed25519 key FINGERPRINT, which is revoked by DIR/known_hosts, line 2
    help: the key may have been stolen: ask the owner of the host, and keep that line until there is an answer
    ");
    assert!(
        server.asked.lock().unwrap().is_empty(),
        "nothing was said to such a host"
    );

    fs::remove_file(world.path("known_hosts")).unwrap();
    insta::assert_snapshot!(world.fails(port, world.ssh()), @r"
    KnownHosts (config): cannot read the known hosts in DIR/known_hosts: No such file or directory (os error 2)
    help: it must exist and be readable for the user that gitsocket runs as
    ");
}

/// `name` as `ssh-keygen -H` writes it.
fn hashed(name: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let salt = [7; 20];
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    let hash = ring::hmac::sign(&key, name.as_bytes());
    format!(
        "|1|{}|{}",
        BASE64_STANDARD.encode(salt),
        BASE64_STANDARD.encode(hash)
    )
}

#[test]
fn the_usual_files_of_known_hosts() {
    let mut world = World::new();
    let server = world.server(world.plan());
    let known = fs::read_to_string(world.path("known_hosts")).unwrap();
    let ssh = || Ssh {
        known_hosts: None,
        ..world.ssh()
    };
    insta::assert_snapshot!(world.fails(server.port, ssh()), @r"
    UnknownHost (remote): the host 127.0.0.1:PORT is not known; it offers the ssh-ed25519 key FINGERPRINT
    help: compare FINGERPRINT with the fingerprint that the owner of the host publishes; if they are the same, add this line to DIR/system_known_hosts:
    [127.0.0.1]:PORT KEY
    ");
    fs::create_dir_all(world.path("home/.ssh")).unwrap();
    let around = Surroundings {
        home: Some(world.path("home")),
        ..world.around()
    };
    let failure = world.fetch_around(server.port, ssh(), &around).unwrap_err();
    let help = failure.help.as_ref().unwrap();
    assert!(help.contains("home/.ssh/known_hosts:\n"), "{help}");
    world.put("home/.ssh/known_hosts", &known);
    world.fetch_around(server.port, ssh(), &around).unwrap();
    world.put("system_known_hosts", &known);
    world.fetch(server.port, ssh()).unwrap();
    world.timeout = Duration::from_secs(1);
}

#[test]
fn a_host_with_several_keys_is_known_by_one() {
    let world = World::new();
    let rsa = PrivateKey::from_openssh(key_text("rsa")).unwrap();
    let ecdsa = PrivateKey::from_openssh(key_text("ecdsa-256")).unwrap();
    let server = world.server(Plan {
        host_keys: vec![world.host_key.clone(), ecdsa.clone(), rsa.clone()],
        ..world.plan()
    });
    for key in [&rsa, &ecdsa] {
        let line = format!("[127.0.0.1]:{} {}\n", server.port, openssh(key));
        world.put("known_hosts", line);
        world.fetch(server.port, world.ssh()).unwrap();
    }
}

#[test]
fn host_certificates() {
    let world = World::new();
    let authority = random();
    let certificate = |kind: CertType, principal: &str, from: u64, to: u64| -> Certificate {
        let key = world.host_key.public_key();
        let mut builder = Builder::new_with_random_nonce(&mut safe_rng(), key, from, to).unwrap();
        builder.cert_type(kind).unwrap();
        builder.valid_principal(principal).unwrap();
        builder.sign(&authority).unwrap()
    };
    let always = u64::MAX;
    let mut all = String::new();
    for (certificate, valid) in [
        (certificate(CertType::Host, "127.0.0.1", 0, always), true),
        (certificate(CertType::Host, "127.0.*", 0, always), true),
        (certificate(CertType::Host, "127.0.0.2", 0, always), false),
        (certificate(CertType::Host, "127.0.0.1", 0, 10), false),
        (
            certificate(CertType::Host, "127.0.0.1", always - 1, always),
            false,
        ),
        (certificate(CertType::User, "127.0.0.1", 0, always), false),
    ] {
        let server = world.server(Plan {
            certificates: vec![certificate],
            ..world.plan()
        });
        // Without the authority, it is as good as the key in it.
        world.fetch(server.port, world.ssh()).unwrap();
        world.put(
            "known_hosts",
            format!("@cert-authority [127.0.0.1]:* {}\n", openssh(&authority)),
        );
        if valid {
            world.fetch(server.port, world.ssh()).unwrap()
        } else {
            all += &format!("{}\n\n", world.fails(server.port, world.ssh()))
        }
        let revoked = format!(
            "@cert-authority * {authority}\n@revoked * {authority}\n",
            authority = openssh(&authority)
        );
        world.put("known_hosts", revoked);
        insta::allow_duplicates!(insta::assert_snapshot!(world.fails(server.port, world.ssh()), @r"
        RevokedHost (remote): the host 127.0.0.1:PORT offers the ssh-ed25519 key FINGERPRINT, which is revoked by DIR/known_hosts, line 2
        help: the key may have been stolen: ask the owner of the host, and keep that line until there is an answer
        "));
    }
    insta::assert_snapshot!(all, @r"
    HostCertificate (remote): the certificate of the host 127.0.0.1:PORT is not valid: it is for 127.0.0.2, not for 127.0.0.1
    help: the owner of the host must have its certificate renewed, for the name that `repo` uses

    HostCertificate (remote): the certificate of the host 127.0.0.1:PORT is not valid: it has expired
    help: the owner of the host must have its certificate renewed, for the name that `repo` uses

    HostCertificate (remote): the certificate of the host 127.0.0.1:PORT is not valid: it is not valid yet, or this machine's clock is wrong
    help: the owner of the host must have its certificate renewed, for the name that `repo` uses

    HostCertificate (remote): the certificate of the host 127.0.0.1:PORT is not valid: it is a user's certificate, not a host's
    help: the owner of the host must have its certificate renewed, for the name that `repo` uses
    ");
}
