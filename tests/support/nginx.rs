//! nginx in front of `git http-backend`, with TLS by a private authority.
//!
//! Its paths: `/open`, `/old` (which knows nothing of version 2), `/private` (user and password), `/token` (a bearer token), `/files` (no backend behind), and
//! one for each status that a server may have reason for.

use std::{
    fs,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub use rcgen::{BasicConstraints, IsCa};
use rcgen::{Certificate, CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};

use super::{
    foreign::{Server, find},
    world::World,
};

/// Whom `/private` lets in.
pub const USER: &str = "ada";
pub const PASSWORD: &str = "correct horse/battery%20ä";
/// What `/token` wants to hear.
pub const TOKEN: &str = "t0k3n.of-some~length";

/// A private authority; `ca.pem` names it.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(world: &World) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        world.write("ca.pem", &issuer.pem());
        Self(issuer)
    }

    /// Write the certificate and key that nginx uses: for `names`, until `year`.
    fn certify(&self, world: &World, names: &[&str], year: i32) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        write_certificate(world, &cert, &key);
    }
}

fn write_certificate(world: &World, cert: &Certificate, key: &KeyPair) {
    world.write("nginx.crt", &cert.pem());
    world.write("nginx.key", &key.serialize_pem());
}

/// nginx and what is behind it; both are killed when this is dropped.
pub struct Nginx {
    program: PathBuf,
    server: Option<Server>,
    backend: Option<Server>,
    pub tls: u16,
    pub plain: u16,
}

impl Nginx {
    /// One that a trigger may trust by `ca_file: "ca.pem"`.
    pub fn start(world: &World) -> Option<Self> {
        Self::certified(world, &Authority::new(world), &["127.0.0.1", "localhost"], 2999)
    }

    /// One with a certificate for `names` until `year`.
    pub fn certified(world: &World, authority: &Authority, names: &[&str], year: i32) -> Option<Self> {
        authority.certify(world, names, year);
        Self::launch(world)
    }

    /// One with a certificate that is its own authority; `nginx.crt` names it.
    pub fn self_signed(world: &World, is_ca: IsCa) -> Option<Self> {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        write_certificate(world, &params.self_signed(&key).unwrap(), &key);
        Self::launch(world)
    }

    /// One with the certificate that is there.
    fn launch(world: &World) -> Option<Self> {
        let program = find("nginx")?;
        let backend = backend(world)?;
        passwords(world, &[(USER, PASSWORD)]);
        let (server, [tls, plain]) = Server::start_on(READY, |ports| command(&program, world, ports));
        Some(Self {
            program,
            server: Some(server),
            backend: Some(backend),
            tls,
            plain,
        })
    }

    /// The URL of what is below `path`.
    pub fn https(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.tls)
    }

    pub fn http(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.plain)
    }

    pub fn ports(&self) -> [u16; 2] {
        [self.tls, self.plain]
    }

    /// Kill it with all its connections, and start it again at the same ports.
    pub fn restart(&mut self, world: &World) {
        self.server = None;
        let mut command = command(&self.program, world, self.ports());
        self.server = Some(Server::start(&mut command, READY).unwrap().0);
    }

    /// Leave nginx without anybody behind it.
    pub fn kill_backend(&mut self) {
        self.backend = None;
    }
}

/// Let `/private` be open to these users with these passwords. nginx reads the file at each request.
pub fn passwords(world: &World, users: &[(&str, &str)]) {
    let lines: String = users
        .iter()
        .map(|(user, password)| format!("{user}:{{PLAIN}}{password}\n"))
        .collect();
    // Whole at once: nginx is reading.
    let next = world.write("htpasswd.next", &lines);
    fs::rename(next, world.path("htpasswd")).unwrap();
}

/// What runs `git http-backend` for each request.
fn backend(world: &World) -> Option<Server> {
    let fcgiwrap = find("fcgiwrap")?;
    find("git")?;
    // It takes the socket to listen on as its stdin: then that is there from now on.
    let socket = world.path("backend.sock");
    fs::remove_file(&socket).ok();
    let listener = UnixListener::bind(&socket).unwrap();
    let mut command = Command::new(fcgiwrap);
    command
        .args(["-c", "4"])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stderr(Stdio::null());
    Some(Server::launch(&mut command))
}

/// What nginx says once it listens.
const READY: &str = "start worker process";

fn command(program: &Path, world: &World, ports: [u16; 2]) -> Command {
    let config = world.write("nginx.conf", &config(world, ports));
    let mut command = Command::new(program);
    command.arg("-p").arg(world.path("")).arg("-c").arg(config);
    command.args(["-e", "stderr"]).stdin(Stdio::null());
    command
}

fn config(world: &World, [tls, plain]: [u16; 2]) -> String {
    let dir = world.path("");
    let dir = dir.to_str().unwrap().trim_end_matches('/');
    let exec_path = super::world::git(&world.path(""), &["--exec-path"]);
    // Workers of root's nginx become another user, who cannot read here.
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    include_str!("nginx.conf")
        .replace("@user@", user)
        .replace("@dir@", dir)
        .replace("@exec_path@", exec_path.trim())
        .replace("@tls@", &tls.to_string())
        .replace("@plain@", &plain.to_string())
        .replace("@token@", TOKEN)
}
