//! Binds a TCP listener while the one that it replaces is still open: the addresses differ, but overlap, as 127.0.0.1 and 0.0.0.0
//! do.
//!
//! Linux lets two sockets of one user have overlapping addresses if both have `SO_REUSEPORT` (socket(7)). Ours have it only from
//! here to the end of the reload: otherwise a second daemon would take half of the connections of the first, instead of failing
//! because the address is in use.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, socket_with,
    sockopt::{set_socket_reuseaddr, set_socket_reuseport},
};

use super::{BACKLOG, Socket};

/// Bind a socket to the first of `addrs` that is possible together with the sockets in `open` of the same port. It does not listen
/// yet; until it does, those get all connections.
pub(super) fn bind_beside<'s>(
    addrs: &[SocketAddr],
    open: impl Iterator<Item = &'s Socket> + Clone,
) -> io::Result<TcpListener> {
    let in_use = || io::Error::from(io::ErrorKind::AddrInUse);
    let mut failed = in_use();
    for addr in addrs {
        let same_port = open.clone().filter_map(|socket| match socket {
            Socket::Tcp(listener, _) => Some(listener),
            Socket::Unix(..) => None,
        });
        let mut same_port = same_port
            .filter(|listener| listener.local_addr().is_ok_and(|at| at.port() == addr.port()))
            .peekable();
        if same_port.peek().is_none() {
            continue;
        }
        for listener in same_port {
            set_socket_reuseport(listener, true)?;
        }
        match bind(addr) {
            Ok(listener) => return Ok(listener),
            Err(err) => failed = err,
        }
    }
    Err(failed)
}

fn bind(addr: &SocketAddr) -> io::Result<TcpListener> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, addr)?;
    Ok(socket.into())
}

/// Let `socket` listen, if it does not listen yet.
pub fn listen(socket: &Socket) -> io::Result<()> {
    match socket {
        Socket::Tcp(listener, _) => Ok(rustix::net::listen(listener, BACKLOG)?),
        Socket::Unix(..) => Ok(()),
    }
}

/// The reload has ended: no other socket may overlap the address of `socket` any more.
pub fn alone(socket: &Socket) {
    if let Socket::Tcp(listener, _) = socket {
        set_socket_reuseport(listener, false).ok();
    }
}
