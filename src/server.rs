//! The daemon: accepts connections, answers them, and stops when it is told to.
//!
//! Here, and only here, is async-std: sockets, timers and signals. Nothing below awaits, and no client can
//! hold up the accepting, another client or a run: each has a task of its own, and each step a limit.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_signal::{Signal, Signals};
use async_std::{
    future::timeout,
    net::TcpListener,
    os::unix::net::UnixListener,
    task::{self, JoinHandle},
};
use event_listener::Event as Bell;
use futures_lite::{FutureExt as _, StreamExt as _};

use crate::{
    config::Config,
    fault::{Blame, Kind},
    listen::Socket,
    name::AbsPath,
    queue::Scheduler,
};

mod connection;

/// Connections that may wait at a time; the next one is told `busy`.
pub const MAX_CONNECTIONS: usize = 256;
/// How long a client may take to send its request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to receive what was written to it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long clients get, once all runs have ended, to receive the end of their answers.
const FAREWELL: Duration = Duration::from_secs(5);

/// The daemon could not go on.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(#[source] io::Error),
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        Kind::Internal
    }
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All runs that were accepted have ended.
    Stopped,
    /// A second signal came before that.
    Aborted,
}

/// Serve `config` on `sockets` until a signal says to stop.
///
/// The first SIGTERM or SIGINT ends the listening; runs that were accepted go on to their end. A second
/// one kills the hooks that are running and returns at once.
pub fn serve(config: &Config, sockets: Vec<Socket>, umask: u32) -> Result<Outcome, Error> {
    task::block_on(async {
        let mut signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup]).map_err(Error::Signals)?;
        let house = Arc::new(House {
            scheduler: Scheduler::new(config, umask),
            inside: AtomicUsize::new(0),
            left: Bell::new(),
        });
        let triggers = config.triggers.len();
        let listening: Vec<_> = sockets.into_iter().map(|socket| listen(socket, &house)).collect();
        tracing::info!(triggers, jobs = config.jobs, "ready");

        stop_signal(&mut signals).await;
        tracing::info!("stopping: no new connections; accepted runs are finished");
        for accepting in listening {
            accepting.cancel().await;
        }
        let ended = async {
            house.scheduler.drained().await;
            // Who does not read the end of its answer by now goes without.
            timeout(FAREWELL, house.emptied()).await.ok();
            Outcome::Stopped
        };
        let aborted = async {
            stop_signal(&mut signals).await;
            house.scheduler.kill_hooks();
            Outcome::Aborted
        };
        let outcome = ended.or(aborted).await;
        tracing::info!(?outcome, "stopped");
        Ok(outcome)
    })
}

/// Wait for SIGTERM or SIGINT.
async fn stop_signal(signals: &mut Signals) {
    while let Some(signal) = signals.next().await {
        match signal {
            Ok(Signal::Hup) => tracing::warn!("SIGHUP: reading the configuration anew is not supported yet"),
            _ => return,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct House {
    scheduler: Arc<Scheduler>,
    /// Connections that are open.
    inside: AtomicUsize,
    left: Bell,
}

impl House {
    /// A place for a connection, or nothing if all are taken.
    fn enter(self: &Arc<Self>) -> Option<Guest> {
        let entered = self
            .inside
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |inside| {
                (inside < MAX_CONNECTIONS).then_some(inside + 1)
            });
        entered.ok().map(|_| Guest { house: self.clone() })
    }

    async fn emptied(&self) {
        loop {
            let listener = self.left.listen();
            if self.inside.load(Ordering::Acquire) == 0 {
                return;
            }
            listener.await;
        }
    }
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
struct Guest {
    house: Arc<House>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.house.inside.fetch_sub(1, Ordering::AcqRel);
        self.house.left.notify(usize::MAX);
    }
}

/// Accept connections on `socket` until cancelled.
fn listen(socket: Socket, house: &Arc<House>) -> JoinHandle<()> {
    let address = socket.address();
    tracing::info!(address, "listening");
    let house = house.clone();
    match socket {
        Socket::Unix(listener, file) => {
            let listener = UnixListener::from(listener);
            task::spawn(async move {
                let _file = file;
                accept(&house, &address, async || {
                    let (stream, _) = listener.accept().await?;
                    let peer = connection::unix_peer(&stream);
                    Ok((stream, peer, None))
                })
                .await;
            })
        }
        Socket::Tcp(listener, token_file) => {
            let listener = TcpListener::from(listener);
            task::spawn(async move {
                accept(&house, &address, async || {
                    let (stream, addr) = listener.accept().await?;
                    connection::tune(&stream)?;
                    Ok((stream, addr.to_string(), token_file.clone()))
                })
                .await;
            })
        }
    }
}

/// The accept loop: never waits for a client, only for the next one.
async fn accept<S, F>(house: &Arc<House>, address: &str, mut next: impl FnMut() -> F)
where
    S: connection::Stream,
    F: Future<Output = io::Result<(S, String, Option<AbsPath>)>>,
{
    loop {
        match next().await {
            Ok((stream, peer, token_file)) => match house.enter() {
                Some(guest) => {
                    task::spawn(connection::answer(stream, peer, token_file, guest));
                }
                None => {
                    tracing::warn!(peer, "busy: {MAX_CONNECTIONS} connections are open");
                    connection::refuse_busy(stream);
                }
            },
            Err(err) => {
                tracing::warn!(address, "cannot accept a connection: {err}");
                // Out of descriptors, most likely: one is free when a connection ends.
                timeout(Duration::from_secs(1), house.left.listen()).await.ok();
            }
        }
    }
}
