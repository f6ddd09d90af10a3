//! With Landlock (landlock(7)), the daemon gives up access to all that its configuration does not name.
//!
//! There are two layers. The whole worker is limited to what all triggers need ([`Sandbox::enforce`]). Each run is also
//! limited to what its own target needs ([`Sandbox::confine`]), with rules that are made for the run, since targets and
//! keys are replaced while the daemon runs. The kernel never gives access back: another configuration needs another
//! process. `no_new_privs` (prctl(2)) is set as well: no process inside gains privileges, hooks included.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use landlock::ABI;

use crate::{
    base::{
        calls,
        fault::{Blame, Kind},
        identity::Identity,
    },
    config::{Config, HookSide, SandboxMode, Target},
    deploy::links::{Links, Planted},
    git::repository,
};

mod allowed;
mod policy;
mod rules;
mod sources;
use allowed::Allowed;
use policy::Policy;
use rules::{restrict, restrict_writing};

/// What the daemon was started with, besides its configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// The file that the configuration was read from.
    pub config: Option<&'a Path>,
    /// The directories of the files that survive a restart, such as the history.
    pub state: &'a [PathBuf],
}

/// The sandbox could not be enforced.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The kernel has no Landlock, and the configuration requires a sandbox.
    #[error("this kernel cannot make the sandbox that the configuration requires: {reason}")]
    #[diagnostic(help(
        "it needs Linux 5.19 with Landlock among its security modules (see /sys/kernel/security/lsm), and permission to call \
         seccomp(2), which a unit of systemd gives by SystemCallFilter=seccomp; or write sandbox: BestEffort"
    ))]
    Missing {
        /// What the kernel says.
        reason: String,
    },
    /// There is no thread to confine.
    #[error("cannot start a thread for the run: {0}")]
    #[diagnostic(help("raise the daemon's limit of tasks, or lower `jobs`"))]
    Thread(#[source] io::Error),
    /// A path leads through a link that a hook may have made.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Planted(#[from] Planted),
    /// A target borrows from a repository that is not its source.
    #[error(
        "{} borrows objects from {}, which the daemon's sandbox does not open for it; nothing was touched",
        git_dir.display(), lender.display()
    )]
    #[diagnostic(help(
        "copy the objects into it: git --git-dir={0} repack -a -d && rm {0}/objects/info/alternates; or write sandbox: Off",
        git_dir.display()
    ))]
    Borrows {
        git_dir: PathBuf,
        /// The directory of objects.
        lender: PathBuf,
    },
    /// The kernel has Landlock, but a call failed.
    #[error("cannot enforce the sandbox: {reason}")]
    #[diagnostic(help(
        "write sandbox: Off to run without a sandbox, and report this with the kernel's version"
    ))]
    Failed { reason: String },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } => Kind::Config,
            Self::Thread(_) => Kind::Resources,
            Self::Planted(err) => err.kind(),
            Self::Borrows { .. } => Kind::Repository,
            Self::Failed { .. } => Kind::Internal,
        }
    }
}

/// A sandbox that is enforced, or why there is none.
#[derive(Debug, Clone)]
pub struct Sandbox {
    state: State,
    hooks: HookSide,
}

#[derive(Debug, Clone)]
enum State {
    Off,
    Missing(String),
    Enforced {
        abi: ABI,
        ports: BTreeSet<u16>,
        allowed: Arc<Allowed>,
        by_inode: Vec<(PathBuf, Option<Identity>)>,
        /// Why seccomp does not refuse the system calls that Landlock does not cover, if it does not.
        unrefused: Option<String>,
    },
}

impl Sandbox {
    /// Confine this thread and all that it starts from now on. The process may have no other thread yet.
    pub fn enforce(config: &Config, files: Files<'_>, links: &Links) -> Result<Self, Error> {
        let hooks = config.sandbox.hooks;
        let state = match config.sandbox.mode {
            SandboxMode::Off => State::Off,
            mode => {
                let allowed = Arc::new(Allowed::of(config, files.config, links.clone()));
                let policy = Policy::of_worker(config, files.state, &allowed);
                // Taken before the rules open these paths: a replacement in between is then noticed.
                let identity = |path: &Path| fs::metadata(path).ok().map(|meta| Identity::of(&meta));
                let paths = policy.by_inode.iter();
                let by_inode = paths.map(|path| (path.clone(), identity(path))).collect();
                match restrict(&policy).and_then(|abi| Ok((abi, refuse(mode)?))) {
                    Ok((abi, unrefused)) => State::Enforced {
                        abi,
                        ports: policy.ports,
                        allowed,
                        by_inode,
                        unrefused,
                    },
                    Err(Error::Missing { reason }) if mode == SandboxMode::BestEffort => {
                        State::Missing(reason)
                    }
                    Err(err) => return Err(err),
                }
            }
        };
        Ok(Self { state, hooks })
    }

    /// No sandbox, as for a command that a user typed.
    pub fn off() -> Self {
        Self {
            state: State::Off,
            hooks: HookSide::Inside,
        }
    }

    /// Do some `work` for `target`, limited to what that target needs. A thread of its own does it, since no thread leaves
    /// a sandbox. The target's directory must exist. A panic goes on to the caller.
    pub fn confine<T: Send>(&self, target: &Target, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        self.confine_to(target, work, |allowed| {
            Policy::of_run(target, self.hooks, allowed)
        })
    }

    /// As [`Self::confine`], for work that only asks the target's remote for news, and writes nothing.
    pub fn confine_poll<T: Send>(
        &self,
        target: &Target,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, Error> {
        self.confine_to(target, work, |allowed| Policy::of_poll(target, allowed))
    }

    fn confine_to<T: Send>(
        &self,
        target: &Target,
        work: impl FnOnce() -> T + Send,
        policy: impl FnOnce(&Arc<Allowed>) -> Result<Policy, Planted> + Send,
    ) -> Result<T, Error> {
        let State::Enforced { allowed, .. } = &self.state else {
            return Ok(work());
        };
        let confined = || restrict(&policy(allowed)?).map(|_| work());
        let ended = thread::scope(|scope| {
            let thread = thread::Builder::new().name(format!("in {}", target.trigger));
            let spawned = thread.spawn_scoped(scope, confined);
            spawned.map(thread::ScopedJoinHandle::join)
        });
        match ended {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(err) => Err(Error::Thread(err)),
        }
    }

    /// Do some `work` that may write below the directories `dirs` only, on a thread of its own; all other limits are those of
    /// this thread. Where hooks are outside of the sandbox, the work is not limited further.
    pub fn limit_writing(&self, dirs: &[PathBuf], work: &mut (dyn FnMut() + Send)) -> io::Result<()> {
        let (State::Enforced { allowed, .. }, HookSide::Inside) = (&self.state, self.hooks) else {
            work();
            return Ok(());
        };
        let real: Vec<PathBuf> = dirs.iter().filter_map(|dir| allowed.lead(dir).ok()).collect();
        let limited = || {
            restrict_writing(&real).map_err(io::Error::other)?;
            work();
            Ok(())
        };
        thread::scope(|scope| {
            let spawned = thread::Builder::new().spawn_scoped(scope, limited)?;
            match spawned.join() {
                Ok(ended) => ended,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Check that this run may read the repositories that the one at `git_dir` borrows objects from. A missing one is not
    /// an error here: the repository's own check reports it.
    pub fn look_at_lenders(&self, git_dir: &Path) -> Result<(), Error> {
        if !self.is_enforced() {
            return Ok(());
        }
        let is_denied = |dir: &PathBuf| {
            let opened = fs::read_dir(dir);
            opened.is_err_and(|err| err.kind() == io::ErrorKind::PermissionDenied)
        };
        match repository::lenders(git_dir).into_iter().find(is_denied) {
            None => Ok(()),
            Some(lender) => Err(Error::Borrows {
                git_dir: git_dir.into(),
                lender,
            }),
        }
    }

    /// Paths whose rules are bound to the inode that was there when the sandbox was enforced, and that inode: once it is
    /// replaced, another sandbox is needed.
    pub fn by_inode(&self) -> &[(PathBuf, Option<Identity>)] {
        match &self.state {
            State::Enforced { by_inode, .. } => by_inode,
            State::Off | State::Missing(_) => &[],
        }
    }

    /// Whether the kernel enforces it.
    pub fn is_enforced(&self) -> bool {
        matches!(self.state, State::Enforced { .. })
    }

    /// Whether hooks are started by the supervisor, outside.
    pub fn hooks_are_outside(&self) -> bool {
        self.is_enforced() && self.hooks == HookSide::Outside
    }

    /// Whether hooks are started inside a sandbox that is enforced.
    pub fn hooks_are_inside(&self) -> bool {
        self.is_enforced() && self.hooks == HookSide::Inside
    }
}

/// What is enforced, for the log.
impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Off => return f.write_str("off, as the configuration says"),
            State::Missing(reason) => return write!(f, "none: {reason}"),
            State::Enforced { abi, ports, .. } if *abi >= ABI::V4 => {
                write!(f, "files as configured, TCP to ports")?;
                for (n, port) in ports.iter().enumerate() {
                    write!(f, "{} {port}", if n == 0 { "" } else { "," })?;
                }
            }
            State::Enforced { .. } => {
                f.write_str("files as configured; this kernel cannot limit TCP (that needs Linux 6.7)")?;
            }
        }
        if let State::Enforced {
            unrefused: Some(reason),
            ..
        } = &self.state
        {
            write!(f, "; MPTCP and TCP Fast Open are not limited: {reason}")?;
        }
        if matches!(&self.state, State::Enforced { abi, .. } if *abi < ABI::V6) {
            f.write_str("; this kernel cannot limit signals (that needs Linux 6.12)")?;
        }
        match self.hooks {
            HookSide::Inside => f.write_str("; hooks are inside"),
            HookSide::Outside => f.write_str("; hooks are outside"),
        }
    }
}

/// Let seccomp refuse the system calls that Landlock does not cover. Gives why it does not, where that is permitted.
fn refuse(mode: SandboxMode) -> Result<Option<String>, Error> {
    match calls::refuse().map_err(|err| err.to_string()) {
        Ok(()) => Ok(None),
        Err(reason) if mode == SandboxMode::Required => Err(Error::Missing { reason }),
        Err(reason) => Ok(Some(reason)),
    }
}
