//! What one fetch leaves alive for the next: each thing is lent to one borrower at a time, and kept for a while
//! between them.
//!
//! Knows nothing of what it keeps but its key: whatever makes two connections different must be part of that.

use std::{
    collections::VecDeque,
    fmt,
    ops::Deref,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::base::mutex;

/// No connection lives longer: addresses change, and keys are withdrawn.
pub const MAX_KEEP_ALIVE: Duration = Duration::from_secs(60 * 60);

/// How long anything lives at most, however often it is used.
const MAX_AGE: Duration = MAX_KEEP_ALIVE;
/// How many are kept; the one that has waited longest makes way.
const MAX_KEPT: usize = 64;

/// Things of the kind `V`, by their key. Clones are the same pool.
pub(super) struct Pool<K, V> {
    keep: Duration,
    max_age: Duration,
    shelf: Arc<Shelf<K, V>>,
}

/// Shared with the thread that empties it.
struct Shelf<K, V> {
    state: Mutex<State<K, V>>,
    changed: Condvar,
}

struct State<K, V> {
    /// The one that has waited longest first.
    kept: VecDeque<Kept<K, V>>,
    /// Until when a thread waits for the first to be over its time, if one does.
    watched: Option<Instant>,
}

struct Kept<K, V> {
    key: K,
    thing: V,
    born: Instant,
    until: Instant,
}

impl<K: Eq + Send + 'static, V: Send + 'static> Pool<K, V> {
    /// Keep what is brought back for `keep`; nothing if that is zero.
    pub(super) fn new(keep: Duration) -> Self {
        let state = State {
            kept: VecDeque::new(),
            watched: None,
        };
        Self {
            keep,
            max_age: MAX_AGE,
            shelf: Arc::new(Shelf {
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
        }
    }

    /// What was last brought back for `key`, if anything is there.
    pub(super) fn borrow(&self, key: &K) -> Option<Loan<K, V>> {
        let now = Instant::now();
        let mut state = self.shelf.state();
        let at = state
            .kept
            .iter()
            .rposition(|kept| kept.key == *key && now < kept.until)?;
        let Kept { key, thing, born, .. } = state.kept.remove(at)?;
        Some(self.loan(key, thing, born))
    }

    pub(super) fn lend(&self, key: K, thing: V) -> Loan<K, V> {
        self.loan(key, thing, Instant::now())
    }

    fn loan(&self, key: K, thing: V, born: Instant) -> Loan<K, V> {
        Loan {
            pool: self.clone(),
            thing: Some((key, thing)),
            born,
            spoilt: AtomicBool::new(false),
        }
    }

    fn bring_back(&self, key: K, thing: V, born: Instant) {
        let now = Instant::now();
        let until = (now + self.keep).min(born + self.max_age);
        if until <= now {
            return;
        }
        let mut state = self.shelf.state();
        let Some(wakes) = self.shelf.watch(&mut state, until) else {
            return;
        };
        // Nearly always last: only age makes one end before those that came earlier.
        let at = state.kept.partition_point(|kept| kept.until <= until);
        state.kept.insert(
            at,
            Kept {
                key,
                thing,
                born,
                until,
            },
        );
        let surplus = if state.kept.len() > MAX_KEPT {
            state.kept.pop_front()
        } else {
            None
        };
        drop(state);
        if until < wakes {
            self.shelf.changed.notify_all();
        }
        // Closing it may take a moment.
        drop(surplus);
    }
}

impl<K: Send + 'static, V: Send + 'static> Shelf<K, V> {
    fn state(&self) -> MutexGuard<'_, State<K, V>> {
        // A panic while it is held leaves nothing half done.
        mutex::lock(&self.state)
    }

    /// Have a thread close what is over its time, first of all something at `until`; `None` if there can be none. Says when it
    /// looks next.
    fn watch(self: &Arc<Self>, state: &mut State<K, V>, until: Instant) -> Option<Instant> {
        if state.watched.is_none() {
            let shelf = self.clone();
            let watcher = thread::Builder::new().name("keep-alive".into());
            let is_there = watcher.spawn(move || shelf.expire()).is_ok();
            state.watched = is_there.then_some(until);
        }
        state.watched
    }

    /// Close things as their time comes, until there are none.
    fn expire(&self) {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let over = state.kept.partition_point(|kept| kept.until <= now);
            let over: Vec<_> = state.kept.drain(..over).collect();
            if !over.is_empty() {
                drop(state);
                drop(over);
                state = self.state();
                continue;
            }
            state.watched = state.kept.front().map(|first| first.until);
            let Some(until) = state.watched else {
                // The next that is brought back starts another thread.
                return;
            };
            let left = until.saturating_duration_since(now);
            (state, _) = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<K, V> Clone for Pool<K, V> {
    fn clone(&self) -> Self {
        Self {
            keep: self.keep,
            max_age: self.max_age,
            shelf: self.shelf.clone(),
        }
    }
}

impl<K, V> fmt::Debug for Pool<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

/// Something that is on loan. It goes back when this is dropped, unless it was spoilt.
pub(super) struct Loan<K: Eq + Send + 'static, V: Send + 'static> {
    pool: Pool<K, V>,
    /// There until it is dropped.
    thing: Option<(K, V)>,
    born: Instant,
    spoilt: AtomicBool,
}

impl<K: Eq + Send + 'static, V: Send + 'static> Loan<K, V> {
    /// Do not keep it.
    pub(super) fn spoil(&self) {
        self.spoilt.store(true, Ordering::Relaxed);
    }
}

impl<K: Eq + Send + 'static, V: Send + 'static> Deref for Loan<K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        let (_, thing) = self.thing.as_ref().expect("it is there until this is dropped");
        thing
    }
}

impl<K: Eq + Send + 'static, V: Send + 'static> Drop for Loan<K, V> {
    fn drop(&mut self) {
        if let Some((key, thing)) = self.thing.take()
            && !*self.spoilt.get_mut()
        {
            self.pool.bring_back(key, thing, self.born);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Says when it is closed.
    struct Thing(u32, Sender<u32>);

    impl Drop for Thing {
        fn drop(&mut self) {
            self.1.send(self.0).ok();
        }
    }

    fn pool(keep: Duration) -> (Pool<&'static str, Thing>, Sender<u32>, Receiver<u32>) {
        let (closed, wait) = channel();
        (Pool::new(keep), closed, wait)
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn what_comes_back_is_lent_again_to_one_at_a_time() {
        let (pool, closed, wait) = pool(LONG);
        assert!(pool.borrow(&"a").is_none());
        let one = pool.lend("a", Thing(1, closed.clone()));
        assert!(pool.borrow(&"a").is_none(), "it is on loan");
        drop(one);
        assert!(pool.borrow(&"b").is_none(), "another key");
        let again = pool.borrow(&"a").unwrap();
        assert_eq!(again.0, 1);
        assert!(pool.borrow(&"a").is_none());

        // The freshest first: the others may end of their own.
        drop(pool.lend("a", Thing(2, closed)));
        drop(again);
        assert_eq!(pool.borrow(&"a").unwrap().0, 1);
        assert!(wait.try_recv().is_err(), "nothing was closed");
    }

    #[test]
    fn what_is_spoilt_or_too_old_is_closed() {
        let (pool, closed, wait) = pool(LONG);
        let spoilt = pool.lend("a", Thing(1, closed.clone()));
        spoilt.spoil();
        drop(spoilt);
        assert_eq!(wait.recv().unwrap(), 1);

        let pool = Pool {
            max_age: Duration::ZERO,
            ..pool
        };
        drop(pool.lend("a", Thing(2, closed)));
        assert_eq!(wait.recv().unwrap(), 2);
        assert!(pool.borrow(&"a").is_none());
    }

    #[test]
    fn nothing_is_kept_for_longer_than_that() {
        let (none, closed, wait) = pool(Duration::ZERO);
        drop(none.lend("a", Thing(1, closed)));
        assert_eq!(wait.recv().unwrap(), 1);

        let (pool, closed, wait) = pool(Duration::from_millis(50));
        for round in 0..3 {
            let begin = Instant::now();
            for i in 0..4 {
                drop(pool.lend("a", Thing(i, closed.clone())));
            }
            let ended: Vec<_> = wait.iter().take(4).collect();
            assert_eq!(ended, [0, 1, 2, 3], "round {round}");
            assert!(begin.elapsed() >= Duration::from_millis(50));
            assert!(pool.borrow(&"a").is_none());
        }
    }

    #[test]
    fn the_one_that_waited_longest_makes_way() {
        let (pool, closed, wait) = pool(LONG);
        for i in 0..u32::try_from(MAX_KEPT).unwrap() + 2 {
            drop(pool.lend("a", Thing(i, closed.clone())));
        }
        assert_eq!(wait.iter().take(2).collect::<Vec<_>>(), [0, 1]);
        assert!(wait.try_recv().is_err());
    }
}
