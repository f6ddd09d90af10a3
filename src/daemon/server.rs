//! The daemon's work: accepts connections, answers them, and stops when it is told to.
//!
//! Here, and only here, is async-std: sockets and timers. Nothing below awaits, and no client can
//! hold up the accepting, another client or a run: each has a task of its own, and each step a limit.
//! When to stop, the supervisor says ([`Level`]); signals are its business.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_std::{
    future::timeout,
    net::TcpListener,
    os::unix::net::UnixListener,
    task::{self, JoinHandle},
};
use futures_lite::FutureExt as _;

use crate::{
    base::{
        control::{Level, Link, Report},
        name::AbsPath,
    },
    config::Config,
    daemon::{
        listen::Socket,
        peer::Peer,
        queue::{Process, Scheduler},
    },
};

mod connection;
mod room;
pub use connection::{REQUEST_TIMEOUT, WRITE_TIMEOUT};
pub use room::MAX_CONNECTIONS;
use room::Room;

/// How long a connection waits for a place before it is told `busy`.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long clients get, once all runs have ended, to receive the end of their answers.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the process is that serves.
#[derive(Debug)]
pub struct Options {
    /// What runs get from it.
    pub process: Process,
    /// Its supervisor.
    pub link: Arc<Link>,
    /// How often the supervisor wants to hear that it is alive, if it does.
    pub watchdog: Option<Duration>,
    /// Whether no worker of this daemon has served before.
    pub is_first: bool,
}

/// How the work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All runs that were accepted have ended.
    Stopped,
    /// It had to end before that.
    Aborted,
}

/// Serve `config` on `sockets` until the supervisor says to stop.
///
/// First the listening ends; runs that were accepted go on to their end. [`Level::Abort`] kills the hooks that are
/// running, and this returns at once.
pub fn serve(config: &Config, sockets: Vec<Socket>, options: Options) -> Outcome {
    let Options {
        process,
        link,
        watchdog,
        is_first,
    } = options;
    task::block_on(async {
        let house = Arc::new(House {
            scheduler: Scheduler::new(config, process),
            inside: Room::new(MAX_CONNECTIONS),
            lobby: Room::new(MAX_CONNECTIONS),
            full: AtomicBool::new(false),
        });
        link.report(&Report::Prepared);
        let mut level = link.beyond(Level::Prepare).await;
        if level == Level::Serve {
            let listening: Vec<_> = sockets.into_iter().map(|socket| listen(socket, &house)).collect();
            let triggers = config.triggers.len();
            link.report(&Report::Ready);
            tracing::info!(triggers, jobs = config.jobs, "ready");
            if is_first {
                house.scheduler.resume();
            }
            task::spawn(tell_status(house.clone(), link.clone()));
            if let Some(every) = watchdog {
                task::spawn(tell_life(every, link.clone()));
            }
            level = link.beyond(Level::Serve).await;
            for accepting in listening {
                accepting.cancel().await;
            }
        }
        link.report(&Report::Closed);
        if level > Level::Drain {
            tracing::info!("stopping: no new connections; accepted runs are finished");
        }
        let ended = async {
            loop {
                house.scheduler.drained().await;
                // Who does not read the end of its answer by now goes without.
                timeout(FAREWELL, house.inside.emptied()).await.ok();
                // Who connected before the end of the listening may have said a name since: it is owed a run.
                if house.scheduler.is_idle() {
                    return Outcome::Stopped;
                }
            }
        };
        let aborted = async {
            while level < Level::Abort {
                if level == Level::Stop {
                    house.scheduler.stop();
                }
                level = link.beyond(level).await;
            }
            house.scheduler.kill_hooks();
            Outcome::Aborted
        };
        ended.or(aborted).await
    })
}

/// Tell the supervisor what goes on, whenever that changes.
async fn tell_status(house: Arc<House>, link: Arc<Link>) {
    let mut told = String::new();
    loop {
        let changed = house.scheduler.changed();
        let status = house.scheduler.summary();
        if status != told {
            link.report(&Report::Status(status.clone()));
            told = status;
        }
        changed.await;
    }
}

/// Tell the supervisor twice in each span of `every` that tasks still get their turn.
async fn tell_life(every: Duration, link: Arc<Link>) {
    loop {
        link.report(&Report::Alive);
        task::sleep(every / 2).await;
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
