//! The client of a connection, and its permit.
//!
//! Any host can connect. An unauthenticated connection is closed for a newer one once there are too many.
//! A connection that is authenticated (by a signature, a token, a session) is admitted, and keeps its permit.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use event_listener::{Event as Bell, EventListener};

use crate::base::{
    mutex,
    semaphore::{Permit, Semaphore},
};

/// The client of a connection, as handlers see it.
#[derive(Debug)]
pub struct Client {
    /// Its address; none on a Unix socket.
    pub addr: Option<IpAddr>,
    /// Whether the connection is encrypted by this process.
    pub tls: bool,
    authenticated: Arc<Semaphore>,
    permit: Mutex<Option<Permit>>,
    admitted: Bell,
}

impl Client {
    /// A client that is not authenticated yet; `authenticated` are the permits of those that are.
    pub fn new(addr: Option<IpAddr>, tls: bool, authenticated: Arc<Semaphore>) -> Self {
        Self {
            addr,
            tls,
            authenticated,
            permit: Mutex::default(),
            admitted: Bell::new(),
        }
    }

    /// It is authenticated: give it a permit as soon as one is free. Work that must be done even if the connection is lost does not
    /// wait for this.
    pub async fn admit(&self) {
        if self.is_admitted() {
            return;
        }
        let permit = self.authenticated.acquire().await;
        *mutex::lock(&self.permit) = Some(permit);
        self.admitted.notify(usize::MAX);
    }

    /// Whether it was admitted.
    pub fn is_admitted(&self) -> bool {
        mutex::lock(&self.permit).is_some()
    }

    /// Ends the next time that it is admitted, or moves to another permit.
    pub(super) fn admission(&self) -> EventListener {
        self.admitted.listen()
    }

    /// Take `permit` instead of the one that it has.
    pub(super) fn move_to(&self, permit: Permit) {
        *mutex::lock(&self.permit) = Some(permit);
        self.admitted.notify(usize::MAX);
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            Some(addr) => addr.fmt(f),
            None => f.write_str("unix"),
        }
    }
}
