//! Why a peer could not be reached, or was lost.

use std::{io, time::Duration};

use crate::{
    base::fault::{Blame, Kind},
    git::transport::Deadline,
};

/// The other end, as errors name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The host's name or address, with the port where that is not the usual one.
    pub host: String,
    /// What is asked for at the host, without secrets.
    pub url: String,
}

/// A peer could not be reached, or was lost.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("cannot find the address of {} for {}: {source}", .peer.host, .peer.url)]
    #[diagnostic(help("check the host's spelling, and the name servers in /etc/resolv.conf"))]
    Resolve { peer: Box<Peer>, source: io::Error },
    #[error("cannot connect to {} for {}: {source}", .peer.host, .peer.url)]
    #[diagnostic(help("{}", connecting(source)))]
    Connect { peer: Box<Peer>, source: io::Error },
    #[error("the connection to {} for {} was lost: {source}", .peer.host, .peer.url)]
    #[diagnostic(help("try again; if that does not help, the log of the server should say more"))]
    Lost { peer: Box<Peer>, source: io::Error },
    #[error("{} did not deliver {} within {}", .peer.host, .peer.url, humantime::format_duration(*.after))]
    #[diagnostic(help("raise `timeout` if that is too short, or find out why the server is slow"))]
    Timeout { peer: Box<Peer>, after: Duration },
}

/// What to do if it could not be connected.
fn connecting(source: &io::Error) -> &'static str {
    match source.kind() {
        // What Landlock says; firewalls say EPERM, which looks the same.
        io::ErrorKind::PermissionDenied => {
            "the daemon's sandbox opens the port that the trigger's `repo` names, 80 and 443 if that is HTTP, and those of the \
             proxies in its environment: where a redirect leads to another port, let `repo` name the place that it leads to; \
             else see whether a firewall is between, or write sandbox: Off"
        }
        _ => "check the host and the port, and that no firewall is between",
    }
}

impl Error {
    /// What `source` means that ended the resolution of `peer`'s name.
    pub(in crate::git::transport) fn resolving(peer: &Peer, deadline: Deadline, source: io::Error) -> Self {
        Self::of(peer, deadline, source, |peer, source| Self::Resolve {
            peer,
            source,
        })
    }

    /// What `source` means that ended the attempt to connect to `peer`.
    pub(in crate::git::transport) fn connecting(peer: &Peer, deadline: Deadline, source: io::Error) -> Self {
        Self::of(peer, deadline, source, |peer, source| Self::Connect {
            peer,
            source,
        })
    }

    /// What `source` means that ended the conversation with `peer`.
    pub(in crate::git::transport) fn talking(peer: &Peer, deadline: Deadline, source: io::Error) -> Self {
        Self::of(peer, deadline, source, |peer, source| match source.kind() {
            // A redirect led to a port that is closed: what is connected is not denied.
            io::ErrorKind::PermissionDenied => Self::Connect { peer, source },
            _ => Self::Lost { peer, source },
        })
    }

    /// The deadline of a conversation with `peer` passed.
    pub(in crate::git::transport) fn timeout(peer: &Peer, deadline: Deadline) -> Self {
        Self::Timeout {
            peer: Box::new(peer.clone()),
            after: deadline.after(),
        }
    }

    fn of(
        peer: &Peer,
        deadline: Deadline,
        source: io::Error,
        make: impl FnOnce(Box<Peer>, io::Error) -> Self,
    ) -> Self {
        // The system's own ETIMEDOUT may come long before the deadline, and is a lost connection.
        if deadline.passed() || (source.kind() == io::ErrorKind::TimedOut && source.raw_os_error().is_none())
        {
            return Self::timeout(peer, deadline);
        }
        make(Box::new(peer.clone()), source)
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Lost { .. } => Kind::Unreachable,
            Self::Timeout { .. } => Kind::Timeout,
        }
    }
}
