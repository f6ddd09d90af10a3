//! Whom we talk to: the host's key is verified here, before anything is said that only the host may hear.
//!
//! Also hears the host's last words.

use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use russh::{
    Preferred,
    client::{DisconnectReason, Handler, Session},
    keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate},
};

use super::{
    Error,
    end::{self, Ended},
    error::Offer,
    known_hosts::{Host, KnownHosts, Verdict},
    remote::Remote,
    words::Words,
};
use crate::base::{fault::one_line, mutex};

/// Which keys hosts are known by.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) known: KnownHosts,
    /// The file to add a host to.
    pub(super) add_to: PathBuf,
}

impl Trust {
    /// What to ask `host` for: kinds of key that it is known by come first, so that a host that has several
    /// shows one that can be verified. Signatures with SHA-1 are not asked for.
    pub(super) fn preferred(&self, host: Host<'_>) -> Preferred {
        let mut keys: Vec<Algorithm> = Preferred::DEFAULT.key.to_vec();
        keys.retain(|algorithm| *algorithm != Algorithm::Rsa { hash: None });
        let certificates = if self.known.has_authority(host) {
            keys.clone()
        } else {
            Vec::new()
        };
        let known = self.known.algorithms(host);
        // An RSA key signs in several ways, and stands in the files without any.
        let is_known = |algorithm: &Algorithm| match algorithm {
            Algorithm::Rsa { .. } => known.contains(&Algorithm::Rsa { hash: None }),
            other => known.contains(other),
        };
        keys.sort_by_key(|algorithm| !is_known(algorithm));
        Preferred {
            key: Cow::Owned(keys),
            host_key_certificates: Cow::Owned(certificates),
            ..Preferred::DEFAULT
        }
    }

    pub(super) fn verify(&self, remote: &Remote, offered: &PublicKeyOrCertificate) -> Result<(), Error> {
        let host = remote.host();
        let verdict = match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.known.verdict(host, key),
            PublicKeyOrCertificate::Certificate(certificate) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.known
                    .verdict_on_certificate(host, certificate, now.as_secs())
            }
        };
        let offer = || Box::new(offer(remote, offered.public_key()));
        Err(match verdict {
            Verdict::Known => return Ok(()),
            Verdict::Unknown => Error::UnknownHost {
                offer: offer(),
                file: self.add_to.clone(),
                skipped: self.known.skipped.clone(),
            },
            Verdict::Changed(known) => Error::ChangedHost {
                offer: offer(),
                known,
            },
            Verdict::Revoked(by) => Error::RevokedHost { offer: offer(), by },
            Verdict::Invalid(reason) => Error::HostCertificate {
                host: remote.peer.host.clone(),
                reason,
            },
        })
    }
}

/// What errors say about `key`.
fn offer(remote: &Remote, key: PublicKey) -> Offer {
    let bare = PublicKey::new(key.key_data().clone(), "");
    Offer {
        host: remote.peer.host.clone(),
        algorithm: key.algorithm().to_string(),
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        line: format!(
            "{} {}",
            remote.host().pattern(),
            bare.to_openssh().unwrap_or_default()
        ),
    }
}

/// What russh calls when something happens on the connection.
pub(super) struct Guard {
    pub(super) trust: Trust,
    pub(super) remote: Remote,
    /// What the host says to everybody who logs in; nothing after the login.
    pub(super) banner: Arc<Mutex<Option<Words>>>,
    pub(super) end: end::Sender,
}

/// Why a connection did not come about.
#[derive(Debug)]
pub(super) enum Broken {
    Refused(Box<Error>),
    Failed(russh::Error),
}

impl From<russh::Error> for Broken {
    fn from(err: russh::Error) -> Self {
        Self::Failed(err)
    }
}

impl Handler for Guard {
    type Error = Broken;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Broken> {
        match self.trust.verify(&self.remote, offered) {
            Ok(()) => Ok(true),
            Err(err) => Err(Broken::Refused(Box::new(err))),
        }
    }

    async fn auth_banner(&mut self, banner: &str, _session: &mut Session) -> Result<(), Broken> {
        let mut words = mutex::lock(&self.banner);
        if let Some(words) = &mut *words {
            words.hear(banner.as_bytes());
            words.finish();
        }
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Broken>) -> Result<(), Broken> {
        self.end.send_replace(Some(match reason {
            DisconnectReason::ReceivedDisconnect(info) => Ended::Said(one_line(&info.message)),
            DisconnectReason::Error(Broken::Failed(err)) => Ended::Lost(err.to_string()),
            DisconnectReason::Error(Broken::Refused(err)) => Ended::Lost(err.to_string()),
        }));
        Ok(())
    }
}
