//! Servers that ask for a certificate of ours, and all that can be wrong with it.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{RootCertStore, server::WebPkiClientVerifier};

use super::{
    tls::{Authority, serve_with, url},
    *,
};
use crate::git::origin::ClientCertificate;

/// Where the files of a client lie.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(crate::machine::tempdir().unwrap())
    }

    /// Write `cert.pem` and `key.pem`, for us alone.
    fn put(&self, cert: &str, key: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        for (name, text) in [("cert.pem", cert), ("key.pem", key)] {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    fn abs(&self, name: &str) -> AbsPath {
        AbsPath::resolve(self.0.path(), Path::new(name)).unwrap()
    }

    /// Trusting `authority`, with the certificate in these files.
    fn ask(&self, authority: &Authority) -> Ask {
        let mut ask = authority.trusted();
        ask.tls.client = Some(ClientCertificate {
            cert_file: self.abs("cert.pem"),
            key_file: self.abs("key.pem"),
        });
        ask
    }
}

/// A certificate of `authority` for `key` that ends in `year`.
fn issue(authority: &Authority, key: &KeyPair, year: i32) -> String {
    let mut params = CertificateParams::new(["client".to_owned()]).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    params.signed_by(key, &authority.issuer).unwrap().pem()
}

fn fixture(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ssh");
    std::fs::read_to_string(dir.join(name)).unwrap()
}

/// A server of `authority` that asks for certificates of `clients`, in that version of TLS.
fn strict(
    authority: &Authority,
    clients: &Authority,
    version: &'static rustls::SupportedProtocolVersion,
) -> Server {
    let mut roots = RootCertStore::empty();
    roots.add(clients.issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let (cert, key) = authority.certificate("localhost", 4000);
    serve_with(cert, &key, verifier, &[version], git)
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[test]
fn keys_of_all_forms_prove_who_we_are() {
    let authority = Authority::new();
    let files = Files::new();
    for version in VERSIONS {
        let server = strict(&authority, &authority, version);
        for (form, pkcs8) in [
            ("rsa.pkcs8", "rsa.pkcs8"),
            ("rsa.pem", "rsa.pkcs8"),
            ("ecdsa-256.pkcs8", "ecdsa-256.pkcs8"),
            ("ecdsa-256.pem", "ecdsa-256.pkcs8"),
        ] {
            let cert = issue(&authority, &KeyPair::from_pem(&fixture(pkcs8)).unwrap(), 4000);
            files.put(&cert, &fixture(form));
            assert_eq!(
                files.ask(&authority).line(&url(&server)).unwrap(),
                "hello\n",
                "{form}"
            );
        }
        let key = KeyPair::generate().unwrap();
        let both = issue(&authority, &key, 4000) + &authority.issuer.pem() + &key.serialize_pem();
        files.put(&both, &both);
        assert_eq!(
            files.ask(&authority).line(&url(&server)).unwrap(),
            "hello\n",
            "one file"
        );
    }
}

#[test]
fn certificates_are_read_anew_at_each_connection() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = strict(&authority, &authority, &rustls::version::TLS13);
    let (files, key) = (Files::new(), KeyPair::generate().unwrap());
    let ask = files.ask(&authority);
    for (issuer, accepted) in [(&authority, true), (&stranger, false), (&authority, true)] {
        files.put(&issue(issuer, &key, 4000), &key.serialize_pem());
        assert_eq!(ask.line(&url(&server)).is_ok(), accepted);
    }
}

#[test]
fn servers_that_refuse() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = Files::new();
    for version in VERSIONS {
        let server = strict(&authority, &authority, version);
        insta::allow_duplicates! {
            insta::assert_snapshot!(authority.trusted().failure(&url(&server)), @r#"
            CertificateWanted (remote): localhost:PORT asks for a client certificate
            help: name it and its key: tls: (cert_file: "/path/client.pem", key_file: "/path/client.key")
            "#);
            let key = KeyPair::generate().unwrap();
            files.put(&issue(&stranger, &key, 4000), &key.serialize_pem());
            insta::assert_snapshot!(files.ask(&authority).failure(&url(&server)), @r"
            CertificateRefused (remote): localhost:PORT does not accept the client certificate in DIR/cert.pem: the server knows its issuer by another key
            help: it must be issued by an authority that the server knows; if there are others between, add their certificates to the file, after its own
            ");
            files.put(&issue(&Authority::named("Stranger"), &key, 4000), &key.serialize_pem());
            insta::assert_snapshot!(files.ask(&authority).failure(&url(&server)), @r"
            CertificateRefused (remote): localhost:PORT does not accept the client certificate in DIR/cert.pem: the server does not trust its issuer
            help: it must be issued by an authority that the server knows; if there are others between, add their certificates to the file, after its own
            ");
            files.put(&issue(&authority, &key, 2001), &key.serialize_pem());
            insta::assert_snapshot!(files.ask(&authority).failure(&url(&server)), @r"
            CertificateRefused (remote): localhost:PORT does not accept the client certificate in DIR/cert.pem: it has expired
            help: have it renewed, and replace the files; they are read at each connection
            ");
        }
        assert!(server.requests().is_empty());
    }
}

/// nginx, and others, answer in HTTP.
#[test]
fn servers_that_refuse_with_a_page() {
    let authority = Authority::new();
    let (files, key) = (Files::new(), KeyPair::generate().unwrap());
    files.put(&issue(&authority, &key, 4000), &key.serialize_pem());
    let page = |text: &'static str| {
        let html = format!("<html>\r\n<head><title>400 {text}</title></head>\r\n<body>\r\n");
        authority.server("localhost", 4000, move |_| {
            reply("400 Bad Request", &[("Content-Type", "text/html")], &html)
        })
    };
    let none = page("No required SSL certificate was sent");
    insta::assert_snapshot!(authority.trusted().failure(&url(&none)), @r#"
    CertificateWanted (remote): localhost:PORT asks for a client certificate
    help: name it and its key: tls: (cert_file: "/path/client.pem", key_file: "/path/client.key")
    "#);
    let wrong = page("The SSL certificate error");
    insta::assert_snapshot!(files.ask(&authority).failure(&url(&wrong)), @r"
    CertificateRefused (remote): localhost:PORT does not accept the client certificate in DIR/cert.pem: the server cannot verify it
    help: it must be issued by an authority that the server knows; if there are others between, add their certificates to the file, after its own
    ");
    let other = page("Request Header Or Cookie Too Large");
    insta::assert_snapshot!(files.ask(&authority).failure(&url(&other)), @r"
    Status (remote): https://localhost:PORT/x answered 400
    help: the server does not let git fetch there; check `repo`
    ");
}

#[test]
fn no_other_host_sees_the_certificate() {
    let authority = Authority::new();
    let (files, key) = (Files::new(), KeyPair::generate().unwrap());
    files.put(&issue(&authority, &key, 4000), &key.serialize_pem());
    let other = strict(&authority, &authority, &rustls::version::TLS13);
    let to = format!("{}/info/refs?service=git-upload-pack", url(&other));
    let first = authority.server("localhost", 4000, move |_| {
        reply("302 Found", &[("Location", &to)], "")
    });
    let failure = files.ask(&authority).failure(&url(&first));
    insta::assert_snapshot!(failure, @r"
    CertificateWanted (remote): localhost:PORT asks for a client certificate
    help: `tls.cert_file` is only ever shown to localhost:PORT, and it redirected here: write this URL as `repo`
    ");
    assert!(other.requests().is_empty());
}

/// All of these are found before the network is used: nobody listens there.
#[test]
fn files_that_cannot_be_used() {
    let authority = Authority::new();
    let (files, key) = (Files::new(), KeyPair::generate().unwrap());
    let (cert, key) = (issue(&authority, &key, 4000), key.serialize_pem());
    let cut = |text: &str| text.lines().take(3).collect::<Vec<_>>().join("\n");
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
               -----END RSA PRIVATE KEY-----\n";
    let mut all = String::new();
    let mut try_out = |what: &str| {
        let failure = files.ask(&authority).failure("https://127.0.0.1:1/x");
        assert_eq!(failure.kind, Kind::Config, "{failure:?}");
        all += &format!("{what}\n{}\n\n", failure);
    };
    for (what, cert, key) in [
        ("an empty certificate", "", key.as_str()),
        ("a certificate that is none", "hunter2", &key),
        ("a cut certificate", &cut(&cert), &key),
        (
            "a damaged certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &key,
        ),
        ("a key instead", &key, &key),
        ("an empty key", &cert, "\n"),
        ("a key that is none", &cert, "hunter2"),
        ("a cut key", &cert, &cut(&key)),
        (
            "a damaged key",
            &cert,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ),
        ("a key that is not supported", &cert, &p521()),
        ("a certificate instead", &cert, &cert),
        ("an encrypted key", &cert, &fixture("rsa-encrypted.pkcs8")),
        ("a key encrypted as of old", &cert, old),
        ("a key for SSH", &cert, &fixture("ed25519")),
        ("another key", &cert, &fixture("rsa.pkcs8")),
        (
            "a certificate of an old version",
            VERSION_1,
            &fixture("ecdsa-256.pkcs8"),
        ),
    ] {
        files.put(cert, key);
        try_out(what);
    }
    files.put(&cert, &key);
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(
        files.abs("key.pem").as_path(),
        std::fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    try_out("a key that others can read");
    for name in ["key.pem", "cert.pem"] {
        std::fs::remove_file(files.abs(name).as_path()).unwrap();
        try_out(&format!("no {name}"));
    }
    insta::assert_snapshot!(all, @r"
    an empty certificate
    Certificate (config): the client certificate in DIR/cert.pem cannot be used: it holds no certificate
    help: `tls.cert_file` must name an X.509 certificate of version 3 as PEM (-----BEGIN CERTIFICATE-----), with those of its issuers after it

    a certificate that is none
    Certificate (config): the client certificate in DIR/cert.pem cannot be used: it holds no certificate
    help: `tls.cert_file` must name an X.509 certificate of version 3 as PEM (-----BEGIN CERTIFICATE-----), with those of its issuers after it

    a cut certificate
    Certificate (config): the client certificate in DIR/cert.pem cannot be used: it is damaged
    help: `tls.cert_file` must name an X.509 certificate of version 3 as PEM (-----BEGIN CERTIFICATE-----), with those of its issuers after it

    a damaged certificate
    Certificate (config): the client certificate in DIR/cert.pem cannot be used: it is damaged
    help: `tls.cert_file` must name an X.509 certificate of version 3 as PEM (-----BEGIN CERTIFICATE-----), with those of its issuers after it

    a key instead
    Certificate (config): the client certificate in DIR/cert.pem cannot be used: it holds a key only
    help: are `tls.cert_file` and `tls.key_file` swapped?

    an empty key
    CertificateKey (config): the client certificate's key in DIR/key.pem cannot be used: it is empty
    help: `tls.key_file` must name a private key without passphrase as PEM (-----BEGIN PRIVATE KEY-----)

    a key that is none
    CertificateKey (config): the client certificate's key in DIR/key.pem cannot be used: it holds no private key
    help: `tls.key_file` must name a private key without passphrase as PEM (-----BEGIN PRIVATE KEY-----)

    a cut key
    CertificateKey (config): the client certificate's key in DIR/key.pem cannot be used: it is damaged
    help: `tls.key_file` must name a private key without passphrase as PEM (-----BEGIN PRIVATE KEY-----)

    a damaged key
    CertificateKey (config): the client certificate's key in DIR/key.pem cannot be used: it is damaged, or of a kind that is not supported
    help: RSA, ECDSA (P-256, P-384) and Ed25519 keys can be used

    a key that is not supported
    CertificateKey (config): the client certificate's key in DIR/key.pem cannot be used: it is damaged, or of a kind that is not supported
    help: RSA, ECDSA (P-256, P-384) and Ed25519 keys can be used

    a certificate instead
    CertificateKey (config): the client certificate's key in DIR/key.pem cannot be used: it holds a certificate only
    help: are `tls.cert_file` and `tls.key_file` swapped?

    an encrypted key
    CertificateKey (config): the client certificate's key in DIR/key.pem cannot be used: it is encrypted
    help: decrypt it with: openssl pkey -in FILE -out NEW; then chmod 600 NEW, and name that

    a key encrypted as of old
    CertificateKey (config): the client certificate's key in DIR/key.pem cannot be used: it is encrypted
    help: decrypt it with: openssl pkey -in FILE -out NEW; then chmod 600 NEW, and name that

    a key for SSH
    CertificateKey (config): the client certificate's key in DIR/key.pem cannot be used: it is a key for SSH
    help: `tls.key_file` must name a private key without passphrase as PEM (-----BEGIN PRIVATE KEY-----)

    another key
    KeyMismatch (config): the key in DIR/key.pem does not belong to the client certificate in DIR/cert.pem
    help: `tls.cert_file` must begin with the certificate that was issued for this key, before those of its issuers

    a certificate of an old version
    Certificate (config): the client certificate in DIR/cert.pem cannot be used: it is of an old version
    help: `tls.cert_file` must name an X.509 certificate of version 3 as PEM (-----BEGIN CERTIFICATE-----), with those of its issuers after it

    a key that others can read
    Secret::Exposed (config): the secret in DIR/key.pem can be read by others (its mode is 0640)
    help: type: chmod 600 DIR/key.pem

    no key.pem
    Secret::Read (config): cannot read the secret in DIR/key.pem: No such file or directory (os error 2)
    help: it must exist and be readable for the user that gitsocket runs as

    no cert.pem
    Certificate (config): the client certificate in DIR/cert.pem cannot be used: No such file or directory (os error 2)
    help: check the path and its permissions
    ");
}

/// For the key `ecdsa-256`, as `openssl x509 -req` made them long without being asked.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBEjCBuQIUMjiFFKdQ3S2DXNE+0whw4k7X/LgwCgYIKoZIzj0EAwIwDDEKMAgG
A1UEAwwBYzAeFw0yNjExMjMwMDE5NTNaFw0yNjExMjYwMDE5NTNaMAwxCjAIBgNV
BAMMAWMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARyr/R4ry7P8vGQkvIrZC8x
f3ija5FY1QEDRzXZGxyLazUBYgPPD/m2+IZ5uHwpF32qYY+hmJjGQd6NjiRPqvaZ
MAoGCCqGSM49BAMCA0gAMEUCIAWpQEYyK6z2FwZdB4xhxkNgVJC9zgqJDTePrht7
K1DaAiEAwEfzMEDuPeHZpbKeRN2OSjyYJW7HMqMBrFw4Obwu35U=
-----END CERTIFICATE-----
";

/// A key on a curve that ring does not know, in the form of SEC 1.
fn p521() -> String {
    use russh::keys::{PrivateKey, ssh_key::private::KeypairData};
    let key = PrivateKey::from_openssh(fixture("ecdsa-521")).unwrap();
    let KeypairData::Ecdsa(pair) = key.key_data() else {
        panic!("another kind");
    };
    // ECPrivateKey (RFC 5915): version 1, the number, the curve.
    let number = pair.private_key_bytes();
    let mut der = vec![0x02, 1, 1, 0x04, number.len() as u8];
    der.extend_from_slice(number);
    der.extend_from_slice(&[0xa0, 7, 0x06, 5, 0x2b, 0x81, 0x04, 0x00, 0x23]);
    let mut out = vec![0x30, der.len() as u8];
    out.extend_from_slice(&der);
    let label = "EC PRIVATE KEY";
    use base64::Engine as _;
    let code = base64::prelude::BASE64_STANDARD.encode(out);
    format!("-----BEGIN {label}-----\n{code}\n-----END {label}-----\n")
}
