//! The async edge: sockets, TLS, limits, the table of routes, and the shutdown.
//!
//! Each connection has its own task, and each step a time limit, so that no connection delays another. After the signal to stop,
//! requests that have begun are still answered.

use std::{sync::Arc, time::Duration};

use async_std::{future::timeout, task};
use futures_lite::FutureExt as _;
use sd_notify::NotifyState;

use super::config::{self, Config};

mod accept;
mod admission;
mod clock;
mod connection;
mod error;
mod head;
mod listen;
mod route;
mod shutdown;
mod signals;
mod tls;
mod watch;

pub use error::Error;
pub use listen::{Socket, listen};

use admission::Admission;
use route::Front;
use shutdown::Shutdown;

/// How long connections may go on after the signal to stop: as long as a request may take.
const FAREWELL: Duration = clock::REQUEST;

/// Check that certificate and key of a listener can be used.
pub fn try_tls(files: &config::Tls) -> Result<(), Error> {
    tls::Tls::load(files).map(drop)
}

/// Serve `config` on `sockets` until a signal says to stop.
pub fn serve(config: Config, sockets: Vec<Socket>) -> Result<(), Error> {
    task::block_on(async {
        let signals = signals::receive().map_err(Error::Signals)?;
        let admission = Admission::of(sockets.len());
        let shutdown = Shutdown::new();
        let webhooks = config.webhooks.len();
        let front = Arc::new(Front::new(&config)?);
        let accepting: Vec<_> = std::iter::zip(sockets, admission.unauthenticated.clone())
            .map(|(socket, unauthenticated)| {
                tracing::info!(address = socket.address(), tls = socket.is_tls(), "listening");
                task::spawn(accept::accept(
                    socket,
                    unauthenticated,
                    front.clone(),
                    admission.clone(),
                    shutdown.clone(),
                ))
            })
            .collect();
        tell(&[NotifyState::Ready]);
        tracing::info!(webhooks, "ready");
        signals.recv().await.ok();
        tell(&[NotifyState::Stopping]);
        tracing::info!("stopping: no new connections; requests that have begun are answered");
        shutdown.say();
        let finished = async {
            for accepting in accepting {
                accepting.await;
            }
            let idle = async {
                admission.emptied().await;
                front.idle().await;
            };
            timeout(FAREWELL, idle).await.ok();
        };
        // A second signal stops the process at once.
        let asked_again = async {
            signals.recv().await.ok();
        };
        finished.or(asked_again).await;
        front.farewell();
        Ok(())
    })
}

/// Tell systemd, sd_notify(3), if there is one.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {err}");
    }
}
