//! Waiting for a lock that another process holds, no longer than there is time.
//!
//! Nothing ends a flock(2) that blocks but a signal. So it is a thread of its own that blocks, and is left alone by a run
//! whose time is over; the next run that waits for the same file finds it again.

use std::{
    fs::File,
    io,
    sync::{Arc, Mutex},
    thread,
};

use rustix::fs::{FlockOperation, flock};

use crate::base::{
    identity::Identity,
    mutex,
    watch::{Early, Watch},
};

pub(super) enum Failed {
    Early(Early),
    Io(io::Error),
}

/// A thread that waits for the lock on a file.
struct Waiter {
    file: Identity,
    state: Mutex<State>,
}

enum State {
    /// A run waits for it.
    Wanted(Watch),
    /// No run waits for it.
    Left,
    /// The thread has come to an end, with or without the lock.
    Ended(io::Result<File>),
}

/// Those that wait for a lock now. A file has as many as there are runs in this process that wait for it at a time.
static WAITERS: Mutex<Vec<Arc<Waiter>>> = Mutex::new(Vec::new());

/// Lock `file`. What holds the lock may be another descriptor of the same file.
pub(super) fn lock(file: File, watch: &Watch) -> Result<File, Failed> {
    let waiter = find(file, watch).map_err(Failed::Io)?;
    let has_ended = || matches!(*mutex::lock(&waiter.state), State::Ended(_));
    let waited = watch.wait_for(has_ended);
    let state = std::mem::replace(&mut *mutex::lock(&waiter.state), State::Left);
    match (waited, state) {
        (Ok(()), State::Ended(locked)) => locked.map_err(Failed::Io),
        (waited, _) => Err(Failed::Early(waited.err().unwrap_or(Early::Over))),
    }
}

/// A waiter that was left, or a new one.
fn find(file: File, watch: &Watch) -> io::Result<Arc<Waiter>> {
    let identity = Identity::of(&file.metadata()?);
    let mut waiters = mutex::lock(&WAITERS);
    for waiter in waiters.iter() {
        let mut state = mutex::lock(&waiter.state);
        if waiter.file == identity && matches!(*state, State::Left) {
            *state = State::Wanted(watch.clone());
            drop(state);
            return Ok(waiter.clone());
        }
    }
    let waiter = Arc::new(Waiter {
        file: identity,
        state: Mutex::new(State::Wanted(watch.clone())),
    });
    let thread = thread::Builder::new().name("lock".into());
    let waits = waiter.clone();
    thread.spawn(move || block(&waits, file))?;
    waiters.push(waiter.clone());
    Ok(waiter)
}

fn block(waiter: &Arc<Waiter>, file: File) {
    let locked = rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive));
    // In this order, as `find` does: so that none is found that has ended.
    let mut waiters = mutex::lock(&WAITERS);
    waiters.retain(|other| !Arc::ptr_eq(other, waiter));
    let mut state = mutex::lock(&waiter.state);
    drop(waiters);
    if let State::Wanted(watch) = &*state {
        let watch = watch.clone();
        *state = State::Ended(locked.map(|()| file).map_err(Into::into));
        drop(state);
        watch.ring();
    }
}
