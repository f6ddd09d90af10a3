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
    config::Tls,
    event::{Event, Reporter},
    fault::{Failure, Kind},
    transport::{Connections, Deadline, cause},
};

const PASSPHRASE: &str = "correct horse";

/// A repository with a few objects, a known server of it, and what a client needs.
struct World {
    dir: tempfile::TempDir,
    tip: gix::ObjectId,
    host_key: PrivateKey,
    /// What the remote said.
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
            report: &Reporter::new(move |event| {
                if let Event::Remote { line } = event {
                    heard.lock().unwrap().push(line);
                }
            }),
        })
    }

    /// Fetch main from the server at `port`.
    fn fetch(&self, port: u16, ssh: Ssh) -> Result<(), Failure> {
        self.fetch_around(port, ssh, &self.around())
    }

    fn fetch_around(&self, port: u16, ssh: Ssh, around: &Surroundings) -> Result<(), Failure> {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        drop(gix::init_bare(dir.path()).unwrap());
        let repo = crate::repository::open(dir.path()).unwrap();
        let url = url(port);
        let failure = |err: gix::Error| {
            Failure::of(cause(&err).unwrap_or_else(|| panic!("not the transport's: {err:?}")))
        };
        let transport = self
            .options(ssh, |options| connect(&url, options, around))
            .map_err(|err| Failure::of(&err))?;
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
    fn fails(&self, port: u16, ssh: Ssh) -> Failure {
        self.shorten(port, self.fetch(port, ssh).expect_err("it worked"))
    }

    fn shorten(&self, port: u16, failure: Failure) -> Failure {
        let fingerprint = self.host_key.fingerprint(HashAlg::Sha256).to_string();
        let short = |text: &str| {
            text.replace(self.dir.path().to_str().unwrap(), "DIR")
                .replace(&port.to_string(), "PORT")
                .replace(&fingerprint, "FINGERPRINT")
                .replace(&openssh(&self.host_key), "KEY")
        };
        Failure {
            message: short(&failure.message),
            help: failure.help.as_deref().map(short),
            ..failure
        }
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

        let failure = world.fails(server.port, world.ssh());
        assert_eq!(failure.message, "the key in DIR/key is encrypted", "{name}");
        assert!(failure.help.unwrap().contains("passphrase_file"));

        let ssh = ssh();
        world.put("passphrase", "hunter2\n");
        let failure = world.fails(server.port, ssh);
        assert_eq!(
            failure.message, "the passphrase in DIR/passphrase does not open the key in DIR/key",
            "{name}"
        );
        assert_eq!(failure.kind, Kind::Config);
    }
}

#[test]
fn files_that_are_no_keys() {
    let world = World::new();
    let server = world.server(world.plan());
    let truncated = key_text("ed25519").lines().take(3).collect::<Vec<_>>().join("\n");
    let damaged = key_text("rsa.pem").replace("MII", "MIJ");
    let (public_half, old) = (key_text("rsa.pub"), key_text("ecdsa-256-encrypted.pem"));
    for (text, reason, help) in [
        ("", "it is empty", "ssh-keygen -t ed25519"),
        (
            "hunter2",
            "it does not hold a private key",
            "ssh-keygen -t ed25519",
        ),
        (&public_half, "it is the public half", "without .pub"),
        (&truncated, "it is cut off", "ssh-keygen"),
        (&damaged, "it is damaged", "ssh-keygen"),
        (
            &old,
            "its old way of encryption is not supported",
            "ssh-keygen -p",
        ),
        ("PuTTY-User-Key-File-3: x", "it is in PuTTY's format", "puttygen"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "CERTIFICATE",
            "ssh-keygen",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n",
            "base64",
            "ssh-keygen",
        ),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "it is damaged",
            "ssh-keygen",
        ),
    ] {
        world.put("key", text);
        let ssh = Ssh {
            passphrase_file: Some(world.put("passphrase", PASSPHRASE)),
            ..world.ssh()
        };
        let failure = world.fails(server.port, ssh);
        assert_eq!(failure.kind, Kind::Config);
        assert!(
            failure.message.starts_with("the key in DIR/key cannot be used: "),
            "{failure:?}"
        );
        assert!(failure.message.contains(reason), "{reason}: {failure:?}");
        assert!(failure.help.as_ref().unwrap().contains(help), "{failure:?}");
        assert!(!failure.message.contains("hunter2"), "{failure:?}");
    }
    world.put("key", key_text("ed25519"));
    fs::set_permissions(world.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let failure = world.fails(server.port, world.ssh());
    assert_eq!(
        (failure.message.as_str(), failure.help.as_deref()),
        (
            "the secret in DIR/key can be read by others (its mode is 0644)",
            Some("type: chmod 600 DIR/key")
        )
    );
    fs::remove_file(world.path("key")).unwrap();
    let failure = world.fails(server.port, world.ssh());
    assert_eq!(
        failure.message,
        "cannot read the secret in DIR/key: No such file or directory (os error 2)"
    );
}

#[test]
fn keys_that_are_not_accepted() {
    let world = World::new();
    let server = world.server(Plan {
        accepts: Vec::new(),
        banner: Some("Members only.\n".into()),
        ..world.plan()
    });
    let fingerprint = public("ed25519").fingerprint(HashAlg::Sha256).to_string();
    let failure = world.fails(server.port, world.ssh());
    assert_eq!(failure.kind, Kind::Remote);
    assert!(
        failure.message.starts_with(&format!(
            "127.0.0.1:PORT does not let the user \"git\" in with the ssh-ed25519 key {fingerprint} from DIR/key"
        )),
        "{failure:?}"
    );
    assert!(failure.help.unwrap().contains("deploy key"));
    assert_eq!(*world.heard.lock().unwrap(), ["Members only."]);
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
    let failure = world.fails(server.port, ssh());
    assert_eq!(failure.kind, Kind::Config);
    assert!(
        failure.message.contains("$SSH_AUTH_SOCK is not set"),
        "{failure:?}"
    );

    let around = Surroundings {
        agent: Some(world.path("agent")),
        ..world.around()
    };
    let fails = || {
        let failure = world.fetch_around(server.port, ssh(), &around).unwrap_err();
        world.shorten(server.port, failure).message
    };
    assert_eq!(
        fails(),
        "the SSH agent at DIR/agent cannot be used: No such file or directory (os error 2)"
    );
    // No identities.
    agent(&world.path("agent"), &[12, 0, 0, 0, 0]);
    assert_eq!(fails(), "the SSH agent at DIR/agent holds no keys");
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
    world.put("known_hosts", "nonsense\n");
    let failure = world.fails(port, world.ssh());
    assert_eq!(failure.kind, Kind::Remote);
    assert_eq!(
        failure.message,
        "the host 127.0.0.1:PORT is not known; it offers the ssh-ed25519 key FINGERPRINT \
         (DIR/known_hosts, line 1 was skipped: it has no key)"
    );
    assert_eq!(
        failure.help.unwrap(),
        "ask whoever runs the host whether FINGERPRINT is its key's fingerprint; if so, add to DIR/known_hosts: \
         [127.0.0.1]:PORT KEY"
    );

    world.put("known_hosts", format!("# mine\n[127.0.0.1]:{port} {other}\n"));
    let failure = world.fails(port, world.ssh());
    assert_eq!(
        failure.message,
        "the host 127.0.0.1:PORT offers the ssh-ed25519 key FINGERPRINT, but another one stands in \
         DIR/known_hosts, line 2"
    );
    assert!(
        failure
            .help
            .unwrap()
            .ends_with("replace that line by: [127.0.0.1]:PORT KEY")
    );

    let known = format!("[127.0.0.1]:{port} {}", openssh(&world.host_key));
    world.put(
        "known_hosts",
        format!("{known}\n@revoked * {}\n", openssh(&world.host_key)),
    );
    let failure = world.fails(port, world.ssh());
    assert_eq!(
        failure.message,
        "the host 127.0.0.1:PORT offers the ssh-ed25519 key FINGERPRINT, which is revoked by \
         DIR/known_hosts, line 2"
    );
    assert!(
        server.asked.lock().unwrap().is_empty(),
        "nothing was said to such a host"
    );

    fs::remove_file(world.path("known_hosts")).unwrap();
    let failure = world.fails(port, world.ssh());
    assert!(
        failure
            .message
            .starts_with("cannot read the known hosts in DIR/known_hosts: ")
    );
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
    let failure = world.fails(server.port, ssh());
    assert!(failure.help.unwrap().contains("add to DIR/system_known_hosts: "));
    fs::create_dir_all(world.path("home/.ssh")).unwrap();
    let around = Surroundings {
        home: Some(world.path("home")),
        ..world.around()
    };
    let failure = world.fetch_around(server.port, ssh(), &around).unwrap_err();
    assert!(failure.help.unwrap().contains("home/.ssh/known_hosts: "));
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
    for (certificate, wrong) in [
        (certificate(CertType::Host, "127.0.0.1", 0, always), None),
        (certificate(CertType::Host, "127.0.*", 0, always), None),
        (
            certificate(CertType::Host, "127.0.0.2", 0, always),
            Some("it is for 127.0.0.2, not for 127.0.0.1"),
        ),
        (
            certificate(CertType::Host, "127.0.0.1", 0, 10),
            Some("it has expired"),
        ),
        (
            certificate(CertType::Host, "127.0.0.1", always - 1, always),
            Some("it is not valid yet"),
        ),
        (
            certificate(CertType::User, "127.0.0.1", 0, always),
            Some("a user's certificate"),
        ),
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
        let fetched = world.fetch(server.port, world.ssh());
        match wrong {
            None => fetched.unwrap(),
            Some(wrong) => {
                let failure = fetched.unwrap_err();
                assert!(failure.message.contains(wrong), "{wrong}: {failure:?}");
            }
        }
        let revoked = format!(
            "@cert-authority * {authority}\n@revoked * {authority}\n",
            authority = openssh(&authority)
        );
        world.put("known_hosts", revoked);
        let failure = world.fails(server.port, world.ssh());
        assert!(
            failure.message.ends_with("revoked by DIR/known_hosts, line 2"),
            "{failure:?}"
        );
    }
}

#[test]
fn what_the_host_says() {
    let world = World::new();
    for (command, kind, message) in [
        (
            Command::Say("", "ERROR: Repository not found.\nfatal: Could not read\n\n", 1),
            Kind::Remote,
            "ssh://git@127.0.0.1:PORT/srv/x.git cannot be fetched from: ERROR: Repository not found. \
             fatal: Could not read",
        ),
        (
            Command::Say("", "", 128),
            Kind::Remote,
            "ssh://git@127.0.0.1:PORT/srv/x.git cannot be fetched from: exit status 128, without a word",
        ),
        (
            Command::Say("This account is not available.\n", "", 1),
            Kind::Remote,
            "ssh://git@127.0.0.1:PORT/srv/x.git answers what is not git's protocol: \
             \"This account is not available.\"",
        ),
        (
            Command::Say("000eversion 2\n", "error: out of memory\n", 137),
            Kind::Unreachable,
            "ssh://git@127.0.0.1:PORT/srv/x.git broke off: error: out of memory",
        ),
        (
            Command::Refuse,
            Kind::Remote,
            "127.0.0.1:PORT refuses to run git-upload-pack '/srv/x.git'",
        ),
    ] {
        world.heard.lock().unwrap().clear();
        let server = world.server(Plan {
            command: command.clone(),
            ..world.plan()
        });
        let failure = world.fails(server.port, world.ssh());
        assert_eq!((failure.message.as_str(), failure.kind), (message, kind));
        if let Command::Say("", words, 1) = command {
            let lines: Vec<_> = words.lines().filter(|line| !line.is_empty()).collect();
            assert_eq!(*world.heard.lock().unwrap(), lines);
        }
    }
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
        assert_eq!(failure.kind, Kind::Timeout, "{bytes}: {failure:?}");
        assert_eq!(
            failure.message,
            "127.0.0.1:PORT did not deliver ssh://git@127.0.0.1:PORT/srv/x.git within 400ms"
        );
        assert!(
            began.elapsed() < Duration::from_secs(10),
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
        assert!(
            failure.message.starts_with(
                "the connection to 127.0.0.1:PORT for ssh://git@127.0.0.1:PORT/srv/x.git was lost: "
            ),
            "{bytes}: {failure:?}"
        );
    }
}

#[test]
fn something_else_than_ssh() {
    use std::io::Write as _;
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    world.know(port);
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let answer = "HTTP/1.1 400 Bad Request\r\n".to_owned() + &"x: y\r\n".repeat(2000);
        client.write_all(answer.as_bytes()).ok();
        std::io::copy(&mut client, &mut std::io::sink()).ok();
    });
    let failure = world.fails(port, world.ssh());
    assert_eq!(failure.message, "127.0.0.1:PORT does not speak SSH");
    // Nobody at all.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let failure = world.fails(closed, world.ssh());
    assert_eq!(failure.kind, Kind::Unreachable);
    assert!(
        failure
            .message
            .starts_with("cannot connect to 127.0.0.1:PORT for "),
        "{failure:?}"
    );
}
