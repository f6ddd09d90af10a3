//! The configuration: RON as written (`raw`) becomes [`Config`] as used (`check`), or a list of labelled errors.
//!
//! A [`Config`] that exists is right: every name is valid, every path absolute, every combination allowed.
//! It never holds a secret, only the names of files that do.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::Read as _,
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::name::{AbsPath, RefName, RemoteName, RepoUrl, TriggerName};

/// A configuration as used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the daemon listens.
    pub listen: Vec<Listener>,
    /// Runs at a time.
    pub jobs: NonZeroUsize,
    /// What can be triggered.
    pub triggers: BTreeMap<TriggerName, Arc<Target>>,
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
        addr: String,
        /// The file that holds the token clients must say first.
        token_file: Option<AbsPath>,
    },
}

/// What a trigger's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The trigger's name.
    pub trigger: TriggerName,
    /// The repository to fetch from.
    pub repo: RepoUrl,
    /// What of it to deploy.
    pub revision: Revision,
    /// The worktree.
    pub path: AbsPath,
    /// The name under `refs/remotes/`.
    pub remote: RemoteName,
    /// How much history to fetch; default: all.
    pub depth: Option<NonZeroU32>,
    /// What `clean` removes.
    pub clean: Clean,
    /// gitignore patterns of what `clean` never removes.
    pub keep: Vec<String>,
    /// How to authenticate.
    pub auth: Auth,
    /// How to trust.
    pub tls: Tls,
    /// What runs after an update.
    pub hooks: Vec<Hook>,
    /// The whole fetch must be over by then.
    pub timeout: Duration,
}

/// What of a repository is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revision {
    /// The branch that the remote's HEAD is on.
    RemoteHead,
    /// A branch.
    Branch(RefName),
    /// A tag.
    Tag(RefName),
}

/// What is removed besides the tracked files that vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clean {
    /// Untracked files and directories that are not ignored, as `git clean -df` does.
    Untracked,
    /// Ignored ones too, as `git clean -dfx` does.
    All,
    /// Nothing.
    Nothing,
}

/// How to authenticate to the remote over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Not at all, or with what the URL holds.
    None,
    /// User and password (RFC 7617).
    Basic {
        /// The user.
        user: String,
        /// The file that holds the password.
        password_file: AbsPath,
    },
    /// A token (RFC 6750).
    Bearer {
        /// The file that holds the token.
        token_file: AbsPath,
    },
}

/// Which certificates to trust.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The roots of trust.
    pub roots: Roots,
    /// Send credentials over `http://`, where everybody on the way can read them.
    pub allow_plain_credentials: bool,
}

/// The roots of trust for TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// Mozilla's, which are part of this program.
    #[default]
    Mozilla,
    /// The system's certificate files.
    System,
    /// Those of one PEM file, and no others.
    File(AbsPath),
}

/// A program that runs after an update.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// A configuration file's text, with the name it is called by in errors.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file, absolute; relative paths in it are relative to its directory.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
}

mod check;
mod error;
mod mask;
mod raw;
mod report;
pub mod secret;
mod syntax;

pub use error::Error;
pub use report::{Invalid, Problem};

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
        let mut bytes = Vec::new();
        // A pipe has no length before it is read.
        opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::TooLarge { path: path.into() });
        }
        let text = String::from_utf8(bytes).map_err(|err| Error::not_utf8(path, &err))?;
        Self::parse(&Source { file, text })
    }

    /// Check `source`, with the variables of this process's environment.
    pub fn parse(source: &Source) -> Result<Self, Error> {
        Self::parse_with(source, &|name| std::env::var_os(name))
    }

    /// Check `source`; `env` looks variables up.
    pub fn parse_with(source: &Source, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        // ron wants a line's end after a comment.
        let text = format!("{}\n", source.text.trim_end_matches('\n'));
        let base = source.file.parent().unwrap_or(Path::new("/"));
        check::config(&text, base, env)
            .map_err(|problems| Error::Invalid(Box::new(Invalid::new(&source.file, &text, problems))))
    }
}
