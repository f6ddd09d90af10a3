//! OpenSSH's own server, on a high port of the loopback.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::{
    foreign::{Server, find, skipped},
    world::World,
};

/// A running sshd; it is killed when this is dropped.
pub struct Sshd {
    _server: Server,
    pub port: u16,
    pub user: String,
}

/// The name of the user who runs the tests, if that user can log in.
fn own_name() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let own = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|entry| entry.get(2) == Some(&uid.as_str()));
    match own.as_deref() {
        Some([name, .., shell]) if !shell.ends_with("nologin") && !shell.ends_with("false") => {
            Some((*name).to_owned())
        }
        _ => {
            skipped(&format!("the user {uid} cannot log in here"));
            None
        }
    }
}

/// Run a program of OpenSSH's, which has to succeed.
pub fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Make a key pair of `kind` at `name`.
pub fn keygen(world: &World, kind: &[&str], name: &str, passphrase: &str) {
    let path = world.path(name);
    let args = [kind, &["-q", "-N", passphrase, "-f", path.to_str().unwrap()]].concat();
    tool("ssh-keygen", &args);
}

impl Sshd {
    /// A server of the files of `world`, whose user may log in with the keys in `authorized`; nothing if there is
    /// none on this machine.
    pub fn start(world: &World, more: &str) -> Option<Self> {
        let sshd = find("sshd")?;
        find("git")?;
        find("ssh-keygen")?;
        let user = own_name()?;
        if rustix::process::geteuid().is_root() {
            // What Debian's service makes; without it, no sshd starts as root.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        if !world.path("host_ed25519").exists() {
            keygen(world, &["-t", "ed25519"], "host_ed25519", "");
            keygen(world, &["-t", "ecdsa"], "host_ecdsa", "");
            keygen(world, &["-t", "ed25519"], "key", "");
            fs::copy(world.path("key.pub"), world.path("authorized")).unwrap();
        }
        let at = |name: &str| world.path(name).display().to_string();
        let (server, [port]) = Server::start_on("Server listening on", |[port]| {
            let config = format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
                 StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PermitRootLogin yes\nSetEnv PATH={}\n{more}\n",
                at("host_ed25519"),
                at("host_ecdsa"),
                at("authorized"),
                std::env::var("PATH").unwrap(),
            );
            let mut command = Command::new(&sshd);
            command
                .args(["-D", "-e", "-f"])
                .arg(world.write("sshd_config", &config))
                .stdin(Stdio::null());
            command
        });
        let sshd = Self {
            _server: server,
            port,
            user,
        };
        sshd.know(world, "host_ed25519");
        Some(sshd)
    }

    /// Let the host be known by the key `name`.
    pub fn know(&self, world: &World, name: &str) {
        let key = fs::read_to_string(world.path(name).with_extension("pub")).unwrap();
        world.write("known_hosts", &format!("[127.0.0.1]:{} {key}", self.port));
    }

    pub fn url(&self, path: &Path) -> String {
        format!("ssh://{}@127.0.0.1:{}{}", self.user, self.port, path.display())
    }

    /// A configuration that deploys repo.git over SSH.
    pub fn config(&self, world: &World, auth: &str, more: &str) {
        let url = self.url(&world.path("repo.git"));
        world.config_of(&format!(
            "\"site\": (repo: {url:?}, branch: \"main\", path: \"site\", auth: {auth}, timeout: \"60s\", {more}),"
        ));
    }
}
