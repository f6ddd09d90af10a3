//! What can go wrong over HTTP, in words that never hold a secret.

use crate::{
    base::{
        fault::{Blame, Kind},
        name::AbsPath,
        secret,
    },
    git::transport::tcp,
};

/// A repository could not be read over HTTP.
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
    Url { url: String, reason: String },
    #[error("{url} is not encrypted, so the credentials for it are not sent")]
    #[diagnostic(help(
        "use https://; or, where you trust the network in between, write tls: (allow_plain_credentials: true)"
    ))]
    PlainCredentials { url: String },
    #[error("the credentials for {url} cannot be sent: {reason}")]
    #[diagnostic(help("correct `auth`"))]
    Credentials { url: String, reason: &'static str },
    #[error("the certificates in {path} cannot be used: {reason}")]
    #[diagnostic(help(
        "`tls.ca_file` must name a file with one or more certificates as PEM (-----BEGIN CERTIFICATE-----)"
    ))]
    Roots { path: AbsPath, reason: String },
    #[error("this system's certificates cannot be used: {reason}")]
    #[diagnostic(help(
        "install the package ca-certificates, or leave `tls.roots` out to use Mozilla's roots"
    ))]
    SystemRoots { reason: String },
    #[error("the client certificate in {path} cannot be used: {reason}")]
    #[diagnostic(help("{help}"))]
    Certificate {
        path: AbsPath,
        reason: String,
        help: &'static str,
    },
    #[error("the client certificate's key in {path} cannot be used: {reason}")]
    #[diagnostic(help("{help}"))]
    CertificateKey {
        path: AbsPath,
        reason: String,
        help: &'static str,
    },
    #[error("the key in {key} does not belong to the client certificate in {cert}")]
    #[diagnostic(help(
        "`tls.cert_file` must begin with the certificate that was issued for this key, before those of its issuers"
    ))]
    KeyMismatch { key: AbsPath, cert: AbsPath },
    #[error("{host} asks for a client certificate")]
    #[diagnostic(help("{}", match withheld_for {
        Some(host) => format!(
            "`tls.cert_file` is only ever shown to {host}, and it redirected here: write this URL as `repo`"
        ),
        None => "name it and its key: tls: (cert_file: \"/path/client.pem\", key_file: \"/path/client.key\")".into(),
    }))]
    CertificateWanted {
        host: String,
        /// The host that the certificate is for, if there is one.
        withheld_for: Option<String>,
    },
    #[error("{host} does not accept the client certificate in {path}: {reason}")]
    #[diagnostic(help("{help}"))]
    CertificateRefused {
        host: String,
        path: AbsPath,
        reason: &'static str,
        help: &'static str,
    },
    #[error("the certificate of {host} was issued by an authority that is not trusted here: {roots}")]
    #[diagnostic(help(
        "if its authority is a private one, name that: tls: (ca_file: \"/path/ca.pem\"), or tls: (roots: System)"
    ))]
    UnknownIssuer { host: String, roots: String },
    #[error("the certificate of {host} is not valid at this time: {reason}")]
    #[diagnostic(help("the host's administrator must renew it; or this machine's clock is wrong"))]
    Expired { host: String, reason: String },
    #[error("the certificate of {host} is for another name: {reason}")]
    #[diagnostic(help("use the name that the certificate is for in `repo`"))]
    WrongName { host: String, reason: String },
    #[error("the certificate of {host} cannot be trusted: {reason}")]
    #[diagnostic(help(
        "the host needs one of X.509 version 3 with its name as subjectAltName, basicConstraints=CA:FALSE, and signed with \
         SHA-256 or better; a self-signed one is trusted where `tls.ca_file` names it"
    ))]
    HostCertificate { host: String, reason: &'static str },
    #[error("no secure connection to {host}: {reason}")]
    #[diagnostic(help(
        "check the port; a private authority's certificate is named by tls: (ca_file: \"/path/ca.pem\"), one that the \
         server wants to see of ours by tls: (cert_file: \"/path/client.pem\", key_file: \"/path/client.key\")"
    ))]
    Tls { host: String, reason: String },
    #[error("the proxy in ${variable} cannot be used: {reason}")]
    #[diagnostic(help("write it as http://host:port, or unset it"))]
    ProxyUrl {
        variable: &'static str,
        reason: &'static str,
    },
    #[error("the proxy {proxy} did not connect to {host}: {reason}")]
    #[diagnostic(help("{}, or name the host in $NO_PROXY", match status {
        Some(407) => "write them into the variable that names the proxy: http://USER:PASSWORD@HOST:PORT",
        _ => "correct $HTTPS_PROXY, $http_proxy or $ALL_PROXY",
    }))]
    Proxy {
        /// The proxy, without secrets.
        proxy: String,
        host: String,
        status: Option<u16>,
        reason: String,
    },
    #[error("{url} asks for a user and password (401){}", quoted(.said))]
    #[diagnostic(help("{}", match withheld_for {
        Some(host) => format!("`auth` is only ever sent to {host}, and it redirected here: write this URL as `repo`"),
        None => "name them: auth: Basic(user: \"…\", password_file: \"…\"), or Bearer(token_file: \"…\"). Many hosts \
                 answer this for a repository that does not exist, too".into(),
    }))]
    Unauthenticated {
        url: String,
        /// The host that the credentials are for, if there are any.
        withheld_for: Option<String>,
        said: Option<String>,
    },
    #[error("{url} refused the credentials from {from} (401){}", quoted(.said))]
    #[diagnostic(help(
        "they are wrong, have expired, or are not meant for this repository; write the right ones there"
    ))]
    Refused {
        url: String,
        from: String,
        said: Option<String>,
    },
    #[error("{url} is forbidden (403){}", quoted(.said))]
    #[diagnostic(help("the account that `auth` names must be allowed to read the repository"))]
    Forbidden { url: String, said: Option<String> },
    /// 404 or 410.
    #[error("there is no repository at {url} ({status}){}", quoted(.said))]
    #[diagnostic(help(
        "check the path in `repo`. Some hosts answer this for repositories that need `auth`, too"
    ))]
    NotFound {
        url: String,
        status: u16,
        said: Option<String>,
    },
    /// Another status than 200.
    #[error("{url} answered {status}{}", quoted(.said))]
    #[diagnostic(help("{}", if passing(*status) {
        "the server has a difficulty that should pass; try again later"
    } else {
        "the server does not let git fetch there; check `repo`"
    }))]
    Status {
        url: String,
        status: u16,
        said: Option<String>,
    },
    #[error("{url} answered with {content_type} instead of git's protocol")]
    #[diagnostic(help(
        "it may be a login page, or that of a network's portal; `repo` must be the URL that git clone takes"
    ))]
    NotGit { url: String, content_type: String },
    #[error("{url} serves the repository's files only (the \"dumb\" protocol), which is not supported")]
    #[diagnostic(help("the server must run git http-backend, or use git:// or ssh://"))]
    Dumb { url: String },
    #[error("{url} redirects to {to}, which is not followed: {reason}")]
    #[diagnostic(help("if that is where the repository is now, write it as `repo`"))]
    Redirect {
        url: String,
        /// Where to, without secrets.
        to: String,
        reason: &'static str,
    },
    #[error("{url} answered what cannot be understood: {reason}")]
    #[diagnostic(help("check the port in `repo`, and whether a proxy is between"))]
    Protocol { url: String, reason: String },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Network(err) => err.kind(),
            Self::Secret(err) => err.kind(),
            Self::Url { .. }
            | Self::PlainCredentials { .. }
            | Self::Credentials { .. }
            | Self::Roots { .. }
            | Self::SystemRoots { .. }
            | Self::Certificate { .. }
            | Self::CertificateKey { .. }
            | Self::KeyMismatch { .. }
            | Self::ProxyUrl { .. } => Kind::Config,
            Self::Proxy { status, .. } if status.is_none_or(passing) => Kind::Unreachable,
            Self::Status { status, .. } if passing(*status) => Kind::Unreachable,
            Self::CertificateWanted { .. }
            | Self::CertificateRefused { .. }
            | Self::UnknownIssuer { .. }
            | Self::Expired { .. }
            | Self::WrongName { .. }
            | Self::HostCertificate { .. }
            | Self::Tls { .. }
            | Self::Proxy { .. }
            | Self::Unauthenticated { .. }
            | Self::Refused { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Status { .. }
            | Self::NotGit { .. }
            | Self::Dumb { .. }
            | Self::Redirect { .. }
            | Self::Protocol { .. } => Kind::Remote,
        }
    }
}

/// Whether a status means a fault that passes: request timeout, too many requests, or the server's own.
fn passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 507..=599)
}

/// What the server said, as the end of a sentence.
fn quoted(said: &Option<String>) -> String {
    said.as_ref()
        .map(|said| format!(": it says {said:?}"))
        .unwrap_or_default()
}
