//! TLS of a listener: its certificate and key, read again when their files have changed.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use futures_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use super::error::Error;
use crate::{
    base::{bounded, fault::Failure, identity::Stamp, mutex, name::AbsPath, secret},
    web::config,
};

/// The longest certificate with its chain, in bytes; usually it is a few kilobytes.
const MAX_PEM: u64 = 1 << 20;

/// Certificate and key of a listener.
pub struct Tls {
    files: config::Tls,
    current: Mutex<Current>,
}

struct Current {
    /// The stamps of the files that were loaded.
    stamps: [Option<Stamp>; 2],
    acceptor: TlsAcceptor,
    /// Why newer files could not be loaded.
    failed: Option<String>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

impl Tls {
    pub(super) fn load(files: &config::Tls) -> Result<Self, Error> {
        let stamps = stamps(files);
        Ok(Self {
            current: Mutex::new(Current {
                stamps,
                acceptor: load(files)?,
                failed: None,
            }),
            files: files.clone(),
        })
    }

    /// An acceptor with the files as they are now; with the last ones that could be loaded, if these cannot.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let now = stamps(&self.files);
        let mut current = mutex::lock(&self.current);
        if current.stamps != now {
            match load(&self.files) {
                Ok(acceptor) => {
                    *current = Current {
                        stamps: now,
                        acceptor,
                        failed: None,
                    };
                    tracing::info!(cert = %self.files.cert_file.display(), "the certificate has changed");
                }
                // Tried again for the next connection: the process may have been out of descriptors.
                Err(err) => {
                    let why = err.to_string();
                    if current.failed.as_ref() != Some(&why) {
                        tracing::error!("{why}; the previous certificate stays in use");
                        current.failed = Some(why);
                    }
                }
            }
        }
        current.acceptor.clone()
    }
}

fn stamps(files: &config::Tls) -> [Option<Stamp>; 2] {
    [&files.cert_file, &files.key_file].map(|path| path.metadata().ok().map(|meta| Stamp::of(&meta)))
}

fn load(files: &config::Tls) -> Result<TlsAcceptor, Error> {
    config(&files.cert_file, &files.key_file).map_err(|reason| Error::Tls {
        cert: files.cert_file.clone(),
        key: files.key_file.clone(),
        reason,
    })
}

fn config(cert: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let pem = bounded::read_given(cert, MAX_PEM).map_err(|err| format!("{}: {err}", cert.display()))?;
    let wrong = |path: &Path| {
        let path = path.display().to_string();
        move |err: futures_rustls::rustls::pki_types::pem::Error| format!("{path}: {err}")
    };
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong(cert))?;
    let file = AbsPath::resolve(Path::new("/"), key).map_err(|err| err.to_string())?;
    let pem = secret::read(&file).map_err(|err| Failure::of(&err).message)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(wrong(key))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|err| err.to_string())?;
    let mut config = config;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
