//! Our own certificate, for servers that ask for one: read and checked before the network is used, shown to the
//! origin that the configuration names and nowhere else; and what a server that does not like it means.

use std::sync::Arc;

use rustls::{
    AlertDescription, CertificateError, InconsistentKeys,
    crypto::ring::sign::any_supported_type,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::{CertifiedKey, SigningKey},
};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, parse_pem};
use zeroize::Zeroizing;

use super::Error;
use crate::{
    base::{
        bounded::{self, RULES},
        name::AbsPath,
        secret,
    },
    git::origin::ClientCertificate,
};

/// Read the files of `client`. ureq would panic over a pair that rustls does not take, so that is found out here.
pub(super) fn read(client: &ClientCertificate) -> Result<ClientCert, Error> {
    let ClientCertificate { cert_file, key_file } = client;
    let chain = chain(cert_file)?;
    let (key, signing) = key(key_file)?;
    let certs = chain
        .iter()
        .map(|cert| CertificateDer::from(cert.der().to_vec()))
        .collect();
    match CertifiedKey::new(certs, signing).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(Error::KeyMismatch {
                key: key_file.clone(),
                cert: cert_file.clone(),
            });
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::BadEncoding)) => {
            return Err(cert_error(cert_file, "it is damaged".into(), ISSUE));
        }
        Err(err) if err.to_string().contains("UnsupportedCertVersion") => {
            return Err(cert_error(cert_file, "it is of an old version".into(), ISSUE));
        }
        Err(err) => {
            return Err(cert_error(
                cert_file,
                format!("it is not supported ({err})"),
                ISSUE,
            ));
        }
    }
    Ok(ClientCert::new_with_certs(&chain, key))
}

const ISSUE: &str = "`tls.cert_file` must name an X.509 certificate of version 3 as PEM (-----BEGIN CERTIFICATE-----), \
                     with those of its issuers after it";
const SWAPPED: &str = "are `tls.cert_file` and `tls.key_file` swapped?";
const KEY: &str =
    "`tls.key_file` must name a private key without passphrase as PEM (-----BEGIN PRIVATE KEY-----)";

fn chain(path: &AbsPath) -> Result<Vec<Certificate<'static>>, Error> {
    let read = bounded::read_given(path.as_path(), RULES).map(Zeroizing::new);
    // It may hold the key, too.
    let pem = read.map_err(|err| cert_error(path, err.to_string(), "check the path and its permissions"))?;
    let mut certs = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(cert)) => certs.push(cert),
            Ok(_) => {}
            Err(_) => return Err(cert_error(path, "it is damaged".into(), ISSUE)),
        }
    }
    match (certs.is_empty(), contains(&pem, b"PRIVATE KEY-----")) {
        (false, _) => Ok(certs),
        (true, true) => Err(cert_error(path, "it holds a key only".into(), SWAPPED)),
        (true, false) => Err(cert_error(path, "it holds no certificate".into(), ISSUE)),
    }
}

/// The key in `path`, for ureq, and for signing.
fn key(path: &AbsPath) -> Result<(PrivateKey<'static>, Arc<dyn SigningKey>), Error> {
    let pem = secret::read(path)?;
    let wrong = |reason: &str, help| Err(key_error(path, reason.into(), help));
    if pem.trim_ascii().is_empty() {
        return wrong("it is empty", KEY);
    }
    // The second is how OpenSSL wrote them before PKCS #8.
    if contains(&pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(&pem, b"4,ENCRYPTED") {
        return wrong(
            "it is encrypted",
            "decrypt it with: openssl pkey -in FILE -out NEW; then chmod 600 NEW, and name that",
        );
    }
    if contains(&pem, b"-----BEGIN OPENSSH PRIVATE KEY-----") {
        return wrong("it is a key for SSH", KEY);
    }
    let der = match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(der) => Zeroizing::new(der),
        Err(pem::Error::NoItemsFound) if contains(&pem, b"-----BEGIN CERTIFICATE-----") => {
            return wrong("it holds a certificate only", SWAPPED);
        }
        Err(pem::Error::NoItemsFound) => return wrong("it holds no private key", KEY),
        Err(_) => return wrong("it is damaged", KEY),
    };
    match (PrivateKey::from_pem(&pem), any_supported_type(&der)) {
        (Ok(key), Ok(signing)) => Ok((key, signing)),
        _ => wrong(
            "it is damaged, or of a kind that is not supported",
            "RSA, ECDSA (P-256, P-384) and Ed25519 keys can be used",
        ),
    }
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

fn cert_error(path: &AbsPath, reason: String, help: &'static str) -> Error {
    Error::Certificate {
        path: path.clone(),
        reason,
        help,
    }
}

fn key_error(path: &AbsPath, reason: String, help: &'static str) -> Error {
    Error::CertificateKey {
        path: path.clone(),
        reason,
        help,
    }
}

/// What a server has seen of our certificate.
#[derive(Debug, Clone)]
pub(super) enum Shown<'a> {
    None,
    /// Nothing: there is a certificate, but it is for this host.
    Withheld(String),
    /// The one in this file.
    Sent(&'a AbsPath),
}

/// What the alert of the server `host` means if it is about our certificate (RFC 8446, section 6.2). A server's
/// alerts about certificates are never about its own.
pub(super) fn alert(alert: AlertDescription, host: &str, shown: Shown<'_>) -> Option<Error> {
    use AlertDescription as A;
    let (reason, help) = match alert {
        A::CertificateRequired => ("its key is of a kind that the server does not take", FIT),
        A::UnknownCA => ("the server does not trust its issuer", CHAIN),
        // An issuer of the same name has another key, say because it was made again.
        A::DecryptError if matches!(shown, Shown::Sent(_)) => {
            ("the server knows its issuer by another key", CHAIN)
        }
        A::CertificateExpired => ("it has expired", RENEW),
        A::CertificateRevoked => ("it was revoked", RENEW),
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown | A::AccessDenied => {
            ("the server does not say why", FIT)
        }
        _ => return None,
    };
    Some(refused(host, shown, reason, help))
}

/// What the page of a server means that asks for certificates, and answers in HTTP when it does not like them, as
/// nginx does.
pub(super) fn page(text: &[u8], host: &str, shown: Shown<'_>) -> Option<Error> {
    if contains(text, b"No required SSL certificate was sent") {
        return Some(refused(host, shown, "it came with none", FIT));
    }
    contains(text, b"The SSL certificate error")
        .then(|| refused(host, shown, "the server cannot verify it", CHAIN))
}

const FIT: &str = "ask the owner of the server which certificates it accepts; its log should say more";
const RENEW: &str = "have it renewed, and replace the files; they are read at each connection";
const CHAIN: &str = "it must be issued by an authority that the server knows; if there are others between, add their \
                     certificates to the file, after its own";

fn refused(host: &str, shown: Shown<'_>, reason: &'static str, help: &'static str) -> Error {
    let host = host.to_owned();
    match shown {
        Shown::None => Error::CertificateWanted {
            host,
            withheld_for: None,
        },
        Shown::Withheld(origin) => Error::CertificateWanted {
            host,
            withheld_for: Some(origin),
        },
        Shown::Sent(path) => Error::CertificateRefused {
            host,
            path: path.clone(),
            reason,
            help,
        },
    }
}
