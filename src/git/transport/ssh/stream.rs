//! This side's end of a channel. When it ends badly, the error is that of the host's side.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
};

use super::{Key, channel::Ending, session::Session};
use crate::git::transport::{Error, Timed, pool::Loan, tcp};

/// A channel whose errors are [`Error`]s, in the guise of [`io::Error`]s. Clones share it; the last one dropped closes
/// the channel, and gives its connection back, unless there was an error.
#[derive(Clone)]
pub struct Stream {
    // First: the connection is given back when the channel closes.
    timed: Timed<UnixStream>,
    ending: Arc<Ending>,
    session: Arc<Loan<Key, Session>>,
}

impl Stream {
    pub(super) fn new(timed: Timed<UnixStream>, ending: Arc<Ending>, session: Loan<Key, Session>) -> Self {
        Self {
            timed,
            ending,
            session: Arc::new(session),
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
        self.failed(error)
    }

    fn failed(&self, error: super::Error) -> io::Error {
        self.session.spoil();
        io::Error::new(io::ErrorKind::UnexpectedEof, Error::from(error))
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.timed.read(buf).map_err(|err| self.explain(err))? {
            0 if !buf.is_empty() => self.ending.error().map_or(Ok(0), |error| Err(self.failed(error))),
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
