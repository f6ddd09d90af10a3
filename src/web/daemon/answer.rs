//! One request to the daemon, and its answer as it comes. It is async, so that waiting takes no thread.

use std::{
    io::{Error as IoError, ErrorKind},
    time::Duration,
};

use async_std::{
    future::timeout,
    io::{Read, ReadExt as _, Write, WriteExt as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    task,
};

use super::ended;
use crate::{
    base::{
        address::Address,
        event::{Event, Outcome, Record, Task},
        fault::{Failure, Kind},
        name::{AbsPath, Note, RunId, TriggerName},
        secret::Secret,
    },
    daemon::{
        client::{self, Error},
        wire::{self, Request},
    },
};

/// How long the daemon may take to accept a name, which it does at once.
const ACCEPT: Duration = Duration::from_secs(5);

/// The longest line of an answer, in bytes: a status with a hundred releases takes 20 kB.
const MAX_RECORD: usize = 1 << 20;

/// Connects to the daemon.
#[derive(Debug)]
pub(super) struct Connector {
    address: Address,
    token_file: Option<AbsPath>,
}

trait Stream: Read + Write + Unpin + Send {}
impl<S: Read + Write + Unpin + Send> Stream for S {}

impl Connector {
    pub(super) fn new(address: Address, token_file: Option<AbsPath>) -> Self {
        Self { address, token_file }
    }

    /// Send `name` with `note`; gives the run. If the daemon refuses the note, as the version before does, it is sent without.
    pub(super) async fn send(
        &self,
        name: &TriggerName,
        task: Task,
        note: Option<Note>,
    ) -> Result<RunId, Failure> {
        let has_note = note.is_some();
        match self.trigger(name, task.clone(), note).await {
            Err(failure) if has_note && failure.kind == Kind::BadRequest => {
                self.trigger(name, task, None).await
            }
            said => said,
        }
    }

    async fn trigger(&self, name: &TriggerName, task: Task, note: Option<Note>) -> Result<RunId, Failure> {
        let request = Request::Trigger {
            name: name.clone(),
            task,
            wait: false,
            note,
        };
        let accepted = async {
            let mut answer = self.open(&request).await?;
            loop {
                let Record { run, event } = answer.next().await?;
                if let Event::Done(done) = event {
                    return ended(done).map(|_| run);
                }
            }
        };
        self.within(ACCEPT, accepted).await
    }

    /// The events of the answer to a question that may take as long as `patience`, without its end.
    pub(super) async fn ask(
        &self,
        request: &Request,
        patience: Duration,
        max_bytes: usize,
    ) -> Result<Vec<Record>, Failure> {
        let asked = async {
            let mut answer = self.open(request).await?;
            let mut records = Vec::new();
            loop {
                match answer.next().await? {
                    Record {
                        event: Event::Done(done),
                        ..
                    } => return ended(done).map(|_: Outcome| records),
                    record => records.push(record),
                }
                if answer.bytes > max_bytes {
                    return Err(answer.stranger(format!("its answer is longer than {max_bytes} bytes")));
                }
            }
        };
        self.within(patience, asked).await
    }

    /// Send `request`.
    pub(super) async fn open(&self, request: &Request) -> Result<Answer, Failure> {
        let token = self.token().await?;
        let line = wire::request_line(request, token.as_ref().map(Secret::expose));
        let address = self.address.to_string();
        let mut stream = self.connect().await.map_err(|source| {
            let failure = Failure::of(&match source.kind() {
                ErrorKind::PermissionDenied => Error::NotAllowed {
                    address: address.clone(),
                    source,
                },
                _ => Error::NoDaemon {
                    address: address.clone(),
                    source,
                },
            });
            // The client's help names an option of the command line, which is not here.
            match failure.kind {
                Kind::NoDaemon => Failure {
                    help: Some("see whether the daemon runs; `daemon` in web.ron is its address".into()),
                    ..failure
                },
                _ => failure,
            }
        })?;
        // A busy daemon answers and closes without reading the request: then its answer counts, not this error.
        let said = stream.write_all(line.as_bytes()).await;
        Ok(Answer {
            address,
            stream,
            unread: Vec::new(),
            bytes: 0,
            failed: said.err(),
        })
    }

    async fn token(&self) -> Result<Option<Secret>, Failure> {
        let Some(file) = self.token_file.clone() else {
            return Ok(None);
        };
        let read = task::spawn_blocking(move || Secret::read(&file)).await;
        read.map(Some).map_err(|err| Failure::of(&err))
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        match &self.address {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path.as_path()).await?)),
            Address::Tcp(tcp) => {
                let tcp = tcp.clone();
                let connecting = task::spawn_blocking(move || client::connect_tcp(&tcp, Some(ACCEPT)));
                let stream = connecting.await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(TcpStream::from(stream)))
            }
        }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        asking: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        timeout(limit, asking).await.unwrap_or_else(|_| {
            Err(Failure::of(&Error::Silent {
                address: self.address.to_string(),
                limit: humantime::format_duration(limit).to_string(),
            }))
        })
    }
}

/// An answer, as it comes.
pub(super) struct Answer {
    address: String,
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
    /// How many bytes of it have come.
    pub(super) bytes: usize,
    /// Why the request could not be sent.
    failed: Option<IoError>,
}

impl Answer {
    /// The next record; it must not be called after the last.
    pub(super) async fn next(&mut self) -> Result<Record, Failure> {
        let line = self.line().await?;
        client::record(&line).map_err(|reason| self.stranger(reason))
    }

    /// Whether the next record has come already.
    pub(super) fn has_line(&self) -> bool {
        self.unread.contains(&b'\n')
    }

    async fn line(&mut self) -> Result<String, Failure> {
        let mut looked = 0;
        loop {
            if let Some(end) = self.unread[looked..].iter().position(|byte| *byte == b'\n') {
                let rest = self.unread.split_off(looked + end + 1);
                let line = std::mem::replace(&mut self.unread, rest);
                return String::from_utf8(line).map_err(|err| self.stranger(err.to_string()));
            }
            looked = self.unread.len();
            if looked > MAX_RECORD {
                return Err(self.stranger(format!("a line is longer than {MAX_RECORD} bytes")));
            }
            let mut chunk = [0; 8 << 10];
            match self.stream.read(&mut chunk).await {
                Ok(0) => return Err(self.broken_off(None)),
                Ok(read) => {
                    self.bytes += read;
                    self.unread.extend_from_slice(&chunk[..read]);
                }
                Err(err) => return Err(self.broken_off(Some(err))),
            }
        }
    }

    fn broken_off(&mut self, source: Option<IoError>) -> Failure {
        Failure::of(&Error::Unfinished {
            address: self.address.clone(),
            source: self.failed.take().or(source),
        })
    }

    fn stranger(&self, reason: String) -> Failure {
        Failure::of(&Error::Stranger {
            address: self.address.clone(),
            reason,
        })
    }
}

/// Whether this failure is temporary, so that the request may be sent again.
pub(super) fn is_away(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        Kind::NoDaemon | Kind::NotAllowed | Kind::Busy | Kind::Stopping | Kind::Unreachable | Kind::Timeout
    )
}
