//! Hooks: the only programs that are ever started.
//!
//! Each runs as a process group of its own in the worktree, without a shell and without input; what it
//! prints becomes events line by line. A group that outlives its timeout is killed whole. It is started by this process,
//! inside whatever sandbox that is in, or by the supervisor outside of it: see [`Starter`].

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    base::{
        control::{self, Link},
        event::{Event, Sink, Stream},
        fault::{Blame, Kind, one_line},
    },
    config::{DEFAULT_HOOK_TIMEOUT, Hook, Target},
};

mod groups;
pub mod guard;
pub mod install;
mod owner;
pub use groups::Groups;
pub use guard::Guard;

/// What a hook is run with.
#[derive(Debug)]
pub struct Options<'a> {
    /// Whose hook it is: its `path` is the hook's working directory.
    pub target: &'a Target,
    /// The repository's git directory, where `hooks/post-checkout` is looked for.
    pub git_dir: &'a Path,
    /// `GITSOCKET_*`, and what else depends on the run.
    pub env: &'a BTreeMap<String, OsString>,
    /// The commit before and the commit now, as `post-checkout` gets them, see githooks(5).
    pub old_new: &'a (String, String),
    /// Where its lines go.
    pub events: &'a Sink,
    /// The groups that are running, to be killed if the daemon has to stop at once.
    pub groups: &'a Groups,
    /// Who starts it.
    pub starter: &'a Starter,
    /// When it has to be over, whatever its own timeout is.
    pub until: Instant,
}

/// Who starts hooks.
#[derive(Debug, Clone)]
pub enum Starter {
    /// This process.
    Here,
    /// The supervisor of this worker.
    Supervisor(Arc<Link>),
}

/// How a hook ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ran, with exit status 0.
    Succeeded,
    /// There is no `post-checkout`.
    Absent,
}

/// A hook failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// It could not be started.
    #[error("cannot start the hook {hook}: {source}")]
    #[diagnostic(help("{}", help_start(source)))]
    Start {
        /// The hook.
        hook: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with a status other than 0, or by a signal.
    #[error("the hook {hook} ended with {status}")]
    #[diagnostic(help("see what it printed; it runs again at the next trigger"))]
    Failed {
        /// The hook.
        hook: String,
        /// `exit status 2` or `signal 9`.
        status: String,
    },
    /// The run's time was over before the hook had ended.
    #[error("the hook {hook} was killed")]
    #[diagnostic(help("it runs again at the next trigger"))]
    Late {
        /// The hook.
        hook: String,
    },
    /// It took too long.
    #[error("the hook {hook} was killed after {limit}")]
    #[diagnostic(help("raise the hook's `timeout` if it needs longer; it runs again at the next trigger"))]
    Timeout {
        /// The hook.
        hook: String,
        /// Its timeout.
        limit: String,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Late { .. } => Kind::Timeout,
            Self::Start { .. } | Self::Failed { .. } | Self::Timeout { .. } => Kind::Hook,
        }
    }
}

/// Run the hook number `hook` of the target to its end.
pub fn run(hook: usize, options: &Options<'_>) -> Result<Outcome, Error> {
    let (name, timeout) = match &options.target.hooks[hook] {
        Hook::Exec { run, timeout, .. } => (run.first().map_or("", String::as_str), *timeout),
        Hook::PostCheckout if !is_usable(options) => return Ok(Outcome::Absent),
        Hook::PostCheckout => ("post-checkout", DEFAULT_HOOK_TIMEOUT),
    };
    execute(hook, &one_line(name), timeout, options)
}

/// Whether a run of `target` may start a hook.
pub fn may_run(target: &Target, git_dir: &Path) -> bool {
    target.hooks.iter().any(|hook| match hook {
        Hook::Exec { .. } => true,
        Hook::PostCheckout => post_checkout(git_dir).exists(),
    })
}

fn post_checkout(git_dir: &Path) -> PathBuf {
    git_dir.join("hooks/post-checkout")
}

/// The variables of a hook's environment that do not depend on the run.
pub fn fixed(target: &Target) -> BTreeMap<String, OsString> {
    let mut env: BTreeMap<&str, OsString> = BTreeMap::from([
        ("GITSOCKET_TRIGGER", target.trigger.as_str().into()),
        ("GITSOCKET_REPO", target.origin.repo.to_string().into()),
        ("GITSOCKET_PATH", target.site.path.as_path().into()),
    ]);
    if let Some(git_dir) = &target.site.git_dir {
        // As git does for its hooks: nothing in the worktree tells a hook's git where it is.
        env.insert("GIT_DIR", git_dir.as_path().into());
        env.insert("GIT_WORK_TREE", target.site.path.as_path().into());
    }
    env.into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
}

/// The command that the hook number `hook` of `target` is; `None` if it has not so many, or must not run it. `env` and `old_new` are those
/// of [`Options`].
pub fn command(
    target: &Target,
    hook: usize,
    git_dir: &Path,
    env: &BTreeMap<String, OsString>,
    old_new: &(String, String),
) -> Option<Command> {
    let mut command = match target.hooks.get(hook)? {
        Hook::Exec { run, user_env, .. } => {
            let (program, args) = run.split_first()?;
            let mut command = Command::new(program);
            command.args(args).envs(user_env);
            command
        }
        // Looked at here as well: this may be the supervisor, which does not rely on its worker.
        Hook::PostCheckout if owner::foreign(target, git_dir).is_err() => return None,
        Hook::PostCheckout => {
            let (old, new) = old_new;
            let mut command = Command::new(post_checkout(git_dir));
            command.args([old, new, "1"]);
            command
        }
    };
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    command
        .current_dir(&target.site.path)
        .envs(env)
        .env("PWD", target.site.path.as_path())
        .stdin(Stdio::null())
        .process_group(0);
    Some(command)
}

/// As git does, a hook that is not executable is passed over with a hint; and one that may be another user's.
fn is_usable(options: &Options<'_>) -> bool {
    let file = post_checkout(options.git_dir);
    match std::fs::metadata(&file) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
            let foreign = owner::foreign(options.target, options.git_dir);
            if let Err(foreign) = &foreign {
                options.events.warn(foreign.to_string());
            }
            foreign.is_ok()
        }
        Ok(_) => {
            options.events.warn(format!(
                "{} is not executable and was passed over; type: chmod +x {0}",
                file.display()
            ));
            false
        }
        Err(_) => false,
    }
}

/// Variables that systemd gave to the daemon, and a hook must not take for its own.
const NOT_INHERITED: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

fn execute(hook: usize, name: &str, timeout: Duration, options: &Options<'_>) -> Result<Outcome, Error> {
    let failed = |source| Error::Start {
        hook: name.into(),
        source,
    };
    // Before the hook is there: one that nobody watches would go on for ever.
    let watch = Watch::new().map_err(failed)?;
    let (group, end) = start(hook, &watch.outputs, options).map_err(failed)?;
    options.events.emit(Event::HookStarted { hook: name.into() });
    let ended = supervise(group, end, watch, timeout, options);
    let is_late = ended.is_none() && Instant::now() >= options.until;
    let (status, success) = match &ended {
        Some(status) => (describe(*status), status.success()),
        None if is_late => ("killed: the run's time is over".into(), false),
        None => (
            format!("timeout after {}", humantime::format_duration(timeout)),
            false,
        ),
    };
    let hook = name.to_owned();
    options.events.emit(Event::HookEnded {
        hook: hook.clone(),
        status: status.clone(),
        success,
    });
    match ended {
        Some(status) if status.success() => Ok(Outcome::Succeeded),
        Some(_) => Err(Error::Failed { hook, status }),
        None if is_late => Err(Error::Late { hook }),
        None => Err(Error::Timeout {
            hook,
            limit: humantime::format_duration(timeout).to_string(),
        }),
    }
}

/// How often, and in what time, to try a program that is being written.
const BUSY_TRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How its end is heard of.
enum End {
    Child(Child),
    Supervisor(control::Started),
}

impl End {
    fn wait(self) -> Option<ExitStatus> {
        match self {
            Self::Child(mut child) => child.wait().ok(),
            Self::Supervisor(started) => started.wait(),
        }
    }
}

/// Start a program. One that this run has just written may be busy (`ETXTBSY`): while another thread starts a
/// process, that one holds a copy of every descriptor of ours, until its own program begins. Nothing tells when.
fn start(hook: usize, outputs: &[PipeWriter; 2], options: &Options<'_>) -> io::Result<(Pid, End)> {
    for _ in 0..BUSY_TRIES {
        match start_once(hook, outputs, options) {
            Err(err) if err.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::park_timeout(BUSY_PAUSE);
            }
            started => return started,
        }
    }
    start_once(hook, outputs, options)
}

fn start_once(hook: usize, outputs: &[PipeWriter; 2], options: &Options<'_>) -> io::Result<(Pid, End)> {
    let [stdout, stderr] = outputs;
    let (stdout, stderr) = (stdout.try_clone()?, stderr.try_clone()?);
    let Options {
        target,
        git_dir,
        env,
        old_new,
        ..
    } = *options;
    Ok(match options.starter {
        Starter::Here => {
            let mut command =
                command(target, hook, git_dir, env, old_new).ok_or(io::ErrorKind::InvalidInput)?;
            let child = command.stdout(stdout).stderr(stderr).spawn()?;
            let group = Pid::from_child(&child);
            options.groups.guard(group);
            (group, End::Child(child))
        }
        Starter::Supervisor(link) => {
            let start = control::Start {
                id: 0,
                trigger: target.trigger.clone(),
                hook,
                env: env.clone(),
                old_new: old_new.clone(),
            };
            let started = link.start(start, [stdout.into(), stderr.into()])?;
            (started.pid, End::Supervisor(started))
        }
    })
}

/// What a supervisor waits for.
enum Signs {
    Line(Stream, String),
    EndOfOutput,
    Exited(ExitStatus),
}

/// How long to wait for the output's end once the hook itself has ended: a daemon that it started may
/// hold the pipe for ever.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a group may take between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Those who watch a hook: its lines are read, and its end is waited for, on threads of their own.
struct Watch {
    /// What the hook is to write to.
    outputs: [PipeWriter; 2],
    /// Takes how the hook's end is heard of.
    waiter: mpsc::Sender<End>,
    signs: mpsc::Receiver<Signs>,
}

impl Watch {
    fn new() -> io::Result<Self> {
        let (sender, signs) = mpsc::sync_channel(256);
        let (out, stdout) = io::pipe()?;
        let (err, stderr) = io::pipe()?;
        read_lines(out, Stream::Stdout, sender.clone())?;
        read_lines(err, Stream::Stderr, sender.clone())?;
        let (waiter, ends) = mpsc::channel::<End>();
        thread::Builder::new().name("hook".into()).spawn(move || {
            // Without an answer the supervisor is gone, and so is this process in a moment.
            if let Some(status) = ends.recv().ok().and_then(End::wait) {
                sender.send(Signs::Exited(status)).ok();
            }
        })?;
        Ok(Self {
            outputs: [stdout, stderr],
            waiter,
            signs,
        })
    }
}

/// Pass on the hook's lines until it has ended, or kill it: `None`.
fn supervise(
    group: Pid,
    end: End,
    watch: Watch,
    timeout: Duration,
    options: &Options<'_>,
) -> Option<ExitStatus> {
    options.groups.add(group);
    let Watch {
        outputs,
        waiter,
        signs,
    } = watch;
    let mut open = outputs.len();
    // The hook's copies are the last ones.
    drop(outputs);
    waiter.send(end).ok();
    let mut status = None;
    let mut killed = Killed::No;
    let mut until = options.until.min(Instant::now() + timeout);
    while status.is_none() || open > 0 {
        // A group that prints without end must not outlive its timeout either.
        let left = until.saturating_duration_since(Instant::now());
        let sign = if left.is_zero() {
            None
        } else {
            signs.recv_timeout(left).ok()
        };
        match sign {
            Some(Signs::Line(stream, line)) => options.events.emit(Event::HookLine { stream, line }),
            Some(Signs::EndOfOutput) => open -= 1,
            Some(Signs::Exited(code)) => {
                status = Some(code);
                until = Instant::now() + DRAIN;
            }
            None if status.is_some() => break,
            None => {
                killed = killed.escalate(group);
                until = Instant::now() + GRACE;
            }
        }
    }
    // Whatever of the group ignored SIGTERM, or was left by a leader that did not.
    if killed != Killed::No {
        kill_process_group(group, Signal::KILL).ok();
    }
    options.groups.remove(group);
    status.filter(|_| killed == Killed::No)
}

/// How far the killing of a group has got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Killed {
    No,
    Term,
    Kill,
}

impl Killed {
    fn escalate(self, group: Pid) -> Self {
        let (signal, next) = match self {
            Self::No => (Signal::TERM, Self::Term),
            Self::Term | Self::Kill => (Signal::KILL, Self::Kill),
        };
        kill_process_group(group, signal).ok();
        next
    }
}

/// The longest line passed on whole, in bytes; longer ones are broken.
const MAX_LINE: u64 = 8 * 1024;

/// Read lines on a thread of their own. It ends with the pipe, or with its listener.
fn read_lines(pipe: PipeReader, stream: Stream, signs: mpsc::SyncSender<Signs>) -> io::Result<()> {
    let read = move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut pipe).take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            if signs.send(Signs::Line(stream, one_line(text))).is_err() {
                return;
            }
        }
        signs.send(Signs::EndOfOutput).ok();
    };
    thread::Builder::new()
        .name("hook's lines".into())
        .spawn(read)
        .map(drop)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}

fn help_start(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "the program, or the interpreter in its first line, is not there",
        io::ErrorKind::PermissionDenied => {
            "it must be executable for the user that gitsocket runs as: chmod +x"
        }
        _ if source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            "no shell is used: a script needs a first line such as #!/bin/sh"
        }
        io::ErrorKind::WouldBlock => "raise the daemon's limit of tasks, or lower `jobs`",
        _ => "try it by hand as the user that gitsocket runs as",
    }
}

/// The directory for temporary files of hooks that are inside a sandbox: below the git directory.
pub fn scratch(git_dir: &Path) -> PathBuf {
    git_dir.join("gitsocket/tmp")
}

/// The file that `GITSOCKET_CHANGED_FILES` names: below the git directory.
pub fn changed_files(git_dir: &Path) -> PathBuf {
    git_dir.join("gitsocket/changed-files")
}
