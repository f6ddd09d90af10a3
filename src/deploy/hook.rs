//! Hooks: the only programs that are ever started.
//!
//! Each runs as a process group of its own in the worktree, without a shell and without input; what it
//! prints becomes events line by line. A group that outlives its timeout is killed whole. It is started by this process,
//! inside whatever sandbox that is in, or by the supervisor outside of it: see [`Starter`].

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    base::{
        control::{Which, WorkerEnd},
        event::{Event, Nth, Sink},
        fault::one_line,
    },
    config::{DEFAULT_HOOK_TIMEOUT, Hook, Target},
    deploy::release::located::Located,
};

mod command;
mod error;
mod groups;
pub mod guard;
pub mod install;
mod owner;
mod process;
pub use command::{OF_RELEASES, command, fixed, may_run};
pub use error::Error;
pub use groups::Groups;
pub use guard::Guard;

use command::is_usable;
use process::{Threads, start, wait_or_kill};

/// What a hook is started with.
#[derive(Debug)]
pub struct Options<'a> {
    /// Whose hook it is.
    pub target: &'a Target,
    /// The release that is the hook's working directory; without it, that is the trigger's `path`.
    pub located: Option<&'a Located>,
    /// The repository's git directory, where `hooks/post-checkout` is looked for.
    pub git_dir: &'a Path,
    /// `GITSOCKET_*`, and what else depends on the run.
    pub env: &'a BTreeMap<String, OsString>,
    /// The previous and the new commit, as `post-checkout` gets them, see githooks(5).
    pub old_new: &'a (String, String),
    /// Where its lines go.
    pub events: &'a Sink,
    /// The process groups that are killed if the daemon has to stop at once.
    pub groups: &'a Groups,
    /// The process that starts it.
    pub starter: &'a Starter,
    /// Limits what is started in this process to what a hook may do there.
    pub limits: Limits<'a>,
    /// When it has to have ended, whatever its own timeout is.
    pub until: Instant,
}

/// Starts a process inside limits that hold from its beginning.
#[derive(Clone, Copy)]
pub struct Limits<'a>(pub &'a dyn Fn(&mut (dyn FnMut() + Send)) -> io::Result<()>);

impl std::fmt::Debug for Limits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limits")
    }
}

/// The process that starts hooks.
#[derive(Debug, Clone)]
pub enum Starter {
    /// This process.
    Here,
    /// The supervisor of this worker.
    Supervisor(Arc<WorkerEnd>),
}

/// How a hook ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ran, with exit status 0.
    Succeeded,
    /// There is no `post-checkout`, or no such program.
    Absent,
}

/// Run a program of the target to its end, for as long as `limit` at most.
pub fn run(which: Which, limit: Duration, options: &Options<'_>) -> Result<Outcome, Error> {
    let hook = command::program(options.target, which);
    let timeout = match hook {
        Some(Hook::Exec { timeout, .. }) => *timeout,
        Some(Hook::PostCheckout) if is_usable(options) => DEFAULT_HOOK_TIMEOUT,
        Some(Hook::PostCheckout) | None => return Ok(Outcome::Absent),
    };
    let name = hook.map_or("", Hook::name);
    execute(which, &one_line(name), timeout.min(limit), options)
}

fn execute(which: Which, name: &str, timeout: Duration, options: &Options<'_>) -> Result<Outcome, Error> {
    let nth = nth(which, options.target);
    let hook = match nth {
        Some(Nth { number, of }) => format!("{name} ({number} of {of})"),
        None => name.to_owned(),
    };
    let failed = |source| Error::Start {
        hook: hook.clone(),
        source,
    };
    // Before the hook starts: a hook without these threads would never be killed.
    let threads = Threads::new().map_err(failed)?;
    let (group, end) = start(which, &threads.outputs, options).map_err(failed)?;
    options.events.emit(Event::HookStarted {
        hook: name.into(),
        nth,
    });
    let ended = wait_or_kill(&group, end, threads, timeout, options);
    let is_late = ended.is_none() && Instant::now() >= options.until;
    let (status, success) = match &ended {
        Some(status) => (describe(*status), status.success()),
        None if is_late => ("killed: the run's time is over".into(), false),
        None => (
            format!("timeout after {}", humantime::format_duration(timeout)),
            false,
        ),
    };
    options.events.emit(Event::HookEnded {
        hook: name.into(),
        nth,
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

/// The position of a hook, if another hook of `target` has the same name.
fn nth(which: Which, target: &Target) -> Option<Nth> {
    let Which::Hook(at) = which else { return None };
    let name = target.hooks.get(at)?.name();
    let namesakes = target.hooks.iter().filter(|hook| hook.name() == name);
    (namesakes.count() > 1).then_some(Nth {
        number: at + 1,
        of: target.hooks.len(),
    })
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
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
