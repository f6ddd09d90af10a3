//! Keys from files and from agents, and what is wrong with them.

use super::*;

const PASSPHRASE: &str = "correct horse";

#[test]
fn keys_of_all_kinds() {
    let world = World::new();
    let server = world.server(world.plan());
    for name in [
        "ed25519",
        "ecdsa-256",
        "ecdsa-256.pem",
        "ecdsa-256.pkcs8",
        "ecdsa-384",
        "ecdsa-521",
        "rsa",
        "rsa.pem",
        "rsa.pkcs8",
    ] {
        world.put("key", key_text(name));
        world
            .fetch(server.port, world.ssh())
            .unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
    }
    world.put("key", key_text("ed25519").replace('\n', "\r\n"));
    world.fetch(server.port, world.ssh()).unwrap();
    assert_eq!(
        server.asked.lock().unwrap()[..2],
        ["GIT_PROTOCOL=version=2", "git-upload-pack '/srv/x.git'"]
    );
}

#[test]
fn encrypted_keys() {
    let world = World::new();
    let server = world.server(world.plan());
    for name in ["ed25519-encrypted", "rsa-encrypted.pem", "rsa-encrypted.pkcs8"] {
        world.put("key", key_text(name));
        let ssh = || Ssh {
            passphrase_file: Some(world.put("passphrase", format!("{PASSPHRASE}\n"))),
            ..world.ssh()
        };
        world
            .fetch(server.port, ssh())
            .unwrap_or_else(|failure| panic!("{name}: {failure:?}"));

        insta::allow_duplicates! {
            insta::assert_snapshot!(world.fails(server.port, world.ssh()), @r#"
            Encrypted (config): the key in DIR/key is encrypted
            help: write its passphrase into a file, and name that: auth: Ssh(…, passphrase_file: "…")
            "#);
            let ssh = ssh();
            world.put("passphrase", "hunter2\n");
            insta::assert_snapshot!(world.fails(server.port, ssh), @r"
            Passphrase (config): the passphrase in DIR/passphrase does not open the key in DIR/key
            help: write the key's passphrase alone on the first line of DIR/passphrase
            ");
        }
    }
    let ssh = || Ssh {
        passphrase_file: Some(world.abs("passphrase")),
        ..world.ssh()
    };
    world.put("passphrase", "\nhunter2\n");
    insta::assert_snapshot!(world.fails(server.port, ssh()), @r"
    Secret::Content (config): the secret in DIR/passphrase is not usable: its first line is empty
    help: write the secret alone on the first line
    ");
    fs::set_permissions(world.path("passphrase"), fs::Permissions::from_mode(0o604)).unwrap();
    insta::assert_snapshot!(world.fails(server.port, ssh()), @r"
    Secret::Exposed (config): the secret in DIR/passphrase can be read by others (its mode is 0604)
    help: type: chmod 600 DIR/passphrase
    ");
}

#[test]
fn files_that_are_no_keys() {
    let world = World::new();
    let server = world.server(world.plan());
    let truncated = key_text("ed25519").lines().take(3).collect::<Vec<_>>().join("\n");
    let damaged = key_text("rsa.pem").replace("MII", "MIJ");
    let (public_half, old) = (key_text("rsa.pub"), key_text("ecdsa-256-encrypted.pem"));
    let dsa = "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n";
    let mut all = String::new();
    for text in [
        "",
        "hunter2",
        &public_half,
        &truncated,
        &damaged,
        &old,
        "PuTTY-User-Key-File-3: x",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        dsa,
    ] {
        world.put("key", text);
        let ssh = Ssh {
            passphrase_file: Some(world.put("passphrase", PASSPHRASE)),
            ..world.ssh()
        };
        all += &format!("{}\n\n", world.fails(server.port, ssh));
    }
    assert!(!all.contains("hunter2"), "{all}");
    insta::assert_snapshot!(all, @r#"
    Key (config): the key in DIR/key cannot be used: it is empty
    help: make one with: ssh-keygen -t ed25519 -N '' -f FILE; and make FILE.pub a deploy key of the repository

    Key (config): the key in DIR/key cannot be used: it does not hold a private key
    help: make one with: ssh-keygen -t ed25519 -N '' -f FILE; and make FILE.pub a deploy key of the repository

    Key (config): the key in DIR/key cannot be used: it is the public half
    help: name the file of the private half, which is called the same without .pub

    Key (config): the key in DIR/key cannot be used: it is cut off
    help: copy the file once more, byte for byte; or make a new key with: ssh-keygen -t ed25519 -N '' -f FILE

    Key (config): the key in DIR/key cannot be used: it is damaged, or of a kind that is not supported (Pkcs1: PKCS#1 ASN.1 error: ASN.1 DER message is incomplete: expected 1192, actual 1191 at DER byte 1191)
    help: copy the file once more, byte for byte; or make a new key with: ssh-keygen -t ed25519 -N '' -f FILE

    Key (config): the key in DIR/key cannot be used: its old way of encryption is not supported
    help: bring it into OpenSSH's format with: ssh-keygen -p -f FILE

    Key (config): the key in DIR/key cannot be used: it is in PuTTY's format
    help: convert it with: puttygen FILE.ppk -O private-openssh -o FILE

    Key (config): the key in DIR/key cannot be used: "CERTIFICATE" is not a kind of key that is supported
    help: make one with: ssh-keygen -t ed25519 -N '' -f FILE; and make FILE.pub a deploy key of the repository

    Key (config): the key in DIR/key cannot be used: it is damaged (its base64 cannot be read)
    help: copy the file once more, byte for byte; or make a new key with: ssh-keygen -t ed25519 -N '' -f FILE

    Key (config): the key in DIR/key cannot be used: it is damaged (length invalid)
    help: copy the file once more, byte for byte; or make a new key with: ssh-keygen -t ed25519 -N '' -f FILE

    Key (config): the key in DIR/key cannot be used: "DSA PRIVATE KEY" is not a kind of key that is supported
    help: make one with: ssh-keygen -t ed25519 -N '' -f FILE; and make FILE.pub a deploy key of the repository
    "#);
    world.put("key", key_text("ed25519"));
    fs::set_permissions(world.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    insta::assert_snapshot!(world.fails(server.port, world.ssh()), @r"
    Secret::Exposed (config): the secret in DIR/key can be read by others (its mode is 0644)
    help: type: chmod 600 DIR/key
    ");
    fs::remove_file(world.path("key")).unwrap();
    insta::assert_snapshot!(world.fails(server.port, world.ssh()), @r"
    Secret::Read (config): cannot read the secret in DIR/key: No such file or directory (os error 2)
    help: it must exist and be readable for the user that gitsocket runs as
    ");
}

#[test]
fn keys_that_are_not_accepted() {
    let world = World::new();
    let server = world.server(Plan {
        accepts: Vec::new(),
        banner: Some("Members only.\n".into()),
        ..world.plan()
    });
    insta::assert_snapshot!(world.fails(server.port, world.ssh()), @r#"
    Refused (remote): 127.0.0.1:PORT does not let the user "git" in with the ssh-ed25519 key SHA256:1gL36bf4J2m6hcPbGtJGepjM4FuqKECnMRZ4EKFoXog from DIR/key; it accepts: none, password, publickey, hostbased, keyboard-interactive
    help: the public half of the key must be a deploy key of the repository, or stand in the user's authorized_keys
    "#);
    assert_eq!(*world.heard.lock().unwrap(), ["Members only."]);
    let server = world.server(Plan {
        accepts: Vec::new(),
        half: true,
        ..world.plan()
    });
    insta::assert_snapshot!(world.fails(server.port, world.ssh()), @r#"
    Refused (remote): 127.0.0.1:PORT does not let the user "git" in with the ssh-ed25519 key SHA256:1gL36bf4J2m6hcPbGtJGepjM4FuqKECnMRZ4EKFoXog from DIR/key; it accepts: keyboard-interactive
    help: the key was accepted, but the host asks for a second proof, which is not supported
    "#);
}

/// An agent that answers each question with `answer`.
fn agent(path: &Path, answer: &'static [u8]) {
    use std::io::{Read as _, Write as _};
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut length = [0; 4];
            while client.read_exact(&mut length).is_ok() {
                let mut question = vec![0; u32::from_be_bytes(length) as usize];
                client.read_exact(&mut question).unwrap();
                client.write_all(&(answer.len() as u32).to_be_bytes()).unwrap();
                client.write_all(answer).unwrap();
            }
        }
    });
}

#[test]
fn agents() {
    let world = World::new();
    let server = world.server(world.plan());
    let ssh = || Ssh {
        key: None,
        agent: true,
        ..world.ssh()
    };
    insta::assert_snapshot!(world.fails(server.port, ssh()), @r#"
    NoAgent (config): there is no key for 127.0.0.1:PORT: `auth` names none, and no SSH agent is there ($SSH_AUTH_SOCK is not set)
    help: name a key that the host accepts: auth: Ssh(key: "/etc/gitsocket/key")
    "#);

    let around = Surroundings {
        agent: Some(world.path("agent")),
        ..world.around()
    };
    let fails = || {
        let failure = world.fetch_around(server.port, ssh(), &around).unwrap_err();
        world.shorten(server.port, failure)
    };
    insta::assert_snapshot!(fails(), @r#"
    Agent (config): the SSH agent at DIR/agent cannot be used: No such file or directory (os error 2)
    help: start it, or correct $SSH_AUTH_SOCK; or name a key with auth: Ssh(key: "…")
    "#);
    // SSH_AGENT_FAILURE, as a locked agent answers.
    agent(&world.path("agent"), &[5]);
    insta::assert_snapshot!(fails(), @r#"
    AgentEmpty (config): the SSH agent at DIR/agent holds no keys
    help: add one with ssh-add, or unlock it with ssh-add -X; or name a key with auth: Ssh(key: "…")
    "#);
    // No identities.
    fs::remove_file(world.path("agent")).unwrap();
    agent(&world.path("agent"), &[12, 0, 0, 0, 0]);
    insta::assert_snapshot!(fails(), @r#"
    AgentEmpty (config): the SSH agent at DIR/agent holds no keys
    help: add one with ssh-add, or unlock it with ssh-add -X; or name a key with auth: Ssh(key: "…")
    "#);
    // It says nothing at all.
    fs::remove_file(world.path("agent")).unwrap();
    let _silent = std::os::unix::net::UnixListener::bind(world.path("agent")).unwrap();
    insta::assert_snapshot!(fails(), @r#"
    Agent (config): the SSH agent at DIR/agent cannot be used: it does not answer
    help: start it, or correct $SSH_AUTH_SOCK; or name a key with auth: Ssh(key: "…")
    "#);
    // With a key from a file, too, that is tried first.
    let both = Ssh {
        agent: true,
        ..world.ssh()
    };
    world.fetch_around(server.port, both, &around).unwrap();
}

#[test]
fn a_key_of_the_agents() {
    use russh::keys::agent::{client::AgentClient, server};
    #[derive(Clone)]
    struct Agent;
    impl server::Agent for Agent {}

    let world = World::new();
    let host = world.server(world.plan());
    let socket = world.path("agent");
    let (ready, wait) = std::sync::mpsc::channel();
    let at = socket.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::UnixListener::bind(&at).unwrap();
            let clients = futures_lite::stream::unfold(listener, |listener| async {
                let client = listener.accept().await.map(|(client, _)| client);
                Some((client, listener))
            });
            let serving = tokio::spawn(server::serve(Box::pin(clients), Agent));
            let mut client = AgentClient::connect_uds(&at).await.unwrap();
            // One that the host does not know comes first.
            client.add_identity(&random(), &[]).await.unwrap();
            for name in ["rsa", "ed25519"] {
                let key = PrivateKey::from_openssh(key_text(name)).unwrap();
                client.add_identity(&key, &[]).await.unwrap();
            }
            ready.send(()).unwrap();
            serving.await.unwrap().ok();
        });
    });
    wait.recv().unwrap();
    let around = Surroundings {
        agent: Some(socket),
        ..world.around()
    };
    let ssh = Ssh {
        key: None,
        agent: true,
        ..world.ssh()
    };
    world.fetch_around(host.port, ssh, &around).unwrap();
}
