//! A target's URL becomes something that git's protocol can be spoken over.
//!
//! Every transport owns its socket and gives up at a [`Deadline`]; none starts a program.
//! What is said over a transport is the business of `fetch`.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

pub use gix_transport::client::blocking_io::Transport;

pub mod git;
pub mod http;
mod pool;
pub mod resolve;
pub mod ssh;
mod stamp;
pub mod tcp;

#[cfg(test)]
mod tests;

pub use needs::Needs;
pub use pool::MAX_KEEP_ALIVE;

use crate::{
    base::{
        fault::{Blame, Kind},
        name::{RepoUrl, Scheme},
        report::Reporter,
    },
    git::origin::{Auth, Tls},
};

mod bounded;
mod local;
mod needs;
mod old;

/// How long a kept connection may take at most to show that it is alive; after that another one is opened.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a connection needs to know besides the URL.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// When to give up.
    pub deadline: Deadline,
    /// How to authenticate.
    pub auth: &'a Auth,
    /// Whom to trust.
    pub tls: &'a Tls,
    /// Where lines go that the remote says for people.
    pub report: &'a Reporter,
    /// What is left of earlier connections.
    pub connections: &'a Connections,
    /// Where a local repository's large objects are put together.
    pub scratch: &'a Path,
}

/// Connections that are kept alive between fetches, and threads that outlived theirs. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections {
    http: http::Agents,
    ssh: ssh::Sessions,
    local: local::Threads,
}

impl Connections {
    /// Keep what a fetch leaves alive for `keep_alive`; nothing if that is zero.
    pub fn new(keep_alive: Duration) -> Self {
        Self {
            http: http::Agents::new(keep_alive),
            ssh: ssh::Sessions::new(keep_alive),
            local: local::Threads::default(),
        }
    }
}

/// A connection failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Over `git://`.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Network(#[from] tcp::Error),
    /// Over `http://` or `https://`.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Http(#[from] http::Error),
    /// Over SSH.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ssh(#[from] ssh::Error),
    /// A local repository.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Local(#[from] local::Error),
    /// The server does not come to an end.
    #[error("{url} sends more than {limit} MiB of refs and capabilities, and no end")]
    #[diagnostic(help(
        "make sure that `repo` names the right server; if it really has so many refs, let it show fewer: \
         see transfer.hideRefs in git-config(1)"
    ))]
    TooLong {
        /// The repository, without secrets.
        url: String,
        /// What is read at most, in MiB.
        limit: u64,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Network(err) => err.kind(),
            Self::Http(err) => err.kind(),
            Self::Ssh(err) => err.kind(),
            Self::Local(err) => err.kind(),
            Self::TooLong { .. } => Kind::Remote,
        }
    }
}

/// Connect to `url`.
///
/// Some transports first speak in gix's handshake, so their errors come wrapped in gix's: see [`cause`].
pub fn connect(url: &RepoUrl, options: &Options<'_>) -> Result<Box<dyn Transport + Send>, Error> {
    if let Some(path) = url.local_path() {
        return Ok(local::connect(
            path,
            options.deadline,
            options.scratch,
            &options.connections.local,
        )?);
    }
    let transport: Box<dyn Transport + Send> = match url.scheme() {
        Scheme::Git => Box::new(git::connect(url, options.deadline)?),
        Scheme::Http | Scheme::Https => Box::new(http::connect(url, options, http::Proxies::from_env())?),
        // A local one has a path, and never gets here.
        Scheme::Ssh | Scheme::Local => Box::new(ssh::connect(url, options, &ssh::Surroundings::from_env())?),
    };
    Ok(Box::new(old::AbsoluteDepth(transport)))
}

/// The error of a transport that is behind `err`, which gix returned: it says more than gix can know.
pub fn cause(err: &gix::Error) -> Option<&Error> {
    err.downcast_any_ref()
}

/// The moment at which a fetch must be over.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    /// In `after` from now.
    pub fn new(after: Duration) -> Self {
        Self {
            at: Instant::now() + after,
            after,
        }
    }

    /// How long the whole was allowed to take.
    pub fn after(&self) -> Duration {
        self.after
    }

    /// The time that is left, which is never zero, or the error of having none.
    pub fn left(&self) -> io::Result<Duration> {
        match self.at.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }

    /// How long a kept connection may take to show that it is alive: another one gets as much time at least.
    fn patience(&self) -> Duration {
        PATIENCE.min(self.left().unwrap_or_default() / 2)
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.left().is_err()
    }
}

/// A socket whose reads and writes end at a [`Deadline`], whatever the peer does.
/// Clones share the socket: one half reads, the other writes. The last one dropped closes it.
#[derive(Debug)]
pub struct Timed<S> {
    socket: Arc<S>,
    deadline: Deadline,
}

/// A socket with timeouts.
pub trait Socket {
    /// As [`TcpStream::set_read_timeout`].
    fn set_read_timeout(&self, after: Option<Duration>) -> io::Result<()>;
    /// As [`TcpStream::set_write_timeout`].
    fn set_write_timeout(&self, after: Option<Duration>) -> io::Result<()>;
    /// As [`TcpStream::shutdown`].
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

macro_rules! socket {
    ($($stream:ty),+) => {$(
        impl Socket for $stream {
            fn set_read_timeout(&self, after: Option<Duration>) -> io::Result<()> {
                self.set_read_timeout(after)
            }
            fn set_write_timeout(&self, after: Option<Duration>) -> io::Result<()> {
                self.set_write_timeout(after)
            }
            fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                self.shutdown(how)
            }
        }
    )+};
}
socket!(TcpStream, UnixStream);

impl<S: Socket> Timed<S> {
    /// `socket`, until `deadline`.
    pub fn new(socket: S, deadline: Deadline) -> Self {
        Self {
            socket: Arc::new(socket),
            deadline,
        }
    }
}

impl<S> Clone for Timed<S> {
    fn clone(&self) -> Self {
        Self {
            socket: self.socket.clone(),
            deadline: self.deadline,
        }
    }
}

impl<S: Socket> Read for Timed<S>
where
    for<'a> &'a S: Read,
{
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.deadline.left()?))?;
        (&*self.socket).read(buf).map_err(timed_out)
    }
}

impl<S: Socket> Write for Timed<S>
where
    for<'a> &'a S: Write,
{
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.deadline.left()?))?;
        (&*self.socket).write(buf).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.socket).flush()
    }
}

/// A socket timeout is reported as `EAGAIN`, see socket(7), `SO_RCVTIMEO`.
fn timed_out(err: io::Error) -> io::Error {
    match err.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => err,
    }
}
