//! Refusals in the log: a client can be refused as often as it likes, and must not fill the log by it.
//! The daemon's own user and root could do that anyway, and look there for what went wrong: all of theirs are logged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_std::task;

use crate::{
    base::{fault::Failure, pace::Pace},
    daemon::peer::Peer,
};

/// Refusals of one listener that are logged at once: as many as an administrator reads who looks for what is wrong.
const LOGGED: u32 = 120;
/// Beyond that, one in each span of this is logged: 20 a minute.
const LOG_EVERY: Duration = Duration::from_secs(3);
/// How long others are only counted, before the log says how many they were.
const COUNTED: Duration = Duration::from_secs(60);

/// The refusals of one listener.
#[derive(Debug)]
pub(super) struct Refusals {
    address: String,
    pace: Pace,
    /// Those since the last time that the log said how many.
    more: AtomicU64,
}

impl Refusals {
    pub(super) fn new(address: String) -> Arc<Self> {
        Arc::new(Self {
            address,
            pace: Pace::new(LOGGED, LOG_EVERY),
            more: AtomicU64::new(0),
        })
    }

    /// `peer` is refused. The failure of our own that is the `cause`, if there is one, the peer is not told.
    pub(super) fn log(self: &Arc<Self>, peer: &Peer, failure: &Failure, cause: Option<&str>) {
        if peer.is_own() || self.pace.turn(Instant::now(), Duration::ZERO).is_some() {
            let peer = peer.to_string();
            if let Some(cause) = cause {
                tracing::error!("{cause}");
            }
            tracing::warn!(peer, kind = failure.kind.as_str(), "refused: {}", failure.message);
        } else if self.more.fetch_add(1, Ordering::Relaxed) == 0 {
            let refusals = self.clone();
            task::spawn(async move {
                task::sleep(COUNTED).await;
                refusals.count();
            });
        }
    }

    /// Let the log say how many were not logged.
    pub(super) fn count(&self) {
        let more = self.more.swap(0, Ordering::Relaxed);
        if more > 0 {
            tracing::warn!(
                address = self.address,
                more,
                "more were refused, too many to name each"
            );
        }
    }
}
