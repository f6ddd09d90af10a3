//! Work shared between a few threads that end with it: never more than there are processors.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::base::mutex;

/// How many threads are worth their start for `work` pieces, if one should do at least `each` of them.
/// Without optimization there are as many as can be, so that tests of a few files are tests of several threads.
pub(super) fn count(work: usize, each: usize) -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    let processors = *PROCESSORS.get_or_init(|| thread::available_parallelism().map_or(1, Into::into));
    let each = if cfg!(debug_assertions) { 1 } else { each };
    (work / each).clamp(1, processors)
}

/// Run `work` once for each of `inputs`, and give the results in their order: at the same time, as far as the system has
/// threads.
pub(super) fn run<I: Send, R: Send>(inputs: Vec<I>, work: impl Fn(I) -> R + Sync) -> Vec<R> {
    let mut inputs = inputs.into_iter();
    let Some(first) = inputs.next() else {
        return Vec::new();
    };
    let work = &work;
    thread::scope(|scope| {
        let others: Vec<_> = inputs
            .map(|input| {
                let input = Arc::new(Mutex::new(Some(input)));
                let theirs = input.clone();
                let run = move || mutex::lock(&theirs).take().map(work);
                (input, thread::Builder::new().spawn_scoped(scope, run))
            })
            .collect();
        let first = work(first);
        let others =
            others
                .into_iter()
                .filter_map(|(input, thread)| match thread.map(|thread| thread.join()) {
                    Ok(Ok(result)) => result,
                    Ok(Err(panic)) => std::panic::resume_unwind(panic),
                    Err(_) => mutex::lock(&input).take().map(work),
                });
        std::iter::once(first).chain(others).collect()
    })
}

/// A list from which each thread takes the next few.
pub(super) struct Shares {
    next: AtomicUsize,
    len: usize,
    size: usize,
}

impl Shares {
    pub(super) fn new(len: usize, threads: usize) -> Self {
        Self {
            next: AtomicUsize::new(0),
            len,
            size: (len / (threads * 8)).clamp(1, 64),
        }
    }

    /// The next few, if any are left.
    pub(super) fn take(&self) -> Option<std::ops::Range<usize>> {
        let start = self.next.fetch_add(self.size, Ordering::Relaxed);
        (start < self.len).then(|| start..self.len.min(start + self.size))
    }

    /// Leave nothing to take. Gives what would have been taken next.
    pub(super) fn stop(&self) -> std::ops::Range<usize> {
        self.next.swap(self.len, Ordering::Relaxed).min(self.len)..self.len
    }

    pub(super) fn taken(&self) -> usize {
        self.next.load(Ordering::Relaxed).min(self.len)
    }
}

/// Tasks that bring up more tasks.
pub(super) struct Tasks<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: Vec<T>,
    unfinished: usize,
}

impl<T> Tasks<T> {
    pub(super) fn new(first: T) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: vec![first],
                unfinished: 1,
            }),
            changed: Condvar::new(),
        }
    }

    /// Do tasks, the newest first, until all are done. `each` adds those that it brings up to the list it is given.
    pub(super) fn work(&self, mut each: impl FnMut(T, &mut Vec<T>)) {
        let mut more = Vec::new();
        while let Some(task) = self.next() {
            let done = Finished(self);
            each(task, &mut more);
            if !more.is_empty() {
                let mut state = self.lock();
                state.unfinished += more.len();
                state.waiting.append(&mut more);
                drop(state);
                self.changed.notify_all();
            }
            drop(done);
        }
    }

    fn next(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.waiting.pop() {
                return Some(task);
            }
            if state.unfinished == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        mutex::lock(&self.state)
    }
}

/// Even if a task panics, the others are not waited for in vain.
struct Finished<'t, T>(&'t Tasks<T>);

impl<T> Drop for Finished<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.unfinished -= 1;
        if state.unfinished == 0 {
            drop(state);
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_done_once() {
        let tasks = Tasks::new(10_u32);
        let counts = run(vec![(); 4], |()| {
            let mut count = 0;
            tasks.work(|task, more| {
                count += 1;
                more.extend(std::iter::repeat_n(task / 2, usize::from(task > 0) * 2));
            });
            count
        });
        // 10, 5, 2, 1 and 0, each twice as often as the one before.
        assert_eq!(counts.iter().sum::<u32>(), 1 + 2 + 4 + 8 + 16);
    }

    #[test]
    fn shares_cover_all() {
        let shares = Shares::new(1000, 2);
        let sums = run(vec![(); 2], |()| {
            std::iter::from_fn(|| shares.take()).flatten().sum::<usize>()
        });
        assert_eq!(sums.iter().sum::<usize>(), (0..1000).sum::<usize>());
        let shares = Shares::new(10, 2);
        shares.stop();
        assert!(shares.take().is_none());
    }
}
