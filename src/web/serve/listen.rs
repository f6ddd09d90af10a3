//! The sockets that the front listens on. systemd may have passed some of them on.

use std::{
    net::TcpListener,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{error::Error, tls::Tls};
use crate::{
    base::address::TcpAddr,
    daemon::listen::{self, Socket as Passed, SocketFile},
    web::config::{Config, DEFAULT_ADDRESS, Listener},
};

/// A listening socket.
#[derive(Debug)]
pub enum Socket {
    /// A Unix socket. If its file is ours, it is removed when this is dropped.
    Unix(UnixListener, PathBuf, Option<SocketFile>),
    /// A TCP socket, with or without TLS.
    Tcp(TcpListener, Option<Arc<Tls>>),
}

impl Socket {
    /// The address; for port 0, with the port that the system has picked.
    pub fn address(&self) -> String {
        match self {
            Self::Unix(_, path, _) => path.display().to_string(),
            Self::Tcp(listener, _) => address_of(listener),
        }
    }

    /// Whether it uses TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp(_, Some(_)))
    }
}

fn address_of(listener: &TcpListener) -> String {
    let addr = listener.local_addr();
    addr.map_or_else(|err| err.to_string(), |addr| addr.to_string())
}

/// Listen as `config` says. A socket that systemd has passed on is used where it has the address of a listener.
pub fn listen(config: &Config) -> Result<Vec<Socket>, Error> {
    let passed = listen::inherited().map_err(Error::Listen)?;
    let mut passed: Vec<Passed> = passed.into_iter().map(|(_, socket)| socket).collect();
    let mut sockets = Vec::new();
    for listener in &config.listen {
        sockets.push(match listener {
            Listener::Unix { path, mode, group } => unix(path, *mode, group.as_deref(), &mut passed)?,
            Listener::Http { addr, tls, .. } => {
                let tls = tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
                Socket::Tcp(tcp(addr, &mut passed)?, tls)
            }
        });
    }
    for socket in passed {
        sockets.push(alone(socket)?);
    }
    if sockets.is_empty() {
        sockets.push(Socket::Tcp(tcp(DEFAULT_ADDRESS, &mut Vec::new())?, None));
    }
    Ok(sockets)
}

fn unix(path: &Path, mode: u32, group: Option<&str>, passed: &mut Vec<Passed>) -> Result<Socket, Error> {
    let at = passed
        .iter()
        .position(|socket| socket.address() == path.display().to_string());
    if let Some(Passed::Unix(listener, file)) = at.map(|at| passed.remove(at)) {
        return Ok(Socket::Unix(listener, path.into(), file));
    }
    let (listener, file) = listen::bind_unix(path, mode, group).map_err(Error::Listen)?;
    Ok(Socket::Unix(listener, path.into(), Some(file)))
}

fn tcp(addr: &str, passed: &mut Vec<Passed>) -> Result<TcpListener, Error> {
    let addr = TcpAddr::parse(addr).map_err(|reason| Error::Address {
        addr: addr.into(),
        reason: reason.into(),
    })?;
    let at = passed.iter().position(|socket| socket.address() == addr.addr);
    if let Some(Passed::Tcp(listener, _)) = at.map(|at| passed.remove(at)) {
        return Ok(listener);
    }
    listen::bind_tcp(&addr).map_err(Error::Listen)
}

/// A socket that systemd has passed on, and that the configuration does not name.
fn alone(socket: Passed) -> Result<Socket, Error> {
    match socket {
        Passed::Unix(listener, file) => {
            let path = listener.local_addr().ok();
            let path = path.and_then(|addr| addr.as_pathname().map(Path::to_owned));
            Ok(Socket::Unix(listener, path.unwrap_or_default(), file))
        }
        Passed::Tcp(listener, _) => match listener.local_addr() {
            Ok(addr) if addr.ip().to_canonical().is_loopback() => Ok(Socket::Tcp(listener, None)),
            _ => Err(Error::Open {
                addr: address_of(&listener),
            }),
        },
    }
}
