//! A worker, as its supervisor knows it, and what it is told: nothing of that is lost while the worker is held up.

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

/// A path that a worker's sandbox holds on to, and the file that was there; `None`: nothing was.
type Held = (PathBuf, Option<Identity>);

pub(super) struct Worker {
    pub(super) pid: Pid,
    pub(super) channel: Channel,
    pub(super) config: Arc<Config>,
    pub(super) life: Life,
    /// What its sandbox holds on to.
    pub(super) held: Vec<Held>,
    /// When its end of the channel was closed.
    pub(super) silent: Option<Instant>,
    /// Messages that the channel has no room for yet, and what is sent beside them.
    pub(super) unsent: RefCell<VecDeque<(ToWorker, Option<Rc<OwnedFd>>)>>,
}

/// How long a worker may take to end once it has closed its channel. One that takes longer has a thread that the kernel
/// holds, and ends when the kernel lets go of it.
const LAST_MOMENT: Duration = Duration::from_secs(5);

impl Worker {
    /// Order it to be at `life`.
    pub(super) fn order(&mut self, life: Life) {
        self.life = self.life.after(Change::Ordered(life));
        tell(self, ToWorker::Be(life));
    }

    /// It reports that it has reached `life`. Says whether its state is another one now.
    pub(super) fn reach(&mut self, life: Life) -> bool {
        let before = self.life;
        self.life = before.after(Change::Reached(life));
        self.life != before
    }

    /// When the supervisor waits for it no longer.
    pub(super) fn gone_at(&self) -> Option<Instant> {
        self.silent.map(|since| since + LAST_MOMENT)
    }

    /// The first path that its sandbox holds on to and where something else is by now.
    pub(super) fn has_lost(&self) -> Option<&Path> {
        let now = |path: &Path| fs::metadata(path).ok().map(|meta| Identity::of(&meta));
        let mut held = self.held.iter();
        held.find_map(|(path, then)| (now(path) != *then).then_some(path.as_path()))
    }
}

/// A refusal because of `why`, which is cut to the length of other messages.
pub(super) fn refused(why: &str) -> Refused {
    Refused {
        since: event::now(),
        message: Some(Failure::new(Kind::Config, why, None).message),
    }
}

/// Tell `worker`, as soon as the channel has room: without the end of its hook, a run would wait for ever. Of several refused
/// reloads, the last one is enough.
pub(super) fn tell(worker: &Worker, message: ToWorker) {
    let mut unsent = worker.unsent.borrow_mut();
    if matches!(message, ToWorker::Refused(_)) {
        unsent.retain(|(message, _)| !matches!(message, ToWorker::Refused(_)));
    }
    unsent.push_back((message, None));
    drop(unsent);
    send(worker);
}

/// Pass on the log that was reopened, in the same way. Of several, the last one is enough.
pub(super) fn pass_on(worker: &Worker, log: &Rc<OwnedFd>) {
    let mut unsent = worker.unsent.borrow_mut();
    unsent.retain(|(message, _)| !matches!(message, ToWorker::ReopenLog));
    unsent.push_back((ToWorker::ReopenLog, Some(log.clone())));
    drop(unsent);
    send(worker);
}

/// Send what is unsent, as far as there is room. A worker that has just ended receives nothing; `reap` sees to that.
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
