//! The other end of a connection, and whether there is room for it.
//!
//! Anybody can connect. A connection that has proved nothing has a seat in the lobby, and makes way for others once that is
//! full; one that has (by a signature, a token, a session) is let in, and keeps its place.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use event_listener::{Event as Bell, EventListener};

use crate::base::{
    mutex,
    room::{Place, Room},
};

/// The other end of a connection, as handlers see it.
#[derive(Debug)]
pub struct Client {
    /// Its address; nothing for one on a Unix socket.
    pub addr: Option<IpAddr>,
    /// Whether the connection is encrypted by this process.
    pub tls: bool,
    inside: Arc<Room>,
    place: Mutex<Option<Place>>,
    moved: Bell,
}

impl Client {
    /// One that has proved nothing yet, in front of `inside`.
    pub fn new(addr: Option<IpAddr>, tls: bool, inside: Arc<Room>) -> Self {
        Self {
            addr,
            tls,
            inside,
            place: Mutex::default(),
            moved: Bell::new(),
        }
    }

    /// It is known, by a signature, token or session: give it a place as soon as one is free. What must be done whatever becomes
    /// of the connection does not wait for that.
    pub async fn admit(&self) {
        if self.is_inside() {
            return;
        }
        let place = self.inside.wait().await;
        *mutex::lock(&self.place) = Some(place);
        self.moved.notify(usize::MAX);
    }

    /// Whether it has been let in.
    pub fn is_inside(&self) -> bool {
        mutex::lock(&self.place).is_some()
    }

    /// Ends when it gets a place, or another one, from now on.
    pub(super) fn moves(&self) -> EventListener {
        self.moved.listen()
    }

    /// Take `place` instead of the one that it has.
    pub(super) fn move_to(&self, place: Place) {
        *mutex::lock(&self.place) = Some(place);
        self.moved.notify(usize::MAX);
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
