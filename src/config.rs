//! The configuration: RON as written (`raw`) becomes [`Config`] as used (`check`), or a list of labelled errors.
//!
//! A [`Config`] that exists is right: every name is valid, every path absolute, every combination allowed.
//! It never holds a secret, only the names of files that do.
//!
//! The file is one `( … )`. Paths are relative to its directory; `$NAME` and `${NAME}` in the paths of secrets
//! and certificates (marked $) stand for variables of the environment.
//!
//! | field | value | default |
//! |---|---|---|
//! | `listen` | list of `Unix(…)` and `Tcp(…)` | none |
//! | `Unix.path` | path of the socket, at most 107 bytes in full | required |
//! | `Unix.mode` | octal digits, `"0000"` to `"0777"` | `"0600"` |
//! | `Unix.group` | name or number, in quotes | the daemon's |
//! | `Tcp.addr` | `"HOST:PORT"`, `"[::1]:PORT"`, or `"PORT"` of 127.0.0.1 | required |
//! | `Tcp.token_file` | path $ of the token that clients must say | none; required off loopback |
//! | `jobs` | runs at a time, 1 to 1024 | number of cores |
//! | `keep_alive` | how long unused connections to remotes are kept, at most an hour; `"0s"`: not at all | `"5m"` |
//! | `sandbox` | `BestEffort`, `Required` or `Off`: hooks are inside; or `(mode, hooks)` | `(hooks: Outside)` |
//! | `sandbox.mode` | `BestEffort`: as much as the kernel can; `Required`: or the daemon does not start; `Off` | `BestEffort` |
//! | `sandbox.hooks` | `Inside` or `Outside` | `Inside` |
//! | `triggers` | map of names to `( … )`, at least one | required |
//! | `repo` | `https://`, `ssh://`, `http://`, `git://` or `file://` URL, `USER@HOST:PATH`, or a path | required |
//! | `branch`, `tag` or `rev` | name, short or in full; a commit's full id | the branch that the remote's HEAD is on |
//! | `path` | directory to deploy to | required |
//! | `git_dir` | where the git directory is, outside of `path`; the worktree then holds nothing of git's | `.git` in `path` |
//! | `remote` | name under `refs/remotes/` | `"origin"` |
//! | `depth` | commits of history to fetch, from 1 | all |
//! | `clean` | `Untracked`, `All` (ignored files too) or `Nothing` | `Untracked` |
//! | `keep` | list of gitignore patterns that `clean` never removes | none |
//! | `auth` | `Basic(…)` or `Bearer(…)` for HTTP, `Ssh(…)` for SSH, or `None` | `None`; for SSH `Ssh()` |
//! | `Basic.user`, `Basic.password_file` | user, and path $ of the file that holds the password | required |
//! | `Bearer.token_file` | path $ of the file that holds the token | required |
//! | `Ssh.key` | path $ of a private key: ed25519, ecdsa or RSA, in OpenSSH's format or as PEM | none |
//! | `Ssh.passphrase_file` | path $ of the file that holds the key's passphrase | none |
//! | `Ssh.known_hosts` | path $ of the only file of known hosts | `~/.ssh/known_hosts`, `/etc/ssh/ssh_known_hosts` |
//! | `Ssh.agent` | `true`: the keys of the agent at `$SSH_AUTH_SOCK`, after `key` | `true` without a key |
//! | `tls.ca_file` | path $ of the only certificates to trust; `https://` only | none |
//! | `tls.roots` | `Mozilla` or `System`; not together with `ca_file` | `Mozilla` |
//! | `tls.cert_file`, `tls.key_file` | paths $ of our own certificate with its chain, and of its key, as PEM; `https://` only | none |
//! | `tls.allow_plain_credentials` | `true` lets credentials go over `http://` | `false` |
//! | `hooks` | list of `Exec(…)` and `PostCheckout`, run in this order | `[PostCheckout]` |
//! | `Exec.run` | program and arguments: a path, or a bare name found on PATH | required |
//! | `Exec.when` | `Changed` or `Always` | `Changed` |
//! | `Exec.timeout` | duration such as `"90s"` or `"1h 30m"`, at most a week | `"10m"` |
//! | `Exec.user_env` | map of names to values; no name begins with `GITSOCKET_` | none |
//! | `allow` | list of `User(…)`, `Group(…)` (a name or number) and `Token`: who may use the trigger | whoever can open the listener |
//! | `umask` | octal digits, `"0000"` to `"0077"`: what files and directories of the worktree do not get | the process's |
//! | `timeout` | duration; each attempt to fetch must be over by then | `"10m"` |
//! | `run_timeout` | duration; a whole run, with its hooks, must be over by then | `"1h"` |
//! | `max_blob` | size of the largest file, such as `"256MiB"` | `"256MiB"` |
//! | `max_pack` | size of what one fetch may bring, packed | `"20GiB"` |
//! | `fsync` | `false`: do not wait for the disk; a power cut may then lose a deploy, or the clone | `true` |
//! | `retries` | how many times a fetch is tried again after a fault that passes, 0 to 10 | 2 |
//!
//! Whether there is an agent is found out by runs: it may come and go. `~` is `$HOME`; where that is not set, only
//! the system's file of known hosts is read. An SSH URL always names its user.
//!
//! Two triggers may have the same `path` if they have the same `repo`, `git_dir`, `remote`, `clean` and `keep`: they deploy
//! different revisions of one repository, one run at a time. A path inside another trigger's path must be matched
//! by that one's `keep`. A path is neither `/`, nor in a `.git` directory, nor the repository itself.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    fs::File,
    io::Read as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use zeroize::{Zeroize as _, Zeroizing};

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
    /// Where the daemon listens.
    pub listen: Vec<Listener>,
    /// Runs at a time.
    pub jobs: NonZeroUsize,
    /// Connections to remotes are kept for that long when nobody uses them; not at all if it is zero.
    pub keep_alive: Duration,
    /// What the daemon shuts itself out of.
    pub sandbox: Sandbox,
    /// What can be triggered.
    pub triggers: BTreeMap<TriggerName, Arc<Target>>,
}

/// The sandbox of the daemon, see landlock(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether there is one.
    pub mode: SandboxMode,
    /// Where hooks run.
    pub hooks: HookPlace,
}

/// The daemon reads what strangers send, hooks are the administrator's own programs: a newer kernel must not break them.
impl Default for Sandbox {
    fn default() -> Self {
        Self {
            mode: SandboxMode::BestEffort,
            hooks: HookPlace::Outside,
        }
    }
}

/// Whether there is a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxMode {
    /// No.
    Off,
    /// As much of one as the kernel can make.
    BestEffort,
    /// Yes, or the daemon does not start.
    Required,
}

/// Where hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPlace {
    /// In the sandbox of their run.
    Inside,
    /// Outside of it.
    Outside,
}

/// The failure for a name that none of the triggers `names` has.
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

/// Where the daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    /// A Unix socket.
    Unix {
        /// Its path.
        path: AbsPath,
        /// Its mode; default 0600.
        mode: u32,
        /// Its group, by name or number; default: the daemon's.
        group: Option<String>,
    },
    /// A TCP socket.
    Tcp {
        /// `HOST:PORT`; HOST is an address or a name.
        addr: TcpAddr,
        /// The file that holds the token clients must say first.
        token_file: Option<AbsPath>,
    },
}

impl Listener {
    /// Its address.
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
    /// The trigger's name.
    pub trigger: TriggerName,
    /// Where its commits come from.
    pub origin: Origin,
    /// Where they go.
    pub site: Site,
    /// What runs after an update.
    pub hooks: Vec<Hook>,
    /// A run must be over by then, with its hooks.
    pub run_timeout: Duration,
    /// Who may use the trigger; nothing: whoever can open the listener.
    pub allow: Option<Vec<Allow>>,
}

/// A program that runs after an update.
#[derive(Clone, PartialEq, Eq)]
pub enum Hook {
    /// A program with its arguments; no shell is involved.
    Exec {
        /// The program and its arguments; never empty.
        run: Vec<String>,
        /// On which runs.
        when: When,
        /// It is killed after that long.
        timeout: Duration,
        /// Added to its environment.
        user_env: BTreeMap<String, String>,
    },
    /// The repository's own `hooks/post-checkout`, if it is there and executable.
    PostCheckout,
}

impl Hook {
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

/// The values of `user_env` are not shown: somebody may keep a secret there.
impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec {
                run,
                when,
                timeout,
                user_env,
            } => f
                .debug_struct("Exec")
                .field("run", run)
                .field("when", when)
                .field("timeout", timeout)
                .field("user_env", &user_env.keys())
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
    /// On every run.
    Always,
}

/// How long a hook may take if the configuration does not say.
pub const DEFAULT_HOOK_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// How long a fetch may take if the configuration does not say.
pub const DEFAULT_FETCH_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// How long a run may take if the configuration does not say.
pub const DEFAULT_RUN_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// The largest blob, in bytes, if the configuration does not say.
pub const DEFAULT_MAX_BLOB: u64 = 256 << 20;
/// What a fetch may bring at most, in bytes, if the configuration does not say.
pub const DEFAULT_MAX_PACK: u64 = 20 << 30;

/// How many times a fetch is tried again if the configuration does not say.
pub const DEFAULT_RETRIES: u32 = 2;
/// How long connections are kept if the configuration does not say.
pub const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(5 * 60);
/// A configuration file's text, with the name it is called by in errors. Somebody may have written a password into a
/// URL: the text is not shown, and overwritten when it is dropped.
#[derive(Clone)]
pub struct Source {
    /// The file, absolute; relative paths in it are relative to its directory.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

mod allow;
mod check;
mod error;
mod mask;
mod raw;
pub mod reload;
mod report;
mod site;
mod syntax;

pub use crate::git::{
    origin::{Auth, ClientCertificate, Revision, Roots, Ssh, Tls},
    worktree::Clean,
};
pub use allow::{Account, Allow};
pub use error::Error;
pub use report::{Invalid, Problem};
pub use site::Site;

/// A configuration longer than that, in bytes, is a mistake.
const MAX_BYTES: u64 = 1024 * 1024;

impl Config {
    /// Read and check the file `path`, reporting all that is wrong with it at once.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Read {
            path: path.into(),
            source,
        };
        let file = std::path::absolute(path).map_err(failed)?;
        let opened = File::open(&file).map_err(failed)?;
        if opened.metadata().map_err(failed)?.is_dir() {
            return Err(Error::Directory { path: path.into() });
        }
        // A pipe has no length before it is read; and a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize + 1));
        opened
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::TooLarge { path: path.into() });
        }
        let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|err| {
            let error = Error::not_utf8(path, &err);
            err.into_bytes().zeroize();
            error
        })?;
        Self::parse(&Source { file, text })
    }

    /// Check `source`, with the variables of this process's environment.
    pub fn parse(source: &Source) -> Result<Self, Error> {
        Self::parse_with(source, &|name| std::env::var_os(name))
    }

    /// Check `source`; `env` looks variables up.
    pub fn parse_with(source: &Source, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        // ron wants a line's end after a comment.
        let mut text = Zeroizing::new(String::with_capacity(source.text.len() + 1));
        text.push_str(source.text.trim_end_matches('\n'));
        text.push('\n');
        let base = source.file.parent().unwrap_or(Path::new("/"));
        check::config(&text, base, env)
            .map_err(|problems| Error::Invalid(Box::new(Invalid::new(&source.file, &text, problems))))
    }
}
