//! Seats in front of the places of a listener. Where any connection may sit down, the one that has sat longest makes way
//! for the next: so silent ones take nothing from those that have something to say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use event_listener::{Event as Bell, EventListener};
use futures_lite::FutureExt as _;

use crate::base::{
    mutex,
    semaphore::{Permit, Semaphore},
};

/// Seats, and the bells of those that may be called away from theirs.
#[derive(Debug)]
pub struct Lobby {
    seats: Arc<Semaphore>,
    bells: Mutex<Bells>,
}

/// By the order in which they came.
#[derive(Debug, Default)]
struct Bells {
    next: u64,
    of: BTreeMap<u64, Bell>,
}

/// A seat of a stranger; it is free again when this is dropped.
#[derive(Debug)]
pub struct Seat {
    lobby: Arc<Lobby>,
    number: u64,
    bell: EventListener,
    /// Dropped last, after the bell: the next connection to sit down finds none of this one.
    _permit: Permit,
}

impl Lobby {
    pub fn new(seats: usize) -> Arc<Self> {
        Arc::new(Self {
            seats: Semaphore::new(seats),
            bells: Mutex::default(),
        })
    }

    /// A seat that is kept until the connection leaves it, as soon as one is free.
    pub async fn wait(&self) -> Permit {
        self.seats.acquire().await
    }

    /// A seat for a stranger. If there is none, the one that has sat there longest is called away.
    pub async fn enter(self: &Arc<Self>) -> Seat {
        let permit = loop {
            let left = self.seats.released();
            if let Some(permit) = self.seats.try_acquire() {
                break permit;
            }
            if let Some((_, longest)) = mutex::lock(&self.bells).of.pop_first() {
                longest.notify(1);
            }
            left.await;
        };
        self.sit(permit)
    }

    /// Make a seat of `permit`, which was waited for: its holder may be called away.
    pub fn sit(self: &Arc<Self>, permit: Permit) -> Seat {
        let bell = Bell::new();
        let listening = bell.listen();
        let mut bells = mutex::lock(&self.bells);
        let number = bells.next;
        bells.next += 1;
        bells.of.insert(number, bell);
        drop(bells);
        Seat {
            lobby: self.clone(),
            number,
            bell: listening,
            _permit: permit,
        }
    }

    /// Ends when a connection leaves from now on.
    pub fn left(&self) -> impl Future<Output = ()> + use<> {
        self.seats.released()
    }

    pub async fn emptied(&self) {
        self.seats.idle().await;
    }
}

impl Seat {
    /// Ends when this one is called away; it must not be waited for once more.
    pub async fn called(&mut self) {
        (&mut self.bell).await;
    }

    /// What `doing` comes to, unless this one is called away before. What can be done without waiting is done first: who
    /// has said something by then is heard.
    pub async fn unless_called<T>(&mut self, doing: impl Future<Output = T>) -> Option<T> {
        let called = async {
            self.called().await;
            None
        };
        async { Some(doing.await) }.or(called).await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        mutex::lock(&self.lobby.bells).of.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_lite::future::{block_on, poll_once, ready, yield_now};

    use super::*;

    #[test]
    fn the_one_that_has_sat_longest_makes_way() {
        let lobby = Lobby::new(2);
        block_on(async {
            let (mut first, mut second) = (lobby.enter().await, lobby.enter().await);
            let mut third = Box::pin(lobby.enter());
            assert!(poll_once(&mut third).await.is_none());
            assert_eq!(second.unless_called(ready(2)).await, Some(2));
            assert!(poll_once(second.unless_called(pending::<()>())).await.is_none());
            assert_eq!(
                first.unless_called(ready(1)).await,
                Some(1),
                "what is there is heard"
            );
            let waiting = async {
                yield_now().await;
                pending::<()>().await;
            };
            assert_eq!(first.unless_called(waiting).await, None);
            drop(first);
            let third = third.await;
            // One that has left by itself is called no more.
            drop(second);
            let mut fourth = lobby.enter().await;
            let mut fifth = Box::pin(lobby.enter());
            assert!(poll_once(&mut fifth).await.is_none());
            assert!(poll_once(fourth.unless_called(pending::<()>())).await.is_none());
            drop(third);
            drop((fifth.await, fourth));
            lobby.emptied().await;
        });
        assert!(mutex::lock(&lobby.bells).of.is_empty());
    }

    #[test]
    fn waiting_for_a_seat_calls_none_away() {
        let lobby = Lobby::new(1);
        block_on(async {
            let mut first = lobby.enter().await;
            let mut second = Box::pin(lobby.wait());
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(first.unless_called(pending::<()>())).await.is_none());
            drop(first);
            second.await;
        });
    }
}
