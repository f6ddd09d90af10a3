//! A worker, as its supervisor knows it; and orders, none of which is lost while it is held up.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{net::SendFlags, process::Pid};

use crate::{
    base::control::{Channel, Order},
    config::Config,
};

/// A process that does, or will do, or has done the work.
pub(super) struct Worker {
    pub(super) pid: Pid,
    pub(super) channel: Channel,
    pub(super) config: Arc<Config>,
    pub(super) phase: Phase,
    /// Since when its end of the channel is closed.
    pub(super) silent: Option<Instant>,
    /// Orders that it has no room for yet.
    pub(super) unsent: RefCell<VecDeque<Order>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not yet said that it could serve.
    Starting,
    /// It could serve, and waits for the one before it.
    Prepared,
    /// It is the one that accepts connections.
    Serving,
    /// It has been told not to.
    Closing,
    /// It finishes what it has accepted.
    Leaving,
}

/// How long a worker may take to end once it has closed its channel. One that takes longer has a thread that the kernel
/// holds, and ends when that is over.
const LAST_MOMENT: Duration = Duration::from_secs(5);

impl Worker {
    /// When it need not be waited for any longer.
    pub(super) fn gone_at(&self) -> Option<Instant> {
        self.silent.map(|since| since + LAST_MOMENT)
    }
}

/// Tell `worker`, once it has room: a run would wait for ever for the end of its hook, or nobody would stop. To open the
/// log anew once is enough, and of reloads that were refused the last one counts.
pub(super) fn order(worker: &Worker, order: Order) {
    let mut unsent = worker.unsent.borrow_mut();
    let is_reopening = |order: &Order| matches!(order, Order::ReopenLog);
    let is_refusal = |order: &Order| matches!(order, Order::Refused(_));
    if is_refusal(&order) {
        unsent.retain(|order| !is_refusal(order));
    }
    if !is_reopening(&order) || !unsent.iter().any(is_reopening) {
        unsent.push_back(order);
    }
    drop(unsent);
    send(worker);
}

/// Send what is unsent, as far as there is room. One that has just ended does not hear it; that is seen to in
/// `reap`.
pub(super) fn send(worker: &Worker) {
    let mut unsent = worker.unsent.borrow_mut();
    while let Some(order) = unsent.front() {
        match worker.channel.send(order, &[], SendFlags::DONTWAIT) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
            _ => drop(unsent.pop_front()),
        }
    }
}
