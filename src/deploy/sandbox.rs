//! The daemon shuts itself out of what its configuration does not name, with Landlock: landlock(7).
//!
//! There are two layers. The whole worker is limited to what all triggers need ([`Sandbox::close`]); and each run
//! besides to what its own target needs ([`Sandbox::confine`]), with rules made anew, since targets and keys are
//! replaced while the daemon runs. What has been closed is never opened again: another configuration needs
//! another process. Beneath a layer, hooks included, nobody gains privileges (`no_new_privs`, prctl(2)).

use std::{collections::BTreeSet, fmt, io, thread};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, NetPort,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, path_beneath_rules,
};

use crate::{
    base::fault::{Blame, Kind},
    config::{Config, HookPlace, SandboxMode, Target},
};

mod policy;
mod sources;
pub use policy::Files;
use policy::Policy;

/// The rights that are taken away but for the paths of a policy. Connecting to Unix sockets is not among them: hooks
/// and SSH need the agent's, and others.
const HANDLED: ABI = ABI::V5;
/// Below that, no file could be renamed into another directory: as good as no Landlock.
const OLDEST: ABI = ABI::V2;

/// The sandbox could not be closed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The kernel has none, and the configuration requires one.
    #[error("this kernel cannot make the sandbox that the configuration requires: {reason}")]
    #[diagnostic(help(
        "it needs Linux 5.19 with Landlock among its security modules (see /sys/kernel/security/lsm); \
         or write sandbox: BestEffort"
    ))]
    Missing {
        /// What the kernel says.
        reason: String,
    },
    /// There is no thread to shut in.
    #[error("cannot start a thread for the run: {0}")]
    #[diagnostic(help("raise the daemon's limit of tasks, or lower `jobs`"))]
    Thread(#[source] io::Error),
    /// It has one, but it failed.
    #[error("cannot close the sandbox: {reason}")]
    #[diagnostic(help("write sandbox: Off to go without, and report this with the kernel's version"))]
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
            Self::Failed { .. } => Kind::Internal,
        }
    }
}

/// A sandbox that is closed, or why there is none.
#[derive(Debug, Clone)]
pub struct Sandbox {
    held: Held,
    hooks: HookPlace,
}

#[derive(Debug, Clone)]
enum Held {
    Off,
    Missing(String),
    Closed { abi: ABI, ports: BTreeSet<u16> },
}

impl Sandbox {
    /// Close the sandbox around this thread and all that it starts from now on. No other thread may be there yet.
    pub fn close(config: &Config, files: Files<'_>) -> Result<Self, Error> {
        let hooks = config.sandbox.hooks;
        let held = match config.sandbox.mode {
            SandboxMode::Off => Held::Off,
            mode => {
                let policy = Policy::of_worker(config, files);
                match restrict(&policy) {
                    Ok(abi) => Held::Closed {
                        abi,
                        ports: policy.ports,
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

    /// No sandbox, as for a command that somebody typed.
    pub fn off() -> Self {
        Self {
            held: Held::Off,
            hooks: HookPlace::Inside,
        }
    }

    /// Do some `work` for `target`, limited to what that needs: on a thread that ends with it, since there is no way
    /// out. The target's directory must be there. A panic goes on to the caller.
    pub fn confine<T: Send>(&self, target: &Target, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        if !self.is_closed() {
            return Ok(work());
        }
        let confined = || restrict(&Policy::of_run(target, self.hooks)).map(|_| work());
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

    /// Whether there is one that holds.
    pub fn is_closed(&self) -> bool {
        matches!(self.held, Held::Closed { .. })
    }

    /// Whether hooks are to be started by somebody outside.
    pub fn hooks_are_outside(&self) -> bool {
        self.is_closed() && self.hooks == HookPlace::Outside
    }

    /// Whether hooks are started inside a sandbox that holds.
    pub fn hooks_are_inside(&self) -> bool {
        self.is_closed() && self.hooks == HookPlace::Inside
    }
}

/// What holds, for the log.
impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.held {
            Held::Off => return f.write_str("off, as the configuration says"),
            Held::Missing(reason) => return write!(f, "none: {reason}"),
            Held::Closed { abi, ports } if *abi >= ABI::V4 => {
                write!(f, "files as configured, TCP to ports")?;
                for (n, port) in ports.iter().enumerate() {
                    write!(f, "{} {port}", if n == 0 { "" } else { "," })?;
                }
            }
            Held::Closed { .. } => {
                f.write_str("files as configured; this kernel cannot limit TCP (that needs Linux 6.7)")?;
            }
        }
        match self.hooks {
            HookPlace::Inside => f.write_str("; hooks are inside"),
            HookPlace::Outside => f.write_str("; hooks are outside"),
        }
    }
}

/// Limit this thread to `policy`, as far as the kernel can.
fn restrict(policy: &Policy) -> Result<ABI, Error> {
    let base = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(OLDEST))
        .map_err(missing)?
        .set_compatibility(CompatLevel::BestEffort);
    let created = base
        .handle_access(AccessFs::from_all(HANDLED))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(HANDLED)))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    let closed = created
        .add_rules(path_beneath_rules(&policy.read, read()))
        .and_then(|rules| rules.add_rules(path_beneath_rules(&policy.execute, read() | AccessFs::Execute)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(&policy.write, write())))
        .and_then(|rules| rules.add_rules(path_beneath_rules(&policy.build, write() | AccessFs::Execute)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(&policy.devices, device())))
        .and_then(|rules| {
            let port = |port: &u16| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp));
            rules.add_rules(policy.ports.iter().map(port))
        })
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(failed)?;
    match closed.landlock {
        LandlockStatus::Available { effective_abi, .. } => Ok(effective_abi),
        status => Err(Error::Missing {
            reason: format!("{status:?}"),
        }),
    }
}

fn read() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// All that can be done with files and directories, but to execute them, and to make devices.
fn write() -> BitFlags<AccessFs> {
    AccessFs::from_all(HANDLED)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
}

fn device() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev
}

fn missing(_: RulesetError) -> Error {
    Error::Missing {
        reason: "it has no Landlock, or an old one".into(),
    }
}

fn failed(err: RulesetError) -> Error {
    Error::Failed {
        reason: err.to_string(),
    }
}
