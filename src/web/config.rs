//! `web.ron` becomes a [`Config`] as used, or errors.
//!
//! Provisional: the fields are read by serde, and are not yet checked as those of the daemon's file are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::base::{
    address::Address,
    bounded,
    fault::{Blame, Kind},
    name::TriggerName,
};

/// What the front does.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Where it listens.
    pub listen: Vec<Listener>,
    /// The daemon.
    pub daemon: Address,
    /// The file of the token that the daemon's listener wants.
    pub daemon_token_file: Option<PathBuf>,
    /// Webhooks by their paths.
    pub webhooks: BTreeMap<String, Webhook>,
    /// What people see, if anything.
    pub page: Option<Page>,
    /// Numbers for Prometheus, if wanted.
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
        /// Off loopback without TLS: there is a proxy in front.
        plain: bool,
    },
    /// HTTP over a Unix socket.
    Unix {
        /// The socket.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its group.
        group: Option<String>,
    },
}

/// Files for TLS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and those above it, as PEM.
    pub cert_file: PathBuf,
    /// Its key, as PEM.
    pub key_file: PathBuf,
}

/// A webhook.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The trigger that it says.
    pub trigger: TriggerName,
    /// Who may call it.
    pub from: From,
    /// Which refs count; nothing: all.
    pub refs: Option<Vec<String>>,
}

/// Who calls a webhook, and how that is verified.
#[derive(Debug, Clone)]
pub enum From {
    /// GitHub.
    GitHub {
        /// Files of secrets, any of which counts.
        secret_files: Vec<PathBuf>,
    },
    /// A bearer token.
    Bearer {
        /// Its file.
        token_file: PathBuf,
    },
}

impl From {
    /// The files of its secrets.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Self::GitHub { secret_files } => secret_files,
            Self::Bearer { token_file } => std::slice::from_ref(token_file),
        }
    }
}

/// What people see.
#[derive(Debug, Clone)]
pub struct Page {
    /// Names, and files of passwords; none: no sign-in.
    pub users: BTreeMap<String, PathBuf>,
}

/// Numbers for Prometheus.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// The token that is wanted, if any.
    pub token_file: Option<PathBuf>,
}

/// The configuration could not be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// It could not be read.
    #[error("cannot read {}: {source}", path.display())]
    #[diagnostic(help("name the file with -c, or $GITSOCKET_WEB_CONFIG"))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is wrong.
    #[error("{} is wrong: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        Kind::Config
    }
}

/// A configuration longer than that, in bytes, is a mistake.
const MAX_BYTES: u64 = 1024 * 1024;

impl Config {
    /// Read and check the file `path`.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Read {
            path: path.into(),
            source,
        };
        let file = std::path::absolute(path).map_err(failed)?;
        let bytes = bounded::read(&file, MAX_BYTES).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let wrong = |reason: String| Error::Invalid {
            path: path.into(),
            reason,
        };
        let options =
            ron::Options::default().with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
        let written: written::Config = options.from_str(&text).map_err(|err| wrong(err.to_string()))?;
        written.used(file).map_err(wrong)
    }
}

/// The file as it is written.
mod written {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Config {
        listen: Vec<Listener>,
        daemon: String,
        daemon_token_file: Option<PathBuf>,
        #[serde(default)]
        webhooks: BTreeMap<String, Webhook>,
        page: Option<Page>,
        #[serde(default)]
        metrics: bool,
    }

    #[derive(Deserialize)]
    enum Listener {
        Http {
            addr: String,
            tls: Option<Tls>,
            #[serde(default)]
            plain: bool,
        },
        Unix {
            path: PathBuf,
            mode: Option<String>,
            group: Option<String>,
        },
    }

    #[derive(Deserialize)]
    struct Webhook {
        trigger: TriggerName,
        from: From,
        refs: Option<Vec<String>>,
    }

    #[derive(Deserialize)]
    enum From {
        GitHub { secret_file: PathBuf },
        Bearer { token_file: PathBuf },
    }

    #[derive(Deserialize)]
    struct Page {
        #[serde(default)]
        users: BTreeMap<String, PathBuf>,
    }

    impl Config {
        pub(super) fn used(self, file: PathBuf) -> Result<super::Config, String> {
            let base = file.parent().unwrap_or(Path::new("/")).to_owned();
            let at = |path: PathBuf| base.join(path);
            let listen = self.listen.into_iter().map(|listener| match listener {
                Listener::Http { addr, tls, plain } => super::Listener::Http {
                    addr,
                    tls: tls.map(|tls| Tls {
                        cert_file: at(tls.cert_file),
                        key_file: at(tls.key_file),
                    }),
                    plain,
                },
                Listener::Unix { path, mode, group } => super::Listener::Unix {
                    path: at(path),
                    mode: mode
                        .and_then(|mode| u32::from_str_radix(&mode, 8).ok())
                        .unwrap_or(0o660),
                    group,
                },
            });
            let webhooks = self.webhooks.into_iter().map(|(path, hook)| {
                let from = match hook.from {
                    From::GitHub { secret_file } => super::From::GitHub {
                        secret_files: vec![at(secret_file)],
                    },
                    From::Bearer { token_file } => super::From::Bearer {
                        token_file: at(token_file),
                    },
                };
                let hook = super::Webhook {
                    trigger: hook.trigger,
                    from,
                    refs: hook.refs,
                };
                (path, hook)
            });
            let users = |page: Page| {
                page.users
                    .into_iter()
                    .map(|(name, path)| (name, at(path)))
                    .collect()
            };
            Ok(super::Config {
                listen: listen.collect(),
                daemon: Address::parse(&self.daemon, &base).map_err(|err| err.to_string())?,
                daemon_token_file: self.daemon_token_file.map(at),
                webhooks: webhooks.collect(),
                page: self.page.map(|page| super::Page { users: users(page) }),
                metrics: self.metrics.then_some(Metrics { token_file: None }),
                max_body: 1024 * 1024,
                file,
            })
        }
    }
}
