//! When a fetch must be over, and sockets that end then, whatever the peer does.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a kept connection may take at most to show that it is alive; after that another one is opened.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

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
    pub(super) fn patience(&self) -> Duration {
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
    pub(super) deadline: Deadline,
}

/// A socket with timeouts.
pub trait Socket {
    /// As [`TcpStream::set_read_timeout`].
    fn set_read_timeout(&self, after: Option<Duration>) -> io::Result<()>;
    /// As [`TcpStream::set_write_timeout`].
    fn set_write_timeout(&self, after: Option<Duration>) -> io::Result<()>;
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
