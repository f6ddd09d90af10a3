//! Listening sockets: made so that no client can connect before mode and group are set, or inherited from systemd.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::PathBuf,
    time::Duration,
};

use crate::{
    base::{
        address::TcpAddr,
        fault::{Blame, Kind},
        name::AbsPath,
    },
    config::Listener,
    git::transport::{Deadline, resolve::resolve},
};

mod beside;
mod inherited;
mod trial;
mod unix;
pub use beside::{alone, listen};
pub use inherited::{inherited, mention};
pub use trial::{unusable, unusable_unix};
pub use unix::{SocketFile, bind_unix};

use unix::set_permissions;

/// How long name servers may take to find the address to listen on.
const FIND: Duration = Duration::from_secs(30);

/// The backlog. If it is full, Linux drops the SYN of a new connection, which the client repeats only after a second: so it is larger than
/// a burst.
const BACKLOG: i32 = 1024;

/// A socket could not be listened on.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A daemon answers there.
    #[error("a daemon is already listening on {path}")]
    #[diagnostic(help("stop it, or listen elsewhere with -l"))]
    Live { path: PathBuf },
    /// Another kind of file is there.
    #[error("{path} exists and is not a socket")]
    #[diagnostic(help("move it away, or listen elsewhere with -l"))]
    NotASocket { path: PathBuf },
    /// The socket could not be made.
    #[error("cannot listen on {addr}: {source}")]
    #[diagnostic(help("{}", help_bind(source)))]
    Bind { addr: String, source: io::Error },
    /// There is no such group.
    #[error("cannot give the socket {path} to the group {group:?}: /etc/group has no such name")]
    #[diagnostic(help("name a group that is there, or its number"))]
    Group { path: PathBuf, group: String },
    /// A socket that systemd passed on cannot be used.
    #[error("the socket number {number} that was passed on cannot be used: {reason}")]
    #[diagnostic(help("see ListenStream= in the unit that passes it on, systemd.socket(5)"))]
    Inherited {
        /// Its position in the list.
        number: usize,
        reason: String,
    },
    /// It could not be given its group or mode.
    #[error("cannot set {what} of the socket {path}: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be a member of the group"))]
    Permissions {
        /// `the group` or `the mode`.
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        Kind::Config
    }
}

/// A listening socket.
#[derive(Debug)]
pub enum Socket {
    /// A Unix socket. If its file is ours, it is removed when this is dropped.
    Unix(UnixListener, Option<SocketFile>),
    /// A TCP socket, and the file that holds its token.
    Tcp(TcpListener, Option<AbsPath>),
}

impl Socket {
    /// The address; for port 0, with the port that the system has picked.
    pub fn address(&self) -> String {
        match self {
            Self::Unix(_, Some(file)) => file.path.display().to_string(),
            Self::Unix(listener, None) => match listener.local_addr() {
                Ok(addr) => addr
                    .as_pathname()
                    .map_or_else(|| "unix:".into(), |path| path.display().to_string()),
                Err(err) => err.to_string(),
            },
            Self::Tcp(listener, _) => listener
                .local_addr()
                .map_or_else(|err| err.to_string(), |addr| addr.to_string()),
        }
    }
}

/// Listen as the configuration says. If the address overlaps that of a TCP socket in `open`, which is about to be closed, both
/// are bound at the same time, and [`listen`] must be called for the new one later.
pub fn bind<'s>(
    listener: &Listener,
    open: impl Iterator<Item = &'s Socket> + Clone,
) -> Result<Socket, Error> {
    match listener {
        Listener::Unix { path, mode, group } => {
            let (socket, file) = bind_unix(path.as_path(), *mode, group.as_deref())?;
            Ok(Socket::Unix(socket, Some(file)))
        }
        Listener::Tcp { addr, token_file } => {
            let listener = bind_or(addr, |addrs, _| beside::bind_beside(addrs, open))?;
            Ok(Socket::Tcp(listener, token_file.clone()))
        }
    }
}

/// Listen on `addr`.
pub fn bind_tcp(addr: &TcpAddr) -> Result<TcpListener, Error> {
    bind_or(addr, |_, in_use| Err(in_use))
}

/// The same; an address that is in use is left to `otherwise`.
fn bind_or(
    addr: &TcpAddr,
    otherwise: impl FnOnce(&[SocketAddr], io::Error) -> io::Result<TcpListener>,
) -> Result<TcpListener, Error> {
    let (host, port) = addr.host_and_port();
    let bound = resolve(host, port, Deadline::new(FIND)).and_then(|addrs| {
        match TcpListener::bind(addrs.as_slice()) {
            Ok(listener) => {
                rustix::net::listen(&listener, BACKLOG)?;
                Ok(listener)
            }
            Err(err) if err.kind() == io::ErrorKind::AddrInUse => otherwise(&addrs, err),
            Err(err) => Err(err),
        }
    });
    bound.map_err(|source| Error::Bind {
        addr: addr.addr.clone(),
        source,
    })
}

/// Give an open `socket` the mode and group, or the token, that `listener` has now. For a socket that systemd has passed on, the
/// unit sets mode and group.
pub fn adjust(socket: &mut Socket, listener: &Listener) -> Result<(), Error> {
    match (socket, listener) {
        (Socket::Unix(_, Some(file)), Listener::Unix { mode, group, .. }) => {
            set_permissions(&file.path, &file.path, *mode, group.as_deref())
        }
        (Socket::Tcp(_, token), Listener::Tcp { token_file, .. }) => {
            token.clone_from(token_file);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn help_bind(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; stop it, or listen elsewhere with -l",
        io::ErrorKind::NotFound => "make the directory first",
        io::ErrorKind::ResourceBusy => {
            "another process keeps replacing the file there: listen in a directory that others cannot write"
        }
        io::ErrorKind::PermissionDenied => {
            "the user that gitsocket runs as must be able to write the directory, or to use the port"
        }
        io::ErrorKind::InvalidInput => "the system takes at most 107 bytes; give a shorter path",
        _ => "listen elsewhere with -l",
    }
}
