//! Which run is next: one at a time for each target, and a bounded number in all.
//!
//! [`Queue`] is a state machine without threads or clocks. [`Scheduler`] runs it with threads, and abandons threads that the kernel
//! does not let go.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering},
    time::Duration,
};

use event_listener::Event as Bell;

use crate::{
    base::{
        control::Refusal,
        event::{self, Done, Event, Sink, Task},
        fault::{Failure, Kind},
        mutex,
        name::{Note, TriggerName},
        watch::{self, Stop},
    },
    config::{Config, Target, unknown_trigger},
    daemon::{
        history::History,
        journal::Journal,
        pauses::Pauses,
        peer::{Accounts, Look, Peer},
        store::Store,
        waiting::Waiting,
    },
    deploy::{
        hook::{Groups, Guard, Starter},
        run::{self, Interrupted},
        sandbox::Sandbox,
        target_dirs::TargetDirs,
    },
    git::{lock::Recovered, transport::Connections, worktree::Cache},
};

mod after;
mod ages;
mod alarm;
mod entry;
mod late;
mod listed;
mod notes;
mod numbers;
mod pause;
mod pending;
mod polls;
mod query;
mod queue;
mod resume;
mod stuck;
mod timer;
use entry::{Run, Slip};
use notes::Notes;
pub use query::Found;
pub use queue::{NoRun, Queue};

/// How long a run that follows another one waits for more clients, since a burst of triggers may last longer than a run.
const GATHER: Duration = Duration::from_millis(200);

/// Runs triggers on threads, as the queue says.
#[derive(Debug)]
pub struct Scheduler {
    queue: Mutex<Queue<Run>>,
    history: History,
    pauses: Pauses,
    waiting: Waiting,
    targets: BTreeMap<TriggerName, Arc<Target>>,
    accounts: Accounts,
    process: Process,
    groups: Groups,
    connections: Connections,
    stop: Stop,
    cache: Cache,
    recovered: Recovered,
    /// A run was accepted, started or ended.
    changed: Bell,
    maintaining: Mutex<()>,
    alarm: alarm::Alarm,
    ages: Mutex<ages::Ages>,
    timer: timer::Timer,
    work: Work,
    /// How long a run may take to end once its time is over.
    grace: Duration,
    /// For metrics: how many runs may go on at a time, and when this process began.
    jobs: u64,
    since: u64,
}

/// Whether `peer` may roll `target` back and retry.
fn may_operate(look: &Look<'_>, peer: &Peer, target: &Target) -> bool {
    let rules = target.operate.as_deref();
    peer.is_own() || rules.is_some_and(|rules| look.may(peer, Some(rules)))
}

/// The function that does a run: [`run::execute`], except in tests.
type Work = fn(&Target, &run::Context) -> Done;

/// A client's request for a run.
#[derive(Debug)]
pub struct Wanted {
    /// The task.
    pub task: Task,
    /// The client's note.
    pub note: Option<Note>,
    /// Whether the client waits until the run has ended.
    pub waits: bool,
}

/// What runs get from their process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Permission bits to remove from new files and directories.
    pub umask: u32,
    /// The sandbox of the process, and of each of its runs.
    pub sandbox: Sandbox,
    /// Starts hooks.
    pub starter: Starter,
    /// Kills hooks if this process is killed.
    pub guard: Guard,
    /// The reload that was refused last.
    pub refusal: Refusal,
    /// The directories of all targets.
    pub target_dirs: TargetDirs,
    /// The state directory.
    pub store: Store,
}

impl Scheduler {
    /// Nothing runs yet.
    pub fn new(config: &Config, process: Process) -> Arc<Self> {
        Self::of(config, process, (run::execute, watch::GRACE))
    }

    fn of(config: &Config, process: Process, (work, grace): (Work, Duration)) -> Arc<Self> {
        let scheduler = Arc::new(Self {
            queue: Mutex::new(Queue::new(config.jobs)),
            history: History::new(process.store.runs(), process.sandbox.clone()),
            pauses: Pauses::new(&process.store),
            waiting: Waiting::new(&process.store),
            targets: config.triggers.clone(),
            accounts: Accounts::default(),
            groups: Groups::new(process.guard.clone()),
            cache: Cache::beside(process.target_dirs.others().clone()),
            process,
            connections: Connections::new(config.keep_alive),
            stop: Stop::default(),
            recovered: Recovered::default(),
            changed: Bell::new(),
            maintaining: Mutex::default(),
            alarm: alarm::Alarm::default(),
            ages: Mutex::default(),
            timer: timer::Timer::default(),
            work,
            grace,
            jobs: config.jobs.get() as u64,
            since: event::now(),
        });
        if let Err(err) = scheduler.look_after_runs() {
            tracing::error!("runs that hang will not be given up on: cannot start a thread: {err}");
        }
        scheduler
    }

    /// The target of `name`, if `peer` may use it. No name is used before this check, or that of `operable`.
    ///
    /// A peer that may not use all triggers cannot tell a trigger that it may not use from one that does not exist.
    pub fn permitted(&self, peer: &Peer, name: &TriggerName) -> Result<&Arc<Target>, Failure> {
        // All triggers are checked for any name, so that the time does not reveal whether it exists.
        let permitted = self.permitted_to(peer);
        if permitted.contains(name) {
            return Ok(&self.targets[name]);
        }
        if permitted.len() == self.targets.len() {
            return Err(unknown_trigger(name.as_str(), permitted.into_iter()));
        }
        Err(Failure::new(
            Kind::NotAllowed,
            format!(
                "there is no trigger {:?} that {} may use",
                name.as_str(),
                self.accounts.look().named(peer)
            ),
            Some("see `gitsocket status` for those it may use"),
        ))
    }

    /// The target of `name`, if `peer` may operate it. A peer that may not use the trigger gets the same error as from
    /// [`Self::permitted`].
    fn operable(&self, peer: &Peer, name: &TriggerName) -> Result<&Arc<Target>, Failure> {
        let look = self.accounts.look();
        let operable: BTreeSet<_> = self
            .targets
            .iter()
            .filter(|(_, target)| may_operate(&look, peer, target))
            .map(|(name, _)| name)
            .collect();
        if operable.contains(name) {
            return Ok(&self.targets[name]);
        }
        self.permitted(peer, name)?;
        Err(Failure::new(
            Kind::NotAllowed,
            format!(
                "{} may trigger {name}, but not roll it back, retry, pause it, or run its hooks again",
                look.named(peer)
            ),
            Some(
                "name those who may in the trigger's `operate`; root and the daemon's user may, over a Unix socket",
            ),
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

    /// Accept a trigger, or an operation; gives the journal of the run that serves it. Blocking, since files are read.
    pub fn trigger(
        self: &Arc<Self>,
        peer: &Peer,
        name: &TriggerName,
        Wanted { task, note, waits }: Wanted,
    ) -> Result<Arc<Journal>, Failure> {
        let target = match task {
            Task::Update => self.permitted(peer, name)?,
            Task::Rollback { .. } | Task::Retry | Task::Hooks => self.operable(peer, name)?,
        };
        if let Some(failure) = self.stopped(target, &task) {
            return Err(failure);
        }
        let peer = self.accounts.look().named(peer);
        let run = self.accept_run(name, Run::new(name, task, &peer, note))?;
        // A client that waits for an operation notices that it was lost; repeating it later could do harm.
        if run.task.is_update() || !waits {
            self.write_down(name, &run);
        }
        Ok(run.journal)
    }

    /// Accept a run of the trigger `name` for `peer`, which is not a client. Its file is not written here.
    fn accept(self: &Arc<Self>, name: &TriggerName, task: Task, peer: &str) -> Result<Run, Failure> {
        self.accept_run(name, Run::new(name, task, peer, None))
    }

    /// Accept `new`, unless an earlier run serves its clients as well. Gives the run that serves them.
    fn accept_run(self: &Arc<Self>, name: &TriggerName, new: Run) -> Result<Run, Failure> {
        let accepted = {
            let mut queue = self.queue();
            let accepted = queue.trigger(name, new.task.clone(), || new.clone());
            // Under the lock, before the run can begin.
            if let Ok(run) = &accepted
                && !Arc::ptr_eq(&run.journal, &new.journal)
            {
                run.serve(&new);
            }
            accepted
        };
        let run = accepted.map_err(|refused| match refused {
            NoRun::Stuck(stuck) => stuck::refusal(&self.targets[name], name, &stuck),
            NoRun::Busy(other) => Failure::new(
                Kind::Busy,
                format!("a {} of {name} waits already", other.word()),
                Some(&format!("wait for its end: gitsocket log -f {name}")),
            ),
        })?;
        self.changed.notify(usize::MAX);
        self.start();
        Ok(run)
    }

    /// Wait until every run that was accepted has ended, or is stuck.
    pub async fn drained(&self) {
        loop {
            let listener = self.changed.listen();
            if self.is_idle() {
                return;
            }
            listener.await;
        }
    }

    /// Whether every run that was accepted has ended, or is stuck.
    pub fn is_idle(&self) -> bool {
        self.queue().is_idle()
    }

    /// Ends when [`Self::summary`] may have changed.
    pub fn changed(&self) -> impl Future<Output = ()> + use<> {
        self.changed.listen()
    }

    /// A line about the runs, for systemd's status.
    pub fn summary(&self) -> String {
        let (running, waiting, stuck) = self.queue().load();
        let triggers = match self.targets.len() {
            1 => "1 trigger".into(),
            n => format!("{n} triggers"),
        };
        let stuck = match stuck {
            0 => String::new(),
            n => format!(", {n} stuck"),
        };
        match (running, waiting) {
            (0, 0) => format!("{triggers}, no run{stuck}"),
            _ => format!("{triggers}, {running} running, {waiting} waiting{stuck}"),
        }
    }

    /// Let runs that wait before another try end at once.
    pub fn stop(&self) {
        self.stop.set();
    }

    /// Kill the hooks that are running, with all processes of their groups.
    pub fn kill_hooks(&self) {
        self.groups.kill();
    }

    /// Start the runs that can start, then polls.
    fn start(self: &Arc<Self>) {
        loop {
            let Some((name, run)) = self.queue().start() else {
                // The jobs that are left are for polls.
                return self.ask_remotes();
            };
            self.timer.run_begins(&name);
            run.began.get_or_init(event::now);
            let watch = run.watch.get_or_init(|| self.watch(&name));
            self.alarm.set(watch.until());
            let scheduler = self.clone();
            let spawned = std::thread::Builder::new().name(format!("run {name}")).spawn({
                let (name, run) = (name.clone(), run.clone());
                move || {
                    scheduler.changed.notify(usize::MAX);
                    let done = scheduler.execute(&name, &run);
                    if run.ended.swap(true, Ordering::AcqRel) {
                        return scheduler.came_back(&name, &done);
                    }
                    let follows = scheduler.finish(&name, &run, done);
                    scheduler.start();
                    if follows {
                        // This wait ends if the daemon stops.
                        scheduler.stop.wait(GATHER);
                        scheduler.queue().follow(&name);
                        scheduler.start();
                    }
                    if run.foregone().is_none() {
                        scheduler.maintain(&name);
                    }
                }
            });
            if let Err(err) = spawned {
                let failure = Failure::new(
                    Kind::Resources,
                    format!("cannot start a thread for the run: {err}"),
                    Some("raise the daemon's limit of tasks, or lower `jobs`"),
                );
                let done = Done::failed(name.as_str(), failure);
                run.ended.store(true, Ordering::Release);
                if self.finish(&name, &run, done) {
                    self.queue().follow(&name);
                }
            }
        }
    }

    fn execute(self: &Arc<Self>, name: &TriggerName, run: &Run) -> Done {
        let target = &self.targets[name];
        if !run.task.is_update() {
            // An operation must not be repeated after a kill.
            self.strike(run);
        }
        if let Some(failure) = self.stopped(target, &run.task) {
            return Done::failed(name.as_str(), failure);
        }
        if let Some(failure) = run.foregone() {
            return Done::failed(name.as_str(), failure);
        }
        let journal = run.journal.clone();
        let context = run::Context {
            run: run.journal.run().clone(),
            peer: run.peer.clone(),
            task: run.task.clone(),
            umask: self.process.umask,
            dry_run: false,
            groups: self.groups.clone(),
            starter: self.process.starter.clone(),
            sandbox: self.process.sandbox.clone(),
            connections: self.connections.clone(),
            watch: run.watch.get_or_init(|| self.watch(name)).clone(),
            cache: self.cache.clone(),
            target_dirs: self.process.target_dirs.clone(),
            recovered: self.recovered.clone(),
            interrupted: Interrupted::new({
                let (scheduler, target) = (self.clone(), target.clone());
                move |marker| scheduler.was_interrupted(&target, marker)
            }),
            // The last event is sent only once the target is free again, see `finish`.
            events: Sink::new({
                let trigger = name.clone();
                move |event| match event {
                    Event::Done(_) => {}
                    event => {
                        after::log_loss(&journal, &trigger, &event);
                        journal.write(event);
                    }
                }
            }),
        };
        let done = catch_unwind(AssertUnwindSafe(|| (self.work)(target, &context)));
        run.received.store(context.events.received(), Ordering::Relaxed);
        done.unwrap_or_else(|_| {
            let failure = Failure::new(
                Kind::Internal,
                "the run stopped at a fault of gitsocket itself",
                Some("please report it, with the lines about the panic in the log"),
            );
            Done::failed(name.as_str(), failure)
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Run>> {
        mutex::lock(&self.queue)
    }
}
