//! A configuration as used: everything in it is right, and every default filled in.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Allow, At, Check, Health, Hook, OnFailure, Site};
use crate::{
    base::{
        address::{Address, TcpAddr},
        fault::{Failure, Kind},
        name::{AbsPath, TriggerName},
    },
    git::origin::Origin,
};

/// A configuration as used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub listen: Vec<Listener>,
    /// How many runs go on at a time.
    pub jobs: NonZeroUsize,
    /// How long an unused connection to a remote is kept; zero: not at all.
    pub keep_alive: Duration,
    /// What the daemon shuts itself out of.
    pub sandbox: Sandbox,
    pub included: Vec<Included>,
    pub triggers: BTreeMap<TriggerName, Arc<Target>>,
}

/// What a configuration includes by one pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    pub pattern: String,
    /// The files that it led to, and how many triggers each has.
    pub files: Vec<(PathBuf, usize)>,
}

/// The sandbox of the daemon, see landlock(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sandbox {
    pub mode: SandboxMode,
    pub hooks: HookSide,
}

/// The daemon reads what strangers send, hooks are the administrator's own programs: a newer kernel must not break them.
impl Default for Sandbox {
    fn default() -> Self {
        Self {
            mode: SandboxMode::BestEffort,
            hooks: HookSide::Outside,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxMode {
    Off,
    /// As much of a sandbox as the kernel can make.
    BestEffort,
    /// A whole sandbox, or the daemon does not start.
    Required,
}

/// Where hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookSide {
    /// In the sandbox of their run.
    Inside,
    Outside,
}

pub fn unknown_trigger<'a>(name: &str, names: impl Iterator<Item = &'a TriggerName>) -> Failure {
    let near = names
        .map(|other| (strsim::damerau_levenshtein(name, other.as_str()), other))
        .filter(|(distance, _)| *distance <= 2)
        .min();
    let help = match near {
        Some((_, other)) => format!("did you mean {other}?"),
        None => "see `gitsocket status` for those there are".into(),
    };
    Failure::new(
        Kind::UnknownTrigger,
        format!("there is no trigger {name:?}"),
        Some(&help),
    )
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    Unix {
        path: AbsPath,
        /// The socket's mode; default 0600.
        mode: u32,
        /// The socket's group, by name or number; default: the daemon's.
        group: Option<String>,
    },
    Tcp {
        /// `HOST:PORT`; HOST is an address or a name.
        addr: TcpAddr,
        /// The file that holds the token clients must say first.
        token_file: Option<AbsPath>,
    },
}

impl Listener {
    pub fn address(&self) -> Address {
        match self {
            Self::Unix { path, .. } => Address::Unix(path.clone()),
            Self::Tcp { addr, .. } => Address::Tcp(addr.clone()),
        }
    }

    /// Whether `other` is at the same place, and so can take over its socket. Of port 0 the system makes another port
    /// each time: there, both must be the same in everything.
    pub fn is_at(&self, other: &Self) -> bool {
        let address = self.address();
        address == other.address() && (self == other || !address.to_string().ends_with(":0"))
    }
}

/// What a trigger's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub trigger: TriggerName,
    pub origin: Origin,
    pub site: Site,
    /// How often the remote is asked for news; `None`: never.
    pub poll: Option<Duration>,
    pub hooks: Vec<Hook>,
    /// How long a run may take, with its hooks.
    pub run_timeout: Duration,
    /// The users and groups that may use the trigger; nothing: all that can open the listener.
    pub allow: Option<Vec<Allow>>,
    /// When a deploy counts as good, besides its hooks.
    pub health: Option<Health>,
    /// What happens to a deploy that is not good.
    pub on_failure: OnFailure,
    /// The users and groups that may roll back, retry, pause and resume, besides what `allow` says; nothing: root and the daemon's user.
    pub operate: Option<Vec<Allow>>,
    /// Whether the first run takes a worktree that is not ours, with what it loses there.
    pub adopt: bool,
    /// The configuration that has the trigger.
    pub file: Option<PathBuf>,
    /// The words of the command line that it is made from, if no configuration has it: `-g DIR`.
    pub given: Option<String>,
}

impl Target {
    /// The program that its health is asked of, if that is one.
    pub fn asked(&self) -> Option<&Hook> {
        match &self.health.as_ref()?.check {
            Check::Exec(hook) => Some(hook),
            Check::Http { .. } | Check::Tcp(_) => None,
        }
    }

    pub fn programs(&self) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().chain(self.asked())
    }

    /// The numbers of its hooks that are started at `at`.
    pub fn hooks_at(&self, at: At) -> impl Iterator<Item = usize> {
        let hooks = self.hooks.iter().enumerate();
        hooks
            .filter(move |(_, hook)| hook.at() == at)
            .map(|(number, _)| number)
    }

    /// In which field this and `other`, which have the same path, must be the same and are not. Whether they have the same
    /// git directory, the caller knows.
    pub fn disagrees(&self, other: &Self, same_git_dir: bool) -> Option<&'static str> {
        if self.origin.repo != other.origin.repo {
            Some("repo")
        } else if self.site.releases != other.site.releases {
            Some("releases")
        } else if !same_git_dir {
            Some("git_dir")
        } else if self.origin.remote != other.origin.remote {
            Some("remote")
        } else if self.site.clean != other.site.clean {
            Some("clean")
        } else if self.site.keep != other.site.keep {
            Some("keep")
        } else if self.site.group != other.site.group {
            Some("group")
        } else {
            None
        }
    }

    /// What to do so that another target can be at `below` in its path.
    pub fn make_room(&self, below: &Path) -> String {
        match self.site.releases {
            Some(_) => format!(
                "move one of them: gitsocket keeps its own files there for `{}`",
                self.trigger
            ),
            None => {
                let pattern = format!("/{}/", below.display());
                format!(
                    "move one of them, or write keep: [{pattern:?}] into `{}`",
                    self.trigger
                )
            }
        }
    }
}

/// What to do about two targets that have the same path, and [disagree](Target::disagrees).
pub const SAME_PATH: &str = "give one another path; or give both the same repo, releases, git_dir, remote, clean, \
                             keep and group: then they deploy different revisions of one repository, one at a time";

/// How long a run may take if the configuration does not say.
pub const DEFAULT_RUN_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// How long connections are kept if the configuration does not say.
pub const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(5 * 60);
