//! The static binary deploys from every kind of source where there is nothing but the program, its configuration and resolv.conf.
//!
//! `cargo static` builds it; `GITSOCKET_STATIC` names it, and then nothing here may be missing. nginx, OpenSSH's sshd and
//! a name server are outside, on the loopback. Inside there is no /proc, /dev, /etc/passwd, /etc/hosts, /tmp, nor a shell.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::print_stderr,
    reason = "what is skipped is said aloud, and what was measured"
)]
#![allow(unreachable_pub, reason = "a test binary has no public API")]
#![allow(dead_code, reason = "modules are shared with other tests")]

#[path = "support/foreign.rs"]
mod foreign;
#[path = "support/name_server.rs"]
mod name_server;
#[path = "support/nginx.rs"]
mod nginx;
#[path = "support/source.rs"]
mod source;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "support/world.rs"]
mod world;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use name_server::NameServer;
use nginx::{Authority, Nginx};
use rustix::process::Signal;
use source::{Entry, Source, file};
use sshd::Sshd;
use world::{
    Daemon, Ended, World,
    machine::{self, install, open_to_all},
    tree,
};

/// The name of the servers; only the name server knows it.
const HOST: &str = "git.example.test";
/// Who runs the program inside: nobody that /etc/passwd knows here or there.
const UID: u32 = 54321;

/// How the program gets inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By chroot(2), as root inside: of the real root, or of a user namespace.
    Root,
    /// As a container: everything is mounted read-only but the places for targets and the socket, and the user is nobody.
    Container,
}

/// The directory that is the root of everything for the program.
struct Inside {
    root: PathBuf,
    way: Way,
}

impl Inside {
    fn new(world: &World, program: &Path, way: Way) -> Self {
        let inside = Self {
            root: world.path("root"),
            way,
        };
        for dir in ["etc", "srv", "run"] {
            fs::create_dir_all(inside.root.join(dir)).unwrap();
        }
        install(program, &inside.root.join("gitsocket"));
        inside
    }

    /// Bring a file in that only the user inside may read.
    fn bring(&self, world: &World, name: &str) {
        let to = self.root.join(name);
        fs::copy(world.path(name), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o440)).unwrap();
        self.share(&to);
    }

    /// As Kubernetes does with secrets and volumes: they are root's, and of the group that the user is in.
    fn share(&self, path: &Path) {
        match self.way {
            Way::Container => chown(path, Some(0), Some(UID)).unwrap(),
            Way::Root => fs::set_permissions(
                path,
                fs::Permissions::from_mode(if path.is_dir() { 0o755 } else { 0o400 }),
            )
            .unwrap(),
        }
    }

    /// The program with `args`, inside. It is the process itself that is started, so that signals reach it.
    fn command(&self, args: &[&str]) -> Command {
        let root = self.root.to_str().unwrap();
        let mut command = match self.way {
            Way::Root if rustix::process::geteuid().is_root() => {
                let mut command = Command::new("chroot");
                command.arg(root);
                command
            }
            Way::Root => {
                let mut command = Command::new("unshare");
                command.args(["--map-root-user", "chroot", root]);
                command
            }
            Way::Container => {
                let enter = format!(
                    "mount --bind \"$1\" \"$1\"; mount --bind \"$1/srv\" \"$1/srv\"; mount --bind \"$1/run\" \"$1/run\"; \
                     mount -o remount,bind,ro \"$1\"; exec chroot --userspec={UID}:{UID} --groups= \"$@\""
                );
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-euc", &enter, "sh", root]);
                command
            }
        };
        command.arg("/gitsocket").args(args).stdin(Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name != "PATH") {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().unwrap())
    }

    /// Say `name` from inside; gives the milliseconds until the answer.
    fn client(&self, name: &str, says: &str) -> u128 {
        let began = Instant::now();
        let ended = self.run(&["client", "-s", "/run/s.sock", name]);
        assert_eq!(ended.exit, 0, "{ended:?}");
        assert!(ended.out.contains(says), "{ended:?}");
        began.elapsed().as_millis()
    }

    fn tree(&self, target: &str) -> BTreeMap<String, Entry> {
        tree(&self.root.join("srv").join(target))
    }
}

/// The static binary, if it was built.
fn program() -> Option<PathBuf> {
    let program = std::env::var_os("GITSOCKET_STATIC").map(PathBuf::from);
    if program.is_none() {
        machine::left_to_others("GITSOCKET_STATIC names no static binary; type: cargo static");
    }
    program
}

#[test]
fn with_nothing_but_a_configuration_and_resolv_conf() {
    deploys(Way::Root);
}

#[test]
fn in_a_read_only_container_as_any_user() {
    if machine::need(machine::Need::Root) {
        deploys(Way::Container);
    }
}

/// The kernel starts it without a loader: there is no program header of the type PT_INTERP, see elf(5).
#[test]
fn it_is_static() {
    let Some(program) = program() else {
        return;
    };
    let bytes = fs::read(&program).unwrap();
    assert!(bytes.starts_with(b"\x7fELF\x02\x01"), "64 bits, little-endian");
    let number = |at: usize, length: usize| {
        let bytes = &bytes[at..at + length];
        bytes
            .iter()
            .rev()
            .fold(0, |sum, &byte| sum << 8 | usize::from(byte))
    };
    let (first, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    assert!(count > 0);
    for header in 0..count {
        assert_ne!(number(first + header * size, 4), 3, "{}", program.display());
    }
}

/// No module that nsswitch.conf names is loaded, neither to find a host nor the home of a user without HOME.
#[test]
fn no_name_service_is_asked() {
    let Some(program) = program() else {
        return;
    };
    // The program hides its memory from all but root, and the names of files with it.
    if !machine::need(machine::Need::Root) || !machine::need(machine::Need::Tracing) {
        return;
    }
    let world = World::new();
    world.config_of(
        "\"site\": (repo: \"http://nowhere.example.test/x.git\", path: \"site\", timeout: \"5s\", retries: 0),",
    );
    let strace = foreign::find("strace").unwrap();
    let output = Command::new(strace)
        .args(["-f", "-e", "trace=openat", "-o"])
        .arg(world.path("trace"))
        .arg(program)
        .args(["once", "site"])
        .env_clear()
        .current_dir(world.path(""))
        .output()
        .unwrap();
    let ended = Ended::from(output);
    assert_eq!(ended.exit, 1, "{ended:?}");
    let trace = fs::read_to_string(world.path("trace")).unwrap();
    assert!(trace.contains("\"/etc/resolv.conf\""), "{trace}");
    assert!(trace.contains("site/"), "a repository was opened: {trace}");
    assert!(!trace.contains("nss"), "{trace}");
}

/// On this machine with its nsswitch.conf, as a user that nobody knows, without HOME.
#[test]
fn as_an_unknown_user_without_a_home() {
    let Some(program) = program() else {
        return;
    };
    let world = World::configured();
    world.secret("nothing", "");
    if let Some(ended) = foreign::deploy_as_nobody(&world, &program, "nothing") {
        assert_eq!(ended.exit, 0, "{ended:?}");
        assert_eq!(world.site()["a"], file("1"));
    }
}

fn deploys(way: Way) {
    let Some(program) = program() else {
        return;
    };
    let world = World::new();
    // Who is nobody must get through to the root.
    open_to_all(&world.path("."));
    let mut source = world.source();
    let files: Vec<String> = (0..200).map(|n| format!("dir{}/file{n}", n % 10)).collect();
    commit(&mut source, &files, "one");
    let names = NameServer::start(HOST);
    let host = match &names {
        Ok(_) => HOST,
        Err(err) => {
            machine::skipped(&format!("there can be no name server here: {err}"));
            "127.0.0.1"
        }
    };
    let nginx = Nginx::certified(&world, &Authority::new(&world), &[HOST, "127.0.0.1"], 2999).unwrap();
    let sshd = Sshd::start(&world, "").unwrap();
    let inside = Inside::new(&world, &program, way);
    furnish(&world, &inside, &nginx, &sshd, host);
    if let Ok(names) = &names {
        let resolv_conf = format!("nameserver {}\n", names.address);
        fs::write(inside.root.join("etc/resolv.conf"), resolv_conf).unwrap();
    }

    let ended = inside.run(&["check", "-c", "/config.ron", "--remote"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    let mut daemon = Daemon::start_by(
        inside.command(&["server", "-c", "/config.ron"]),
        inside.root.join("run/s.sock"),
    );
    let mut took = Vec::new();
    for trigger in ["web", "ssh"] {
        took.push(format!("clone by {trigger} {} ms", inside.client(trigger, "ok ")));
        assert_eq!(inside.tree(trigger).len(), files.len());
    }
    commit(&mut source, &files, "two");
    for trigger in ["web", "ssh"] {
        took.push(format!("update by {trigger} {} ms", inside.client(trigger, "..")));
        assert_eq!(inside.tree(trigger)["dir0/file0"], file("two"));
        took.push(format!(
            "nothing new by {trigger} {} ms",
            inside.client(trigger, "up-to-date")
        ));
    }
    let status = inside.run(&["status", "-s", "/run/s.sock"]);
    assert_eq!(status.exit, 0, "{status:?}");
    assert_eq!(daemon.say("ping\n"), "pong\nok -\n", "from outside, too");
    took.push(format!("{} kB resident", resident(daemon.child.id())));

    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{status}: {log}");
    assert!(!daemon.socket.exists(), "the socket is gone");
    if let Ok(names) = &names {
        assert!(names.asked() >= 4, "{}", names.asked());
    }
    let size = fs::metadata(&program).unwrap().len();
    eprintln!(
        "{way:?}: {size} bytes; {} (through the client, the mounts included)",
        took.join(", ")
    );
}

fn commit(source: &mut Source, files: &[String], text: &str) {
    source.commit(files.iter().map(|name| (name.as_str(), file(text))));
}

/// The configuration, and the secrets that it names.
fn furnish(world: &World, inside: &Inside, nginx: &Nginx, sshd: &Sshd, host: &str) {
    let key = fs::read_to_string(world.path("host_ed25519.pub")).unwrap();
    world.write("known_hosts", &format!("[{host}]:{} {key}", sshd.port));
    world.write("password", nginx::PASSWORD);
    for name in ["key", "known_hosts", "password", "ca.pem"] {
        inside.bring(world, name);
    }
    let config = format!(
        "(listen: [Unix(path: \"/run/s.sock\")], triggers: {{\n\
         \"web\": (repo: \"https://{host}:{}/private/repo.git\", branch: \"main\", path: \"/srv/web\",\n\
         auth: Basic(user: {:?}, password_file: \"password\"), tls: (ca_file: \"ca.pem\")),\n\
         \"ssh\": (repo: \"ssh://{}@{host}:{}{}\", branch: \"main\", path: \"/srv/ssh\",\n\
         auth: Ssh(key: \"key\", known_hosts: \"known_hosts\")),\n}})\n",
        nginx.tls,
        nginx::USER,
        sshd.user,
        sshd.port,
        world.path("repo.git").display(),
    );
    fs::write(inside.root.join("config.ron"), config).unwrap();
    for dir in ["srv", "run"] {
        let dir = inside.root.join(dir);
        inside.share(&dir);
        fs::set_permissions(dir, fs::Permissions::from_mode(0o775)).unwrap();
    }
}

/// How much of a process and its children is in memory, in units of 1024 bytes; what they share counts once.
fn resident(pid: u32) -> u64 {
    let number = |text: &str, name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let process = entry.unwrap().path();
        let status = fs::read_to_string(process.join("status")).ok()?;
        let ours = ["Pid:", "PPid:"].map(|name| number(&status, name));
        if !ours.contains(&Some(pid.into())) {
            return None;
        }
        number(&fs::read_to_string(process.join("smaps_rollup")).ok()?, "Pss:")
    });
    processes.sum()
}
