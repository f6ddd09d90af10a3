//! The worker's server: accepts connections, answers them, and stops at the supervisor's order.
//!
//! async-std is used here, and in the web front, for sockets and timers. Runs are on threads. No client can delay the accepting,
//! another client or a run: each connection has its own task, and each step a time limit. The supervisor receives the signals, and
//! orders the stop ([`Life`]).

use std::{io, sync::Arc, time::Duration};

use async_std::{
    future::timeout,
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    task::{self, JoinHandle},
};
use futures_lite::FutureExt as _;

use crate::{
    base::control::{Life, ToSupervisor, WorkerEnd},
    config::Config,
    daemon::{
        listen::Socket,
        peer::Peer,
        scheduler::{Process, Scheduler},
    },
};

mod admission;
mod connection;
mod refusals;
mod threads;
mod token;
use admission::{Admission, Size};
use connection::{Client, PATIENCE};
pub use threads::try_threads;

/// How long clients may take, once all runs have ended, to receive the end of their answers.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the server needs besides configuration and sockets.
#[derive(Debug)]
pub struct Options {
    /// What runs get from their process.
    pub process: Process,
    /// Its supervisor.
    pub supervisor: Arc<WorkerEnd>,
    /// The interval of systemd's watchdog, if it has one.
    pub watchdog: Option<Duration>,
    /// Whether no worker of this daemon has served before.
    pub is_first: bool,
}

/// How the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All runs that were accepted have ended.
    Stopped,
    /// It was ordered to end before that.
    Aborted,
}

/// Serve `config` on `sockets` until the supervisor says to stop.
///
/// To stop, it closes the sockets, and waits for the end of accepted runs. At [`Life::Aborting`] it kills the hooks that are running,
/// and returns at once.
pub fn serve(config: &Config, sockets: Vec<Socket>, options: Options) -> Outcome {
    let Options {
        process,
        supervisor,
        watchdog,
        is_first,
    } = options;
    task::block_on(async {
        let scheduler = Scheduler::new(config, process);
        let size = Size::of_each(sockets.len());
        let admissions: Vec<_> = sockets
            .iter()
            .map(|socket| Admission::of(socket, &size))
            .collect();
        supervisor.report(&ToSupervisor::Reached(Life::Prepared));
        let mut ordered = supervisor.beyond(Life::Prepared).await;
        if ordered == Life::Serving {
            // Before new runs are accepted.
            let left = is_first.then(|| scheduler.left());
            let listening: Vec<_> = std::iter::zip(sockets, &admissions)
                .map(|(socket, admission)| listen(socket, admission, &scheduler))
                .collect();
            let triggers = config.triggers.len();
            supervisor.report(&ToSupervisor::Reached(Life::Serving));
            tracing::info!(triggers, jobs = config.jobs, "ready");
            if let Some(left) = left {
                scheduler.finish_unfinished(left);
            }
            scheduler.poll();
            task::spawn(finish_left(scheduler.clone(), supervisor.clone()));
            task::spawn(tell_status(scheduler.clone(), supervisor.clone()));
            if let Some(every) = watchdog {
                task::spawn(tell_life(every, supervisor.clone()));
            }
            ordered = supervisor.beyond(Life::Serving).await;
            scheduler.end_polls();
            for accepting in listening {
                accepting.cancel().await;
            }
        }
        supervisor.report(&ToSupervisor::Reached(Life::Finishing));
        if ordered > Life::Draining {
            tracing::info!("stopping: no new connections; accepted runs are finished");
        }
        let ended = async {
            loop {
                scheduler.drained().await;
                // A client that has not read its answer after that is dropped.
                let emptied = async {
                    for admission in &admissions {
                        admission.emptied().await;
                    }
                };
                timeout(FAREWELL, emptied).await.ok();
                // A client that was accepted just before may have triggered a run meanwhile, which must finish.
                if scheduler.is_idle() {
                    return Outcome::Stopped;
                }
            }
        };
        let aborted = async {
            while ordered < Life::Aborting {
                if ordered == Life::Stopping {
                    scheduler.stop();
                }
                ordered = supervisor.beyond(ordered).await;
            }
            scheduler.kill_hooks();
            Outcome::Aborted
        };
        let outcome = ended.or(aborted).await;
        admissions.iter().for_each(|admission| admission.refusals.count());
        outcome
    })
}

/// Finish the runs of other workers that are killed.
async fn finish_left(scheduler: Arc<Scheduler>, supervisor: Arc<WorkerEnd>) {
    loop {
        supervisor.worker_gone().await;
        scheduler.finish_left();
    }
}

/// Report the status to the supervisor, whenever it changes.
async fn tell_status(scheduler: Arc<Scheduler>, supervisor: Arc<WorkerEnd>) {
    let mut told = String::new();
    loop {
        let changed = scheduler.changed();
        let status = scheduler.summary();
        if status != told {
            supervisor.report(&ToSupervisor::Status(status.clone()));
            told = status;
        }
        changed.await;
    }
}

/// Report to the supervisor, twice in each interval `every`, that tasks still run.
async fn tell_life(every: Duration, supervisor: Arc<WorkerEnd>) {
    loop {
        supervisor.report(&ToSupervisor::Alive);
        task::sleep(every / 2).await;
    }
}

/// Accept connections on `socket` until cancelled.
fn listen(socket: Socket, admission: &Arc<Admission>, scheduler: &Arc<Scheduler>) -> JoinHandle<()> {
    let address = socket.address();
    let (admission, scheduler) = (admission.clone(), scheduler.clone());
    match socket {
        Socket::Unix(listener, file) => {
            let listener = UnixListener::from(listener);
            task::spawn(async move {
                let _file = file;
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => admit(stream, &admission, &scheduler).await,
                        Err(err) => not_accepted(&address, &err, &admission).await,
                    }
                }
            })
        }
        Socket::Tcp(listener, _) => {
            let listener = TcpListener::from(listener);
            task::spawn(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, addr)) => {
                            admit_tcp(stream, Peer::of_tcp(addr), &admission, &scheduler).await
                        }
                        Err(err) => not_accepted(&address, &err, &admission).await,
                    }
                }
            })
        }
    }
}

async fn not_accepted(address: &str, err: &io::Error, admission: &Admission) {
    tracing::warn!(address, "cannot accept a connection: {err}");
    // Most likely there are no free descriptors until a connection ends.
    let left = admission.served.released().or(admission.waiting.released());
    timeout(Duration::from_secs(1), left).await.ok();
}

/// Give a connection over a Unix socket its own task, and a permit if one is soon free. If too many wait already, this waits
/// for one of them, and so at most [`PATIENCE`]; meanwhile other connections wait in the backlog.
async fn admit(stream: UnixStream, admission: &Arc<Admission>, scheduler: &Arc<Scheduler>) {
    let peer = Peer::of_unix(&stream);
    let (served, waiting) = match admission.served.try_acquire() {
        Some(served) => (Some(served), None),
        None => (None, Some(admission.waiting.acquire().await)),
    };
    let (admission, scheduler) = (admission.clone(), scheduler.clone());
    task::spawn(async move {
        let mut client = Client::new(stream, peer, &admission);
        let served = match served {
            Some(served) => Some(served),
            None => timeout(PATIENCE, admission.served.acquire()).await.ok(),
        };
        drop(waiting);
        match served {
            Some(_served) => client.answer(&scheduler).await,
            None => client.turn_away().await,
        }
    });
}

/// Give a connection over TCP, which any host may have made, its own task: it waits, and may be evicted, until it has sent
/// its request, and the token if there is one. This waits only until an older connection is gone.
async fn admit_tcp(stream: TcpStream, peer: Peer, admission: &Arc<Admission>, scheduler: &Arc<Scheduler>) {
    // This fails only if the connection is closed already.
    connection::tune(&stream).ok();
    let permit = admission.waiting.acquire_evicting().await;
    let (admission, scheduler) = (admission.clone(), scheduler.clone());
    task::spawn(async move {
        let client = Client::new(stream, peer, &admission);
        client.answer_unauthenticated(permit, &scheduler).await;
    });
}
