//! `web.ron` as written (`config::form`) becomes [`Config`] as used (`check`), or a list of labelled errors.
//!
//! A [`Config`] is always valid, as far as the file alone can tell. It never holds a secret, only the names of files that do.

mod check;
mod listen;
mod page;
mod webhook;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

pub use crate::config::form::{Error, Source};
use crate::{
    base::{
        address::Address,
        name::{AbsPath, TriggerName},
    },
    config::form::{self, SearchPath},
};

/// Where `web.ron` is looked for.
pub const SEARCH_PATH: &SearchPath = &SearchPath {
    variable: "GITSOCKET_WEB_CONFIG",
    local: "web.ron",
    system: &["/etc/gitsocket-web/web.ron", "/etc/gitsocket/web.ron"],
};

/// Where the front listens without `listen`.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";

/// What the front does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Where it listens; if empty, on the sockets that systemd passes on, or else at [`DEFAULT_ADDRESS`].
    pub listen: Vec<Listener>,
    /// The daemon's address.
    pub daemon: Address,
    /// The file with the token of the daemon's listener.
    pub daemon_token_file: Option<AbsPath>,
    /// Webhooks by their paths.
    pub webhooks: BTreeMap<String, Webhook>,
    /// The page for browsers, if configured.
    pub page: Option<Page>,
    /// Numbers for Prometheus, if configured.
    pub metrics: Option<Metrics>,
    /// The longest body of a delivery, in bytes.
    pub max_body: u64,
}

/// Where the front listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    /// HTTP over TCP.
    Http {
        /// `HOST:PORT`.
        addr: String,
        /// Certificate and key.
        tls: Option<Tls>,
        /// Whether it may be off the loopback interface without TLS, since there is a proxy in front.
        plain: bool,
    },
    /// HTTP over a Unix socket.
    Unix {
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its group.
        group: Option<String>,
    },
}

/// Files for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate with its chain, as PEM.
    pub cert_file: PathBuf,
    /// Its key, as PEM.
    pub key_file: PathBuf,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub trigger: TriggerName,
    /// The forge that may call it.
    pub from: From,
    /// The full names of the refs that count; none: all.
    pub refs: Option<Vec<String>>,
}

/// The forge that calls a webhook, and how that is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// GitHub.
    GitHub {
        /// Files of secrets, any of which counts.
        secret_files: Vec<AbsPath>,
    },
    /// Gitea, Forgejo, Codeberg, Gogs.
    Gitea {
        /// Files of secrets, any of which counts.
        secret_files: Vec<AbsPath>,
    },
    /// Bitbucket, in the cloud and in a data center.
    Bitbucket {
        /// Files of secrets, any of which counts.
        secret_files: Vec<AbsPath>,
    },
    /// Standard Webhooks, and GitLab's signing tokens.
    StandardWebhooks {
        /// Files of secrets, any of which counts.
        secret_files: Vec<AbsPath>,
    },
    /// GitLab's secret tokens.
    GitLab {
        /// The token's file.
        token_file: AbsPath,
    },
    /// A bearer token, such as a CI job sends.
    Bearer {
        /// The token's file.
        token_file: AbsPath,
    },
    /// User and password, as Azure DevOps sends them.
    Basic {
        user: String,
        /// The password's file.
        password_file: AbsPath,
    },
    /// A signature in hexadecimal.
    Hmac {
        /// The header with the signature.
        header: String,
        /// The text before it.
        prefix: String,
        /// Files of secrets, any of which counts.
        secret_files: Vec<AbsPath>,
    },
}

impl From {
    /// Its name in the configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Self::GitHub { .. } => "GitHub",
            Self::Gitea { .. } => "Gitea",
            Self::Bitbucket { .. } => "Bitbucket",
            Self::StandardWebhooks { .. } => "StandardWebhooks",
            Self::GitLab { .. } => "GitLab",
            Self::Bearer { .. } => "Bearer",
            Self::Basic { .. } => "Basic",
            Self::Hmac { .. } => "Hmac",
        }
    }

    /// The files of its secrets.
    pub fn files(&self) -> &[AbsPath] {
        match self {
            Self::GitHub { secret_files }
            | Self::Gitea { secret_files }
            | Self::Bitbucket { secret_files }
            | Self::StandardWebhooks { secret_files }
            | Self::Hmac { secret_files, .. } => secret_files,
            Self::GitLab { token_file } | Self::Bearer { token_file } => std::slice::from_ref(token_file),
            Self::Basic { password_file, .. } => std::slice::from_ref(password_file),
        }
    }
}

/// The page for browsers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Users with the files of their passwords; without users, no sign-in.
    pub users: BTreeMap<String, AbsPath>,
}

/// Numbers for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// The file of the token that a request must have, if any.
    pub token_file: Option<AbsPath>,
}

/// The reference: all fields, as Markdown.
pub fn reference() -> String {
    check::reference()
}

impl Config {
    /// Read and check the file `path`, and report all errors at once.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse_with(&Source::read(path, SEARCH_PATH)?, &|name| std::env::var_os(name))
    }

    /// Check `source`; `env` looks variables up.
    pub fn parse_with(source: &Source, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let mut config = form::check(&source.with(&[]), env, check::config)?;
        config.file.clone_from(&source.file);
        Ok(config)
    }
}
