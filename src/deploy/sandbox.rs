//! The daemon shuts itself out of what its configuration does not name, with Landlock: landlock(7).
//!
//! There are two layers. The whole worker is limited to what all triggers need ([`Sandbox::close`]); and each run
//! besides to what its own target needs ([`Sandbox::confine`]), with rules of its own, since targets and keys are
//! replaced while the daemon runs. What has been closed is never opened again: another configuration needs
//! another process. `no_new_privs` (prctl(2)) is set as well: no process inside gains privileges, hooks included.

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

mod policy;
mod rules;
mod sources;
mod ways;
use policy::Policy;
use rules::{restrict, restrict_writing};
use ways::Ways;

/// What the daemon was started with, besides its configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// The file that the configuration was read from.
    pub config: Option<&'a Path>,
    /// The directories that what is to survive it is kept in.
    pub state: &'a [PathBuf],
}

/// The sandbox could not be closed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The kernel has none, and the configuration requires one.
    #[error("this kernel cannot make the sandbox that the configuration requires: {reason}")]
    #[diagnostic(help(
        "it needs Linux 5.19 with Landlock among its security modules (see /sys/kernel/security/lsm), and permission to call \
         seccomp(2), which a unit of systemd gives by SystemCallFilter=seccomp; or write sandbox: BestEffort"
    ))]
    Missing {
        /// What the kernel says.
        reason: String,
    },
    /// There is no thread to shut in.
    #[error("cannot start a thread for the run: {0}")]
    #[diagnostic(help("raise the daemon's limit of tasks, or lower `jobs`"))]
    Thread(#[source] io::Error),
    /// What is to be opened may be where a hook wants it to be.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Planted(#[from] Planted),
    /// A target borrows from a repository that is not its source.
    #[error(
        "{} borrows objects from {}, which the daemon's sandbox does not open for it; nothing was touched",
        git_dir.display(), lender.display()
    )]
    #[diagnostic(help(
        "let it have them itself: git --git-dir={0} repack -a -d && rm {0}/objects/info/alternates; or write sandbox: Off",
        git_dir.display()
    ))]
    Borrows {
        /// The git directory.
        git_dir: PathBuf,
        /// The directory of objects.
        lender: PathBuf,
    },
    /// It has one, but it failed.
    #[error("cannot close the sandbox: {reason}")]
    #[diagnostic(help(
        "write sandbox: Off to run without a sandbox, and report this with the kernel's version"
    ))]
    Failed {
        /// What failed.
        reason: String,
    },
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

/// A sandbox that is closed, or why there is none.
#[derive(Debug, Clone)]
pub struct Sandbox {
    held: Held,
    hooks: HookSide,
}

#[derive(Debug, Clone)]
enum Held {
    Off,
    Missing(String),
    Closed {
        abi: ABI,
        ports: BTreeSet<u16>,
        ways: Arc<Ways>,
        alone: Vec<(PathBuf, Option<Identity>)>,
        /// Why what Landlock does not look at is not refused, if it is not.
        unrefused: Option<String>,
    },
}

impl Sandbox {
    /// Close the sandbox around this thread and all that it starts from now on. No other thread may be there yet.
    pub fn close(config: &Config, files: Files<'_>, links: &Links) -> Result<Self, Error> {
        let hooks = config.sandbox.hooks;
        let held = match config.sandbox.mode {
            SandboxMode::Off => Held::Off,
            mode => {
                let ways = Arc::new(Ways::of(config, files.config, links.clone()));
                let policy = Policy::of_worker(config, files.state, &ways);
                // Before they are opened: what is replaced in between is seen to have been.
                let identity = |path: &Path| fs::metadata(path).ok().map(|meta| Identity::of(&meta));
                let held = policy.held.iter();
                let alone = held.map(|path| (path.clone(), identity(path))).collect();
                match restrict(&policy).and_then(|abi| Ok((abi, refuse(mode)?))) {
                    Ok((abi, unrefused)) => Held::Closed {
                        abi,
                        ports: policy.ports,
                        ways,
                        alone,
                        unrefused,
                    },
                    Err(Error::Missing { reason }) if mode == SandboxMode::BestEffort => {
                        Held::Missing(reason)
                    }
                    Err(err) => return Err(err),
                }
            }
        };
        Ok(Self { held, hooks })
    }

    /// No sandbox, as for a command that a user typed.
    pub fn off() -> Self {
        Self {
            held: Held::Off,
            hooks: HookSide::Inside,
        }
    }

    /// Do some `work` for `target`, limited to what that needs: on a thread that ends with it, since there is no way
    /// out. The target's directory must be there. A panic goes on to the caller.
    pub fn confine<T: Send>(&self, target: &Target, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        self.confine_to(target, work, |ways| Policy::of_run(target, self.hooks, ways))
    }

    /// As [`Self::confine`], for work that only asks the target's remote for news, and writes nothing.
    pub fn confine_poll<T: Send>(
        &self,
        target: &Target,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, Error> {
        self.confine_to(target, work, |ways| Policy::of_poll(target, ways))
    }

    fn confine_to<T: Send>(
        &self,
        target: &Target,
        work: impl FnOnce() -> T + Send,
        policy: impl FnOnce(&Arc<Ways>) -> Result<Policy, Planted> + Send,
    ) -> Result<T, Error> {
        let Held::Closed { ways, .. } = &self.held else {
            return Ok(work());
        };
        let confined = || restrict(&policy(ways)?).map(|_| work());
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

    /// Do some `work` that may write below the directories `dirs` only, as far as what it starts is inside this sandbox: on a
    /// thread that ends with it. It is otherwise limited as this thread is.
    pub fn limit_writing(&self, dirs: &[PathBuf], work: &mut (dyn FnMut() + Send)) -> io::Result<()> {
        let (Held::Closed { ways, .. }, HookSide::Inside) = (&self.held, self.hooks) else {
            work();
            return Ok(());
        };
        let real: Vec<PathBuf> = dirs.iter().filter_map(|dir| ways.lead(dir).ok()).collect();
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

    /// Look whether this run may read what the repository at `git_dir` borrows. What is not there is another matter.
    pub fn look_at_lenders(&self, git_dir: &Path) -> Result<(), Error> {
        if !self.is_closed() {
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

    /// Paths of which it holds on to what was there when it was closed, and what that was: if it is replaced, another sandbox
    /// is needed.
    pub fn alone(&self) -> &[(PathBuf, Option<Identity>)] {
        match &self.held {
            Held::Closed { alone, .. } => alone,
            Held::Off | Held::Missing(_) => &[],
        }
    }

    /// Whether there is one that holds.
    pub fn is_closed(&self) -> bool {
        matches!(self.held, Held::Closed { .. })
    }

    /// Whether hooks are started by the supervisor, outside.
    pub fn hooks_are_outside(&self) -> bool {
        self.is_closed() && self.hooks == HookSide::Outside
    }

    /// Whether hooks are started inside a sandbox that holds.
    pub fn hooks_are_inside(&self) -> bool {
        self.is_closed() && self.hooks == HookSide::Inside
    }
}

/// What holds, for the log.
impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.held {
            Held::Off => return f.write_str("off, as the configuration says"),
            Held::Missing(reason) => return write!(f, "none: {reason}"),
            Held::Closed { abi, ports, .. } if *abi >= ABI::V4 => {
                write!(f, "files as configured, TCP to ports")?;
                for (n, port) in ports.iter().enumerate() {
                    write!(f, "{} {port}", if n == 0 { "" } else { "," })?;
                }
            }
            Held::Closed { .. } => {
                f.write_str("files as configured; this kernel cannot limit TCP (that needs Linux 6.7)")?;
            }
        }
        if let Held::Closed {
            unrefused: Some(reason),
            ..
        } = &self.held
        {
            write!(f, "; MPTCP and TCP Fast Open lead past that: {reason}")?;
        }
        if matches!(&self.held, Held::Closed { abi, .. } if *abi < ABI::V6) {
            f.write_str("; this kernel cannot limit signals (that needs Linux 6.12)")?;
        }
        match self.hooks {
            HookSide::Inside => f.write_str("; hooks are inside"),
            HookSide::Outside => f.write_str("; hooks are outside"),
        }
    }
}

/// Refuse what Landlock does not look at; or say why that is not refused, if it need not be.
fn refuse(mode: SandboxMode) -> Result<Option<String>, Error> {
    match calls::refuse().map_err(|err| err.to_string()) {
        Ok(()) => Ok(None),
        Err(reason) if mode == SandboxMode::Required => Err(Error::Missing { reason }),
        Err(reason) => Ok(Some(reason)),
    }
}
