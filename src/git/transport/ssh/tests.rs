//! Fetches from a server of our own: every kind of key, every doubt about the host, every silence.

mod server;
mod warm;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::{Duration, Instant},
};

use gix::remote::Direction;
use gix_transport::{Service, client::blocking_io::Transport as _};
use russh::keys::{
    Algorithm, Certificate, HashAlg, PrivateKey, PublicKey,
    key::safe_rng,
    ssh_key::certificate::{Builder, CertType},
};

use self::server::{Command, Plan, Server, Then, line};
use super::*;
use crate::{
    base::{
        fault::Kind,
        report::{Report, Reporter},
    },
    git::{
        origin::Tls,
        transport::{
            Connections, Deadline, cause,
            tests::refusal::{Refusal, assert_all_are_shown},
        },
    },
};

const PASSPHRASE: &str = "correct horse";

/// A repository with a few objects, a known server of it, and what a client needs.
struct World {
    dir: tempfile::TempDir,
    tip: gix::ObjectId,
    host_key: PrivateKey,
    heard: Arc<Mutex<Vec<String>>>,
    timeout: Duration,
    connections: Connections,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = gix::init_bare(dir.path().join("x.git")).unwrap();
        let mut bytes = vec![0; 512 << 10];
        fastrand::Rng::with_seed(1).fill(&mut bytes);
        let blob = repo.write_blob(bytes).unwrap().detach();
        let tree = gix::objs::Tree {
            entries: vec![gix::objs::tree::Entry {
                mode: gix::objs::tree::EntryKind::Blob.into(),
                filename: "large".into(),
                oid: blob,
            }],
        };
        let tree = repo.write_object(&tree).unwrap().detach();
        let who = gix::actor::Signature {
            name: "t".into(),
            email: "t@example.org".into(),
            time: gix::date::Time::new(1_700_000_000, 0),
        };
        let commit = gix::objs::Commit {
            tree,
            parents: Default::default(),
            author: who.clone(),
            committer: who,
            encoding: None,
            message: "one".into(),
            extra_headers: Vec::new(),
        };
        let tip = repo.write_object(&commit).unwrap().detach();
        let heads = dir.path().join("x.git/refs/heads");
        fs::create_dir_all(&heads).unwrap();
        fs::write(heads.join("main"), format!("{tip}\n")).unwrap();
        fs::write(dir.path().join("x.git/HEAD"), "ref: refs/heads/main\n").unwrap();
        let world = Self {
            dir,
            tip,
            host_key: random(),
            heard: Arc::default(),
            timeout: Duration::from_secs(60),
            connections: Connections::new(Duration::ZERO),
        };
        world.put("key", key_text("ed25519"));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Write a file that only we can read.
    fn put(&self, name: &str, text: impl AsRef<[u8]>) -> AbsPath {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.abs(name)
    }

    fn abs(&self, name: &str) -> AbsPath {
        AbsPath::resolve(self.dir.path(), Path::new(name)).unwrap()
    }

    fn plan(&self) -> Plan {
        Plan {
            host_keys: vec![self.host_key.clone()],
            certificates: Vec::new(),
            accepts: ["ed25519", "rsa", "ecdsa-256", "ecdsa-384", "ecdsa-521"]
                .map(public)
                .to_vec(),
            banner: None,
            half: false,
            key_exchange: None,
            command: Command::Serve(self.path("x.git")),
        }
    }

    /// A server that is known to the client.
    fn server(&self, plan: Plan) -> Server {
        let server = Server::start(plan);
        self.know(server.port);
        server
    }

    fn know(&self, port: u16) {
        self.put(
            "known_hosts",
            format!("[127.0.0.1]:{port} {}\n", openssh(&self.host_key)),
        );
    }

    fn ssh(&self) -> Ssh {
        Ssh {
            key: Some(self.abs("key")),
            known_hosts: Some(self.abs("known_hosts")),
            agent: false,
            ..Ssh::default()
        }
    }

    fn around(&self) -> Surroundings {
        Surroundings {
            home: None,
            agent: None,
            system_known_hosts: self.path("system_known_hosts"),
        }
    }

    fn options<R>(&self, ssh: Ssh, run: impl FnOnce(&Options<'_>) -> R) -> R {
        let heard = self.heard.clone();
        run(&Options {
            deadline: Deadline::new(self.timeout),
            auth: &Auth::Ssh(ssh),
            tls: &Tls::default(),
            connections: &self.connections,
            offers: None,
            scratch: Path::new("/"),
            report: &Reporter::new(move |event| {
                if let Report::Remote { line } = event {
                    heard.lock().unwrap().push(line);
                }
            }),
        })
    }

    /// Fetch main from the server at `port`.
    fn fetch(&self, port: u16, ssh: Ssh) -> Result<(), Refusal> {
        self.fetch_around(port, ssh, &self.around())
    }

    fn fetch_around(&self, port: u16, ssh: Ssh, around: &Surroundings) -> Result<(), Refusal> {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        drop(gix::init_bare(dir.path()).unwrap());
        let repo = crate::git::repository::open(dir.path()).unwrap();
        let url = url(port);
        let failure = |err: gix::Error| {
            Refusal::of(cause(&err).unwrap_or_else(|| panic!("not the transport's: {err:?}")))
        };
        let transport = self
            .options(ssh, |options| connect(&url, options, around))
            .map_err(|err| Refusal::of(&err.into()))?;
        let outcome = repo
            .remote_at(url.without_secrets())
            .unwrap()
            .with_refspecs(["+refs/heads/main:refs/remotes/origin/main"], Direction::Fetch)
            .unwrap()
            .to_connection_with_transport(transport)
            .with_credentials(|_| Ok(None))
            .prepare_fetch(gix::progress::Discard, Default::default())
            .map_err(failure)?
            .receive(gix::progress::Discard, &AtomicBool::new(false))
            .map_err(failure)?;
        drop(outcome);
        let found = repo
            .find_reference("refs/remotes/origin/main")
            .unwrap()
            .id()
            .detach();
        assert_eq!(found, self.tip);
        Ok(())
    }

    /// What is wrong when fetching with `ssh`, with this machine's paths, ports and keys replaced.
    fn fails(&self, port: u16, ssh: Ssh) -> Refusal {
        self.shorten(port, self.fetch(port, ssh).expect_err("it worked"))
    }

    fn shorten(&self, port: u16, failure: Refusal) -> Refusal {
        let fingerprint = self.host_key.fingerprint(HashAlg::Sha256).to_string();
        failure.map(|text| {
            text.replace(self.dir.path().to_str().unwrap(), "DIR")
                .replace(&port.to_string(), "PORT")
                .replace(&fingerprint, "FINGERPRINT")
                .replace(&openssh(&self.host_key), "KEY")
        })
    }
}

fn url(port: u16) -> RepoUrl {
    RepoUrl::parse(&format!("ssh://git@127.0.0.1:{port}/srv/x.git"), Path::new("/")).unwrap()
}

fn random() -> PrivateKey {
    PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()
}

fn key_text(name: &str) -> String {
    fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures/ssh")
            .join(name),
    )
    .unwrap()
}

fn public(name: &str) -> PublicKey {
    PublicKey::from_openssh(&key_text(&format!("{name}.pub"))).unwrap()
}

/// The public half of `key`, as known_hosts has it.
fn openssh(key: &PrivateKey) -> String {
    let key = PublicKey::new(key.public_key().key_data().clone(), "");
    key.to_openssh().unwrap()
}

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
fn urls_that_cannot_be_used() {
    let world = World::new();
    let mut all = String::new();
    for url in [
        "ssh://127.0.0.1/x",
        "ssh://@127.0.0.1/x",
        "git@127.0.0.1:-x",
        "ssh://git@no-such-host.invalid/x",
    ] {
        let url = RepoUrl::parse(url, Path::new("/")).unwrap();
        world.put("known_hosts", "");
        let failure = world.options(world.ssh(), |options| {
            connect(&url, options, &world.around()).map(drop).unwrap_err()
        });
        let failure = Refusal::of(&failure.into());
        all += &format!("{failure}\n\n");
    }
    insta::assert_snapshot!(all, @r"
    NoUser (config): ssh://127.0.0.1/x names no user to log in as
    help: write the user into the URL: git@HOST:PATH or ssh://git@HOST/PATH

    NoUser (config): ssh://127.0.0.1/x names no user to log in as
    help: write the user into the URL: git@HOST:PATH or ssh://git@HOST/PATH

    Url (config): git@127.0.0.1:-x cannot be used: its path begins with '-'
    help: correct `repo`

    Network::Resolve (unreachable): cannot find the address of no-such-host.invalid for ssh://git@no-such-host.invalid/x: no host has a name that ends in .invalid
    help: check the host's spelling, and the name servers in /etc/resolv.conf
    ");
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

#[test]
fn what_the_host_says() {
    let world = World::new();
    let mut all = String::new();
    for command in [
        Command::Say("", "ERROR: Repository not found.\nfatal: Could not read\n\n", 1),
        Command::Say("", "", 128),
        Command::Say("This account is not available.\n", "", 1),
        Command::Say("000eversion 2\n", "error: out of memory\n", 137),
        Command::Refuse,
    ] {
        world.heard.lock().unwrap().clear();
        let server = world.server(Plan {
            command,
            ..world.plan()
        });
        let failure = world.fails(server.port, world.ssh());
        for line in &*world.heard.lock().unwrap() {
            all += &format!("event: {line}\n");
        }
        all += &format!("{failure}\n\n");
    }
    insta::assert_snapshot!(all, @r#"
    event: ERROR: Repository not found.
    event: fatal: Could not read
    NotServed (remote): ssh://git@127.0.0.1:PORT/srv/x.git cannot be fetched from: ERROR: Repository not found. fatal: Could not read
    help: see whether the repository is there, and whether the key may read it

    NotServed (remote): ssh://git@127.0.0.1:PORT/srv/x.git cannot be fetched from: exit status 128, without a message
    help: see whether the repository is there, and whether the key may read it

    event: This account is not available.
    NotGit (remote): ssh://git@127.0.0.1:PORT/srv/x.git answers what is not git's protocol: "This account is not available."
    help: whatever the account's login scripts print must go to standard error; or it is not allowed to run git

    event: error: out of memory
    BrokenOff (unreachable): ssh://git@127.0.0.1:PORT/srv/x.git broke off: error: out of memory
    help: trigger again; if it stays, look at the remote's log

    Exec (remote): 127.0.0.1:PORT refuses to run git-upload-pack '/srv/x.git'
    help: the account must be allowed to run git-upload-pack; it may be for file transfer only
    "#);
}

/// A login script that prints, and then git, which waits for our question: not until the deadline.
#[test]
fn a_greeting_on_standard_output() {
    let world = World::new();
    let server = world.server(Plan {
        command: Command::Greet("Welcome\n000eversion 2\n0000"),
        ..world.plan()
    });
    let begin = std::time::Instant::now();
    insta::assert_snapshot!(world.fails(server.port, world.ssh()), @r#"
    NotGit (remote): ssh://git@127.0.0.1:PORT/srv/x.git answers what is not git's protocol: "Welcome 000eversion 2 0000"
    help: whatever the account's login scripts print must go to standard error; or it is not allowed to run git
    "#);
    assert!(begin.elapsed() < world.timeout / 2);
}

/// A server that does not take `GIT_PROTOCOL` answers as git did before version 2.
#[test]
fn older_protocols() {
    let world = World::new();
    let server = world.server(Plan {
        command: Command::Say(
            "004b1111111111111111111111111111111111111111 HEAD\0symref=HEAD:refs/heads/m\n\
             003d1111111111111111111111111111111111111111 refs/heads/m\n0000",
            "",
            0,
        ),
        ..world.plan()
    });
    let mut transport = world
        .options(world.ssh(), |options| {
            connect(&url(server.port), options, &world.around())
        })
        .unwrap();
    let mut answer = transport.handshake(Service::UploadPack, &[]).unwrap();
    // gix makes no difference between 0 and 1.
    assert_eq!(answer.actual_protocol, Protocol::V1);
    let mut line = String::new();
    std::io::BufRead::read_line(answer.refs.as_mut().unwrap(), &mut line).unwrap();
    assert!(line.ends_with("HEAD\n"), "{line:?}");
}

/// How many bytes come from the server: before its version, within it, within the key exchange, in the login, and
/// in the middle of the pack.
const CUTS: [u64; 9] = [0, 5, 20, 100, 700, 1500, 2100, 3000, 200_000];

#[test]
fn a_silent_server_is_given_up_on() {
    let mut world = World::new();
    let server = world.server(world.plan());
    world.timeout = Duration::from_millis(400);
    for bytes in CUTS {
        let port = line(server.port, bytes, Then::Silence);
        world.know(port);
        let began = Instant::now();
        let failure = world.fails(port, world.ssh());
        insta::allow_duplicates!(insta::assert_snapshot!(failure, @r"
        Network::Timeout (timeout): 127.0.0.1:PORT did not deliver ssh://git@127.0.0.1:PORT/srv/x.git within 400ms
        help: raise `timeout` if that is too short, or find out why the server is slow
        "));
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{bytes}: {:?}",
            began.elapsed()
        );
    }
    let silent = world.server(Plan {
        command: Command::Nothing,
        ..world.plan()
    });
    assert_eq!(world.fails(silent.port, world.ssh()).kind, Kind::Timeout);
}

#[test]
fn a_lost_connection_is_told_from_a_refusal() {
    let world = World::new();
    let server = world.server(world.plan());
    for bytes in CUTS {
        let port = line(server.port, bytes, Then::Cut);
        world.know(port);
        let failure = world.fails(port, world.ssh());
        assert_eq!(failure.kind, Kind::Unreachable, "{bytes}: {failure:?}");
        let (_, reason) = failure.message.rsplit_once(" was lost: ").unwrap();
        let reason = reason.to_owned();
        let failure = failure.map(|text| text.replace(&reason, "REASON"));
        insta::allow_duplicates!(insta::assert_snapshot!(failure, @r"
        Network::Lost (unreachable): the connection to 127.0.0.1:PORT for ssh://git@127.0.0.1:PORT/srv/x.git was lost: REASON
        help: try again; if that does not help, the log of the server should say more
        "));
    }
}

#[test]
fn something_else_than_ssh() {
    use std::io::Write as _;
    let world = World::new();
    let says = |answer: &[u8]| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = answer.to_vec();
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client.write_all(&answer).ok();
            std::io::copy(&mut client, &mut std::io::sink()).ok();
        });
        port
    };
    let answer = "HTTP/1.1 400 Bad Request\r\n".to_owned() + &"x: y\r\n".repeat(2000);
    let port = says(answer.as_bytes());
    world.know(port);
    insta::assert_snapshot!(world.fails(port, world.ssh()), @r"
    NotSsh (remote): 127.0.0.1:PORT does not speak SSH
    help: check the port in `repo`; that of SSH is usually 22
    ");
    // Who begins rightly and goes on wrongly.
    let port = says(&[b"SSH-2.0-test\r\n", [0xff; 64].as_slice()].concat());
    world.know(port);
    insta::assert_snapshot!(world.fails(port, world.ssh()), @r"
    Protocol (unreachable): the SSH connection to 127.0.0.1:PORT failed: Bad packet size: 4294967295
    help: try again; if that does not help, the log of the server should say more
    ");
    // With nothing in common.
    let server = world.server(Plan {
        key_exchange: Some(russh::kex::DH_G1_SHA1),
        ..world.plan()
    });
    insta::assert_snapshot!(world.fails(server.port, world.ssh()), @r"
    NoCommonAlgorithm (remote): no secure connection to 127.0.0.1:PORT: it offers nothing but diffie-hellman-group1-sha1 for the key exchange
    help: the host's SSH server is too old or too strictly configured; have it updated
    ");
    // Nobody at all.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    insta::assert_snapshot!(world.fails(closed, world.ssh()), @r"
    Network::Connect (unreachable): cannot connect to 127.0.0.1:PORT for ssh://git@127.0.0.1:PORT/srv/x.git: Connection refused (os error 111)
    help: check the host and the port, and that no firewall is between
    ");
    // Not even that can be tried without threads and sockets, which no test can use up for itself alone.
    let err = super::Error::Start {
        host: "127.0.0.1".into(),
        source: io::Error::from_raw_os_error(11),
    };
    insta::assert_snapshot!(Refusal::of(&err.into()), @r"
    Start (resources): cannot start an SSH connection to 127.0.0.1: Resource temporarily unavailable (os error 11)
    help: a limit on processes, threads or open files is reached; raise it: TasksMax and LimitNOFILE in a systemd unit
    ");
}

#[test]
fn every_refusal_is_shown() {
    let (code, tests) = (include_str!("error.rs"), [include_str!("tests.rs")]);
    assert_all_are_shown(code, "", &["Network", "Secret"], &tests);
    assert_all_are_shown(include_str!("../tcp/error.rs"), "Network::", &[], &tests);
    let secrets = include_str!("../../../base/secret.rs");
    assert_all_are_shown(secrets, "Secret::", &[], &tests);
}
