//! A semaphore whose oldest holder makes way: where any connection may acquire a permit, the one that has held its permit longest is
//! told to release it for the next one. So connections that send nothing take nothing from those that do.

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

#[derive(Debug)]
pub struct EvictingSemaphore {
    permits: Arc<Semaphore>,
    holders: Mutex<Holders>,
}

/// Holders that may be evicted, in the order in which they acquired their permits.
#[derive(Debug, Default)]
struct Holders {
    next: u64,
    of: BTreeMap<u64, Bell>,
}

/// A permit whose holder may be evicted; it is released when this is dropped.
#[derive(Debug)]
pub struct EvictablePermit {
    of: Arc<EvictingSemaphore>,
    number: u64,
    evicted: EventListener,
    /// Dropped last, after the listener: the next holder finds none of this one.
    _permit: Permit,
}

impl EvictingSemaphore {
    pub fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(permits),
            holders: Mutex::default(),
        })
    }

    /// A permit as soon as one is free. It evicts no other holder, and its own holder is never evicted.
    pub async fn acquire(&self) -> Permit {
        self.permits.acquire().await
    }

    /// A permit whose holder may be evicted. If none is free, the holder that has had its permit longest is evicted for it.
    pub async fn acquire_evicting(self: &Arc<Self>) -> EvictablePermit {
        let permit = loop {
            let released = self.permits.released();
            if let Some(permit) = self.permits.try_acquire() {
                break permit;
            }
            if let Some((_, oldest)) = mutex::lock(&self.holders).of.pop_first() {
                oldest.notify(1);
            }
            released.await;
        };
        self.evictable(permit)
    }

    /// Let the holder of `permit`, which was waited for, be evicted from now on.
    pub fn evictable(self: &Arc<Self>, permit: Permit) -> EvictablePermit {
        let bell = Bell::new();
        let evicted = bell.listen();
        let mut holders = mutex::lock(&self.holders);
        let number = holders.next;
        holders.next += 1;
        holders.of.insert(number, bell);
        drop(holders);
        EvictablePermit {
            of: self.clone(),
            number,
            evicted,
            _permit: permit,
        }
    }

    /// Ends when a permit is released from now on.
    pub fn released(&self) -> impl Future<Output = ()> + use<> {
        self.permits.released()
    }

    /// Ends when no permit is held.
    pub async fn idle(&self) {
        self.permits.idle().await;
    }
}

impl EvictablePermit {
    /// Ends when the holder is evicted; it must not be waited for once more.
    pub async fn evicted(&mut self) {
        (&mut self.evicted).await;
    }

    /// The result of `doing`, unless the holder is evicted before. What can be done without waiting is done first: a client
    /// that has sent its request by then is answered.
    pub async fn unless_evicted<T>(&mut self, doing: impl Future<Output = T>) -> Option<T> {
        let evicted = async {
            self.evicted().await;
            None
        };
        async { Some(doing.await) }.or(evicted).await
    }
}

impl Drop for EvictablePermit {
    fn drop(&mut self) {
        mutex::lock(&self.of.holders).of.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_lite::future::{block_on, poll_once, ready, yield_now};

    use super::*;

    #[test]
    fn the_oldest_holder_is_evicted() {
        let semaphore = EvictingSemaphore::new(2);
        block_on(async {
            let (mut first, mut second) = (
                semaphore.acquire_evicting().await,
                semaphore.acquire_evicting().await,
            );
            let mut third = Box::pin(semaphore.acquire_evicting());
            assert!(poll_once(&mut third).await.is_none());
            assert_eq!(second.unless_evicted(ready(2)).await, Some(2));
            assert!(poll_once(second.unless_evicted(pending::<()>())).await.is_none());
            assert_eq!(
                first.unless_evicted(ready(1)).await,
                Some(1),
                "what is there is heard"
            );
            let waiting = async {
                yield_now().await;
                pending::<()>().await;
            };
            assert_eq!(first.unless_evicted(waiting).await, None);
            drop(first);
            let third = third.await;
            // A holder that has released its permit is evicted no more.
            drop(second);
            let mut fourth = semaphore.acquire_evicting().await;
            let mut fifth = Box::pin(semaphore.acquire_evicting());
            assert!(poll_once(&mut fifth).await.is_none());
            assert!(poll_once(fourth.unless_evicted(pending::<()>())).await.is_none());
            drop(third);
            drop((fifth.await, fourth));
            semaphore.idle().await;
        });
        assert!(mutex::lock(&semaphore.holders).of.is_empty());
    }

    #[test]
    fn acquire_evicts_nobody() {
        let semaphore = EvictingSemaphore::new(1);
        block_on(async {
            let mut first = semaphore.acquire_evicting().await;
            let mut second = Box::pin(semaphore.acquire());
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(first.unless_evicted(pending::<()>())).await.is_none());
            drop(first);
            second.await;
        });
    }
}
