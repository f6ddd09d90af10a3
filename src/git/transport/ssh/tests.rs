//! Fetches from a server of our own: every kind of key, every doubt about the host, every silence.

mod hosts;
mod keys;
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
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey, key::safe_rng};

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
        let dir = crate::machine::tempdir().unwrap();
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
    let code = include_str!("error.rs");
    let tests = [
        include_str!("tests.rs"),
        include_str!("tests/hosts.rs"),
        include_str!("tests/keys.rs"),
    ];
    assert_all_are_shown(code, "", &["Network", "Secret"], &tests);
    assert_all_are_shown(include_str!("../tcp/error.rs"), "Network::", &[], &tests);
    let secrets = include_str!("../../../base/secret.rs");
    assert_all_are_shown(secrets, "Secret::", &[], &tests);
}
