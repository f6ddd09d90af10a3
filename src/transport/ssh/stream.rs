//! This side's end of a channel. When it ends badly, the error is that of the host's side.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
};

use super::{channel::Ending, session::Session};
use crate::transport::{Error, Timed, tcp};

/// A channel whose errors are [`Error`]s, in the guise of [`io::Error`]s. Clones share it; the last one dropped closes
/// the channel, and gives up the interest in its connection.
#[derive(Debug, Clone)]
pub struct Stream {
    timed: Timed<UnixStream>,
    ending: Arc<Ending>,
    _session: Session,
}

impl Stream {
    pub(super) fn new(timed: Timed<UnixStream>, ending: Arc<Ending>, session: Session) -> Self {
        Self {
            timed,
            ending,
            _session: session,
        }
    }

    fn explain(&self, err: io::Error) -> io::Error {
        let error: super::Error = match err.kind() {
            io::ErrorKind::Interrupted => return err,
            // The host's side closed it, and knows why.
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => match self.ending.error() {
                Some(error) => error,
                None => return err,
            },
            _ => tcp::Error::talking(&self.ending.remote().peer, self.timed.deadline, err).into(),
        };
        wrapped(error)
    }
}

fn wrapped(error: super::Error) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, Error::from(error))
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.timed.read(buf).map_err(|err| self.explain(err))? {
            0 if !buf.is_empty() => self.ending.error().map_or(Ok(0), |error| Err(wrapped(error))),
            length => Ok(length),
        }
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
