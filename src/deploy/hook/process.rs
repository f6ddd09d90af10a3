//! A hook from its start to its end: its lines become events, and a group that outlives its time is killed whole.

use std::{
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read},
    process::{Child, ExitStatus},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Pid;

use super::{Options, Starter, command::command, groups::Group};
use crate::base::{
    control::{self, Which},
    event::{Event, Stream},
    fault::one_line,
};

/// How many times, and after which pause, to try a program that is still open for writing.
const BUSY_TRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How this process learns of the hook's end.
pub(super) enum End {
    Child(Child),
    Supervisor(control::StartedHook),
}

impl End {
    fn wait(self) -> Option<ExitStatus> {
        match self {
            Self::Child(mut child) => child.wait().ok(),
            Self::Supervisor(started) => started.wait(),
        }
    }
}

/// Start a program. One that this run has just written may be busy (`ETXTBSY`): between fork(2) and execve(2), a process that
/// another thread starts holds copies of all our descriptors. No event tells when that is over.
pub(super) fn start(
    which: Which,
    outputs: &[PipeWriter; 2],
    options: &Options<'_>,
) -> io::Result<(Group, End)> {
    for _ in 0..BUSY_TRIES {
        match start_once(which, outputs, options) {
            Err(err) if err.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::park_timeout(BUSY_PAUSE);
            }
            started => return started,
        }
    }
    start_once(which, outputs, options)
}

fn start_once(which: Which, outputs: &[PipeWriter; 2], options: &Options<'_>) -> io::Result<(Group, End)> {
    let [stdout, stderr] = outputs;
    let (stdout, stderr) = (stdout.try_clone()?, stderr.try_clone()?);
    let Options {
        target,
        located,
        git_dir,
        env,
        old_new,
        ..
    } = *options;
    Ok(match options.starter {
        Starter::Here => {
            let mut command = command(target, (which, located), git_dir, env, old_new)
                .ok_or(io::ErrorKind::InvalidInput)?;
            command.stdout(stdout).stderr(stderr);
            let mut spawned = None;
            options.limits.0(&mut || spawned = Some(command.spawn()))?;
            let child = spawned.ok_or(io::ErrorKind::Interrupted)??;
            let pid = Pid::from_child(&child);
            options.groups.guard(pid);
            (Group { pid, outside: None }, End::Child(child))
        }
        Starter::Supervisor(link) => {
            let start = control::Start {
                id: 0,
                trigger: target.trigger.clone(),
                which,
                release: located.map(Into::into),
                env: env.clone(),
                old_new: old_new.clone(),
            };
            let started = link.start(start, [stdout.into(), stderr.into()])?;
            let group = Group {
                pid: started.pid,
                outside: Some((link.clone(), started.id)),
            };
            (group, End::Supervisor(started))
        }
    })
}

/// What the threads report to the run.
enum HookEvent {
    Line(Stream, String),
    EndOfOutput,
    Exited(ExitStatus),
}

/// How long to wait for the end of the output once the hook itself has ended: a daemon that it started may hold the pipe for
/// ever.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a group may take between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// The threads that read a hook's lines and wait for its end.
pub(super) struct Threads {
    /// What the hook is to write to.
    pub(super) outputs: [PipeWriter; 2],
    /// Tells the thread what to wait for.
    waiter: mpsc::Sender<End>,
    hook_events: mpsc::Receiver<HookEvent>,
}

impl Threads {
    pub(super) fn new() -> io::Result<Self> {
        let (sender, hook_events) = mpsc::sync_channel(256);
        let (out, stdout) = io::pipe()?;
        let (err, stderr) = io::pipe()?;
        read_lines(out, Stream::Stdout, sender.clone())?;
        read_lines(err, Stream::Stderr, sender.clone())?;
        let (waiter, ends) = mpsc::channel::<End>();
        thread::Builder::new().name("hook".into()).spawn(move || {
            // Without a status the supervisor has ended, and this process is about to end, too.
            if let Some(status) = ends.recv().ok().and_then(End::wait) {
                sender.send(HookEvent::Exited(status)).ok();
            }
        })?;
        Ok(Self {
            outputs: [stdout, stderr],
            waiter,
            hook_events,
        })
    }
}

/// Pass on the hook's lines until it has ended; `None` if it had to be killed.
pub(super) fn wait_or_kill(
    group: &Group,
    end: End,
    threads: Threads,
    timeout: Duration,
    options: &Options<'_>,
) -> Option<ExitStatus> {
    options.groups.add(group);
    let Threads {
        outputs,
        waiter,
        hook_events,
    } = threads;
    let mut open = outputs.len();
    // Only the hook's copies are left, so the pipes end with the hook.
    drop(outputs);
    waiter.send(end).ok();
    let mut status = None;
    let mut killed = Killed::No;
    let mut until = options.until.min(Instant::now() + timeout);
    while status.is_none() || open > 0 {
        // A group that prints without end must not outlive its timeout either.
        let left = until.saturating_duration_since(Instant::now());
        let hook_event = if left.is_zero() {
            None
        } else {
            hook_events.recv_timeout(left).ok()
        };
        match hook_event {
            Some(HookEvent::Line(stream, line)) => options.events.emit(Event::HookLine { stream, line }),
            Some(HookEvent::EndOfOutput) => open -= 1,
            Some(HookEvent::Exited(code)) => {
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
    // Some processes of the group may have ignored SIGTERM, or outlived their leader.
    if killed != Killed::No {
        group.end(true);
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
    fn escalate(self, group: &Group) -> Self {
        let next = match self {
            Self::No => Self::Term,
            Self::Term | Self::Kill => Self::Kill,
        };
        group.end(next == Self::Kill);
        next
    }
}

/// The longest line passed on whole, in bytes; longer ones are broken.
const MAX_LINE: u64 = 8 * 1024;

/// Read lines on a thread of its own, until the pipe or the receiver ends.
fn read_lines(pipe: PipeReader, stream: Stream, hook_events: mpsc::SyncSender<HookEvent>) -> io::Result<()> {
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
            if hook_events.send(HookEvent::Line(stream, one_line(text))).is_err() {
                return;
            }
        }
        hook_events.send(HookEvent::EndOfOutput).ok();
    };
    thread::Builder::new()
        .name("hook's lines".into())
        .spawn(read)
        .map(drop)
}
