//! The signals that end the front, as messages.

use std::{io, thread};

use async_std::channel::{self, Receiver};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// How many signals are kept: the first one stops the front, the second one stops it at once.
const KEPT: usize = 2;

/// A message for each SIGTERM, SIGINT and SIGHUP from now on.
pub(super) fn receive() -> io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = channel::bounded(KEPT);
    thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            // If the channel is full, further signals mean the same.
            sender.try_send(()).ok();
        }
    })?;
    Ok(receiver)
}
