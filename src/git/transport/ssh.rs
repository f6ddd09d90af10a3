//! `ssh://` and `user@host:path`, natively: no ssh program, no shell here, no configuration of OpenSSH's.
//!
//! A connection lives on a thread of its own, which `session` keeps; each fetch is a channel of it and, on this side,
//! one end of a socket pair. The host's key is verified before anything is said. Files are read at each connection,
//! and a connection that was kept is used only as long as they are the same.
//! What is said over it is the business of `fetch`.

mod channel;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod guard;
mod key;
mod known_hosts;
mod login;
mod remote;
mod session;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    io::{self, BufReader, BufWriter, Read as _},
    path::{Path, PathBuf},
};

use gix_transport::{
    Protocol,
    client::git::{ConnectMode, blocking_io::Connection},
};

pub use self::{
    error::{Error, Offer},
    known_hosts::Line,
};
use self::{
    guard::Trust,
    known_hosts::{KnownHosts, Source},
    login::Login,
    remote::Remote,
    session::Session,
    stream::Stream,
};
use super::{
    Options,
    bounded::{Bounded, Opening},
    pool::Pool,
    stamp::Stamps,
};
use crate::{
    base::{
        bounded,
        name::{AbsPath, RepoUrl},
    },
    git::origin::{Auth, Ssh},
};

/// Where OpenSSH keeps what is not named in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The home directory, if there is one.
    pub home: Option<PathBuf>,
    /// The socket of the agent, if there is one.
    pub agent: Option<PathBuf>,
    /// The hosts that all users of the system know.
    pub system_known_hosts: PathBuf,
}

impl Surroundings {
    /// As the environment says: `$HOME` and `$SSH_AUTH_SOCK`. The system's list of users is not asked.
    pub fn from_env() -> Self {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        Self {
            home: path("HOME").filter(|home| home.is_absolute()),
            agent: path("SSH_AUTH_SOCK").filter(|socket| !socket.as_os_str().is_empty()),
            system_known_hosts: "/etc/ssh/ssh_known_hosts".into(),
        }
    }

    /// The hosts that the user of the home directory knows.
    fn own_known_hosts(&self) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(".ssh/known_hosts"))
    }
}

/// What makes two connections the same: then the second need not be opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    host: String,
    port: u16,
    user: String,
    ssh: Ssh,
    around: Surroundings,
    files: Stamps,
}

/// Connections that are logged in.
pub(super) type Sessions = Pool<Key, Session>;

/// A conversation with upload-pack on a host.
pub type Conversation = Bounded<Connection<BufReader<Opening<Stream>>, BufWriter<Stream>>>;

/// Connect to the host of `url`, verify its key, log in, and start git's upload-pack there.
pub fn connect(url: &RepoUrl, options: &Options<'_>, around: &Surroundings) -> Result<Conversation, Error> {
    let stream = start(&Remote::new(url)?, options, around)?;
    Ok(Bounded::over(url.to_string(), stream.clone(), |reader| {
        Connection::new(
            BufReader::with_capacity(64 * 1024, reader),
            BufWriter::new(stream),
            Protocol::V2,
            url.with_secrets().path.clone(),
            None::<(&str, _)>,
            ConnectMode::Process,
            false,
        )
        .custom_url(Some(url.without_secrets().to_bstring()))
    }))
}

/// Run the command of `remote`, over a connection that is still there if possible.
fn start(remote: &Remote, options: &Options<'_>, around: &Surroundings) -> Result<Stream, Error> {
    let default = Ssh::default();
    let ssh = match options.auth {
        Auth::Ssh(ssh) => ssh,
        _ => &default,
    };
    let key = Key {
        host: remote.host.clone(),
        port: remote.port,
        user: remote.user.clone(),
        ssh: ssh.clone(),
        around: around.clone(),
        files: stamps(ssh, around),
    };
    let sessions = &options.connections.ssh;
    if let Some(kept) = sessions.borrow(&key) {
        match session::run(kept, remote, options, Some(options.deadline.patience())) {
            Ok(stream) => return Ok(stream),
            Err(err) => tracing::debug!("another connection is opened, as the one kept is dead: {err}"),
        }
    }
    // All files are read before the network is used.
    let login = Login::read(ssh, remote, around)?;
    let trust = trust(ssh.known_hosts.as_ref(), around)?;
    let session = Session::open(remote.clone(), login, trust, options)?;
    session::run(sessions.lend(key, session), remote, options, None)
}

/// Those of all files that a connection depends on.
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

/// Read the file that is named, or else those of OpenSSH, as far as they are there.
fn trust(named: Option<&AbsPath>, around: &Surroundings) -> Result<Trust, Error> {
    let failed = |path: &Path, source| Error::KnownHosts {
        path: path.into(),
        source,
    };
    if let Some(path) = named.map(AbsPath::as_path) {
        let source = source(path).map_err(|err| failed(path, err))?;
        return Ok(Trust {
            known: KnownHosts::parse(&[source]),
            add_to: path.into(),
        });
    }
    let own = around.own_known_hosts();
    let mut sources = Vec::new();
    for path in own.iter().chain([&around.system_known_hosts]) {
        match source(path) {
            Ok(source) => sources.push(source),
            // HOME may be another user's.
            Err(err) if is_absence(&err) => tracing::debug!("{}: {err}", path.display()),
            Err(err) => return Err(failed(path, err)),
        }
    }
    Ok(Trust {
        known: KnownHosts::parse(&sources),
        add_to: own.unwrap_or_else(|| around.system_known_hosts.clone()),
    })
}

fn is_absence(err: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(err.kind(), E::NotFound | E::NotADirectory | E::PermissionDenied)
}

/// A longer file, in bytes, is a mistake.
const MAX_KNOWN_HOSTS: u64 = 64 * 1024 * 1024;

fn source(path: &Path) -> io::Result<Source> {
    let mut bytes = Vec::new();
    bounded::Given::open(path)?
        .take(MAX_KNOWN_HOSTS)
        .read_to_end(&mut bytes)?;
    Ok(Source {
        file: path.into(),
        text: String::from_utf8_lossy(&bytes).into_owned(),
    })
}
