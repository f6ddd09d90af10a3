//! The worker's end of the channel: a thread reads what the supervisor says, and wakes the threads and tasks that wait for it.

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

use super::{Channel, Life, Start, ToSupervisor, ToWorker};
use crate::base::{event::Refused, mutex};

/// The worker's end of the channel to its supervisor.
#[derive(Debug)]
pub struct WorkerEnd {
    channel: Channel,
    /// The state that the supervisor ordered last.
    ordered: Mutex<Life>,
    bell: Bell,
    starts: Mutex<Starts>,
    refused: Refusal,
    /// Another worker was killed, or failed, since [`Self::worker_gone`] last ended.
    gone: AtomicBool,
}

/// The reload that was refused last, as the supervisor says.
#[derive(Debug, Clone, Default)]
pub struct Refusal(Arc<Mutex<Option<Refused>>>);

impl Refusal {
    pub fn get(&self) -> Option<Refused> {
        mutex::lock(&self.0).clone()
    }
}

#[derive(Debug, Default)]
struct Starts {
    next: u64,
    waiting: BTreeMap<u64, mpsc::Sender<ToWorker>>,
}

#[derive(Debug)]
pub struct StartedHook {
    /// The hook's process, and the group that it leads.
    pub pid: Pid,
    pub id: u64,
    answers: mpsc::Receiver<ToWorker>,
}

impl StartedHook {
    /// Wait for the hook's end. `None`: the supervisor is gone.
    pub fn wait(self) -> Option<ExitStatus> {
        match self.answers.recv() {
            Ok(ToWorker::Ended { status, .. }) => Some(ExitStatus::from_raw(status)),
            _ => None,
        }
    }
}

impl WorkerEnd {
    /// Read what comes over `channel`, on a thread of its own. `reopen` takes the log that was reopened; `alone` is called
    /// when the supervisor is gone.
    pub fn new(
        channel: Channel,
        reopen: impl Fn(OwnedFd) + Send + 'static,
        alone: impl FnOnce() + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let end = Arc::new(Self {
            channel,
            ordered: Mutex::new(Life::Prepared),
            bell: Bell::new(),
            starts: Mutex::default(),
            refused: Refusal::default(),
            gone: AtomicBool::new(false),
        });
        let listening = end.clone();
        std::thread::Builder::new().name("orders".into()).spawn(move || {
            listening.listen(&reopen);
            alone();
        })?;
        Ok(end)
    }

    fn listen(&self, reopen: &impl Fn(OwnedFd)) {
        while let Ok(Some((order, beside))) = self.channel.receive(RecvFlags::empty()) {
            match order {
                ToWorker::Be(life) => self.advance(life),
                ToWorker::WorkerGone => {
                    self.gone.store(true, Ordering::Release);
                    self.bell.notify(usize::MAX);
                }
                ToWorker::ReopenLog => beside.into_iter().take(1).for_each(reopen),
                ToWorker::Refused(refused) => *mutex::lock(&self.refused.0) = Some(refused),
                ToWorker::Started { id, .. } => self.pass_on(id, order, false),
                ToWorker::NotStarted { id, .. } | ToWorker::Ended { id, .. } => self.pass_on(id, order, true),
            }
        }
        mutex::lock(&self.starts).waiting.clear();
    }

    fn advance(&self, to: Life) {
        let mut ordered = mutex::lock(&self.ordered);
        *ordered = to.max(*ordered);
        drop(ordered);
        self.bell.notify(usize::MAX);
    }

    fn pass_on(&self, id: u64, order: ToWorker, is_last: bool) {
        let mut starts = mutex::lock(&self.starts);
        if let Some(waiting) = starts.waiting.get(&id) {
            // The thread that started the hook may not wait for it any more.
            waiting.send(order).ok();
        }
        if is_last {
            starts.waiting.remove(&id);
        }
    }

    /// Wait until the worker is ordered a state after `life`, and give that.
    pub async fn beyond(&self, life: Life) -> Life {
        loop {
            let listener = self.bell.listen();
            let now = *mutex::lock(&self.ordered);
            if now > life {
                return now;
            }
            listener.await;
        }
    }

    /// Wait until another worker was killed, or failed. Ends once for all of those until then.
    pub async fn worker_gone(&self) {
        loop {
            let listener = self.bell.listen();
            if self.gone.swap(false, Ordering::AcqRel) {
                return;
            }
            listener.await;
        }
    }

    pub fn refusal(&self) -> Refusal {
        self.refused.clone()
    }

    /// Tell the supervisor something that has no answer. If it is gone, this process ends in a moment.
    pub fn report(&self, message: &ToSupervisor) {
        self.channel.send(message, &[], SendFlags::empty()).ok();
    }

    /// Tell the supervisor that this process ends now: a thread that the kernel holds may delay that.
    pub fn close(&self) {
        shutdown(&self.channel, Shutdown::Write).ok();
    }

    /// Have a hook started; its output goes to `outputs`. The `id` of `start` is set here.
    pub fn start(&self, mut start: Start, outputs: [OwnedFd; 2]) -> io::Result<StartedHook> {
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
            .send(&ToSupervisor::Start(start), &outputs, SendFlags::empty())
        {
            mutex::lock(&self.starts).waiting.remove(&id);
            return Err(err);
        }
        match answers.recv() {
            Ok(ToWorker::Started { pid, .. }) => {
                let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
                Ok(StartedHook { pid, id, answers })
            }
            Ok(ToWorker::NotStarted { errno, .. }) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::base::{control::Which, name::TriggerName};

    fn end() -> (Channel, Arc<WorkerEnd>) {
        let (supervisor, worker) = Channel::pair().unwrap();
        (supervisor, WorkerEnd::new(worker, |_| {}, || {}).unwrap())
    }

    #[test]
    fn orders_only_go_on() {
        let (supervisor, end) = end();
        supervisor
            .send(&ToWorker::Be(Life::Stopping), &[], SendFlags::empty())
            .unwrap();
        assert_eq!(block_on(end.beyond(Life::Serving)), Life::Stopping);
        supervisor
            .send(&ToWorker::Be(Life::Draining), &[], SendFlags::empty())
            .unwrap();
        supervisor
            .send(&ToWorker::Be(Life::Aborting), &[], SendFlags::empty())
            .unwrap();
        assert_eq!(block_on(end.beyond(Life::Stopping)), Life::Aborting);
    }

    #[test]
    fn a_vanished_supervisor_is_noticed() {
        let (supervisor, worker) = Channel::pair().unwrap();
        let (sender, alone) = mpsc::channel();
        let _link = WorkerEnd::new(worker, |_| {}, move || sender.send(()).unwrap()).unwrap();
        drop(supervisor);
        alone.recv().unwrap();
    }

    #[test]
    fn a_start_gets_its_own_answers() {
        let (supervisor, end) = end();
        let start = |end: &Arc<WorkerEnd>| {
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
            end.start(start, [writer.into(), other.into()])
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| start(&end));
            let receive = || match supervisor.receive(RecvFlags::empty()) {
                Ok(Some((ToSupervisor::Start(start), fds))) => (start.id, fds.len()),
                other => panic!("{other:?}"),
            };
            let (one, fds) = receive();
            assert_eq!(fds, 2);
            supervisor
                .send(&ToWorker::Started { id: one, pid: 7 }, &[], SendFlags::empty())
                .unwrap();
            let first = first.join().unwrap().unwrap();
            let second = scope.spawn(|| start(&end));
            let (two, _) = receive();
            assert_ne!(one, two);
            supervisor
                .send(
                    &ToWorker::NotStarted { id: two, errno: 2 },
                    &[],
                    SendFlags::empty(),
                )
                .unwrap();
            supervisor
                .send(
                    &ToWorker::Ended {
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
