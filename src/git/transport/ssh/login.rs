//! Who we are: a key from a file, those of an agent, or both, in that order.

use std::{path::PathBuf, sync::Arc};

use russh::{
    client::AuthResult,
    keys::{
        Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey,
        agent::{AgentIdentity, client::AgentClient},
    },
};
use tokio::{net::UnixStream, time::timeout};

use super::{Error, end::Ended, kept::Surroundings, key, link::Link, remote::Remote};
use crate::{
    base::name::AbsPath,
    git::{origin::Ssh, transport::deadline::PATIENCE},
};

/// What to log in with; there is at least one.
pub(super) struct Login {
    key: Option<(AbsPath, Arc<PrivateKey>)>,
    agent: Option<PathBuf>,
}

impl Login {
    /// Read the key's file, if there is one.
    pub(super) fn read(ssh: &Ssh, remote: &Remote, around: &Surroundings) -> Result<Self, Error> {
        let key = match &ssh.key {
            Some(path) => {
                let key = key::read(path, ssh.passphrase_file.as_ref())?;
                Some((path.clone(), Arc::new(key)))
            }
            None => None,
        };
        let agent = around.agent.clone().filter(|_| ssh.agent);
        if key.is_none() && agent.is_none() {
            return Err(Error::NoAgent {
                host: remote.peer.host.clone(),
            });
        }
        Ok(Self { key, agent })
    }

    pub(super) async fn perform(self, link: &mut Link) -> Result<(), Error> {
        let mut attempt = Attempt {
            link,
            rsa: None,
            tried: Vec::new(),
            accepts: Vec::new(),
            half: false,
        };
        if let Some((path, key)) = self.key
            && attempt.with_key(&path, key).await?
        {
            return Ok(());
        }
        if let Some(socket) = self.agent
            && attempt.with_agent(socket).await?
        {
            return Ok(());
        }
        Err(attempt.refused(""))
    }
}

/// What was tried, and what the host answered.
struct Attempt<'a> {
    link: &'a mut Link,
    /// How RSA keys sign, once the host was asked.
    rsa: Option<Vec<HashAlg>>,
    tried: Vec<String>,
    accepts: Vec<String>,
    half: bool,
}

impl Attempt<'_> {
    async fn with_key(&mut self, path: &AbsPath, key: Arc<PrivateKey>) -> Result<bool, Error> {
        self.note(key.public_key(), &path.to_string());
        for hash in self.hashes(&key.algorithm()).await? {
            let user = self.link.remote.user.clone();
            let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
            match self.link.handle.authenticate_publickey(user, key).await {
                Ok(result) if self.accepted(&result).await? => return Ok(true),
                Ok(_) => {}
                Err(_) => return Err(self.hung_up().await),
            }
        }
        Ok(false)
    }

    async fn with_agent(&mut self, socket: PathBuf) -> Result<bool, Error> {
        let unusable = |reason: String| Error::Agent {
            socket: socket.clone(),
            reason,
        };
        let listed = timeout(PATIENCE, async {
            let stream = UnixStream::connect(&socket)
                .await
                .map_err(|err| err.to_string())?;
            let mut agent = AgentClient::connect(stream);
            if let Some(binding) = self.link.handle.agent_session_binding() {
                // Agents older than OpenSSH 8.9 do not know this, and need it for nothing.
                let _unknown = agent.bind_session(binding, false).await;
            }
            let identities = agent.request_identities().await;
            Ok((identities.map_err(|err| err.to_string())?, agent))
        });
        // Not so for signatures: a user may be asked for each.
        let (identities, mut agent) = listed
            .await
            .unwrap_or_else(|_| Err("it does not answer".into()))
            .map_err(unusable)?;
        if identities.is_empty() {
            return Err(Error::AgentEmpty { socket });
        }
        for identity in identities {
            let key = identity.public_key().into_owned();
            self.note(&key, "the agent");
            for hash in self.hashes(&key.algorithm()).await? {
                let (user, handle) = (self.link.remote.user.clone(), &mut self.link.handle);
                let result = match identity.clone() {
                    AgentIdentity::PublicKey { key, .. } => {
                        handle
                            .authenticate_publickey_with(user, key, hash, &mut agent)
                            .await
                    }
                    AgentIdentity::Certificate { certificate, .. } => {
                        handle
                            .authenticate_certificate_with(user, certificate, hash, &mut agent)
                            .await
                    }
                };
                match result {
                    Ok(result) if self.accepted(&result).await? => return Ok(true),
                    Ok(_) => {}
                    Err(_) if self.link.handle.is_closed() => return Err(self.hung_up().await),
                    // The agent may ask a user, who says no: that is this key's end alone.
                    Err(err) => tracing::debug!("the agent does not sign: {err}"),
                }
            }
        }
        Ok(false)
    }

    /// How a key signs. RSA keys do it in several ways, of which the host says which it takes; one that does not
    /// say may take any. SHA-1 is no way.
    async fn hashes(&mut self, algorithm: &Algorithm) -> Result<Vec<Option<HashAlg>>, Error> {
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return Ok(vec![None]);
        }
        if self.rsa.is_none() {
            self.rsa = Some(match self.link.handle.best_supported_rsa_hash().await {
                Ok(Some(Some(hash))) => vec![hash],
                Ok(Some(None)) => Vec::new(),
                Ok(None) => vec![HashAlg::Sha512, HashAlg::Sha256],
                Err(_) => return Err(self.hung_up().await),
            });
        }
        Ok(self.rsa.iter().flatten().copied().map(Some).collect())
    }

    fn note(&mut self, key: &PublicKey, from: &str) {
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        self.tried
            .push(format!("the {} key {fingerprint} from {from}", key.algorithm()));
    }

    /// Whether the host is content. If it hung up, that is an error.
    async fn accepted(&mut self, result: &AuthResult) -> Result<bool, Error> {
        let AuthResult::Failure {
            remaining_methods,
            partial_success,
        } = result
        else {
            return Ok(true);
        };
        if self.link.handle.is_closed() {
            return Err(self.hung_up().await);
        }
        self.half |= *partial_success;
        self.accepts = remaining_methods.iter().map(String::from).collect();
        Ok(false)
    }

    /// The host ended the connection: after too many wrong keys it says so.
    async fn hung_up(&mut self) -> Error {
        match self.link.ended().await {
            Ended::Said(words) => self.refused(&words),
            Ended::Lost(why) => self.link.lost(why),
        }
    }

    fn refused(&self, said: &str) -> Error {
        let mut remarks = String::new();
        if !self.accepts.is_empty() {
            remarks += &format!("; it accepts: {}", self.accepts.join(", "));
        }
        if !said.is_empty() {
            remarks += &format!("; it says {said:?}");
        }
        Error::Refused {
            host: self.link.remote.peer.host.clone(),
            user: self.link.remote.user.clone(),
            tried: self.tried.clone(),
            half: self.half,
            remarks,
        }
    }
}
