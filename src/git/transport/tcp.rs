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
mod error;

pub use error::{Error, Peer};

/// Connect to `host`, at the first of its addresses that answers.
pub fn connect(host: &str, port: u16, peer: Peer, deadline: Deadline) -> Result<Stream, Error> {
    Ok(Stream {
        timed: Timed::new(dial(host, port, &peer, deadline)?, deadline),
        peer: peer.into(),
    })
}

/// As [`connect`], for transports that use the bare socket.
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
    use crate::base::fault::{Blame as _, Kind};

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
