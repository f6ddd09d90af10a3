//! A worker, as its supervisor knows it; and orders, none of which is lost while it is held up.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{net::SendFlags, process::Pid};

use crate::{
    base::{
        control::{Channel, Order},
        event::{self, Refused},
        fault::{Failure, Kind},
        identity::Identity,
    },
    config::Config,
};

/// Something that a worker's sandbox was closed around, and which one it was; `None`: nothing was there.
type Held = (PathBuf, Option<Identity>);

/// A process that does, or will do, or has done the work.
pub(super) struct Worker {
    pub(super) pid: Pid,
    pub(super) channel: Channel,
    pub(super) config: Arc<Config>,
    pub(super) phase: Phase,
    /// What its sandbox rests on.
    pub(super) held: Vec<Held>,
    /// Since when its end of the channel is closed.
    pub(super) silent: Option<Instant>,
    /// Orders that it has no room for yet, and what is sent beside them.
    pub(super) unsent: RefCell<VecDeque<(Order, Option<Rc<OwnedFd>>)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

    /// The first of what its sandbox rests on that has been replaced.
    pub(super) fn has_lost(&self) -> Option<&Path> {
        let now = |path: &Path| fs::metadata(path).ok().map(|meta| Identity::of(&meta));
        let mut held = self.held.iter();
        held.find_map(|(path, then)| (now(path) != *then).then_some(path.as_path()))
    }
}

/// That no worker took over, because of `why`: as long as other messages, whatever it quotes.
pub(super) fn refused(why: &str) -> Refused {
    Refused {
        since: event::now(),
        message: Some(Failure::new(Kind::Config, why, None).message),
    }
}

/// Tell `worker`, once it has room: a run would wait for ever for the end of its hook, or nobody would stop. Of reloads that were
/// refused the last one counts.
pub(super) fn order(worker: &Worker, order: Order) {
    let mut unsent = worker.unsent.borrow_mut();
    if matches!(order, Order::Refused(_)) {
        unsent.retain(|(order, _)| !matches!(order, Order::Refused(_)));
    }
    unsent.push_back((order, None));
    drop(unsent);
    send(worker);
}

/// The same, of the log that was opened anew: the last one is enough.
pub(super) fn pass_on(worker: &Worker, log: &Rc<OwnedFd>) {
    let mut unsent = worker.unsent.borrow_mut();
    unsent.retain(|(order, _)| !matches!(order, Order::ReopenLog));
    unsent.push_back((Order::ReopenLog, Some(log.clone())));
    drop(unsent);
    send(worker);
}

/// Send what is unsent, as far as there is room. One that has just ended does not hear it; that is seen to in
/// `reap`.
pub(super) fn send(worker: &Worker) {
    let mut unsent = worker.unsent.borrow_mut();
    while let Some((order, beside)) = unsent.front() {
        let beside: Vec<_> = beside.iter().map(|fd| fd.as_fd()).collect();
        match worker.channel.send(order, &beside, SendFlags::DONTWAIT) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
            _ => drop(unsent.pop_front()),
        }
    }
}
