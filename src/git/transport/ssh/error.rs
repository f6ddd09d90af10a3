//! What can go wrong over SSH, in words that never hold a secret.

use std::{io, path::PathBuf};

use super::known_hosts::Line;
use crate::{
    base::{
        fault::{Blame, Kind, kind_of_io},
        name::AbsPath,
        secret,
    },
    git::transport::tcp,
};

/// The key that a host offers.
#[derive(Debug)]
pub struct Offer {
    pub host: String,
    pub algorithm: String,
    pub fingerprint: String,
    /// The line of a file that makes it known.
    pub line: String,
}

impl std::fmt::Display for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} key {}", self.algorithm, self.fingerprint)
    }
}

/// A repository could not be read over SSH.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Network(#[from] tcp::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Secret(#[from] secret::Error),
    #[error("{url} cannot be used: {reason}")]
    #[diagnostic(help("correct `repo`"))]
    Url { url: String, reason: &'static str },
    #[error("{url} names no user to log in as")]
    #[diagnostic(help("write the user into the URL: git@HOST:PATH or ssh://git@HOST/PATH"))]
    NoUser { url: String },
    #[error("cannot read the known hosts in {}: {source}", .path.display())]
    #[diagnostic(help("it must exist and be readable for the user that gitsocket runs as"))]
    KnownHosts { path: PathBuf, source: io::Error },
    #[error("the key in {path} cannot be used: {reason}")]
    #[diagnostic(help("{help}"))]
    Key {
        path: AbsPath,
        reason: String,
        help: &'static str,
    },
    #[error("the key in {path} is encrypted")]
    #[diagnostic(help(
        "write its passphrase into a file, and name that: auth: Ssh(…, passphrase_file: \"…\")"
    ))]
    Encrypted { path: AbsPath },
    #[error("the passphrase in {passphrase_file} does not open the key in {key}")]
    #[diagnostic(help("write the key's passphrase alone on the first line of {passphrase_file}"))]
    Passphrase { key: AbsPath, passphrase_file: AbsPath },
    #[error(
        "there is no key for {host}: `auth` names none, and no SSH agent is there ($SSH_AUTH_SOCK is not set)"
    )]
    #[diagnostic(help("name a key that the host accepts: auth: Ssh(key: \"/etc/gitsocket/key\")"))]
    NoAgent { host: String },
    #[error("the SSH agent at {} cannot be used: {reason}", .socket.display())]
    #[diagnostic(help("start it, or correct $SSH_AUTH_SOCK; or name a key with auth: Ssh(key: \"…\")"))]
    Agent { socket: PathBuf, reason: String },
    #[error("the SSH agent at {} holds no keys", .socket.display())]
    #[diagnostic(help(
        "add one with ssh-add, or unlock it with ssh-add -X; or name a key with auth: Ssh(key: \"…\")"
    ))]
    AgentEmpty { socket: PathBuf },
    #[error("the host {} is not known; it offers {offer}{}", .offer.host, and_skipped(.skipped))]
    #[diagnostic(help(
        "compare {} with the fingerprint that the owner of the host publishes; if they are the same, add this line to {}:\n{}",
        .offer.fingerprint,
        .file.display(),
        .offer.line
    ))]
    UnknownHost {
        offer: Box<Offer>,
        /// The file to add it to.
        file: PathBuf,
        /// A line that was not understood, and why.
        skipped: Option<(Line, &'static str)>,
    },
    #[error("the host key of {} does not match {known}: it offers {offer}", .offer.host)]
    #[diagnostic(help(
        "this may be a man-in-the-middle attack, or the host has a new key: compare {} with the fingerprint that its owner \
         publishes; only if they are the same, replace that line by this one:\n{}",
        .offer.fingerprint,
        .offer.line
    ))]
    ChangedHost {
        offer: Box<Offer>,
        /// Where another key stands.
        known: Line,
    },
    #[error("the host {} offers {offer}, which is revoked by {by}", .offer.host)]
    #[diagnostic(help(
        "the key may have been stolen: ask the owner of the host, and keep that line until there is an answer"
    ))]
    RevokedHost { offer: Box<Offer>, by: Line },
    #[error("the certificate of the host {host} is not valid: {reason}")]
    #[diagnostic(help(
        "the owner of the host must have its certificate renewed, for the name that `repo` uses"
    ))]
    HostCertificate { host: String, reason: String },
    #[error("no secure connection to {host}: it offers nothing but {theirs} for the {what}")]
    #[diagnostic(help("the host's SSH server is too old or too strictly configured; have it updated"))]
    NoCommonAlgorithm {
        host: String,
        what: &'static str,
        theirs: String,
    },
    #[error("{host} does not speak SSH")]
    #[diagnostic(help("check the port in `repo`; that of SSH is usually 22"))]
    NotSsh { host: String },
    /// The host does not keep to the protocol, or a man in the middle does not.
    #[error("the SSH connection to {host} failed: {reason}")]
    #[diagnostic(help("try again; if that does not help, the log of the server should say more"))]
    Protocol { host: String, reason: String },
    #[error("{host} does not let the user {user:?} in with {}{}", tried.join(", "), .remarks)]
    #[diagnostic(help("{}", if *.half {
        "the key was accepted, but the host asks for a second proof, which is not supported"
    } else {
        "the public half of the key must be a deploy key of the repository, or stand in the user's authorized_keys"
    }))]
    Refused {
        host: String,
        user: String,
        /// Fingerprints of the keys, and where they are from.
        tried: Vec<String>,
        /// A key was right, but not enough.
        half: bool,
        /// What the host said to that, as the end of a sentence.
        remarks: String,
    },
    #[error("{host} refuses to run {command}")]
    #[diagnostic(help(
        "the account must be allowed to run git-upload-pack; it may be for file transfer only"
    ))]
    Exec { host: String, command: String },
    #[error("{url} cannot be fetched from: {}", words(.said, .status))]
    #[diagnostic(help("see whether the repository is there, and whether the key may read it"))]
    NotServed {
        url: String,
        /// How the command ended.
        status: String,
        said: String,
    },
    #[error("{url} broke off: {}", words(.said, .status))]
    #[diagnostic(help("trigger again; if it stays, look at the remote's log"))]
    BrokenOff {
        url: String,
        status: String,
        said: String,
    },
    #[error("{url} answers what is not git's protocol: {said:?}")]
    #[diagnostic(help(
        "whatever the account's login scripts print must go to standard error; or it is not allowed to run git"
    ))]
    NotGit { url: String, said: String },
    #[error("cannot start an SSH connection to {host}: {source}")]
    #[diagnostic(help(
        "a limit on processes, threads or open files is reached; raise it: TasksMax and LimitNOFILE in a systemd unit"
    ))]
    Start { host: String, source: io::Error },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Network(err) => err.kind(),
            Self::Secret(err) => err.kind(),
            Self::Url { .. }
            | Self::NoUser { .. }
            | Self::KnownHosts { .. }
            | Self::Key { .. }
            | Self::Encrypted { .. }
            | Self::Passphrase { .. }
            | Self::NoAgent { .. }
            | Self::Agent { .. }
            | Self::AgentEmpty { .. } => Kind::Config,
            Self::UnknownHost { .. }
            | Self::ChangedHost { .. }
            | Self::RevokedHost { .. }
            | Self::HostCertificate { .. }
            | Self::NoCommonAlgorithm { .. }
            | Self::NotSsh { .. }
            | Self::Refused { .. }
            | Self::Exec { .. }
            | Self::NotServed { .. }
            | Self::NotGit { .. } => Kind::Remote,
            Self::Protocol { .. } | Self::BrokenOff { .. } => Kind::Unreachable,
            Self::Start { source, .. } => match kind_of_io(source) {
                Kind::Path => Kind::Resources,
                kind => kind,
            },
        }
    }
}

fn and_skipped(skipped: &Option<(Line, &'static str)>) -> String {
    match skipped {
        Some((at, why)) => format!(" ({at} was skipped: {why})"),
        None => String::new(),
    }
}

fn words(said: &str, status: &str) -> String {
    match said {
        "" => format!("{status}, without a message"),
        said => said.into(),
    }
}
