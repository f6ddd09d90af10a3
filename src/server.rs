//! The daemon: accepts connections, answers them, and stops when it is told to.
//!
//! Here, and only here, is async-std: sockets, timers and signals. Nothing below awaits, and no client can
//! hold up the accepting, another client or a run: each has a task of its own, and each step a limit.

use std::{
    future::Future,
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
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
use futures_lite::{FutureExt as _, StreamExt as _};

use crate::{
    config::Config,
    fault::{Blame, Kind},
    listen::Socket,
    name::AbsPath,
    peer::Peer,
    queue::Scheduler,
};

mod connection;
mod room;
use room::Room;

/// Connections that may wait at a time; the next one is told `busy`.
pub const MAX_CONNECTIONS: usize = 256;
/// How long a connection waits for a place before it is told `busy`.
const PATIENCE: Duration = Duration::from_millis(250);
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
            inside: Room::new(MAX_CONNECTIONS),
            lobby: Room::new(MAX_CONNECTIONS),
            full: AtomicBool::new(false),
        });
        let triggers = config.triggers.len();
        let listening: Vec<_> = sockets.into_iter().map(|socket| listen(socket, &house)).collect();
        tracing::info!(triggers, jobs = config.jobs, "ready");

        // To a daemon in the foreground, SIGHUP means that its terminal has gone.
        let attached = std::io::stdin().is_terminal();
        stop_signal(&mut signals, attached).await;
        for accepting in listening {
            accepting.cancel().await;
        }
        tracing::info!("stopping: no new connections; accepted runs are finished");
        house.scheduler.stop();
        let ended = async {
            house.scheduler.drained().await;
            // Who does not read the end of its answer by now goes without.
            timeout(FAREWELL, house.inside.emptied()).await.ok();
            Outcome::Stopped
        };
        let aborted = async {
            stop_signal(&mut signals, attached).await;
            house.scheduler.kill_hooks();
            Outcome::Aborted
        };
        let outcome = ended.or(aborted).await;
        tracing::info!(?outcome, "stopped");
        Ok(outcome)
    })
}

/// Wait for SIGTERM or SIGINT, or for the end of the terminal that the daemon is attached to.
async fn stop_signal(signals: &mut Signals, attached: bool) {
    while let Some(signal) = signals.next().await {
        match signal {
            Ok(Signal::Hup) if !attached => {
                tracing::warn!("SIGHUP: reading the configuration anew is not supported yet")
            }
            _ => return,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct House {
    scheduler: Arc<Scheduler>,
    /// Connections that are open.
    inside: Arc<Room>,
    /// Connections that wait a moment for a place, so that a burst of dead ones turns nobody away.
    lobby: Arc<Room>,
    /// Whether somebody was turned away since somebody last entered: said once in the log, not each time.
    full: AtomicBool,
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
                    let peer = Peer::of_unix(&stream);
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
                    Ok((stream, Peer::of_tcp(addr), token_file.clone()))
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
    F: Future<Output = io::Result<(S, Peer, Option<AbsPath>)>>,
{
    loop {
        match next().await {
            Ok((stream, peer, token_file)) => admit(house, stream, peer, token_file).await,
            Err(err) => {
                tracing::warn!(address, "cannot accept a connection: {err}");
                // Out of descriptors, most likely: one is free when a connection ends.
                timeout(Duration::from_secs(1), house.inside.left()).await.ok();
            }
        }
    }
}

/// Give a connection a task of its own, and a place if there is one soon. Waits for a seat in the lobby at
/// most, and thus no longer than [`PATIENCE`]; meanwhile others queue in the kernel.
async fn admit<S: connection::Stream>(
    house: &Arc<House>,
    stream: S,
    peer: Peer,
    token_file: Option<AbsPath>,
) {
    let (place, seat) = match house.inside.enter() {
        Some(place) => (Some(place), None),
        None => (None, Some(house.lobby.wait().await)),
    };
    let house = house.clone();
    task::spawn(async move {
        let place = match place {
            Some(place) => Some(place),
            None => timeout(PATIENCE, house.inside.wait()).await.ok(),
        };
        drop(seat);
        match place {
            Some(place) => {
                house.full.store(false, Ordering::Release);
                connection::answer(stream, peer, token_file, &house.scheduler).await;
                drop(place);
            }
            None => {
                if !house.full.swap(true, Ordering::AcqRel) {
                    tracing::warn!("busy: {MAX_CONNECTIONS} connections are open, more are turned away");
                }
                connection::refuse_busy(stream).await;
            }
        }
    });
}
