//! This side's end of a channel. When it ends badly, the error is that of the host's side.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
    time::Duration,
};

use super::{channel::Ending, kept::Key, remote::Remote, session::Session};
use crate::{
    base::report::Reporter,
    git::transport::{Deadline, Error, Timed, pool::Loan, tcp},
};

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
    /// Run the command of `remote` over `session`, and speak with it. The host must open a channel within `patience`, or
    /// else by the deadline.
    pub(super) fn open(
        session: Loan<Key, Session>,
        remote: &Remote,
        deadline: Deadline,
        report: &Reporter,
        patience: Option<Duration>,
    ) -> Result<Self, super::Error> {
        match session.open_channel(remote, deadline, report, patience) {
            Ok((socket, ending)) => Ok(Self {
                timed: Timed::new(socket, deadline),
                ending,
                session: Arc::new(session),
            }),
            Err(err) => {
                session.spoil();
                Err(err)
            }
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
