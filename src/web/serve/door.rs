//! How many connections there may be.

use std::sync::Arc;

use crate::base::{lobby::Lobby, semaphore::Semaphore, vitals};

/// Connections that have proved something: a signature, a token, a session; of all listeners.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// Connections of one listener of which nothing is known; the one that has been so for longest makes way for the next.
pub(super) const MAX_STRANGERS: usize = 256;
/// Event streams, of all listeners.
pub(super) const MAX_STREAMS: usize = 200;
/// Descriptors for all else: connections to the daemon, of which a page needs one for a moment, and files of secrets.
const RESERVE: u64 = 512;

/// The places of connections. Strangers at one listener take nothing from those at another.
#[derive(Debug)]
pub(super) struct Door {
    /// One for each listener, in their order.
    pub(super) lobbies: Vec<Arc<Lobby>>,
    pub(super) inside: Arc<Semaphore>,
    pub(super) streams: Arc<Semaphore>,
}

impl Door {
    /// One for so many listeners: the limit of open files is raised for it, if it may be. If not, there are fewer places.
    pub(super) fn of(listeners: usize) -> Arc<Self> {
        let most = (MAX_CONNECTIONS + listeners * MAX_STRANGERS + MAX_STREAMS) as u64;
        let needed = RESERVE + listeners as u64 + most;
        let open = vitals::let_open(needed);
        let room = open.saturating_sub(needed - most).max(open / 2).min(most);
        if room < most {
            tracing::warn!(
                limit = open,
                "the limit of open files leaves room for {room} connections, not {most}; raise it to {needed}: \
                 LimitNOFILE in a systemd unit"
            );
        }
        let share = |places: usize| {
            usize::try_from(places as u64 * room / most)
                .unwrap_or(places)
                .max(1)
        };
        Arc::new(Self {
            lobbies: (0..listeners).map(|_| Lobby::new(share(MAX_STRANGERS))).collect(),
            inside: Semaphore::new(share(MAX_CONNECTIONS)),
            streams: Semaphore::new(share(MAX_STREAMS)),
        })
    }

    /// Ends when all connections have.
    pub(super) async fn emptied(&self) {
        for lobby in &self.lobbies {
            lobby.emptied().await;
        }
        self.inside.idle().await;
        self.streams.idle().await;
    }
}
