//! Tries to start the threads that async-std begins with: it panics where it cannot.

use std::{
    env, io, num,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use crate::base::mutex;

/// Try whether the threads can be started that [`serve`](super::serve) needs.
pub fn try_threads() -> io::Result<()> {
    let (hold, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let wait = || {
        let held = held.clone();
        // All exist at the same time.
        let wait = move || mutex::lock(&held).recv().is_ok();
        thread::Builder::new().name("trial".into()).spawn(wait)
    };
    // Twice as many: the kernel counts one for a moment longer than it lasts.
    let started: io::Result<Vec<_>> = (0..count().saturating_mul(2)).map(|_| wait()).collect();
    drop(hold);
    for thread in started? {
        thread.join().ok();
    }
    Ok(())
}

/// As async-std counts them, and its reactor's.
fn count() -> usize {
    let wanted = env::var("ASYNC_STD_THREAD_COUNT")
        .ok()
        .and_then(|count| count.parse().ok());
    let processors = || thread::available_parallelism().map_or(1, num::NonZero::get);
    wanted.unwrap_or_else(processors).saturating_add(1)
}
