//! A connection that is logged in, on a thread of its own. It lasts as long as its [`Session`]: for one fetch after
//! another, each over a channel of its own.
//!
//! Everything up to the login ends at the deadline of the caller that opens it; each channel at that of the fetch that uses it.
//! The channels of a connection share its bytes, and one that is not read holds the others up: so one fetch at a
//! time borrows it.

use std::{
    io,
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        mpsc::{self as std_mpsc, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use russh::{Disconnect, SshId, client};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    Error,
    channel::{self, Ending, Request},
    end::{self, ended, lost},
    guard::{Broken, Guard, Trust},
    kept::Key,
    link::Link,
    login::Login,
    remote::Remote,
    words::Words,
};
use crate::{
    base::{mutex, report::Reporter},
    git::transport::{Deadline, pool::Pool, tcp},
};

/// The interest in a connection.
#[derive(Debug)]
pub(in crate::git::transport) struct Session {
    requests: mpsc::UnboundedSender<Request>,
}

/// Connections that are logged in.
pub(in crate::git::transport) type Sessions = Pool<Key, Session>;

/// How often a silent host is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long a host may take to say goodbye; no fetch waits for that.
const GOODBYE: Duration = Duration::from_secs(1);

impl Session {
    /// Connect, verify the host, and log in.
    pub(super) fn open(
        remote: Remote,
        login: Login,
        trust: Trust,
        deadline: Deadline,
        report: Reporter,
    ) -> Result<Self, Error> {
        let host = remote.peer.host.clone();
        let socket = tcp::dial(&remote.host, remote.port, &remote.peer, deadline)?;
        let (requests, incoming) = mpsc::unbounded_channel();
        let (ready, wait) = std_mpsc::sync_channel(1);
        thread::Builder::new()
            .name("ssh".into())
            .spawn(move || {
                live(
                    socket,
                    Start {
                        remote,
                        login,
                        trust,
                        report,
                    },
                    deadline,
                    &ready,
                    incoming,
                )
            })
            .map_err(|source| Error::Start {
                host: host.clone(),
                source,
            })?;
        match wait.recv() {
            Ok(opened) => opened.map(|()| Self { requests }),
            Err(_) => Err(Error::Start {
                host,
                source: io::Error::other("its thread ended"),
            }),
        }
    }

    /// Run the command of `remote`. Gives our end of the socket pair it speaks through, and where its end will be
    /// written down. The host must open a channel within `patience`, or else by the deadline.
    pub(super) fn open_channel(
        &self,
        remote: &Remote,
        deadline: Deadline,
        report: &Reporter,
        patience: Option<Duration>,
    ) -> Result<(UnixStream, Arc<Ending>), Error> {
        let start = |source| Error::Start {
            host: remote.peer.host.clone(),
            source,
        };
        let (ours, theirs) = UnixStream::pair().map_err(start)?;
        theirs.set_nonblocking(true).map_err(start)?;
        let (opened, wait) = std_mpsc::sync_channel(1);
        let ending = Arc::new(Ending::new(remote.clone()));
        let request = Request {
            socket: theirs,
            command: remote.command.clone(),
            words: Words::new(report.clone()),
            opened,
            ending: ending.clone(),
        };
        if self.requests.send(request).is_err() {
            return Err(lost(remote, "it was closed"));
        }
        let timed_out = || tcp::Error::timeout(&remote.peer, deadline).into();
        let left = deadline.left().map_err(|_| timed_out())?;
        match wait.recv_timeout(patience.map_or(left, |patience| left.min(patience))) {
            Ok(()) => Ok((ours, ending)),
            Err(RecvTimeoutError::Timeout) => Err(timed_out()),
            Err(RecvTimeoutError::Disconnected) => {
                Err(ending.error().unwrap_or_else(|| lost(remote, "it was closed")))
            }
        }
    }
}

struct Start {
    remote: Remote,
    login: Login,
    trust: Trust,
    report: Reporter,
}

fn live(
    socket: TcpStream,
    start: Start,
    deadline: Deadline,
    ready: &std_mpsc::SyncSender<Result<(), Error>>,
    requests: mpsc::UnboundedReceiver<Request>,
) {
    let remote = start.remote.clone();
    let tell = |result| {
        // The caller that opens it waits for this.
        let _waiting = ready.send(result);
    };
    let failed = |source| Error::Start {
        host: remote.peer.host.clone(),
        source,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => return tell(Err(failed(err))),
    };
    // With the runtime, everything of the connection is dropped: tasks and socket.
    runtime.block_on(async {
        let left = deadline.left().unwrap_or_default();
        match timeout(left, establish(socket, start)).await {
            Ok(Ok(link)) => {
                tell(Ok(()));
                serve(link, requests).await;
            }
            Ok(Err(err)) => tell(Err(err)),
            Err(_) => tell(Err(tcp::Error::timeout(&remote.peer, deadline).into())),
        }
    });
}

async fn establish(socket: TcpStream, start: Start) -> Result<Link, Error> {
    let Start {
        remote,
        login,
        trust,
        report,
    } = start;
    let failed = |source| Error::Start {
        host: remote.peer.host.clone(),
        source,
    };
    socket.set_nonblocking(true).map_err(failed)?;
    let socket = tokio::net::TcpStream::from_std(socket).map_err(failed)?;
    let config = client::Config {
        client_id: SshId::Standard(concat!("SSH-2.0-gitsocket_", env!("CARGO_PKG_VERSION")).into()),
        preferred: trust.preferred(remote.host()),
        keepalive_interval: Some(KEEPALIVE),
        ..client::Config::default()
    };
    let (sender, end) = end::channel();
    let banner = Arc::new(Mutex::new(Some(Words::new(report))));
    let guard = Guard {
        trust,
        remote: remote.clone(),
        banner: banner.clone(),
        end: sender,
    };
    let handle = match client::connect_stream(Arc::new(config), socket, guard).await {
        Ok(handle) => handle,
        Err(Broken::Refused(err)) => return Err(*err),
        Err(Broken::Failed(err)) => return Err(handshake(&remote, err)),
    };
    let mut link = Link { handle, remote, end };
    login.perform(&mut link).await?;
    // The caller that asked for the connection need not hear of it any more.
    *mutex::lock(&banner) = None;
    Ok(link)
}

/// Open a channel for each request, until the last handle is dropped or the host is gone.
async fn serve(link: Link, mut requests: mpsc::UnboundedReceiver<Request>) {
    let Link { handle, mut end, .. } = link;
    let handle = Arc::new(handle);
    let mut channels = JoinSet::new();
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => {
                    channels.spawn(channel::serve(handle.clone(), request, end.clone()));
                }
                None => break,
            },
            _ = ended(&mut end) => {
                // From now on, a request is an error; those under way learn what happened.
                requests.close();
                while let Some(request) = requests.recv().await {
                    channels.spawn(channel::serve(handle.clone(), request, end.clone()));
                }
                let _slow = timeout(GOODBYE, async { while channels.join_next().await.is_some() {} }).await;
                return;
            }
        }
    }
    let _gone = timeout(GOODBYE, async {
        handle.disconnect(Disconnect::ByApplication, "", "").await.ok();
        ended(&mut end).await
    })
    .await;
}

/// The error that an error of russh's amounts to, before the login.
fn handshake(remote: &Remote, err: russh::Error) -> Error {
    use russh::{AlgorithmKind as Kind, Error as E};
    let host = remote.peer.host.clone();
    match err {
        E::Version => Error::NotSsh { host },
        E::NoCommonAlgo { kind, theirs, .. } => Error::NoCommonAlgorithm {
            host,
            what: match kind {
                Kind::Kex => "key exchange",
                Kind::Key => "host's key",
                Kind::Cipher => "cipher",
                Kind::Compression => "compression",
                Kind::Mac => "check of integrity",
            },
            theirs: crate::base::fault::one_line(&theirs.join(", ")),
        },
        E::IO(err) => lost(remote, &err.to_string()),
        E::Disconnect | E::HUP | E::SendError | E::RecvError => lost(remote, "the host closed it"),
        err => Error::Protocol {
            host,
            reason: crate::base::fault::one_line(&err.to_string()),
        },
    }
}
