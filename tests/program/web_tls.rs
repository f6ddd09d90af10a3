//! The front's own TLS works, with a certificate that is replaced while it runs.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName},
};

use super::{
    front::{Front, Reply, reply},
    world::World,
};

const LISTEN: &str =
    "Http(addr: \"127.0.0.1:0\", tls: (cert_file: \"tls/cert.pem\", key_file: \"tls/key.pem\"))";

/// Put a certificate of its own, for `localhost`, and its key where the front reads them; it ends in `year`.
fn certify(world: &World, year: i32) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    // As certbot does: each appears whole.
    for (name, text) in [("key.pem", key.serialize_pem()), ("cert.pem", cert.pem())] {
        world.secret("tls/new", &text);
        std::fs::rename(world.path("tls/new"), world.path("tls").join(name)).unwrap();
    }
    cert.der().clone()
}

/// Ask for `/healthz`, if the one who answers has this certificate.
fn ask(front: &Front, cert: &CertificateDer<'static>) -> Option<Reply> {
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, front.connect());
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .ok()?;
    reply(&mut stream)
}

#[test]
fn tls_is_spoken_with_the_certificate_that_is_there() {
    let world = World::new();
    let first = certify(&world, 2090);
    let mut front = Front::listening(&world, LISTEN, "metrics: true");
    assert_eq!(ask(&front, &first).unwrap().status, 200);
    // Who does not know is told.
    let plain = front.get("/healthz");
    assert_eq!(
        (plain.status, plain.body.as_str()),
        (400, "This port speaks TLS: use https://\n")
    );
    let mut stream = front.connect();
    stream.write_all(b"\0\0\0\0\0\0\0\0").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // Another certificate counts from the next connection on; one of no use does not.
    let second = certify(&world, 2091);
    assert_eq!(ask(&front, &second).unwrap().status, 200);
    assert_eq!(ask(&front, &first), None);
    world.write(
        "tls/cert.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    assert_eq!(ask(&front, &second).unwrap().status, 200);
    front.wait_for("the previous certificate stays in use");
    // Silence takes nothing from others here, either.
    let silent: Vec<TcpStream> = (0..400).map(|_| front.connect()).collect();
    assert_eq!(ask(&front, &second).unwrap().status, 200);
    drop(silent);
    // Without them, there is no start.
    std::fs::remove_file(world.path("tls/key.pem")).unwrap();
    let ended = world.run_to(2, ["web"]);
    assert!(ended.err.contains("tls/key.pem"), "{ended:?}");
}
