//! The front works behind nginx, which speaks TLS to the world.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    sync::Arc,
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName},
};

use super::{
    foreign::{Server, find},
    front::{Front, Reply, reply},
    world::World,
};

/// As docs have it, but for the paths: what nginx needs to be told is the size of a body, and HTTP/1.1 for its kept connections.
const CONFIG: &str = "
daemon off; @user@ worker_processes 1; error_log stderr notice; pid @dir@/nginx.pid;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path @dir@/nginx.tmp; proxy_temp_path @dir@/nginx.tmp; fastcgi_temp_path @dir@/nginx.tmp;
    uwsgi_temp_path @dir@/nginx.tmp; scgi_temp_path @dir@/nginx.tmp;
    upstream front { server unix:@dir@/web.sock; keepalive 8; }
    server {
        listen 127.0.0.1:@tls@ ssl;
        ssl_certificate @dir@/nginx.crt; ssl_certificate_key @dir@/nginx.key;
        client_max_body_size 25m;
        location / {
            proxy_pass http://front;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
        }
    }
}";

struct Proxy {
    _server: Server,
    port: u16,
    cert: CertificateDer<'static>,
}

impl Proxy {
    fn start(world: &World) -> Option<Self> {
        let program = find("nginx")?;
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        world.write("nginx.crt", &cert.pem());
        world.write("nginx.key", &key.serialize_pem());
        let dir = world.path("");
        let dir = dir.to_str().unwrap().trim_end_matches('/').to_owned();
        // Workers of root's nginx become another user, who cannot read here.
        let user = if rustix::process::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let (server, [port]) = Server::start_on("start worker process", |[port]: [u16; 1]| {
            let config = CONFIG
                .replace("@user@", user)
                .replace("@dir@", &dir)
                .replace("@tls@", &port.to_string());
            let config = world.write("nginx.conf", &config);
            let mut command = Command::new(&program);
            command.arg("-p").arg(&dir).arg("-c").arg(config);
            command.args(["-e", "stderr"]).stdin(Stdio::null());
            command
        });
        Some(Self {
            _server: server,
            port,
            cert: cert.der().clone(),
        })
    }

    fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(client, TcpStream::connect(("127.0.0.1", self.port)).unwrap())
    }

    fn say(&self, request: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(request).ok();
        reply(&mut stream).expect("an answer")
    }
}

const DELIVERY: &str =
    "POST /hooks/site HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t0ken-of-the-hook\r\n";

#[test]
fn deliveries_and_lines_pass_through_nginx() {
    let world = World::sourced();
    world.config("hooks: [Exec(run: [\"/bin/sh\", \"-c\", \"echo started; read line < ../go\"])]");
    world.fifo("go");
    world.secret("token", "t0ken-of-the-hook\n");
    let Some(proxy) = Proxy::start(&world) else { return };
    let daemon = world.daemon();
    // While it is not there, nginx says so, and no forge is told that the hook is gone.
    let away = proxy.say(format!("{DELIVERY}Content-Length: 0\r\n\r\n").as_bytes());
    assert_eq!(away.status, 502);
    let _front = Front::listening(
        &world,
        "Unix(path: \"web.sock\", mode: \"0660\")",
        "page: (), metrics: true,
         webhooks: {\"/hooks/site\": (trigger: \"site\", from: Bearer(token_file: \"token\"))}",
    );
    let accepted = proxy.say(format!("{DELIVERY}Content-Length: 0\r\n\r\n").as_bytes());
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let run = accepted.json("run");
    // Many, over connections that nginx keeps; a body in chunks, of which nginx makes one with a length.
    let mut stream = proxy.connect();
    for _ in 0..20 {
        stream
            .write_all(format!("{DELIVERY}Content-Length: 2\r\n\r\n{{}}").as_bytes())
            .unwrap();
        assert_eq!(reply(&mut stream).unwrap().status, 202);
        stream
            .write_all(
                format!("{DELIVERY}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n").as_bytes(),
            )
            .unwrap();
        assert_eq!(reply(&mut stream).unwrap().status, 202);
    }
    // What is refused in the middle of its body is refused with a reason, not with nginx's own 502.
    let large = "x".repeat(3 << 20);
    let head = format!(
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        large.len()
    );
    assert_eq!(proxy.say(format!("{head}{large}").as_bytes()).status, 405);
    // Lines come when they are said, and not when there are enough of them.
    let mut lines = proxy.connect();
    let head = format!("GET /triggers/site/runs/{run}/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    lines.write_all(head.as_bytes()).unwrap();
    let mut seen = String::new();
    while !seen.contains("started") {
        let mut piece = [0; 4096];
        let read = lines.read(&mut piece).unwrap();
        assert!(read > 0, "{seen}");
        seen += &String::from_utf8_lossy(&piece[..read]);
    }
    std::fs::write(world.path("go"), "\n").unwrap();
    assert!(daemon.say("attach site\n").contains("ok site "));
}
