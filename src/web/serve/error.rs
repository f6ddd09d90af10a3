//! Why the front cannot serve.

use std::{io, path::PathBuf};

use crate::{
    base::fault::{Blame, Kind},
    daemon::listen,
    web::{secret, session},
};

/// The front cannot serve.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A socket could not be listened on.
    #[error("{0}")]
    #[diagnostic(help("{}", help_listen(_0)))]
    Listen(#[source] listen::Error),
    /// An address is not valid.
    #[error("cannot listen on {addr:?}: {reason}")]
    #[diagnostic(help("write HOST:PORT, as in 127.0.0.1:8080, into `listen`"))]
    Address {
        /// The text in the configuration.
        addr: String,
        reason: String,
    },
    /// A socket that systemd has passed on can be reached from other hosts.
    #[error(
        "the socket {addr} that was passed on can be reached from other hosts, and `listen` does not name it"
    )]
    #[diagnostic(help(
        "write Http(addr: {addr:?}, tls: (…)) into `listen`, or with plain: true if a proxy is in front"
    ))]
    Open { addr: String },
    /// Certificate or key cannot be used.
    #[error("cannot use the certificate {} with the key {}: {reason}", cert.display(), key.display())]
    #[diagnostic(help(
        "both are PEM files; the certificate file holds its chain as well, and the key belongs to the certificate"
    ))]
    Tls {
        cert: PathBuf,
        key: PathBuf,
        reason: String,
    },
    /// Sessions are not possible.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Session(#[from] session::Error),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(#[source] io::Error),
    /// A secret cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Secret(#[from] secret::Error),
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Signals(_) | Self::Session(session::Error::Random) => Kind::Resources,
            _ => Kind::Config,
        }
    }
}

/// The daemon's help, without its option -l, which the front does not have.
fn help_listen(error: &listen::Error) -> String {
    let help = miette::Diagnostic::help(error).map(|help| help.to_string());
    help.unwrap_or_default()
        .replace("listen elsewhere with -l", "listen elsewhere: change `listen`")
}
