//! Certificates of servers, and the roots that they are judged by.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{NoClientAuth, danger::ClientCertVerifier},
};

use super::*;

/// A private authority, and the file that names it.
pub(super) struct Authority {
    pub(super) issuer: CertifiedIssuer<'static, KeyPair>,
    _file: NamedTempFile,
    path: AbsPath,
}

impl Authority {
    pub(super) fn new() -> Self {
        Self::named("Authority")
    }

    pub(super) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let (file, path) = secret(&issuer.pem());
        Self {
            issuer,
            _file: file,
            path,
        }
    }

    pub(super) fn trusted(&self) -> Ask {
        let tls = Tls {
            roots: Roots::File(self.path.clone()),
            ..Tls::default()
        };
        Ask {
            tls,
            ..Ask::default()
        }
    }

    /// A server with a certificate for `name` that ends in `year`.
    pub(super) fn server(
        &self,
        name: &str,
        year: i32,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let (cert, key) = self.certificate(name, year);
        serve_with(cert, &key, Arc::new(NoClientAuth), rustls::ALL_VERSIONS, answer)
    }

    /// A certificate for `name`, or for none if that is empty, that ends in `year`, and its key.
    pub(super) fn certificate(&self, name: &str, year: i32) -> (CertificateDer<'static>, KeyPair) {
        let names = Some(name.to_owned()).filter(|name| !name.is_empty());
        let mut params = CertificateParams::new(Vec::from_iter(names)).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.der().clone(), key)
    }
}

/// A server with this certificate, whose clients `verifier` looks at.
pub(super) fn serve_with(
    cert: CertificateDer<'static>,
    key: &KeyPair,
    verifier: Arc<dyn ClientCertVerifier>,
    versions: &[&'static SupportedProtocolVersion],
    answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![cert], key)
        .unwrap();
    let config = Arc::new(config);
    Server::start_with(
        move |socket| {
            let connection = ServerConnection::new(config.clone()).unwrap();
            Box::new(StreamOwned::new(connection, socket))
        },
        answer,
    )
}

pub(super) fn url(server: &Server) -> String {
    format!("https://localhost:{}/x", server.port)
}

#[test]
fn a_private_authority_is_trusted_where_it_is_named() {
    let authority = Authority::new();
    let server = authority.server("localhost", 4000, git);
    assert_eq!(authority.trusted().line(&url(&server)).unwrap(), "hello\n");
    assert_eq!(server.connections(), 1);

    insta::assert_snapshot!(Ask::default().failure(&url(&server)), @r#"
    UnknownIssuer (remote): the certificate of localhost:PORT was issued by an authority that is not trusted here: Mozilla's roots were used
    help: if its authority is a private one, name that: tls: (ca_file: "/path/ca.pem"), or tls: (roots: System)
    "#);
    let other = Authority::new();
    insta::assert_snapshot!(other.trusted().failure(&url(&server)), @r#"
    UnknownIssuer (remote): the certificate of localhost:PORT was issued by an authority that is not trusted here: only the roots in FILE (`tls.ca_file`) were used
    help: if its authority is a private one, name that: tls: (ca_file: "/path/ca.pem"), or tls: (roots: System)
    "#);
}

#[test]
fn certificates_that_are_not_accepted() {
    let authority = Authority::new();
    let server = authority.server("localhost", 2001, git);
    let failure = authority.trusted().failure(&url(&server));
    let (_, times) = failure.message.split_once("at this time: ").unwrap();
    let times = times.to_owned();
    insta::assert_snapshot!(failure.map(|text| text.replace(&times, "TIMES")), @r"
    Expired (remote): the certificate of localhost:PORT is not valid at this time: TIMES
    help: the host's administrator must renew it; or this machine's clock is wrong
    ");
    let server = authority.server("other.example", 4000, git);
    insta::assert_snapshot!(authority.trusted().failure(&url(&server)), @r"
    WrongName (remote): the certificate of localhost:PORT is for another name: it is for other.example
    help: use the name that the certificate is for in `repo`
    ");
    let server = authority.server("", 4000, git);
    insta::assert_snapshot!(authority.trusted().failure(&url(&server)), @r"
    HostCertificate (remote): the certificate of localhost:PORT cannot be trusted: it names no host (as subjectAltName)
    help: the host needs one of X.509 version 3 with its name as subjectAltName, basicConstraints=CA:FALSE, and signed with SHA-256 or better; a self-signed one is trusted where `tls.ca_file` names it
    ");
}

#[test]
fn a_server_that_speaks_no_tls() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut client, _) = socket.accept().unwrap();
        client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let failure = Ask::default().failure(&format!("https://localhost:{port}/x"));
    insta::assert_snapshot!(failure, @r#"
    Tls (remote): no secure connection to localhost:PORT: what answers there does not speak TLS
    help: check the port; a private authority's certificate is named by tls: (ca_file: "/path/ca.pem"), one that the server wants to see of ours by tls: (cert_file: "/path/client.pem", key_file: "/path/client.key")
    "#);
}

#[test]
fn unusable_roots() {
    let (_file, path) = secret("no certificate");
    let (_bad, bad) = secret("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let missing = AbsPath::resolve(Path::new("/"), Path::new("/no/such/file.pem")).unwrap();
    let mut all = String::new();
    for path in [path, bad, missing] {
        let tls = Tls {
            roots: Roots::File(path),
            ..Tls::default()
        };
        let ask = Ask {
            tls,
            ..Ask::default()
        };
        all += &format!("{}\n\n", ask.failure("https://127.0.0.1:1/x"));
    }
    insta::assert_snapshot!(all, @r"
    Roots (config): the certificates in FILE cannot be used: it holds no certificate
    help: `tls.ca_file` must name a file with one or more certificates as PEM (-----BEGIN CERTIFICATE-----)

    Roots (config): the certificates in FILE cannot be used: one is damaged
    help: `tls.ca_file` must name a file with one or more certificates as PEM (-----BEGIN CERTIFICATE-----)

    Roots (config): the certificates in /no/such/file.pem cannot be used: No such file or directory (os error 2)
    help: `tls.ca_file` must name a file with one or more certificates as PEM (-----BEGIN CERTIFICATE-----)
    ");
    let none = super::super::tls::system(Default::default()).unwrap_err();
    insta::assert_snapshot!(Refusal::of(&none.into()), @r"
    SystemRoots (config): this system's certificates cannot be used: there are none
    help: install the package ca-certificates, or leave `tls.roots` out to use Mozilla's roots
    ");
}

#[test]
fn no_redirect_leads_out_of_tls() {
    let authority = Authority::new();
    let plain = Server::start(git);
    let to = plain.url("/x/info/refs?service=git-upload-pack");
    let server = authority.server("localhost", 4000, move |_| {
        reply("302 Found", &[("Location", &to)], "")
    });
    let failure = authority.trusted().failure(&url(&server));
    insta::assert_snapshot!(failure, @r"
    Redirect (remote): https://localhost:PORT/x redirects to http://127.0.0.1:PORT/x, which is not followed: it is not encrypted
    help: if that is where the repository is now, write it as `repo`
    ");
    assert_eq!(plain.connections(), 0);
}

#[test]
fn a_proxy_tunnels_tls() {
    let authority = Authority::new();
    let server = authority.server("git.invalid", 4000, git);
    let behind = server.port;
    let proxy = Server::start(move |_| Answer::Tunnel(behind));
    let (_file, token_file) = secret("hunter2");
    let ask = Ask {
        proxies: proxies(&[("HTTPS_PROXY", format!("http://127.0.0.1:{}", proxy.port))]),
        auth: Auth::Bearer { token_file },
        ..authority.trusted()
    };
    assert_eq!(ask.line("https://git.invalid/x").unwrap(), "hello\n");
    let [connect] = &proxy.requests()[..] else {
        panic!("{:?}", proxy.requests());
    };
    assert!(
        connect.head.starts_with("CONNECT git.invalid:443 HTTP/1.1\r\n"),
        "{connect:?}"
    );
    assert_eq!(connect.header("authorization"), None);
    assert_eq!(
        server.requests()[0].header("authorization"),
        Some("Bearer hunter2")
    );
}

#[test]
fn the_deadline_holds_in_the_handshake_and_in_the_body() {
    let authority = Authority::new();
    let server = authority.server("localhost", 4000, |request| match request.method() {
        "GET" => git(request),
        _ => Answer::Trickle(
            format!("HTTP/1.1 200 OK\r\nContent-Type: {RESULT}\r\nContent-Length: 9999\r\n\r\nfff0")
                .into_bytes(),
        ),
    });
    let ask = Ask {
        timeout: Duration::from_millis(500),
        ..authority.trusted()
    };
    let begin = Instant::now();
    insta::assert_snapshot!(ask.failure(&url(&server)), @r"
    Network::Timeout (timeout): localhost:PORT did not deliver https://localhost:PORT/x within 500ms
    help: raise `timeout` if that is too short, or find out why the server is slow
    ");
    assert!(begin.elapsed() < Duration::from_secs(60));
}
