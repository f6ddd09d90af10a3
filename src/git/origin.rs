//! Where a target's commits come from: the repository, what of it, how to log in, and the bounds of a fetch.

use std::{num::NonZeroU32, path::Path, time::Duration};

use gix::ObjectId;

use crate::base::name::{AbsPath, RefName, RemoteName, RepoUrl};

/// How long a fetch may take if the configuration does not say.
pub const DEFAULT_FETCH_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// The largest blob, in bytes, if the configuration does not say.
pub const DEFAULT_MAX_BLOB: u64 = 256 << 20;
/// What a fetch may bring at most, in bytes, if the configuration does not say.
pub const DEFAULT_MAX_PACK: u64 = 20 << 30;
/// How many times a fetch is tried again if the configuration does not say.
pub const DEFAULT_RETRIES: u32 = 2;

/// A remote repository, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub repo: RepoUrl,
    pub revision: Revision,
    /// The name under `refs/remotes/`.
    pub remote: RemoteName,
    /// How much history there is to be.
    pub depth: Depth,
    pub auth: Auth,
    pub tls: Tls,
    /// How long one attempt to fetch may take.
    pub timeout: Duration,
    /// How many more attempts there are after faults that pass.
    pub retries: u32,
    /// The largest blob, in bytes.
    pub max_blob: u64,
    /// What one fetch may bring at most, packed, in bytes.
    pub max_pack: u64,
}

impl Origin {
    /// All of the branch that the remote's HEAD is on, by what needs no login.
    pub fn new(repo: RepoUrl) -> Self {
        Self {
            repo,
            revision: Revision::RemoteHead,
            remote: RemoteName::default(),
            depth: Depth::All,
            auth: Auth::None,
            tls: Tls::default(),
            timeout: DEFAULT_FETCH_TIMEOUT,
            retries: DEFAULT_RETRIES,
            max_blob: DEFAULT_MAX_BLOB,
            max_pack: DEFAULT_MAX_PACK,
        }
    }
}

/// How much history there is to be; the most last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// As much history as there is, and what comes on top of it.
    Same,
    Commits(NonZeroU32),
    All,
}

impl Depth {
    /// Whether what is older than it goes.
    pub fn is_bounded(self) -> bool {
        matches!(self, Self::Commits(_))
    }
}

/// What of a repository is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revision {
    /// The branch that the remote's HEAD is on.
    RemoteHead,
    Branch(RefName),
    Tag(RefName),
    Commit(ObjectId),
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RemoteHead => Ok(()),
            Self::Branch(name) | Self::Tag(name) => f.write_str(name.short()),
            Self::Commit(id) => id.fmt(f),
        }
    }
}

/// How to authenticate to the remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// No authentication, or with what the URL holds.
    None,
    /// User and password (RFC 7617).
    Basic {
        user: String,
        password_file: AbsPath,
    },
    /// A token (RFC 6750).
    Bearer {
        token_file: AbsPath,
    },
    Ssh(Ssh),
}

/// How to log in over SSH, and whom to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    pub key: Option<AbsPath>,
    /// The file that holds the key's passphrase.
    pub passphrase_file: Option<AbsPath>,
    /// The hosts that are known; default: OpenSSH's files.
    pub known_hosts: Option<AbsPath>,
    /// Use the keys of the agent, too; if there is no key, always true.
    pub agent: bool,
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            key: None,
            passphrase_file: None,
            known_hosts: None,
            agent: true,
        }
    }
}

/// Which certificates to trust, and which to show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    pub roots: Roots,
    /// The certificate to show to a server that asks for one.
    pub client: Option<ClientCertificate>,
    /// Send credentials over `http://`, where everybody on the way can read them.
    pub allow_plain_credentials: bool,
}

impl Tls {
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let roots = match &self.roots {
            Roots::File(path) => Some(path.as_path()),
            Roots::Mozilla | Roots::System => None,
        };
        let client = self.client.iter();
        roots
            .into_iter()
            .chain(client.flat_map(|client| [client.cert_file.as_path(), client.key_file.as_path()]))
    }
}

/// A certificate of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The PEM file of the certificate, and of those between it and its root.
    pub cert_file: AbsPath,
    /// The PEM file of its private key.
    pub key_file: AbsPath,
}

/// The roots of trust for TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// Mozilla's, which are part of this program.
    #[default]
    Mozilla,
    System,
    /// The roots of one PEM file, and no others.
    File(AbsPath),
}
