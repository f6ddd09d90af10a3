//! The process that is there all the time: it holds the listening sockets, and has a worker do everything else.
//!
//! It has one thread, reads nothing that strangers send, and is outside of the sandbox that its worker closes around
//! itself. So it can replace the worker when the configuration changes: the old one finishes its runs while the new one
//! accepts already, on the same sockets. It receives the signals, speaks with systemd, starts the hooks that are to be
//! outside, and as process 1 of a container reaps what nobody else waits for. It ends with its worker; and if it is
//! killed, the worker is, too.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    io,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::RecvFlags,
    process::{Pid, Signal, kill_process},
};

use crate::{
    base::{
        control::{Channel, Level, Order, Report},
        event::Refused,
        fault::{Blame, Kind},
    },
    config::{Config, Listener},
    daemon::listen::{self, Socket},
    deploy::hook::Guard,
};

mod ending;
mod handover;
mod hooks;
mod renewal;
mod signals;
mod systemd;
mod worker;
use hooks::HookId;
use signals::{Signals, Wish};
use worker::{Phase, Worker, order, pass_on, send};

/// What the supervisor is given to do its work with.
pub struct Options<'a> {
    /// Reads the configuration anew; the error is what to log, line by line.
    pub load: &'a dyn Fn() -> Result<Config, Vec<String>>,
    /// What a worker does, in its own process, up to its exit status.
    pub work: &'a dyn Fn(Work) -> u8,
    /// Kills hooks if this process is killed.
    pub guard: &'a Guard,
    /// Opens the log anew, and gives it for the workers: where it is, they may not write.
    pub reopen_log: &'a dyn Fn() -> Option<OwnedFd>,
    /// Told once, when it listens and before anybody is answered. The error is the exit status.
    pub listening: &'a dyn Fn() -> Result<(), u8>,
    /// Told once, when the first worker serves.
    pub ready: &'a dyn Fn(),
}

/// What a worker is given.
#[derive(Debug)]
pub struct Work {
    /// What to serve.
    pub config: Arc<Config>,
    /// Where.
    pub sockets: Vec<Socket>,
    /// The way to the supervisor.
    pub channel: Channel,
    /// How often systemd wants to hear that it is alive.
    pub watchdog: Option<Duration>,
    /// Whether no worker has served before.
    pub is_first: bool,
}

/// The daemon could not be started.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(#[source] io::Error),
    /// No worker can be made.
    #[error("cannot start a process: {0}")]
    #[diagnostic(help("raise the limit of processes of the user that gitsocket runs as"))]
    Fork(#[source] io::Error),
    /// It cannot listen.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Listen(#[from] listen::Error),
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Signals(_) => Kind::Internal,
            Self::Fork(_) => Kind::Resources,
            Self::Listen(err) => err.kind(),
        }
    }
}

/// Serve `config` until a signal says to stop, and give the exit status. `inherited` sockets are used where the
/// configuration speaks of them, the others are opened.
pub fn supervise(
    config: Config,
    inherited: Vec<(Listener, Socket)>,
    options: &Options<'_>,
) -> Result<u8, Error> {
    let mut supervisor = Supervisor {
        options,
        signals: Some(Signals::new().map_err(Error::Signals)?),
        watchdog: sd_notify::watchdog_enabled(),
        listeners: inherited,
        opened: Vec::new(),
        workers: Vec::new(),
        watch: renewal::Watch::default(),
        hooks: BTreeMap::new(),
        left: HashMap::new(),
        level: Level::Serve,
        gone_by: None,
        in_force: None,
        has_leftovers: false,
        is_ready: false,
        reload_again: false,
        refused: None,
        is_renewal_refused: false,
        exit: 0,
    };
    supervisor.begin(Arc::new(config))?;
    if let Err(status) = (options.listening)() {
        // The worker ends with the channel.
        return Ok(status);
    }
    supervisor.go_on()
}

struct Supervisor<'a> {
    options: &'a Options<'a>,
    /// Always there, but in a worker.
    signals: Option<Signals>,
    watchdog: Option<Duration>,
    /// The sockets of the configuration that is in force.
    listeners: Vec<(Listener, Socket)>,
    /// Those that were opened for the one that is to be.
    opened: Vec<(Listener, Socket)>,
    workers: Vec<Worker>,
    watch: renewal::Watch,
    /// Hooks that were started for a worker, by their processes.
    hooks: BTreeMap<i32, HookId>,
    /// The groups of those that were asked to end, until their worker says the last of them: their leaders may be gone before.
    left: HashMap<HookId, i32>,
    level: Level,
    /// When it ends, whatever still goes on: once it was told to stop.
    gone_by: Option<Instant>,
    /// The configuration that was last served.
    in_force: Option<Arc<Config>>,
    is_ready: bool,
    /// Whether a reload was asked for during a reload.
    reload_again: bool,
    /// Whether a worker was killed, or failed, and the one that serves does not know yet.
    has_leftovers: bool,
    /// The reload that was refused last, with none since that was not.
    refused: Option<Refused>,
    /// It was no reload, but another worker for the configuration that is in force.
    is_renewal_refused: bool,
    exit: u8,
}

/// Messages of one worker that are read before the others get their turn.
const TURN: usize = 64;

impl Supervisor<'_> {
    /// Until the last worker has ended.
    fn go_on(mut self) -> Result<u8, Error> {
        while !self.workers.is_empty() {
            self.wait();
            let wishes = self.signals.as_mut().map(Signals::wishes).unwrap_or_default();
            for wish in wishes {
                match wish {
                    Wish::Stop => self.stop(),
                    Wish::Reload => self.reload(),
                    Wish::ReopenLog => self.reopen_log(),
                    Wish::Reap => {}
                }
            }
            for pid in self.workers.iter().map(|worker| worker.pid).collect::<Vec<_>>() {
                self.hear(pid);
            }
            self.workers.iter().for_each(send);
            self.reap();
            self.look_after();
            self.leave_behind();
        }
        if self.level > Level::Serve {
            tracing::info!("stopped");
            return Ok(self.exit);
        }
        // Nobody has asked for that.
        Ok(self.exit.max(1))
    }

    /// Until there is a signal or a message, or somebody has had its time.
    fn wait(&self) {
        let signals = self.signals.iter().map(Signals::wakes);
        let speaking = self.workers.iter().filter(|worker| worker.silent.is_none());
        let mut fds: Vec<_> = signals
            .map(|stream| PollFd::new(stream, PollFlags::IN))
            .chain(speaking.map(|worker| {
                let room = match worker.unsent.borrow().is_empty() {
                    true => PollFlags::empty(),
                    false => PollFlags::OUT,
                };
                PollFd::new(&worker.channel, PollFlags::IN | room)
            }))
            .chain(
                self.watch
                    .wakes()
                    .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
            )
            .collect();
        // A signal interrupts it; whatever the reason is, everything is looked at.
        let ends = self.workers.iter().filter_map(Worker::gone_at);
        let until = ends.chain(self.gone_by).chain(self.watch.due()).min();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        poll(&mut fds, left.as_ref()).ok();
    }

    /// Start a worker for `config`, with the sockets that it wants.
    fn begin(&mut self, config: Arc<Config>) -> Result<(), Error> {
        for listener in &config.listen {
            if !self.listeners.iter().any(|(open, _)| open.is_at(listener)) {
                let going = |open: &&(Listener, Socket)| !config.listen.iter().any(|new| open.0.is_at(new));
                let going = self.listeners.iter().filter(going).map(|(_, socket)| socket);
                match listen::bind(listener, going) {
                    Ok(socket) => {
                        tracing::info!(address = socket.address(), "listening");
                        self.opened.push((listener.clone(), socket));
                    }
                    Err(err) => {
                        self.opened.clear();
                        return Err(err.into());
                    }
                }
            }
        }
        let forked = Channel::pair().and_then(|ends| Ok((ends, fork::fork()?)));
        let ((ours, theirs), forked) = forked.map_err(|err| {
            self.opened.clear();
            Error::Fork(err)
        })?;
        match forked {
            fork::Fork::Child => {
                drop(ours);
                let status = self.work(config, theirs);
                std::process::exit(status.into());
            }
            fork::Fork::Parent(pid) => {
                self.workers.push(Worker {
                    pid: Pid::from_raw(pid).ok_or_else(|| Error::Fork(io::ErrorKind::InvalidData.into()))?,
                    channel: ours,
                    config,
                    phase: Phase::Starting,
                    held: Vec::new(),
                    silent: None,
                    unsent: RefCell::default(),
                });
            }
        }
        Ok(())
    }

    /// In the new process: let go of what is the supervisor's, and work.
    fn work(&mut self, config: Arc<Config>, channel: Channel) -> u8 {
        let supervisor = rustix::process::getppid();
        if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err()
            || rustix::process::getppid() != supervisor
        {
            return 1;
        }
        // From here on signals mean nothing to this process: a terminal sends them to both.
        self.signals = None;
        self.watch = renewal::Watch::default();
        self.workers.clear();
        let mut open = std::mem::take(&mut self.listeners);
        open.append(&mut self.opened);
        let sockets = open.into_iter().filter_map(|(open, mut socket)| {
            let wanted = config.listen.iter().find(|listener| listener.is_at(&open))?;
            if let Socket::Tcp(..) = socket {
                listen::adjust(&mut socket, wanted).ok()?;
            }
            Some(socket)
        });
        let work = Work {
            sockets: sockets.collect(),
            config: config.clone(),
            channel,
            watchdog: self.watchdog,
            is_first: !self.is_ready,
        };
        (self.options.work)(work)
    }

    /// What the worker `pid` has to say.
    fn hear(&mut self, pid: Pid) {
        for _ in 0..TURN {
            let Some(worker) = self.workers.iter_mut().find(|worker| worker.pid == pid) else {
                return;
            };
            let is_serving = worker.phase == Phase::Serving;
            match worker.channel.receive(RecvFlags::DONTWAIT) {
                Ok(Some((Report::Holds { path, identity }, _))) => self.hold(pid, path, identity),
                Ok(Some((Report::Prepared, _))) => self.prepared(pid),
                Ok(Some((Report::Ready, _))) => self.take_over(pid),
                Ok(Some((Report::Closed, _))) => self.closed(pid),
                Ok(Some((Report::Status(status), _))) if is_serving => systemd::status(&status),
                Ok(Some((Report::Alive, _))) if is_serving => systemd::alive(),
                Ok(Some((Report::Status(_) | Report::Alive, _))) => {}
                Ok(Some((Report::Start(start), outputs))) => self.start_hook(pid, &start, outputs),
                Ok(Some((Report::Kill { id, at_once }, _))) => {
                    self.kill_hook(HookId { worker: pid, id }, at_once);
                }
                // It has ended, or is about to: its wait status says how.
                Ok(None) => {
                    worker.silent.get_or_insert_with(Instant::now);
                    return;
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                Err(err) if err.kind() == io::ErrorKind::ConnectionReset => {}
                Err(err) => {
                    tracing::error!("cannot understand the worker, which is killed: {err}");
                    kill_process(pid, Signal::KILL).ok();
                    worker.silent.get_or_insert_with(Instant::now);
                    return;
                }
            }
        }
    }

    fn config(&self, worker: Pid) -> Option<Arc<Config>> {
        let found = self.workers.iter().find(|found| found.pid == worker);
        found.map(|worker| worker.config.clone())
    }

    /// SIGTERM or SIGINT: no new connections; the second time at once; and then without asking.
    fn stop(&mut self) {
        match self.level {
            Level::Prepare | Level::Serve | Level::Drain => {
                systemd::stopping();
                self.level = Level::Stop;
                self.gone_by = Some(self.last_moment());
                // Who comes now finds nobody.
                self.listeners.clear();
                self.opened.clear();
            }
            Level::Stop => self.level = Level::Abort,
            Level::Abort => {
                for worker in &self.workers {
                    kill_process(worker.pid, Signal::KILL).ok();
                }
            }
        }
        for worker in &self.workers {
            order(worker, Order::Level(self.level));
        }
    }

    /// SIGUSR1.
    fn reopen_log(&mut self) {
        if let Some(log) = (self.options.reopen_log)().map(Rc::new) {
            self.workers.iter().for_each(|worker| pass_on(worker, &log));
        }
    }
}
