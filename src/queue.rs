//! Which run is next: one at a time per target, a bounded number in all, and never more than one waiting
//! behind the one that goes on.
//!
//! [`Queue`] is a state machine without threads or clocks. [`Scheduler`] gives it threads.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError},
};

use event_listener::Event as Bell;

use crate::{
    config::{Config, Target, unknown_trigger},
    event::{self, Done, Event, Last, Past, Reporter, State},
    fault::{Failure, Kind},
    history::{self, History},
    hook::{Groups, Starter},
    journal::Journal,
    name::{RunId, TriggerName},
    peer::{Accounts, Peer},
    run::{self, Stop},
    sandbox::Sandbox,
    tidy,
    transport::Connections,
    worktree::Memory,
};

mod recall;
pub use recall::Found;

/// What each target does, and who is next. `R` is a run.
#[derive(Debug)]
pub struct Queue<R> {
    /// A target that is not here is idle.
    targets: BTreeMap<TriggerName, Slot<R>>,
    /// Targets whose run waits for a job, the longest wait first.
    ready: VecDeque<TriggerName>,
    free_jobs: usize,
}

#[derive(Debug)]
enum Slot<R> {
    /// Its run waits for a job.
    Waiting(R),
    /// Its run goes on.
    Running(R),
    /// Its run goes on, and another follows.
    RunningThen(R, R),
}

impl<R: Clone> Queue<R> {
    /// At most `jobs` runs at a time.
    pub fn new(jobs: NonZeroUsize) -> Self {
        Self {
            targets: BTreeMap::new(),
            ready: VecDeque::new(),
            free_jobs: jobs.get(),
        }
    }

    /// The run that serves a trigger said now: one that has not yet started, or else a new one.
    pub fn trigger(&mut self, name: &TriggerName, new: impl FnOnce() -> R) -> R {
        match self.targets.get_mut(name) {
            Some(Slot::Waiting(run) | Slot::RunningThen(_, run)) => run.clone(),
            Some(slot @ Slot::Running(_)) => {
                let run = new();
                if let Slot::Running(running) = slot {
                    *slot = Slot::RunningThen(running.clone(), run.clone());
                }
                run
            }
            None => {
                let run = new();
                self.targets.insert(name.clone(), Slot::Waiting(run.clone()));
                self.ready.push_back(name.clone());
                run
            }
        }
    }

    /// The next run to start, which takes a job until [`Self::finished`].
    pub fn start(&mut self) -> Option<(TriggerName, R)> {
        if self.free_jobs == 0 {
            return None;
        }
        let name = self.ready.pop_front()?;
        let Some(Slot::Waiting(run)) = self.targets.remove(&name) else {
            unreachable!("only waiting targets are ready");
        };
        self.targets.insert(name.clone(), Slot::Running(run.clone()));
        self.free_jobs -= 1;
        Some((name, run))
    }

    /// The run of `name` has ended. One that follows goes to the end of the line.
    pub fn finished(&mut self, name: &TriggerName) {
        self.free_jobs += 1;
        if let Some(Slot::RunningThen(_, run)) = self.targets.remove(name) {
            self.targets.insert(name.clone(), Slot::Waiting(run));
            self.ready.push_back(name.clone());
        }
    }

    /// What the target of `name` does.
    pub fn state(&self, name: &TriggerName) -> State {
        match self.targets.get(name) {
            None => State::Idle,
            Some(Slot::Waiting(_)) => State::Waiting,
            Some(Slot::Running(_)) => State::Running,
            Some(Slot::RunningThen(..)) => State::RunningThenQueued,
        }
    }

    /// How many runs go on, and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let slots = self.targets.values();
        slots.fold((0, 0), |(running, waiting), slot| match slot {
            Slot::Waiting(_) => (running, waiting + 1),
            Slot::Running(_) => (running + 1, waiting),
            Slot::RunningThen(..) => (running + 1, waiting + 1),
        })
    }

    /// The runs of `name` that have not ended: the one that goes on, then the one that waits.
    pub fn runs(&self, name: &TriggerName) -> impl Iterator<Item = &R> {
        let (first, second) = match self.targets.get(name) {
            None => (None, None),
            Some(Slot::Waiting(run) | Slot::Running(run)) => (Some(run), None),
            Some(Slot::RunningThen(run, next)) => (Some(run), Some(next)),
        };
        first.into_iter().chain(second)
    }

    /// Whether nothing runs or waits.
    pub fn is_idle(&self) -> bool {
        self.targets.is_empty()
    }
}

/// Runs triggers on threads, as the queue says.
#[derive(Debug)]
pub struct Scheduler {
    queue: Mutex<Queue<Run>>,
    history: History,
    targets: BTreeMap<TriggerName, Arc<Target>>,
    accounts: Accounts,
    process: Process,
    groups: Groups,
    connections: Connections,
    stop: Stop,
    memory: Memory,
    /// A run was accepted, started or ended.
    changed: Bell,
    tidying: Mutex<()>,
}

/// What runs get from the process that they are part of.
#[derive(Debug, Clone)]
pub struct Process {
    /// Permission bits that new files and directories do not get.
    pub umask: u32,
    /// What it is shut out of, and each of its runs besides.
    pub sandbox: Sandbox,
    /// Who starts hooks.
    pub starter: Starter,
}

/// A run that has been accepted.
#[derive(Debug, Clone)]
struct Run {
    journal: Arc<Journal>,
    /// Who asked for it first.
    peer: Arc<str>,
    /// When; and when it began.
    accepted: u64,
    began: Arc<OnceLock<u64>>,
}

impl Scheduler {
    /// Nothing runs yet.
    pub fn new(config: &Config, process: Process) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue::new(config.jobs)),
            history: History::new(history::dir()),
            targets: config.triggers.clone(),
            accounts: Accounts::default(),
            process,
            groups: Groups::default(),
            connections: Connections::new(config.keep_alive),
            stop: Stop::default(),
            memory: Memory::default(),
            changed: Bell::new(),
            tidying: Mutex::default(),
        })
    }

    /// The target that `name` stands for, if `peer` may use it: to be asked before anything else is done with a name.
    ///
    /// To a peer that may not use some of the triggers, one of these and one that is not there look the same.
    pub fn permitted(&self, peer: &Peer, name: &TriggerName) -> Result<&Arc<Target>, Failure> {
        // All are checked whatever the name, so that not even the time tells whether it is there.
        let permitted = self.permitted_to(peer);
        if permitted.contains(name) {
            return Ok(&self.targets[name]);
        }
        if permitted.len() == self.targets.len() {
            return Err(unknown_trigger(name.as_str(), permitted.into_iter()));
        }
        Err(Failure::new(
            Kind::NotAllowed,
            format!("there is no trigger {:?} that {peer} may use", name.as_str()),
            Some("see `gitsocket status` for those it may use"),
        ))
    }

    /// The triggers that `peer` may use.
    fn permitted_to(&self, peer: &Peer) -> BTreeSet<&TriggerName> {
        let look = self.accounts.look();
        self.targets
            .iter()
            .filter(|(_, target)| look.may(peer, target.allow.as_deref()))
            .map(|(name, _)| name)
            .collect()
    }

    /// Accept a trigger; the journal is that of the run which serves it.
    pub fn trigger(self: &Arc<Self>, peer: &Peer, name: &TriggerName) -> Result<Arc<Journal>, Failure> {
        self.permitted(peer, name)?;
        let run = self.queue().trigger(name, || {
            let journal = Journal::new(RunId::new());
            journal.write(Event::Queued {
                trigger: name.clone(),
            });
            Run {
                journal,
                peer: peer.to_string().into(),
                accepted: event::now(),
                began: Arc::default(),
            }
        });
        self.changed.notify(usize::MAX);
        self.start();
        Ok(run.journal)
    }

    /// Wait until every run that was accepted has ended.
    pub async fn drained(&self) {
        loop {
            let listener = self.changed.listen();
            if self.is_idle() {
                return;
            }
            listener.await;
        }
    }

    /// Whether every run that was accepted has ended.
    pub fn is_idle(&self) -> bool {
        self.queue().is_idle()
    }

    /// Ends when something in [`Self::summary`] may have changed from now on.
    pub fn changed(&self) -> impl Future<Output = ()> + use<> {
        self.changed.listen()
    }

    /// What goes on, in a line for people.
    pub fn summary(&self) -> String {
        let (running, waiting) = self.queue().load();
        let triggers = match self.targets.len() {
            1 => "1 trigger".into(),
            n => format!("{n} triggers"),
        };
        match (running, waiting) {
            (0, 0) => format!("{triggers}, no run"),
            _ => format!("{triggers}, {running} running, {waiting} waiting"),
        }
    }

    /// Let runs that wait to try again end at once.
    pub fn stop(&self) {
        self.stop.set();
    }

    /// Kill the hooks that are running, with all they started.
    pub fn kill_hooks(&self) {
        self.groups.kill();
    }

    /// Start whatever can start.
    fn start(self: &Arc<Self>) {
        loop {
            let Some((name, run)) = self.queue().start() else {
                return;
            };
            run.began.get_or_init(event::now);
            let scheduler = self.clone();
            let spawned = std::thread::Builder::new().name(format!("run {name}")).spawn({
                let (name, run) = (name.clone(), run.clone());
                move || {
                    scheduler.changed.notify(usize::MAX);
                    let done = scheduler.execute(&name, &run);
                    scheduler.finish(&name, &run, done);
                    scheduler.start();
                    scheduler.tidy(&name);
                }
            });
            if let Err(err) = spawned {
                let failure = Failure::new(
                    Kind::Resources,
                    format!("cannot start a thread for the run: {err}"),
                    Some("raise the daemon's limit of tasks, or lower `jobs`"),
                );
                let done = Done::failed(name.as_str(), failure);
                self.finish(&name, &run, done);
            }
        }
    }

    fn execute(&self, name: &TriggerName, run: &Run) -> Done {
        let target = &self.targets[name];
        let journal = run.journal.clone();
        let context = run::Context {
            run: run.journal.run().clone(),
            umask: self.process.umask,
            dry_run: false,
            groups: self.groups.clone(),
            starter: self.process.starter.clone(),
            sandbox: self.process.sandbox.clone(),
            connections: self.connections.clone(),
            stop: self.stop.clone(),
            memory: self.memory.clone(),
            // The run's own last event is held back until the target is free again, see `finish`.
            report: Reporter::new(move |event| match event {
                Event::Done(_) => {}
                event => journal.write(event),
            }),
        };
        catch_unwind(AssertUnwindSafe(|| run::execute(target, &context))).unwrap_or_else(|_| {
            let failure = Failure::new(
                Kind::Internal,
                "the run stopped at a fault of gitsocket itself",
                Some("please report it, with the lines about the panic in the log"),
            );
            Done::failed(name.as_str(), failure)
        })
    }

    /// The run has ended: remember it, free its target, then tell its followers. So whoever has seen the end of a
    /// run finds it in the log, and if it triggers again, gets a run that starts afterwards.
    fn finish(&self, name: &TriggerName, run: &Run, done: Done) {
        log(run, &done);
        self.remember(name, run, &done);
        self.queue().finished(name);
        run.journal.write(Event::Done(done));
        self.changed.notify(usize::MAX);
    }

    fn remember(&self, name: &TriggerName, run: &Run, done: &Done) {
        let (lost, mut events) = run.journal.kept();
        events.push(Event::Done(done.clone()));
        let ended = event::now();
        let past = Past {
            peer: run.peer.to_string(),
            accepted: run.accepted,
            began: run.began.get().copied().unwrap_or(ended),
            ended,
            done: done.clone(),
        };
        let ended = history::Ended {
            last: Last {
                run: run.journal.run().clone(),
                past,
            },
            events: &events,
            lost,
        };
        self.history.keep(&self.targets[name], ended);
    }

    /// Tidy the target of a run that has ended, if that is due: one at a time, so that runs have the machine.
    fn tidy(&self, name: &TriggerName) {
        let _alone = match self.tidying.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(alone)) => alone.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let trigger = name.as_str();
        match catch_unwind(AssertUnwindSafe(|| {
            run::tidy(&self.targets[name], &self.process.sandbox)
        })) {
            Ok(Ok(tidy::Outcome::NotDue | tidy::Outcome::Busy)) => {}
            Ok(Ok(outcome)) => tracing::info!(trigger, ?outcome, "tidied"),
            Ok(Err(failure)) => tracing::warn!(trigger, "cannot tidy: {}", failure.message),
            Err(_) => tracing::error!(trigger, "tidying stopped at a fault of gitsocket itself"),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Run>> {
        lock(&self.queue)
    }
}

/// One line a run.
fn log(run: &Run, done: &Done) {
    let Done {
        trigger,
        old,
        new,
        changed,
        ms,
        ..
    } = done;
    let [old, new] = [old, new].map(|id| id.as_deref().unwrap_or("-"));
    let (id, peer) = (run.journal.run().as_str(), &*run.peer);
    match &done.failure {
        None => tracing::info!(run = id, peer, trigger, old, new, changed, ms, "{}", done.line()),
        Some(failure) => {
            let kind = failure.kind.as_str();
            tracing::error!(
                run = id,
                peer,
                trigger,
                old,
                new,
                changed,
                ms,
                kind,
                "{}",
                done.line()
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while one of these is held leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> TriggerName {
        TriggerName::new(format!("t{n}")).unwrap()
    }

    /// Whatever the interleaving: a trigger is served by a run that starts after it, a burst costs at most
    /// two runs, no more than `jobs` run at once, one at a time per target, and nobody is forgotten.
    #[test]
    fn random_interleavings() {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..300 {
            let jobs = rng.usize(1..4);
            let mut queue = Queue::new(NonZeroUsize::new(jobs).unwrap());
            let (mut next_run, mut started) = (0, Vec::<usize>::new());
            let mut running: Vec<(TriggerName, usize)> = Vec::new();
            let mut served = Vec::new();
            for _ in 0..200 {
                match rng.u8(0..3) {
                    0 => {
                        let name = name(rng.usize(0..5));
                        let run = queue.trigger(&name, || {
                            next_run += 1;
                            next_run
                        });
                        assert!(!started.contains(&run), "served by a run that had started before");
                        served.push(run);
                    }
                    1 => {
                        if let Some((name, run)) = queue.start() {
                            assert!(running.iter().all(|(other, _)| *other != name));
                            running.push((name, run));
                            started.push(run);
                            assert!(running.len() <= jobs);
                        }
                    }
                    _ if !running.is_empty() => {
                        let (name, _) = running.swap_remove(rng.usize(..running.len()));
                        queue.finished(&name);
                    }
                    _ => {}
                }
            }
            loop {
                if let Some((name, run)) = queue.start() {
                    started.push(run);
                    running.push((name, run));
                } else if let Some((name, _)) = running.pop() {
                    queue.finished(&name);
                } else {
                    break;
                }
            }
            assert!(queue.is_idle());
            assert!(served.iter().all(|run| started.contains(run)));
            started.sort_unstable();
            assert_eq!(
                started,
                (1..=next_run).collect::<Vec<_>>(),
                "every run starts once"
            );
        }
    }

    /// A queue, and all that happened to it.
    struct Watched {
        queue: Queue<usize>,
        /// How many runs were made: the next one's number.
        made: usize,
        /// The runs that were started, in order.
        starts: Vec<(TriggerName, usize)>,
        running: Vec<TriggerName>,
        /// Triggers: how many runs had started, in all and of their target, and which run is to serve them.
        triggers: Vec<(TriggerName, usize, usize, usize)>,
        /// Targets in the line, and how many runs had started when they entered it.
        waiting: BTreeMap<TriggerName, usize>,
    }

    impl Watched {
        fn new(jobs: usize) -> Self {
            Self {
                queue: Queue::new(NonZeroUsize::new(jobs).unwrap()),
                made: 0,
                starts: Vec::new(),
                running: Vec::new(),
                triggers: Vec::new(),
                waiting: BTreeMap::new(),
            }
        }

        fn trigger(&mut self, name: &TriggerName) {
            let made = &mut self.made;
            let run = self.queue.trigger(name, || {
                *made += 1;
                *made
            });
            let own = self.starts.iter().filter(|(other, _)| other == name).count();
            self.triggers.push((name.clone(), self.starts.len(), own, run));
            self.look_at_the_line(name);
        }

        fn finish(&mut self, which: usize) {
            let name = self.running.swap_remove(which);
            self.queue.finished(&name);
            self.look_at_the_line(&name);
        }

        fn look_at_the_line(&mut self, name: &TriggerName) {
            if self.queue.state(name) == State::Waiting {
                self.waiting.entry(name.clone()).or_insert(self.starts.len());
            }
        }

        fn start(&mut self) -> bool {
            let Some((name, run)) = self.queue.start() else {
                return false;
            };
            assert!(!self.running.contains(&name), "two runs of {name} at once");
            // Nobody passes twice: so the line is at most as long as there are targets.
            let passed = &self.starts[self.waiting.remove(&name).unwrap()..];
            let others: BTreeSet<_> = passed.iter().map(|(other, _)| other).collect();
            assert_eq!(others.len(), passed.len(), "{name} was passed twice: {passed:?}");
            assert!(!others.contains(&name));
            self.running.push(name.clone());
            self.starts.push((name, run));
            true
        }
    }

    /// Whatever the interleaving, and with targets that are triggered without end: a trigger is answered by a run that
    /// starts after it arrived; a burst costs two runs at most, as triggers between two starts of their target share
    /// one; and a run that waits for a job sees every other target start once at most before it starts itself.
    #[test]
    fn no_target_starves_another() {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..300 {
            let (jobs, targets) = (rng.usize(1..5), rng.usize(2..8));
            let endless = rng.usize(0..targets);
            let mut watched = Watched::new(jobs);
            for _ in 0..200 {
                (0..endless).for_each(|n| watched.trigger(&name(n)));
                match rng.u8(0..4) {
                    0 => watched.trigger(&name(rng.usize(0..targets))),
                    1 | 2 => drop(watched.start()),
                    _ if !watched.running.is_empty() => {
                        let which = rng.usize(..watched.running.len());
                        watched.finish(which);
                    }
                    _ => {}
                }
            }
            while watched.start() || !watched.running.is_empty() {
                if !watched.start() {
                    watched.finish(0);
                }
            }
            assert!(watched.queue.is_idle() && watched.waiting.is_empty());
            let mut runs = BTreeMap::new();
            for (name, before, own, run) in &watched.triggers {
                let at = watched
                    .starts
                    .iter()
                    .position(|(_, started)| started == run)
                    .unwrap();
                assert!(
                    at >= *before,
                    "a trigger of {name} is answered by a run that had started"
                );
                let shared = runs.entry((name, own)).or_insert(run);
                assert_eq!(*shared, run, "one burst of {name} cost too many runs");
            }
            assert_eq!(watched.starts.len(), watched.made, "every run starts once");
        }
    }

    #[test]
    fn a_burst_costs_two_runs_and_nobody_starves() {
        let mut queue = Queue::new(NonZeroUsize::MIN);
        let mut runs = 0;
        let mut trigger = |queue: &mut Queue<usize>, n| {
            queue.trigger(&name(n), || {
                runs += 1;
                runs
            })
        };
        trigger(&mut queue, 0);
        assert_eq!(queue.start().unwrap().0, name(0));
        let served: Vec<_> = (0..100).map(|_| trigger(&mut queue, 0)).collect();
        assert_eq!(served, vec![2; 100]);
        trigger(&mut queue, 1);
        queue.finished(&name(0));
        assert_eq!(queue.start().unwrap().0, name(1), "who waited longer is first");
        queue.finished(&name(1));
        assert_eq!(queue.start().unwrap().0, name(0));
        queue.finished(&name(0));
        assert!(queue.is_idle());
    }

    #[test]
    fn runs_are_seen_from_their_acceptance_to_their_end() {
        let mut queue = Queue::new(NonZeroUsize::MIN);
        let seen = |queue: &Queue<u8>| queue.runs(&name(0)).copied().collect::<Vec<_>>();
        assert!(seen(&queue).is_empty());
        queue.trigger(&name(0), || 1);
        assert_eq!(seen(&queue), [1]);
        assert_eq!(queue.start(), Some((name(0), 1)));
        assert_eq!(seen(&queue), [1]);
        assert_eq!(queue.trigger(&name(0), || 2), 2);
        assert_eq!(seen(&queue), [1, 2]);
        queue.finished(&name(0));
        assert_eq!(seen(&queue), [2]);
        assert_eq!(queue.start(), Some((name(0), 2)));
        queue.finished(&name(0));
        assert!(seen(&queue).is_empty());
    }
}
