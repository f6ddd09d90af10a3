//! Checks that the threads of async-std can be started, since async-std panics if they cannot.

use std::{
    env, io, num,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use crate::base::mutex;

/// Check that the threads that [`serve`](super::serve) needs can be started.
pub fn try_threads() -> io::Result<()> {
    let (hold, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let wait = || {
        let held = held.clone();
        // Blocks, so that all threads exist at the same time.
        let wait = move || mutex::lock(&held).recv().is_ok();
        thread::Builder::new().name("trial".into()).spawn(wait)
    };
    // Twice as many, since the kernel still counts a thread for a moment after its end.
    let started: io::Result<Vec<_>> = (0..count().saturating_mul(2)).map(|_| wait()).collect();
    drop(hold);
    for thread in started? {
        thread.join().ok();
    }
    Ok(())
}

/// The threads of async-std, and one for its reactor.
fn count() -> usize {
    let wanted = env::var("ASYNC_STD_THREAD_COUNT")
        .ok()
        .and_then(|count| count.parse().ok());
    let processors = || thread::available_parallelism().map_or(1, num::NonZero::get);
    wanted.unwrap_or_else(processors).saturating_add(1)
}
