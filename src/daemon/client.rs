//! One request to a daemon, and the events of its answer. Blocking.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt},
};

use crate::{
    base::{
        address::{Address, TcpAddr},
        event::{Done, Event, Record},
        fault::{Blame, Failure, Kind},
    },
    daemon::wire::{self, Request},
    git::transport::{Deadline, Socket, Timed, resolve::resolve},
};

/// A request, and how to send it.
#[derive(Debug)]
pub struct Options<'a> {
    pub address: &'a Address,
    pub request: &'a Request,
    /// The token of its listener.
    pub token: Option<&'a str>,
    /// How long the whole answer may take; after that, a run goes on without this client.
    pub timeout: Option<Duration>,
}

/// There was no complete answer.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// No daemon listens there.
    #[error("no daemon answers at {address}: {source}")]
    #[diagnostic(help(
        "start it, by `systemctl start gitsocket` or as its user by `gitsocket server`; or name its address with -s"
    ))]
    NoDaemon { address: String, source: io::Error },
    /// The socket exists, but this user may not connect.
    #[error("not allowed to connect to {address}: {source}")]
    #[diagnostic(help(
        "the user must be the socket's owner or in its group, see `mode` and `group` of the listener"
    ))]
    NotAllowed { address: String, source: io::Error },
    /// The time given with `--timeout` has passed.
    #[error("the daemon at {address} has not finished within {limit}; the run goes on")]
    #[diagnostic(help("see `gitsocket status`, or give it longer with --timeout"))]
    Timeout {
        address: String,
        /// The timeout.
        limit: String,
    },
    /// A question has not been answered within its time.
    #[error("the daemon at {address} has not answered within {limit}")]
    #[diagnostic(help("see its log and whether its process hangs, or give it longer with --timeout"))]
    Silent {
        address: String,
        /// The timeout.
        limit: String,
    },
    /// The answer is incomplete.
    #[error(
        "the daemon at {address} closed the connection before finishing{}",
        because(source)
    )]
    #[diagnostic(help(
        "see its log; once the daemon is back, `gitsocket log` and `gitsocket status` show how the run ended"
    ))]
    Unfinished {
        address: String,
        /// Why, if it did not just close the connection.
        source: Option<io::Error>,
    },
    /// The answer is not one of ours.
    #[error("what answers at {address} is not a gitsocket daemon: {reason}")]
    #[diagnostic(help("name the daemon's address with -s"))]
    Stranger {
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoDaemon { .. } | Self::Unfinished { .. } | Self::Stranger { .. } => Kind::NoDaemon,
            Self::NotAllowed { .. } => Kind::NotAllowed,
            Self::Timeout { .. } | Self::Silent { .. } => Kind::Timeout,
        }
    }
}

/// How long name servers may take to find the daemon's host, without `--timeout`.
const FIND: Duration = Duration::from_secs(30);

/// Ask, pass every event to `each`, and return the last one.
pub fn ask(options: &Options<'_>, mut each: impl FnMut(&Record)) -> Result<Done, Error> {
    let deadline = options.timeout.map(Deadline::new);
    let (reader, mut writer) = connect(options.address, deadline).map_err(|err| no_daemon(options, err))?;
    // A busy daemon answers and closes without reading: then its answer counts, not this error.
    let said = writer.write_all(wire::request_line(options.request, options.token).as_bytes());
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) => return Err(unfinished(options, said.err())),
            Ok(_) => {}
            Err(err) => return Err(unfinished(options, Some(err))),
        }
        let record = record(&line).map_err(|reason| Error::Stranger {
            address: options.address.to_string(),
            reason,
        })?;
        each(&record);
        if let Event::Done(done) = record.event {
            return Ok(done);
        }
    }
}

type Halves = (Box<dyn Read>, Box<dyn Write>);

fn connect(address: &Address, deadline: Option<Deadline>) -> io::Result<Halves> {
    match address {
        Address::Unix(path) => halves(connect_unix(path.as_path(), deadline)?, deadline),
        Address::Tcp(tcp) => halves(connect_tcp_by(tcp, deadline)?, deadline),
    }
}

/// Connect within the deadline: if a daemon hangs and its backlog is full, connect(2) would wait without end.
fn connect_unix(path: &Path, deadline: Option<Deadline>) -> io::Result<UnixStream> {
    let Some(deadline) = deadline else {
        return UnixStream::connect(path);
    };
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // connect(2) respects it, see socket(7) and unix(7), and fails with EAGAIN after it.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(deadline.left()?))?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::AGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(err) => Err(err.into()),
        Ok(()) => Ok(UnixStream::from(socket)),
    }
}

/// Connect to `tcp` within `limit`, if there is one.
pub fn connect_tcp(tcp: &TcpAddr, limit: Option<Duration>) -> io::Result<TcpStream> {
    connect_tcp_by(tcp, limit.map(Deadline::new))
}

fn connect_tcp_by(tcp: &TcpAddr, deadline: Option<Deadline>) -> io::Result<TcpStream> {
    let mut failed = io::ErrorKind::NotFound.into();
    let (host, port) = tcp.host_and_port();
    for address in resolve(host, port, deadline.unwrap_or_else(|| Deadline::new(FIND)))? {
        let connected = match deadline {
            Some(deadline) => TcpStream::connect_timeout(&address, deadline.left()?),
            None => TcpStream::connect(address),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(err) => failed = err,
        }
    }
    Err(failed)
}

fn halves<S>(socket: S, deadline: Option<Deadline>) -> io::Result<Halves>
where
    S: Socket + Read + Write + Shared + 'static,
    for<'a> &'a S: Read + Write,
{
    Ok(match deadline {
        Some(deadline) => {
            let timed = Timed::new(socket, deadline);
            (Box::new(timed.clone()), Box::new(timed))
        }
        None => (Box::new(socket.shared()?), Box::new(socket)),
    })
}

trait Shared: Sized {
    fn shared(&self) -> io::Result<Self>;
}

impl Shared for UnixStream {
    fn shared(&self) -> io::Result<Self> {
        self.try_clone()
    }
}

impl Shared for TcpStream {
    fn shared(&self) -> io::Result<Self> {
        self.try_clone()
    }
}

/// A line of the answer. A busy daemon answers in text, since it has not read the request.
pub fn record(line: &str) -> Result<Record, String> {
    let line = line.trim_end();
    if let Some(message) = line.strip_prefix("error - busy: ") {
        return Ok(Record {
            run: crate::base::name::RunId::none(),
            event: Event::Done(Done::failed("-", Failure::new(Kind::Busy, message, None))),
        });
    }
    serde_json::from_str(line).map_err(|err| err.to_string())
}

fn no_daemon(options: &Options<'_>, source: io::Error) -> Error {
    let address = options.address.to_string();
    match (source.kind(), options.timeout) {
        (io::ErrorKind::PermissionDenied, _) => Error::NotAllowed { address, source },
        (io::ErrorKind::TimedOut, Some(limit)) => Error::Silent {
            address,
            limit: humantime::format_duration(limit).to_string(),
        },
        _ => Error::NoDaemon { address, source },
    }
}

fn unfinished(options: &Options<'_>, source: Option<io::Error>) -> Error {
    let address = options.address.to_string();
    match (source, options.timeout) {
        (Some(err), Some(limit)) if err.kind() == io::ErrorKind::TimedOut => {
            let limit = humantime::format_duration(limit).to_string();
            match options.request {
                Request::Trigger { .. } | Request::Log { run: Some(_), .. } => {
                    Error::Timeout { address, limit }
                }
                _ => Error::Silent { address, limit },
            }
        }
        (source, _) => Error::Unfinished { address, source },
    }
}

fn because(source: &Option<io::Error>) -> String {
    source.as_ref().map(|err| format!(": {err}")).unwrap_or_default()
}
