//! Hooks, as a configuration describes them.

use std::{collections::BTreeMap, fmt, time::Duration};

/// A program that runs after an update.
#[derive(Clone, PartialEq, Eq)]
pub enum Hook {
    /// A program with its arguments; no shell is involved.
    Exec {
        /// The program and its arguments; never empty.
        run: Vec<String>,
        when: When,
        timeout: Duration,
        user_env: BTreeMap<String, String>,
        at: At,
    },
    /// The repository's own `hooks/post-checkout`, if it is there and executable.
    PostCheckout,
}

impl Hook {
    /// When in a run it is started. What is git's own runs once files are checked out.
    pub fn at(&self) -> At {
        match self {
            Self::Exec { at, .. } => *at,
            Self::PostCheckout => At::Live,
        }
    }

    /// What it is called in events and errors.
    pub fn name(&self) -> &str {
        match self {
            Self::Exec { run, .. } => run.first().map_or("", String::as_str),
            Self::PostCheckout => "post-checkout",
        }
    }

    /// Whether it runs even if nothing has changed.
    pub fn is_for_every_run(&self) -> bool {
        matches!(
            self,
            Self::Exec {
                when: When::Always,
                ..
            }
        )
    }
}

/// The values of `user_env` are not shown: they may be secrets.
impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec {
                run,
                when,
                timeout,
                user_env,
                at,
            } => f
                .debug_struct("Exec")
                .field("run", run)
                .field("when", when)
                .field("timeout", timeout)
                .field("user_env", &user_env.keys())
                .field("at", at)
                .finish(),
            Self::PostCheckout => f.write_str("PostCheckout"),
        }
    }
}

/// On which runs a hook is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// When the run changed the worktree, or the hooks have not yet succeeded for its commit.
    Changed,
    Always,
}

/// When in a run a hook is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// In a new release, before it is live.
    Build,
    /// Once the commit is live.
    Live,
    /// Once a run has failed that had the lock, or was rolled back.
    Failed,
}

/// How long a hook may take if the configuration does not say.
pub const DEFAULT_HOOK_TIMEOUT: Duration = Duration::from_secs(10 * 60);
