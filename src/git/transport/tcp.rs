//! Hosts become sockets, before a [`Deadline`] and with errors that say where.
//!
//! What is said over the socket is the business of others.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use super::{Deadline, Timed, resolve::resolve};
use crate::base::fault::{Blame, Kind};

/// The other end, as errors name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name or address, with the port where that is not the usual one.
    pub host: String,
    /// What is asked for there, without secrets.
    pub url: String,
}

/// A peer could not be reached, or was lost.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Its name has no address.
    #[error("cannot find the address of {} for {}: {source}", .peer.host, .peer.url)]
    #[diagnostic(help("check the host's spelling, and the name servers in /etc/resolv.conf"))]
    Resolve {
        /// Who.
        peer: Box<Peer>,
        /// Why.
        source: io::Error,
    },
    /// It could not be connected to.
    #[error("cannot connect to {} for {}: {source}", .peer.host, .peer.url)]
    #[diagnostic(help("check the host and the port, and that no firewall is between"))]
    Connect {
        /// Who.
        peer: Box<Peer>,
        /// Why.
        source: io::Error,
    },
    /// The connection was lost.
    #[error("the connection to {} for {} was lost: {source}", .peer.host, .peer.url)]
    #[diagnostic(help("try again; if that does not help, the log of the server should say more"))]
    Lost {
        /// Who.
        peer: Box<Peer>,
        /// Why.
        source: io::Error,
    },
    /// The deadline passed.
    #[error("{} did not deliver {} within {}", .peer.host, .peer.url, humantime::format_duration(*.after))]
    #[diagnostic(help("raise `timeout` if that is too short, or find out why the server is slow"))]
    Timeout {
        /// Who.
        peer: Box<Peer>,
        /// How long the whole was allowed to take.
        after: Duration,
    },
}

impl Error {
    /// What `source` means that ended the resolution of `peer`'s name.
    pub(super) fn resolving(peer: &Peer, deadline: Deadline, source: io::Error) -> Self {
        Self::of(peer, deadline, source, |peer, source| Self::Resolve {
            peer,
            source,
        })
    }

    /// What `source` means that ended the attempt to connect to `peer`.
    pub(super) fn connecting(peer: &Peer, deadline: Deadline, source: io::Error) -> Self {
        Self::of(peer, deadline, source, |peer, source| Self::Connect {
            peer,
            source,
        })
    }

    /// What `source` means that ended the conversation with `peer`.
    pub(super) fn talking(peer: &Peer, deadline: Deadline, source: io::Error) -> Self {
        Self::of(peer, deadline, source, |peer, source| Self::Lost { peer, source })
    }

    /// The deadline of a conversation with `peer` passed.
    pub(super) fn timeout(peer: &Peer, deadline: Deadline) -> Self {
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

/// Connect to `host`, at the first of its addresses that answers.
pub fn connect(host: &str, port: u16, peer: Peer, deadline: Deadline) -> Result<Stream, Error> {
    Ok(Stream {
        timed: Timed::new(dial(host, port, &peer, deadline)?, deadline),
        peer: peer.into(),
    })
}

/// As [`connect`], for those who speak over the bare socket.
pub(super) fn dial(host: &str, port: u16, peer: &Peer, deadline: Deadline) -> Result<TcpStream, Error> {
    let addresses = resolve(host, port, deadline).map_err(|err| Error::resolving(peer, deadline, err))?;
    let socket = first(&addresses, deadline).map_err(|err| Error::connecting(peer, deadline, err))?;
    // Requests are small and waited for: Nagle's algorithm would only delay them.
    socket
        .set_nodelay(true)
        .map_err(|err| Error::connecting(peer, deadline, err))?;
    Ok(socket)
}

/// The first that answers. All but the last share the time evenly, so that a silent one leaves time for the rest.
fn first(addresses: &[SocketAddr], deadline: Deadline) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (tried, address) in addresses.iter().enumerate() {
        let share = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let left = (deadline.left()? / share).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(address, left) {
            Ok(socket) => return Ok(socket),
            Err(err) => last = err,
        }
    }
    Err(last)
}

/// A connection whose errors are [`super::Error`]s, in the guise of [`io::Error`]s. Clones share the socket.
#[derive(Debug, Clone)]
pub struct Stream {
    timed: Timed<TcpStream>,
    peer: Arc<Peer>,
}

impl Stream {
    fn explain(&self, err: io::Error) -> io::Error {
        match err.kind() {
            io::ErrorKind::Interrupted => err,
            kind => io::Error::new(
                kind,
                super::Error::from(Error::talking(&self.peer, self.timed.deadline, err)),
            ),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.timed.read(buf).map_err(|err| self.explain(err))
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.timed.write(buf).map_err(|err| self.explain(err))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.timed.flush().map_err(|err| self.explain(err))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Time enough for what does not hang.
    fn late() -> Deadline {
        Deadline::new(Duration::from_secs(60))
    }

    fn peer() -> Peer {
        Peer {
            host: "h".into(),
            url: "git://h/x".into(),
        }
    }

    #[test]
    fn the_second_address_is_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let closed = {
            let gone = TcpListener::bind("127.0.0.1:0").unwrap();
            gone.local_addr().unwrap()
        };
        assert_eq!(first(&[closed, here], late()).unwrap().peer_addr().unwrap(), here);
        let err = connect("127.0.0.1", closed.port(), peer(), late()).unwrap_err();
        assert!(matches!(err, Error::Connect { .. }), "{err}");
        assert_eq!(err.kind(), Kind::Unreachable);
    }

    #[test]
    fn a_silent_peer_is_given_up_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let soon = Deadline::new(Duration::from_secs(1));
        let mut stream = connect("localhost", port, peer(), soon).unwrap();
        let err = stream.read(&mut [0]).unwrap_err();
        let err: &super::super::Error = err.get_ref().unwrap().downcast_ref().unwrap();
        assert_eq!(err.kind(), Kind::Timeout);
        assert_eq!(err.to_string(), "h did not deliver git://h/x within 1s");
    }
}
