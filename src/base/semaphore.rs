//! A semaphore for connections: so many permits, and an event for each that comes back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use event_listener::Event as Bell;

/// Permits, of which some are taken.
#[derive(Debug)]
pub struct Semaphore {
    permits: usize,
    taken: AtomicUsize,
    released: Bell,
}

/// A permit; it goes back when this is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Semaphore>);

impl Semaphore {
    pub fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            permits,
            taken: AtomicUsize::new(0),
            released: Bell::new(),
        })
    }

    pub fn permits(&self) -> usize {
        self.permits
    }

    pub fn is_full(&self) -> bool {
        self.taken.load(Ordering::Acquire) >= self.permits
    }

    /// A permit, or nothing if all are taken.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < self.permits).then_some(taken + 1)
            })
            .ok()
            .map(|_| Permit(self.clone()))
    }

    /// A permit, as soon as one is free.
    pub async fn acquire(self: &Arc<Self>) -> Permit {
        loop {
            let released = self.released();
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            released.await;
        }
    }

    /// Ends when a permit comes back from now on.
    pub fn released(&self) -> impl Future<Output = ()> + use<> {
        self.released.listen()
    }

    /// Ends when all permits are back.
    pub async fn idle(&self) {
        loop {
            let released = self.released();
            if self.taken.load(Ordering::Acquire) == 0 {
                return;
            }
            released.await;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.released.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn permits_are_bounded_and_come_back() {
        let semaphore = Semaphore::new(2);
        let (first, second) = (semaphore.try_acquire().unwrap(), semaphore.try_acquire().unwrap());
        assert!(semaphore.try_acquire().is_none());
        let waiting = std::thread::spawn({
            let semaphore = semaphore.clone();
            move || block_on(semaphore.acquire())
        });
        drop(first);
        let third = waiting.join().unwrap();
        drop((second, third));
        block_on(semaphore.idle());
    }
}
