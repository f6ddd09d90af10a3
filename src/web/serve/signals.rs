//! The signals that end the front, as messages.

use std::{io, thread};

use async_std::channel::{self, Receiver};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// How many are kept until they are looked at: the first one stops, the second one stops at once.
const KEPT: usize = 2;

/// A message for each SIGTERM, SIGINT and SIGHUP from now on.
pub(super) fn receive() -> io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = channel::bounded(KEPT);
    thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            // More than are kept say nothing new.
            sender.try_send(()).ok();
        }
    })?;
    Ok(receiver)
}
