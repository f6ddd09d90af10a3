//! Whom to trust, and what went wrong when that failed.

use std::time::{Duration, SystemTime};

use rustls::{
    CertificateError, RootCertStore,
    pki_types::{CertificateDer, UnixTime},
};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::Error;
use crate::{
    config::{Roots, Tls},
    name::AbsPath,
};

/// The roots that `tls` names, and what to call them in an error. Files are read now.
pub(super) fn config(tls: &Tls) -> Result<(TlsConfig, String), Error> {
    let (roots, name) = match &tls.roots {
        Roots::Mozilla => (RootCerts::WebPki, "Mozilla's roots were used".to_owned()),
        Roots::System => (
            system()?,
            "the roots of this system were used (`tls.roots`)".into(),
        ),
        Roots::File(path) => (
            file(path)?,
            format!("only the roots in {path} were used (`tls.ca_file`)"),
        ),
    };
    Ok((TlsConfig::builder().root_certs(roots).build(), name))
}

fn system() -> Result<RootCerts, Error> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let reason = found
            .errors
            .first()
            .map_or_else(|| "there are none".into(), ToString::to_string);
        return Err(Error::SystemRoots { reason });
    }
    Ok(found
        .certs
        .iter()
        .map(|cert| Certificate::from_der(cert).to_owned())
        .into())
}

fn file(path: &AbsPath) -> Result<RootCerts, Error> {
    let wrong = |reason: String| Error::Roots {
        path: path.clone(),
        reason,
    };
    let pem = std::fs::read(path).map_err(|err| wrong(err.to_string()))?;
    let mut certs = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(cert) = item.map_err(|err| wrong(err.to_string()))? {
            // ureq leaves out what it cannot read, and the error would be "unknown issuer" much later.
            RootCertStore::empty()
                .add(CertificateDer::from(cert.der()))
                .map_err(|err| wrong(err.to_string()))?;
            certs.push(cert);
        }
    }
    if certs.is_empty() {
        return Err(wrong("it holds no certificate".into()));
    }
    Ok(certs.into())
}

/// What `err` means that came up while TLS was set up with `host`, trusting `roots`.
pub(super) fn fault(err: &rustls::Error, host: &str, roots: &str) -> Error {
    use CertificateError as C;
    let host = host.to_owned();
    let reason = err.to_string();
    let reason = reason
        .strip_prefix("invalid peer certificate: ")
        .unwrap_or(&reason)
        .to_owned();
    let cert = match err {
        rustls::Error::InvalidCertificate(cert) => cert,
        rustls::Error::InvalidMessage(_) => {
            let reason = "it does not speak TLS there".into();
            return Error::Tls { host, reason };
        }
        _ => return Error::Tls { host, reason },
    };
    match cert {
        // A bad signature is that of another authority of the same name, say one that was made anew.
        C::UnknownIssuer | C::BadSignature => Error::UnknownIssuer {
            host,
            roots: roots.into(),
        },
        C::ExpiredContext { time, not_after } => Error::Expired {
            host,
            reason: format!("it ended at {}, and here it is {}", date(*not_after), date(*time)),
        },
        C::NotValidYetContext { time, not_before } => Error::Expired {
            host,
            reason: format!(
                "it begins at {}, and here it is {}",
                date(*not_before),
                date(*time)
            ),
        },
        C::Expired | C::NotValidYet => Error::Expired { host, reason },
        C::NotValidForNameContext { presented, .. } if presented.is_empty() => Error::Certificate {
            host,
            reason: "it names no host (as subjectAltName)",
        },
        C::NotValidForName | C::NotValidForNameContext { .. } => Error::WrongName { host, reason },
        cert => match outdated(cert) {
            Some(reason) => Error::Certificate { host, reason },
            None => Error::Tls { host, reason },
        },
    }
}

/// What is wrong with a certificate as people make them by hand, where OpenSSL is content.
fn outdated(err: &CertificateError) -> Option<&'static str> {
    use CertificateError as C;
    match err {
        C::UnsupportedSignatureAlgorithmContext { .. }
        | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            Some("it is signed in a way that is not safe any more, such as with SHA-1")
        }
        // These have no names of their own in rustls.
        C::Other(err) => match err.to_string() {
            text if text.contains("CaUsedAsEndEntity") => {
                Some("it is an authority's own (CA:TRUE), not a server's")
            }
            text if text.contains("UnsupportedCertVersion") => Some("it is not of version 3 of X.509"),
            _ => None,
        },
        _ => None,
    }
}

fn date(time: UnixTime) -> String {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(time.as_secs()))
        .map_or_else(
            || "no time".into(),
            |time| humantime::format_rfc3339_seconds(time).to_string(),
        )
}
