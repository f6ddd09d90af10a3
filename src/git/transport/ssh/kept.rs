//! What a connection depends on, besides the host's answers: one that was kept is used as long as all of it is the same.

use std::path::PathBuf;

use super::remote::Remote;
use crate::{
    base::name::AbsPath,
    git::{origin::Ssh, transport::stamp::Stamps},
};

/// Where OpenSSH keeps what is not named in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The home directory, if there is one.
    pub home: Option<PathBuf>,
    /// The socket of the agent, if there is one.
    pub agent: Option<PathBuf>,
    pub system_known_hosts: PathBuf,
}

impl Surroundings {
    /// The surroundings that `$HOME` and `$SSH_AUTH_SOCK` name. The system's list of users is not asked.
    pub fn from_env() -> Self {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        Self {
            home: path("HOME").filter(|home| home.is_absolute()),
            agent: path("SSH_AUTH_SOCK").filter(|socket| !socket.as_os_str().is_empty()),
            system_known_hosts: "/etc/ssh/ssh_known_hosts".into(),
        }
    }

    /// The hosts that the user of the home directory knows.
    pub(super) fn own_known_hosts(&self) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(".ssh/known_hosts"))
    }
}

/// What makes two connections the same: then the second need not be opened.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::git::transport) struct Key {
    host: String,
    port: u16,
    user: String,
    ssh: Ssh,
    around: Surroundings,
    files: Stamps,
}

impl Key {
    /// The key of a connection to the host of `remote` that is opened now.
    pub(super) fn new(remote: &Remote, ssh: &Ssh, around: &Surroundings) -> Self {
        Self {
            host: remote.host.clone(),
            port: remote.port,
            user: remote.user.clone(),
            ssh: ssh.clone(),
            around: around.clone(),
            files: stamps(ssh, around),
        }
    }
}

/// The stamps of all files that a connection depends on.
fn stamps(ssh: &Ssh, around: &Surroundings) -> Stamps {
    let named = [&ssh.key, &ssh.passphrase_file, &ssh.known_hosts];
    let own = around.own_known_hosts();
    let named = named.into_iter().flatten().map(AbsPath::as_path);
    Stamps::of(
        named
            .chain(own.as_deref())
            .chain([around.system_known_hosts.as_path()]),
    )
}
