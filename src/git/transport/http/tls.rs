//! Whom to trust, what to show, and what went wrong when that failed.

use std::time::{Duration, SystemTime};

use rustls::{
    CertificateError as C, InvalidMessage, RootCertStore,
    pki_types::{CertificateDer, UnixTime},
};
use rustls_native_certs::CertificateResult;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::{
    Error,
    certificate::{self, Shown},
};
use crate::{
    base::{
        bounded::{self, RULES},
        name::AbsPath,
    },
    git::origin::{Roots, Tls},
};

pub(super) struct Setup {
    /// TLS with the origin that the configuration names.
    pub(super) config: TlsConfig,
    /// TLS with all other hosts: our certificate is not for them.
    pub(super) elsewhere: TlsConfig,
    /// What to call the roots of trust in an error.
    roots: String,
}

impl Setup {
    /// What `err` means that came up in TLS with `host`, which has seen of our certificate what `shown` says.
    pub(super) fn fault(&self, err: &rustls::Error, host: &str, shown: Shown<'_>) -> Error {
        if let rustls::Error::AlertReceived(alert) = err
            && let Some(err) = certificate::alert(*alert, host, shown)
        {
            return err;
        }
        fault(err, host, &self.roots)
    }
}

/// Set up TLS as `tls` says. Files are read now.
pub(super) fn setup(tls: &Tls) -> Result<Setup, Error> {
    let (roots, name) = match &tls.roots {
        Roots::Mozilla => (RootCerts::WebPki, "Mozilla's roots were used".to_owned()),
        Roots::System => (
            system(rustls_native_certs::load_native_certs())?,
            "the roots of this system (`tls.roots`) were used".into(),
        ),
        Roots::File(path) => (
            file(path)?,
            format!("only the roots in {path} (`tls.ca_file`) were used"),
        ),
    };
    let client = tls.client.as_ref().map(certificate::read).transpose()?;
    let config = |client| {
        TlsConfig::builder()
            .root_certs(roots.clone())
            .client_cert(client)
            .build()
    };
    Ok(Setup {
        config: config(client),
        elsewhere: config(None),
        roots: name,
    })
}

/// Whether the file that says whom `tls` trusts can be used, if there is one.
pub(in crate::git::transport) fn try_roots(tls: &Tls) -> Result<(), Error> {
    match &tls.roots {
        Roots::File(path) => file(path).map(drop),
        Roots::Mozilla | Roots::System => Ok(()),
    }
}

/// Whether our certificate and its key can be used, if there is one.
pub(in crate::git::transport) fn try_client(tls: &Tls) -> Result<(), Error> {
    tls.client
        .as_ref()
        .map_or(Ok(()), |client| certificate::read(client).map(drop))
}

pub(super) fn system(found: CertificateResult) -> Result<RootCerts, Error> {
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
    let pem = bounded::read_given(path.as_path(), RULES).map_err(|err| wrong(err.to_string()))?;
    let mut certs = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(cert) = item.map_err(|err| wrong(err.to_string()))? {
            // ureq leaves out what it cannot read, and the error would be "unknown issuer" much later.
            RootCertStore::empty()
                .add(CertificateDer::from(cert.der()))
                .map_err(|err| match err {
                    rustls::Error::InvalidCertificate(C::BadEncoding) => wrong("one is damaged".into()),
                    err => wrong(err.to_string()),
                })?;
            certs.push(cert);
        }
    }
    if certs.is_empty() {
        return Err(wrong("it holds no certificate".into()));
    }
    Ok(certs.into())
}

/// What `err` means that came up while TLS was set up with `host`, trusting `roots`.
fn fault(err: &rustls::Error, host: &str, roots: &str) -> Error {
    let host = host.to_owned();
    let reason = err.to_string();
    let reason = reason
        .strip_prefix("invalid peer certificate: ")
        .unwrap_or(&reason)
        .to_owned();
    let cert = match err {
        rustls::Error::InvalidCertificate(cert) => cert,
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            let reason = "what answers there does not speak TLS".into();
            return Error::Tls { host, reason };
        }
        _ => return Error::Tls { host, reason },
    };
    match cert {
        // A bad signature is that of another authority of the same name, say one that was made again.
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
        C::NotValidForNameContext { presented, .. } if presented.is_empty() => Error::HostCertificate {
            host,
            reason: "it names no host (as subjectAltName)",
        },
        C::NotValidForNameContext { presented, .. } => Error::WrongName {
            host,
            reason: format!("it is for {}", names(presented)),
        },
        C::NotValidForName => Error::WrongName { host, reason },
        cert => match outdated(cert) {
            Some(reason) => Error::HostCertificate { host, reason },
            None => Error::Tls { host, reason },
        },
    }
}

/// `DnsName("a.example")` and the like, as people write them.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| match name.split('"').nth(1) {
        Some(quoted) => quoted.to_owned(),
        None => name.clone(),
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}

/// What is wrong with a certificate as people make them by hand, where OpenSSL is content.
fn outdated(err: &C) -> Option<&'static str> {
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
