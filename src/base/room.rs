//! A bounded number of places, for connections.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use event_listener::Event as Bell;

/// Places, of which so many are taken.
#[derive(Debug)]
pub struct Room {
    places: usize,
    taken: AtomicUsize,
    left: Bell,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place(Arc<Room>);

impl Room {
    /// With so many places.
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            places,
            taken: AtomicUsize::new(0),
            left: Bell::new(),
        })
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.places
    }

    /// Whether all places are taken.
    pub fn is_full(&self) -> bool {
        self.taken.load(Ordering::Acquire) >= self.places
    }

    /// A place, or nothing if all are taken.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < self.places).then_some(taken + 1)
            })
            .ok()
            .map(|_| Place(self.clone()))
    }

    /// A place, as soon as one is free.
    pub async fn wait(self: &Arc<Self>) -> Place {
        loop {
            let left = self.left();
            if let Some(place) = self.enter() {
                return place;
            }
            left.await;
        }
    }

    /// Ends when somebody leaves from now on.
    pub fn left(&self) -> impl Future<Output = ()> + use<> {
        self.left.listen()
    }

    /// Ends when all places are free.
    pub async fn emptied(&self) {
        loop {
            let left = self.left();
            if self.taken.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.left.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let room = Room::new(2);
        let (first, second) = (room.enter().unwrap(), room.enter().unwrap());
        assert!(room.enter().is_none());
        let waiting = std::thread::spawn({
            let room = room.clone();
            move || block_on(room.wait())
        });
        drop(first);
        let third = waiting.join().unwrap();
        drop((second, third));
        block_on(room.emptied());
    }
}
