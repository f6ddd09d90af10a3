//! What the connections of one listener share: permits to be served and to wait, the token, and the limit for logged refusals. Each
//! listener has its own, so that an attack on one does not affect the clients of others.

use std::sync::Arc;

use super::{refusals::Refusals, token::Token};
use crate::{
    base::{evicting::EvictingSemaphore, semaphore::Semaphore, vitals},
    daemon::listen::Socket,
};

/// Connections of one listener that are served at a time; the next one gets the answer `busy`.
const MAX_CONNECTIONS: usize = 256;
/// Further connections of one listener: over TCP, those that have not yet sent their request and the token. A client that sends at
/// once is evicted only if this many others connect in that moment.
const MAX_WAITING: usize = 128;
/// Descriptors for all else: runs, hooks, connections to remotes.
const RESERVE: u64 = 512;

#[derive(Debug)]
pub(super) struct Admission {
    /// Connections that are served.
    pub(super) served: Arc<Semaphore>,
    /// Connections that are not served yet.
    pub(super) waiting: Arc<EvictingSemaphore>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) token: Option<Token>,
}

impl Admission {
    pub(super) fn of(socket: &Socket, size: &Size) -> Arc<Self> {
        let file = match socket {
            Socket::Tcp(_, file) => file.clone(),
            Socket::Unix(..) => None,
        };
        Arc::new(Self {
            served: Semaphore::new(size.served),
            waiting: EvictingSemaphore::new(size.waiting),
            refusals: Refusals::new(socket.address()),
            token: file.map(Token::new),
        })
    }

    /// Ends when all connections have ended.
    pub(super) async fn emptied(&self) {
        self.waiting.idle().await;
        self.served.idle().await;
    }
}

/// The limits of each listener.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Size {
    served: usize,
    waiting: usize,
}

impl Size {
    /// The limits of each of so many `listeners`. The limit of open files is raised for them; if it cannot be, they are smaller, so
    /// that connections leave descriptors for runs.
    pub(super) fn of_each(listeners: usize) -> Self {
        let needed = RESERVE + (listeners * (MAX_CONNECTIONS + MAX_WAITING)) as u64;
        let open = vitals::let_open(needed);
        let size = Self::within(open, listeners);
        if open < needed {
            tracing::warn!(
                limit = open,
                "the limit of open files allows {} connections of each listener only, not {MAX_CONNECTIONS}; \
                 raise it to {needed}: LimitNOFILE in a systemd unit",
                size.served
            );
        }
        size
    }

    /// The limits of each of so many `listeners`, if `open` files may be open.
    fn within(open: u64, listeners: usize) -> Self {
        let left = open - RESERVE.min(open / 2);
        let each = usize::try_from(left).unwrap_or(usize::MAX) / listeners.max(1);
        Self {
            served: (each.saturating_mul(2) / 3).clamp(1, MAX_CONNECTIONS),
            waiting: (each / 3).clamp(1, MAX_WAITING),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_into_the_limit() {
        for (open, listeners, served, waiting) in [
            (896, 1, 256, 128),
            (100_000, 1, 256, 128),
            (u64::MAX, 0, 256, 128),
            (1280, 2, 256, 128),
            (1024, 2, 170, 85),
            (1024, 4, 85, 42),
            (256, 1, 85, 42),
            (0, 3, 1, 1),
        ] {
            let size = Size::within(open, listeners);
            assert_eq!(size, Size { served, waiting }, "{open} {listeners}");
            let all = listeners * (served + waiting);
            assert!(open < 8 || all as u64 <= open.max(RESERVE), "{open} {listeners}");
        }
    }
}
