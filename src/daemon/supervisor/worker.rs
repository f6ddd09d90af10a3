//! A worker, as its supervisor knows it, and the messages to it, which are kept while the channel is full.

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
        control::{Change, Channel, Life, ToWorker},
        event::{self, Refused},
        fault::{Failure, Kind},
        identity::Identity,
    },
    config::Config,
};

/// A path that a worker's sandbox is bound to, and the inode that was there, if there was one.
type Held = (PathBuf, Option<Identity>);

pub(super) struct Worker {
    pub(super) pid: Pid,
    pub(super) channel: Channel,
    pub(super) config: Arc<Config>,
    pub(super) life: Life,
    /// The paths that its sandbox is bound to.
    pub(super) held: Vec<Held>,
    /// When it closed its end of the channel.
    pub(super) silent: Option<Instant>,
    /// Messages that have not been sent yet, since the channel is full, with their descriptors.
    pub(super) unsent: RefCell<VecDeque<(ToWorker, Option<Rc<OwnedFd>>)>>,
}

/// How long a worker may take to end once it has closed its channel. If it takes longer, one of its threads hangs in the kernel.
const LAST_MOMENT: Duration = Duration::from_secs(5);

impl Worker {
    /// Order it to reach `life`.
    pub(super) fn order(&mut self, life: Life) {
        self.life = self.life.after(Change::Ordered(life));
        tell(self, ToWorker::Be(life));
    }

    /// It reports that it has reached `life`. Gives whether its state has changed.
    pub(super) fn reach(&mut self, life: Life) -> bool {
        let before = self.life;
        self.life = before.after(Change::Reached(life));
        self.life != before
    }

    /// When the supervisor stops waiting for it.
    pub(super) fn gone_at(&self) -> Option<Instant> {
        self.silent.map(|since| since + LAST_MOMENT)
    }

    /// The first path that its sandbox is bound to and that has another inode now.
    pub(super) fn has_lost(&self) -> Option<&Path> {
        let now = |path: &Path| fs::metadata(path).ok().map(|meta| Identity::of(&meta));
        let mut held = self.held.iter();
        held.find_map(|(path, then)| (now(path) != *then).then_some(path.as_path()))
    }
}

/// A refusal because of `why`, which is cut to the usual length of messages.
pub(super) fn refused(why: &str) -> Refused {
    Refused {
        since: event::now(),
        message: Some(Failure::new(Kind::Config, why, None).message),
    }
}

/// Send `message` to `worker`, now or once the channel has space: without the end of its hook, a run would wait for ever. Only the
/// last of several refused reloads is kept.
pub(super) fn tell(worker: &Worker, message: ToWorker) {
    let mut unsent = worker.unsent.borrow_mut();
    if matches!(message, ToWorker::Refused(_)) {
        unsent.retain(|(message, _)| !matches!(message, ToWorker::Refused(_)));
    }
    unsent.push_back((message, None));
    drop(unsent);
    send(worker);
}

/// Pass on the reopened log in the same way. Only the last one is kept.
pub(super) fn pass_on(worker: &Worker, log: &Rc<OwnedFd>) {
    let mut unsent = worker.unsent.borrow_mut();
    unsent.retain(|(message, _)| !matches!(message, ToWorker::ReopenLog));
    unsent.push_back((ToWorker::ReopenLog, Some(log.clone())));
    drop(unsent);
    send(worker);
}

/// Send messages that are kept, as far as the channel has space. If the worker has just ended, they are dropped, and `reap` handles
/// its end.
pub(super) fn send(worker: &Worker) {
    let mut unsent = worker.unsent.borrow_mut();
    while let Some((message, beside)) = unsent.front() {
        let beside: Vec<_> = beside.iter().map(|fd| fd.as_fd()).collect();
        match worker.channel.send(message, &beside, SendFlags::DONTWAIT) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
            _ => drop(unsent.pop_front()),
        }
    }
}
