//! The worker's end: orders wake whoever waits for them, and a hook's start waits for its answers.

use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::ExitStatus,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use event_listener::Event as Bell;
use rustix::{
    net::{RecvFlags, SendFlags, Shutdown, shutdown},
    process::Pid,
};

use super::{Channel, Level, Order, Report, Start};
use crate::base::{event::Refused, mutex};

/// The worker's end of the channel to its supervisor.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    level: Mutex<Level>,
    bell: Bell,
    starts: Mutex<Starts>,
    refused: Refusal,
    /// Whether a worker has gone since that was asked last.
    gone: AtomicBool,
}

/// The reload that was refused last: told by the supervisor, for those who ask.
#[derive(Debug, Clone, Default)]
pub struct Refusal(Arc<Mutex<Option<Refused>>>);

impl Refusal {
    /// What is known now.
    pub fn get(&self) -> Option<Refused> {
        mutex::lock(&self.0).clone()
    }
}

#[derive(Debug, Default)]
struct Starts {
    next: u64,
    waiting: BTreeMap<u64, mpsc::Sender<Order>>,
}

/// A hook that the supervisor has started.
#[derive(Debug)]
pub struct Started {
    /// Its process, and the group it leads.
    pub pid: Pid,
    /// What the supervisor calls it.
    pub id: u64,
    answers: mpsc::Receiver<Order>,
}

impl Started {
    /// Wait for its end. `None`: the supervisor is gone.
    pub fn wait(self) -> Option<ExitStatus> {
        match self.answers.recv() {
            Ok(Order::Ended { status, .. }) => Some(ExitStatus::from_raw(status)),
            _ => None,
        }
    }
}

impl Link {
    /// Follow the orders on `channel`, on a thread of their own; `reopen` takes the log that was opened anew, and `alone` is
    /// called when the supervisor is gone.
    pub fn new(
        channel: Channel,
        reopen: impl Fn(OwnedFd) + Send + 'static,
        alone: impl FnOnce() + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let link = Arc::new(Self {
            channel,
            level: Mutex::new(Level::Prepare),
            bell: Bell::new(),
            starts: Mutex::default(),
            refused: Refusal::default(),
            gone: AtomicBool::new(false),
        });
        let listening = link.clone();
        std::thread::Builder::new().name("orders".into()).spawn(move || {
            listening.listen(&reopen);
            alone();
        })?;
        Ok(link)
    }

    fn listen(&self, reopen: &impl Fn(OwnedFd)) {
        while let Ok(Some((order, beside))) = self.channel.receive(RecvFlags::empty()) {
            match order {
                Order::Level(level) => self.advance(level),
                Order::WorkerGone => {
                    self.gone.store(true, Ordering::Release);
                    self.bell.notify(usize::MAX);
                }
                Order::ReopenLog => beside.into_iter().take(1).for_each(reopen),
                Order::Refused(refused) => *mutex::lock(&self.refused.0) = Some(refused),
                Order::Started { id, .. } => self.pass_on(id, order, false),
                Order::NotStarted { id, .. } | Order::Ended { id, .. } => self.pass_on(id, order, true),
            }
        }
        mutex::lock(&self.starts).waiting.clear();
    }

    fn advance(&self, to: Level) {
        let mut level = mutex::lock(&self.level);
        *level = to.max(*level);
        drop(level);
        self.bell.notify(usize::MAX);
    }

    fn pass_on(&self, id: u64, order: Order, is_last: bool) {
        let mut starts = mutex::lock(&self.starts);
        if let Some(waiting) = starts.waiting.get(&id) {
            // Who no longer waits does not want to know.
            waiting.send(order).ok();
        }
        if is_last {
            starts.waiting.remove(&id);
        }
    }

    /// Wait until the worker is to be farther than at `level`, and say where.
    pub async fn beyond(&self, level: Level) -> Level {
        loop {
            let listener = self.bell.listen();
            let now = *mutex::lock(&self.level);
            if now > level {
                return now;
            }
            listener.await;
        }
    }

    /// Wait until another worker was killed, or failed: once for all of those until now.
    pub async fn worker_gone(&self) {
        loop {
            let listener = self.bell.listen();
            if self.gone.swap(false, Ordering::AcqRel) {
                return;
            }
            listener.await;
        }
    }

    /// The reload that was refused last, whenever that is.
    pub fn refusal(&self) -> Refusal {
        self.refused.clone()
    }

    /// Tell the supervisor something that it need not answer. If it is gone, so are we in a moment.
    pub fn report(&self, report: &Report) {
        self.channel.send(report, &[], SendFlags::empty()).ok();
    }

    /// Tell the supervisor that this process ends now: a thread that the kernel holds may keep it from that.
    pub fn close(&self) {
        shutdown(&self.channel, Shutdown::Write).ok();
    }

    /// Have a hook started; its output goes to `outputs`. The `id` of `start` is set here.
    pub fn start(&self, mut start: Start, outputs: [OwnedFd; 2]) -> io::Result<Started> {
        let (sender, answers) = mpsc::channel();
        let mut starts = mutex::lock(&self.starts);
        starts.next += 1;
        start.id = starts.next;
        starts.waiting.insert(start.id, sender);
        drop(starts);
        let id = start.id;
        let [out, err] = &outputs;
        let outputs = [out.as_fd(), err.as_fd()];
        if let Err(err) = self
            .channel
            .send(&Report::Start(start), &outputs, SendFlags::empty())
        {
            mutex::lock(&self.starts).waiting.remove(&id);
            return Err(err);
        }
        match answers.recv() {
            Ok(Order::Started { pid, .. }) => {
                let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
                Ok(Started { pid, id, answers })
            }
            Ok(Order::NotStarted { errno, .. }) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::base::{control::Which, name::TriggerName};

    fn link() -> (Channel, Arc<Link>) {
        let (supervisor, worker) = Channel::pair().unwrap();
        (supervisor, Link::new(worker, |_| {}, || {}).unwrap())
    }

    #[test]
    fn levels_only_go_on() {
        let (supervisor, link) = link();
        supervisor
            .send(&Order::Level(Level::Stop), &[], SendFlags::empty())
            .unwrap();
        assert_eq!(block_on(link.beyond(Level::Serve)), Level::Stop);
        supervisor
            .send(&Order::Level(Level::Drain), &[], SendFlags::empty())
            .unwrap();
        supervisor
            .send(&Order::Level(Level::Abort), &[], SendFlags::empty())
            .unwrap();
        assert_eq!(block_on(link.beyond(Level::Stop)), Level::Abort);
    }

    #[test]
    fn a_vanished_supervisor_is_noticed() {
        let (supervisor, worker) = Channel::pair().unwrap();
        let (sender, alone) = mpsc::channel();
        let _link = Link::new(worker, |_| {}, move || sender.send(()).unwrap()).unwrap();
        drop(supervisor);
        alone.recv().unwrap();
    }

    #[test]
    fn a_start_gets_its_own_answers() {
        let (supervisor, link) = link();
        let start = |link: &Arc<Link>| {
            let (_reader, writer) = io::pipe().unwrap();
            let other = writer.try_clone().unwrap();
            let start = Start {
                id: 0,
                trigger: TriggerName::new("site").unwrap(),
                which: Which::Hook(0),
                release: None,
                env: BTreeMap::new(),
                old_new: Default::default(),
            };
            link.start(start, [writer.into(), other.into()])
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| start(&link));
            let receive = || match supervisor.receive(RecvFlags::empty()) {
                Ok(Some((Report::Start(start), fds))) => (start.id, fds.len()),
                other => panic!("{other:?}"),
            };
            let (one, fds) = receive();
            assert_eq!(fds, 2);
            supervisor
                .send(&Order::Started { id: one, pid: 7 }, &[], SendFlags::empty())
                .unwrap();
            let first = first.join().unwrap().unwrap();
            let second = scope.spawn(|| start(&link));
            let (two, _) = receive();
            assert_ne!(one, two);
            supervisor
                .send(&Order::NotStarted { id: two, errno: 2 }, &[], SendFlags::empty())
                .unwrap();
            supervisor
                .send(
                    &Order::Ended {
                        id: one,
                        status: 0x100,
                    },
                    &[],
                    SendFlags::empty(),
                )
                .unwrap();
            let err = second.join().unwrap().unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::NotFound);
            assert_eq!(first.pid.as_raw_nonzero().get(), 7);
            assert_eq!(first.wait().and_then(|status| status.code()), Some(1));
        });
    }
}
