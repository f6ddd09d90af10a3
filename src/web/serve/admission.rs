//! The limits for connections.

use std::sync::Arc;

use crate::base::{evicting::EvictingSemaphore, semaphore::Semaphore, vitals};

/// Authenticated connections (by a signature, a token, a session), of all listeners.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// Unauthenticated connections of one listener; beyond that, the oldest one is closed for a new one.
pub(super) const MAX_UNAUTHENTICATED: usize = 256;
/// Event streams, of all listeners.
pub(super) const MAX_STREAMS: usize = 200;
/// Descriptors for all else: short connections to the daemon, and files of secrets.
const RESERVE: u64 = 512;

/// The permits of connections. Each listener has its own permits for unauthenticated ones.
#[derive(Debug)]
pub(super) struct Admission {
    /// Permits of unauthenticated connections, for each listener in their order.
    pub(super) unauthenticated: Vec<Arc<EvictingSemaphore>>,
    pub(super) authenticated: Arc<Semaphore>,
    pub(super) streams: Arc<Semaphore>,
}

impl Admission {
    /// The permits for so many listeners. The limit of open files is raised for that; if it cannot be, there are fewer permits.
    pub(super) fn of(listeners: usize) -> Arc<Self> {
        let most = (MAX_CONNECTIONS + listeners * MAX_UNAUTHENTICATED + MAX_STREAMS) as u64;
        let needed = RESERVE + listeners as u64 + most;
        let open = vitals::let_open(needed);
        let room = open.saturating_sub(needed - most).max(open / 2).min(most);
        if room < most {
            tracing::warn!(
                limit = open,
                "the limit of open files allows {room} connections only, not {most}; raise it to {needed}: \
                 LimitNOFILE in a systemd unit"
            );
        }
        let share = |permits: usize| {
            usize::try_from(permits as u64 * room / most)
                .unwrap_or(permits)
                .max(1)
        };
        Arc::new(Self {
            unauthenticated: (0..listeners)
                .map(|_| EvictingSemaphore::new(share(MAX_UNAUTHENTICATED)))
                .collect(),
            authenticated: Semaphore::new(share(MAX_CONNECTIONS)),
            streams: Semaphore::new(share(MAX_STREAMS)),
        })
    }

    /// Ends when all connections have ended.
    pub(super) async fn emptied(&self) {
        for permits in &self.unauthenticated {
            permits.idle().await;
        }
        self.authenticated.idle().await;
        self.streams.idle().await;
    }
}
