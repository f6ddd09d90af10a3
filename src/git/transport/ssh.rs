//! `ssh://` and `user@host:path`, natively: no ssh program, no shell here, no configuration of OpenSSH's.
//!
//! A connection lives on a thread of its own, which `session` keeps; each fetch is a channel of it and, on this side,
//! one end of a socket pair. The host's key is verified before anything is said. Files are read at each connection,
//! and a connection that was kept is used only as long as they are the same.
//! What is said over it is the business of `fetch`.

mod channel;
mod end;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod guard;
mod kept;
mod key;
mod known_hosts;
mod link;
mod login;
mod remote;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod words;

use std::{
    io::{self, BufReader, BufWriter},
    path::Path,
};

use gix_transport::{
    Protocol,
    client::git::{ConnectMode, blocking_io::Connection},
};

pub(super) use self::session::Sessions;
pub use self::{
    error::{Error, Offer},
    kept::Surroundings,
    known_hosts::Line,
};
use self::{
    guard::Trust,
    kept::Key,
    known_hosts::{KnownHosts, Source},
    login::Login,
    remote::Remote,
    session::Session,
    stream::Stream,
};
use super::{
    Options,
    bounded::{Bounded, Opening},
};
use crate::{
    base::{
        bounded,
        name::{AbsPath, RepoUrl},
    },
    git::origin::{Auth, Ssh},
};

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

/// Whether the key of `ssh` can be used, if it names one.
pub(super) fn try_key(ssh: &Ssh) -> Result<(), Error> {
    match &ssh.key {
        Some(path) => key::read(path, ssh.passphrase_file.as_ref()).map(drop),
        None => Ok(()),
    }
}

/// Whether the known hosts of `ssh` can be read.
pub(super) fn try_known_hosts(ssh: &Ssh, around: &Surroundings) -> Result<(), Error> {
    trust(ssh.known_hosts.as_ref(), around).map(drop)
}

/// Run the command of `remote`, over a connection that is still there if possible.
fn start(remote: &Remote, options: &Options<'_>, around: &Surroundings) -> Result<Stream, Error> {
    let default = Ssh::default();
    let ssh = match options.auth {
        Auth::Ssh(ssh) => ssh,
        _ => &default,
    };
    let key = Key::new(remote, ssh, around);
    let sessions = &options.connections.ssh;
    let (deadline, report) = (options.deadline, options.report);
    if let Some(kept) = sessions.borrow(&key) {
        match Stream::open(kept, remote, deadline, report, Some(deadline.patience())) {
            Ok(stream) => return Ok(stream),
            Err(err) => tracing::debug!("another connection is opened, as the one kept is dead: {err}"),
        }
    }
    // All files are read before the network is used.
    let login = Login::read(ssh, remote, around)?;
    let trust = trust(ssh.known_hosts.as_ref(), around)?;
    let session = Session::open(remote.clone(), login, trust, deadline, report.clone())?;
    Stream::open(sessions.lend(key, session), remote, deadline, report, None)
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
    let bytes = bounded::read_given(path, MAX_KNOWN_HOSTS)?;
    Ok(Source {
        file: path.into(),
        text: String::from_utf8_lossy(&bytes).into_owned(),
    })
}
