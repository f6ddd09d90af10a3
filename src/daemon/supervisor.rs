//! The main process of the daemon: it holds the listening sockets, and a worker does all other work.
//!
//! It has one thread, reads no bytes of clients, and is outside of the sandbox of its worker. So it can replace the worker when the
//! configuration changes: the old worker finishes its runs while the new one already accepts connections on the same sockets
//! ([`Life`]). It receives the signals, notifies systemd, starts the hooks that run outside of the sandbox, and as process 1 of a
//! container reaps orphans. It ends with its worker; if it is killed, the kernel kills the worker, too.

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
        control::{Channel, Life, ToSupervisor},
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
use signals::{Request, Signals};
use worker::{Worker, pass_on, send};

/// What the supervisor needs from its caller.
pub struct Options<'a> {
    /// Reads the configuration; the error is the lines to log.
    pub load: &'a dyn Fn() -> Result<Config, Vec<String>>,
    /// The command that shows all errors of the configuration.
    pub check: String,
    /// The work of a worker, in its own process; gives the exit status.
    pub work: &'a dyn Fn(Work) -> u8,
    /// Kills hooks if this process is killed.
    pub guard: &'a Guard,
    /// Reopens the log, and gives it for the workers, whose sandbox does not allow to open it.
    pub reopen_log: &'a dyn Fn() -> Option<OwnedFd>,
    /// Called once, when it listens and before any client is answered. The error is the exit status.
    pub listening: &'a dyn Fn() -> Result<(), u8>,
    /// Called once, when the first worker serves.
    pub ready: &'a dyn Fn(),
}

/// What a worker gets.
#[derive(Debug)]
pub struct Work {
    /// The configuration to serve.
    pub config: Arc<Config>,
    /// The sockets to serve on.
    pub sockets: Vec<Socket>,
    /// The channel to the supervisor.
    pub channel: Channel,
    /// The interval of systemd's watchdog, if it has one.
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
    /// No worker can be started.
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
/// configuration names their addresses; the other sockets are opened.
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
        goal: Life::Serving,
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
        // The worker ends when the channel is closed.
        return Ok(status);
    }
    supervisor.go_on()
}

struct Supervisor<'a> {
    options: &'a Options<'a>,
    /// `None` only in a forked worker.
    signals: Option<Signals>,
    watchdog: Option<Duration>,
    /// The sockets of the configuration that is in force.
    listeners: Vec<(Listener, Socket)>,
    /// The sockets that were opened for the next configuration.
    opened: Vec<(Listener, Socket)>,
    workers: Vec<Worker>,
    watch: renewal::Watch,
    /// Hooks that were started for a worker, by their process ids.
    hooks: BTreeMap<i32, HookId>,
    /// The process groups of hooks that got SIGTERM, until their worker asks to kill them: the leader may end before its group.
    left: HashMap<HookId, i32>,
    /// The state that all workers are to reach: `Serving`, `Stopping` or `Aborting`.
    goal: Life,
    /// When the daemon ends even if runs still go on; `None` if it was not told to stop.
    gone_by: Option<Instant>,
    /// The configuration that was last served.
    in_force: Option<Arc<Config>>,
    is_ready: bool,
    /// Whether a reload was requested during a reload.
    reload_again: bool,
    /// Whether a worker was killed, or failed, and the serving one has not been told yet.
    has_leftovers: bool,
    /// The reload that was refused last, if none has succeeded since.
    refused: Option<Refused>,
    /// Whether `refused` is not about a reload, but about a new worker for the configuration in force.
    is_renewal_refused: bool,
    exit: u8,
}

/// How many messages of one worker are read before the others get their turn.
const TURN: usize = 64;

impl Supervisor<'_> {
    /// The main loop, until the last worker has ended.
    fn go_on(mut self) -> Result<u8, Error> {
        while !self.workers.is_empty() {
            self.wait();
            let requests = self.signals.as_mut().map(Signals::requests).unwrap_or_default();
            for request in requests {
                match request {
                    Request::Stop => self.stop(),
                    Request::Reload => self.reload(),
                    Request::ReopenLog => self.reopen_log(),
                    Request::Reap => {}
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
        if self.is_stopping() {
            tracing::info!("stopped");
            return Ok(self.exit);
        }
        // The worker has ended without a signal to stop, which is a failure.
        Ok(self.exit.max(1))
    }

    fn is_stopping(&self) -> bool {
        self.goal > Life::Serving
    }

    /// Wait for a signal, a message, or the next deadline.
    fn wait(&self) {
        let signals = self.signals.iter().map(Signals::wakes);
        let speaking = self.workers.iter().filter(|worker| worker.silent.is_none());
        let mut fds: Vec<_> = signals
            .map(|stream| PollFd::new(stream, PollFlags::IN))
            .chain(speaking.map(|worker| {
                let room = if worker.unsent.borrow().is_empty() {
                    PollFlags::empty()
                } else {
                    PollFlags::OUT
                };
                PollFd::new(&worker.channel, PollFlags::IN | room)
            }))
            .chain(
                self.watch
                    .wakes()
                    .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
            )
            .collect();
        // The result does not matter, since the caller then checks all.
        let ends = self.workers.iter().filter_map(Worker::gone_at);
        let until = ends.chain(self.gone_by).chain(self.watch.due()).min();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        poll(&mut fds, left.as_ref()).ok();
    }

    /// Start a worker for `config`, with its sockets.
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
                    life: Life::Starting,
                    held: Vec::new(),
                    silent: None,
                    unsent: RefCell::default(),
                });
            }
        }
        Ok(())
    }

    /// In the new process: close the supervisor's signals, sockets and channels, and work.
    fn work(&mut self, config: Arc<Config>, channel: Channel) -> u8 {
        let supervisor = rustix::process::getppid();
        if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err()
            || rustix::process::getppid() != supervisor
        {
            return 1;
        }
        // From here on this process ignores signals: a terminal sends them to both processes.
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

    /// Receive the messages of the worker `pid`.
    fn hear(&mut self, pid: Pid) {
        for _ in 0..TURN {
            let Some(worker) = self.workers.iter_mut().find(|worker| worker.pid == pid) else {
                return;
            };
            let speaks = matches!(worker.life, Life::Serving | Life::Stopping);
            match worker.channel.receive(RecvFlags::DONTWAIT) {
                Ok(Some((ToSupervisor::Holds { path, identity }, _))) => self.hold(pid, path, identity),
                Ok(Some((ToSupervisor::Reached(Life::Prepared), _))) => self.prepared(pid),
                Ok(Some((ToSupervisor::Reached(Life::Serving), _))) => self.take_over(pid),
                Ok(Some((ToSupervisor::Reached(Life::Finishing), _))) => self.closed(pid),
                Ok(Some((ToSupervisor::Reached(_), _))) => {}
                Ok(Some((ToSupervisor::Status(status), _))) if speaks => systemd::status(&status),
                Ok(Some((ToSupervisor::Alive, _))) if speaks => systemd::alive(),
                Ok(Some((ToSupervisor::Status(_) | ToSupervisor::Alive, _))) => {}
                Ok(Some((ToSupervisor::Start(start), outputs))) => self.start_hook(pid, &start, outputs),
                Ok(Some((ToSupervisor::Kill { id, at_once }, _))) => {
                    self.kill_hook(HookId { worker: pid, id }, at_once);
                }
                // The worker has ended, or is about to end; its wait status tells how.
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

    /// The worker `pid` reports that it has reached `life`. Gives whether its state has changed.
    fn reach(&mut self, pid: Pid, life: Life) -> bool {
        let mut workers = self.workers.iter_mut();
        workers
            .find(|worker| worker.pid == pid)
            .is_some_and(|worker| worker.reach(life))
    }

    fn config(&self, worker: Pid) -> Option<Arc<Config>> {
        let found = self.workers.iter().find(|found| found.pid == worker);
        found.map(|worker| worker.config.clone())
    }

    /// SIGTERM or SIGINT: the workers finish their runs; at the second one they abort; at the third they are killed.
    fn stop(&mut self) {
        match self.goal {
            Life::Stopping => self.goal = Life::Aborting,
            Life::Aborting => {
                for worker in &self.workers {
                    kill_process(worker.pid, Signal::KILL).ok();
                }
            }
            _ => {
                systemd::stopping();
                self.goal = Life::Stopping;
                self.gone_by = Some(self.last_moment());
                // From now on, the kernel refuses connections.
                self.listeners.clear();
                self.opened.clear();
            }
        }
        for worker in &mut self.workers {
            worker.order(self.goal);
        }
    }

    /// SIGUSR1.
    fn reopen_log(&mut self) {
        if let Some(log) = (self.options.reopen_log)().map(Rc::new) {
            self.workers.iter().for_each(|worker| pass_on(worker, &log));
        }
    }
}
