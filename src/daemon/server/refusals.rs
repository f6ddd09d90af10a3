//! Logs refusals with a rate limit, so that a client cannot fill the log. Refusals of root and of the daemon's own user are all
//! logged: these users could fill the log in any case, and look there for errors.

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

/// How many refusals of one listener are logged without a pause.
const LOGGED: u32 = 120;
/// After those, one refusal in this time is logged: 20 a minute.
const LOG_EVERY: Duration = Duration::from_secs(3);
/// How long further refusals are counted, before the log gives their number.
const COUNTED: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Refusals {
    address: String,
    pace: Pace,
    /// Refusals since their number was last logged.
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

    /// Log that `peer` is refused. `cause` is an error of the daemon itself, which the peer is not told.
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

    /// Log how many were not logged.
    pub(super) fn count(&self) {
        let more = self.more.swap(0, Ordering::Relaxed);
        if more > 0 {
            tracing::warn!(
                address = self.address,
                more,
                "more requests were refused, too many to log each"
            );
        }
    }
}
