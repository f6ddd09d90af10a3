//! Polls the remotes that are due, on threads that end when no more are due. Each thread takes a job, as a run does, so polls and
//! runs together are never more than `jobs`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Run, Scheduler,
    alarm::Alarm,
    polls::{self, HANGS, Now, Poll, Polls, Verdict},
};
use crate::{
    base::{
        event::{self, Polled, State, Task},
        fault::{Failure, Kind},
        mutex,
        name::TriggerName,
    },
    deploy::poll::{self, Answer},
};

/// The peer of runs that a poll starts.
const PEER: &str = "timer";

/// How long due polls wait for others, so that a thousand polls a minute do not need a thread each.
const GATHERED: Duration = Duration::from_millis(500);

/// One thread is started for so many polls, which usually take a few milliseconds each. If some are still due at the next look, another
/// thread is started.
const EACH: usize = 8;

/// When to try again if no thread can be started.
const RETRY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Timer {
    polls: Mutex<Polls>,
    alarm: Alarm,
    /// Whether polling has ended.
    is_over: AtomicBool,
}

impl Now {
    fn read() -> Self {
        Self {
            at: Instant::now(),
            clock: event::now(),
        }
    }
}

impl Timer {
    fn polls(&self) -> MutexGuard<'_, Polls> {
        mutex::lock(&self.polls)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// A run of `name` begins: answers from before it do not count.
    pub(super) fn run_begins(&self, name: &TriggerName) {
        self.polls().run_begins(name);
    }

    /// A run of `name` has ended; `has_asked`: its remote has answered.
    pub(super) fn run_ended(&self, name: &TriggerName, has_asked: bool) {
        self.change(name, |polls| polls.run_ended(name, has_asked, Now::read()));
    }

    /// Begin a poll that is due, see [`Polls::begin`].
    fn begin(&self, is_idle: impl Fn(&TriggerName) -> bool) -> Option<Poll> {
        let now = Instant::now();
        let poll = self.polls().begin(now, is_idle)?;
        self.alarm.set(now + HANGS);
        Some(poll)
    }

    /// Apply `change`, and set the alarm for the time at which `name` is due after it.
    fn change<T>(&self, name: &TriggerName, change: impl FnOnce(&mut Polls) -> T) -> T {
        let mut polls = self.polls();
        let changed = change(&mut polls);
        let due = polls.when(name);
        drop(polls);
        due.into_iter().for_each(|due| self.alarm.set(due));
        changed
    }

    pub(super) fn polled(&self, name: &TriggerName) -> Option<Polled> {
        self.polls().polled(name, Now::read())
    }

    /// How many polls in a row the remote of `name` has not answered, if it is polled.
    pub(super) fn unanswered(&self, name: &TriggerName) -> Option<u64> {
        let polled = self.polled(name)?;
        Some(polled.failing.map_or(0, |failing| failing.times))
    }
}

impl Scheduler {
    /// Start polling. To be called once, by the worker that serves.
    pub fn poll(self: &Arc<Self>) {
        let polled = self.targets.iter();
        let polled = polled.filter_map(|(name, target)| Some((name.clone(), target.poll?)));
        let polls = Polls::new(polled, Instant::now());
        if polls.is_empty() {
            return;
        }
        *self.timer.polls() = polls;
        let scheduler = self.clone();
        let keep_time = move || {
            loop {
                scheduler.timer.alarm.clear();
                if scheduler.timer.is_over() {
                    return;
                }
                let next = scheduler.look_at_polls();
                scheduler.timer.alarm.wait(next);
            }
        };
        if let Err(err) = thread::Builder::new().name("timer".into()).spawn(keep_time) {
            tracing::error!("remotes are not polled: cannot start a thread: {err}");
        }
    }

    /// End polling: another worker does it, or the daemon stops. Polls that go on are abandoned.
    pub fn end_polls(self: &Arc<Self>) {
        self.timer.is_over.store(true, Ordering::Release);
        self.timer.alarm.set(Instant::now());
        let given_up = self.timer.polls().give_up(None);
        self.give_back(&given_up);
    }

    /// Poll the remote of `name` as soon as possible, if it is polled.
    pub fn poll_soon(self: &Arc<Self>, name: &TriggerName) {
        self.timer.polls().soon(name, Instant::now());
        self.ask_remotes();
    }

    /// Poll the remotes that are due, and abandon polls that hang. Gives when to look again.
    fn look_at_polls(self: &Arc<Self>) -> Option<Instant> {
        let now = Instant::now();
        let hanging = self.timer.polls().give_up_at(Now::read());
        for name in &hanging {
            let trigger = name.as_str();
            tracing::warn!(
                trigger,
                "the remote is not polled until the last poll, which hangs, has ended"
            );
        }
        self.give_back(&hanging);
        for name in &hanging {
            if self.history.counted(&self.targets[name]).1.failing.is_none() {
                self.have_run(name, Some(polls::hangs()));
            }
        }
        let due = self.timer.polls().due(now);
        self.ask_remotes();
        let soon = now + GATHERED;
        if due > 1 {
            // Some may wait for a thread with a slow poll.
            return Some(soon);
        }
        // A poll that was due has a thread, or waits for a free job.
        Some(self.timer.polls().next(now)?.max(soon))
    }

    /// Free the jobs of abandoned polls.
    fn give_back(self: &Arc<Self>, given_up: &[TriggerName]) {
        if given_up.is_empty() {
            return;
        }
        given_up.iter().for_each(|_| self.queue().end_poll());
        self.stop.wake();
        self.start();
    }

    /// Start threads for the remotes that are due, as far as jobs are free.
    pub(super) fn ask_remotes(self: &Arc<Self>) {
        if self.timer.is_over() {
            return;
        }
        let due = self.timer.polls().due(Instant::now());
        for _ in 0..due.div_ceil(EACH) {
            if !self.queue().begin_poll() {
                return;
            }
            let scheduler = self.clone();
            let asking = move || {
                while scheduler.ask_next() {}
            };
            if let Err(err) = thread::Builder::new().name("poll".into()).spawn(asking) {
                tracing::warn!("remotes are not polled now: cannot start a thread: {err}");
                self.queue().end_poll();
                return self.timer.alarm.set(Instant::now() + RETRY);
            }
        }
    }

    /// Poll a remote that is due. Gives whether to go on; if not, the job is free.
    fn ask_next(self: &Arc<Self>) -> bool {
        let is_idle = |name: &TriggerName| self.queue().state(name) == State::Idle;
        let next = if self.timer.is_over() {
            None
        } else {
            self.timer.begin(is_idle)
        };
        if let Some(poll) = &next
            && !self.do_poll(poll)
        {
            return false;
        }
        let goes_on = match next {
            Some(_) => self.queue().next_poll(),
            None => {
                self.queue().end_poll();
                false
            }
        };
        if !goes_on {
            // A run that has the lock may be waiting for the job.
            self.stop.wake();
            self.start();
        }
        goes_on
    }

    /// Do `poll`, and start a run if it calls for one. Gives whether it still has its job.
    fn do_poll(self: &Arc<Self>, poll: &Poll) -> bool {
        let (name, target) = (&poll.name, &self.targets[&poll.name]);
        if self.stuck_at(target).is_some() || self.paused(name).is_some() {
            self.timer
                .change(name, |polls| polls.put_off(poll, Instant::now()));
            return true;
        }
        let answer = catch_unwind(AssertUnwindSafe(|| self.ask(poll))).unwrap_or_else(|_| {
            Err(Failure::new(
                Kind::Internal,
                "the poll stopped at a fault of gitsocket itself",
                Some("please report it, with the lines about the panic in the log"),
            ))
        });
        let is_failing = self.history.counted(target).1.failing.is_some();
        // The run reports this failure without another question to the remote.
        let failure = answer.as_ref().err().cloned();
        let hear = |polls: &mut Polls| polls.answered(poll, answer, is_failing, Now::read());
        let verdict = self.timer.change(name, hear);
        if verdict == Verdict::Run {
            self.have_run(name, failure);
        }
        verdict != Verdict::Late
    }

    /// Start a run of `name` for a new commit; or a run that only reports the `failure` of the poll.
    fn have_run(self: &Arc<Self>, name: &TriggerName, failure: Option<Failure>) {
        if self.timer.is_over() {
            return;
        }
        let accepted = match failure {
            None => self.accept(name, Task::Update, PEER),
            // A run that was accepted meanwhile finds the failure itself.
            Some(_) if self.queue().state(name) != State::Idle => return,
            Some(failure) => self.accept_run(name, Run::failed(name, failure, PEER)),
        };
        if let Err(failure) = accepted {
            tracing::debug!(trigger = name.as_str(), "no run for a poll: {}", failure.message);
        }
    }

    fn ask(&self, poll: &Poll) -> Result<Answer, Failure> {
        let shut_in = (&self.process.sandbox, self.process.target_dirs.links());
        poll::ask(
            &self.targets[&poll.name],
            shut_in,
            &self.connections,
            poll.quiet.as_ref(),
        )
    }
}
