//! Credentials, keys and certificates.

use std::ops::Range;

use crate::{
    base::name::{AbsPath, RepoUrl, Scheme},
    config::{
        Auth, ClientCertificate, Roots, Ssh, Tls,
        form::{BOOL, Choice, FILE, Form, Given, Kind, Problem, Read, SECRET, Shape, USER, Value, fields},
    },
};

fields! {
    /// User and password, for HTTP (RFC 7617).
    pub(super) struct BasicFields: "`Basic`" {
        /// The user.
        user ("username"): String = USER, required r#""me""#;
        /// The file that holds the password.
        password_file: AbsPath = SECRET, required r#""/etc/gitsocket/password""#;
    }
}

fields! {
    /// A token, for HTTP (RFC 6750).
    pub(super) struct BearerFields: "`Bearer`" {
        /// The file that holds the token.
        token_file: AbsPath = SECRET, required r#""/etc/gitsocket/token""#;
    }
}

fields! {
    /// How to log in over SSH, and which hosts are known.
    pub(super) struct SshFields: "`Ssh`" {
        /// A private key: ed25519, ecdsa or RSA, in OpenSSH's format or as PEM.
        key ("identity_file", "private_key"): AbsPath = FILE, without "none";
        /// The file that holds the key's passphrase.
        passphrase_file: AbsPath = SECRET, without "none";
        /// The only file of known hosts. Without it, and without HOME, only the system's file is read.
        known_hosts ("known_hosts_file"): AbsPath = FILE,
            without "`~/.ssh/known_hosts` and `/etc/ssh/ssh_known_hosts`";
        /// Whether the keys of the agent at `$SSH_AUTH_SOCK` are tried, after `key`. Runs find out whether there is one.
        agent: bool = BOOL, without "`true` without a `key`";
    }
}

fields! {
    /// Which certificates to trust, and which to show; for `https://` only.
    pub(super) struct TlsFields: "`tls`" {
        /// The only certificates to trust, as PEM.
        ca_file ("cacert", "sslcainfo"): AbsPath = FILE, without "none";
        /// Whose certificates to trust: those that are part of gitsocket, or those of the machine. Not together with
        /// `ca_file`.
        roots: Roots = Kind::choice(), or Roots::default();
        /// Our own certificate with its chain, as PEM.
        cert_file ("client_cert", "client_certificate", "ssl_cert", "sslcert"): AbsPath = FILE, without "none";
        /// The key of that certificate, without passphrase, as PEM.
        key_file ("private_key", "client_key", "ssl_key", "sslkey"): AbsPath = FILE, without "none";
        /// `true`: send credentials over `http://`, too, where others on the network can read them.
        allow_plain_credentials: bool = BOOL, or false;
    }
}

pub(super) const AUTH: Kind<Auth> = Kind::many(
    "`Basic(…)` or `Bearer(…)` for HTTP, `Ssh(…)` for SSH, or `None`",
    |form, value| form.one_of(value, "a way to authenticate", &WAYS),
);
pub(super) const CERTIFICATES: Kind<Tls> = Kind::many("`(…)`", tls);

const WAYS: [(&str, bool, Read<Auth>); 4] = [
    ("Basic", true, basic),
    ("Bearer", true, bearer),
    ("Ssh", true, |form, value| ssh(form, value).map(Auth::Ssh)),
    ("None", false, |_, _| Some(Auth::None)),
];

impl Choice for Roots {
    const WHAT: &'static str = "a set of certificates";
    const WORDS: &'static [(&'static str, Self)] = &[("Mozilla", Self::Mozilla), ("System", Self::System)];
}

fn basic(form: &mut Form<'_>, value: Value<'_>) -> Option<Auth> {
    let fields: BasicFields<'_> = form.fields(value)?;
    Some(Auth::Basic {
        user: fields.user.value?,
        password_file: fields.password_file.value?,
    })
}

fn bearer(form: &mut Form<'_>, value: Value<'_>) -> Option<Auth> {
    let fields: BearerFields<'_> = form.fields(value)?;
    Some(Auth::Bearer {
        token_file: fields.token_file.value?,
    })
}

/// Which keys are used is decided here: the agent's if there is no other or `agent` says so.
fn ssh(form: &mut Form<'_>, value: Value<'_>) -> Option<Ssh> {
    let fields: SshFields<'_> = form.fields(value)?;
    if fields.passphrase_file.is_there() && !fields.key.is_there() {
        let problem = Problem::at(
            fields.passphrase_file.name_at.clone(),
            "there is no `key` that this passphrase could open",
        )
        .help(r#"name the encrypted key, too: key: "/etc/gitsocket/key""#);
        form.problems.push(problem);
    }
    if fields.agent.value == Some(false) && !fields.key.is_there() {
        let problem = Problem::at(
            fields.agent.name_at.clone(),
            "there is neither a `key` nor an agent to log in with",
        )
        .help(r#"add key: "/etc/gitsocket/key", or remove this field"#);
        form.problems.push(problem);
    }
    Some(Ssh {
        agent: fields.agent.value.unwrap_or(!fields.key.is_there()),
        key: fields.key.value,
        passphrase_file: fields.passphrase_file.value,
        known_hosts: fields.known_hosts.value,
    })
}

fn tls(form: &mut Form<'_>, value: Value<'_>) -> Option<Tls> {
    let fields: TlsFields<'_> = form.fields(value)?;
    halves(form, &fields);
    if fields.ca_file.is_there() && fields.roots.is_there() {
        let problem = Problem::at(
            fields.roots.name_at.clone(),
            "either `ca_file` or `roots` says whom to trust, not both",
        )
        .also(
            fields.ca_file.name_at.clone(),
            "only the certificates of this file would be trusted",
        )
        .help("remove one of them");
        form.problems.push(problem);
    }
    let pair = fields.cert_file.value.zip(fields.key_file.value);
    Some(Tls {
        roots: fields.ca_file.value.map(Roots::File).or(fields.roots.value)?,
        client: pair.map(|(cert_file, key_file)| ClientCertificate { cert_file, key_file }),
        allow_plain_credentials: fields.allow_plain_credentials.value?,
    })
}

/// A certificate proves nothing without its key, nor a key without its certificate.
fn halves(form: &mut Form<'_>, fields: &TlsFields<'_>) {
    let (cert, key) = (&fields.cert_file, &fields.key_file);
    for (given, given_name, missing, missing_name, example) in [
        (cert, "cert_file", key, "key_file", "client.key"),
        (key, "key_file", cert, "cert_file", "client.pem"),
    ] {
        if given.is_there() && !missing.is_there() && !missing.is_misspelt {
            let problem = Problem::at(
                given.name_at.clone(),
                format!("`{given_name}` is of no use without `{missing_name}`"),
            )
            .help(format!(
                r#"add {missing_name}: "/etc/gitsocket/{example}"; both may name one file"#
            ));
            form.problems.push(problem);
        }
    }
}

/// Credentials and certificates must be of use for the URL, and must not be sent where others can read them.
pub(super) fn credentials_fit(
    form: &mut Form<'_>,
    url: &Given<'_, RepoUrl>,
    auth: &Given<'_, Auth>,
    tls: &Given<'_, Tls>,
) {
    let Some(repo) = &url.value else {
        return;
    };
    let scheme = repo.scheme();
    let http = matches!(scheme, Scheme::Http | Scheme::Https);
    let repo_at = url.at();
    let in_url = http && repo.with_secrets().user().is_some();
    form.problems
        .extend(auth_misfit(auth, scheme, in_url, repo_at.clone()));
    if scheme == Scheme::Ssh {
        form.problems.extend(ssh_url(repo, repo_at.clone()));
    }
    let plain = tls.value.as_ref().is_some_and(|tls| tls.allow_plain_credentials);
    // A second error about a `tls` that is wrong would only confuse.
    let understood = !tls.is_there() || tls.value.is_some();
    if scheme == Scheme::Http && (auth.is_there() || in_url) && !plain && understood {
        let problem = Problem::at(
            repo_at.clone(),
            "credentials would be sent over http://, where others on the network can read them",
        )
        .help("use https://, or accept it with tls: (allow_plain_credentials: true)");
        let problem = if auth.is_there() {
            problem.also(auth.name_at.clone(), "these")
        } else {
            problem
        };
        form.problems.push(problem);
    }
    let certificates = tls
        .value
        .as_ref()
        .is_some_and(|tls| tls.roots != Roots::Mozilla || tls.client.is_some());
    if tls.is_there() && (!http || certificates && scheme == Scheme::Http) {
        let problem = Problem::at(tls.name_at.clone(), "certificates are for https:// alone")
            .also(repo_at, "this is something else")
            .help("remove `tls`, or use the repository's https:// URL");
        form.problems.push(problem);
    }
}

/// Each way to authenticate belongs to some schemes.
fn auth_misfit(
    auth: &Given<'_, Auth>,
    scheme: Scheme,
    in_url: bool,
    repo_at: Range<usize>,
) -> Option<Problem> {
    let ssh = matches!(auth.raw?.shape(), Shape::Named("Ssh") | Shape::Word("Ssh"));
    let at = auth.name_at.clone();
    Some(match scheme {
        Scheme::Ssh if ssh => return None,
        Scheme::Ssh => Problem::at(at, "this way to authenticate is for http:// and https:// alone")
            .also(repo_at, "this is SSH")
            .help(r#"use auth: Ssh(key: "…"), or the repository's https:// URL"#),
        _ if ssh => Problem::at(at, "`Ssh` is for SSH URLs alone")
            .also(repo_at, "this is none")
            .help("remove it, or use the repository's SSH URL, such as git@HOST:PATH"),
        Scheme::Http | Scheme::Https if in_url => {
            Problem::at(at, "there are credentials in `auth` and in the URL")
                .also(repo_at, "user or password before the `@`")
                .help("remove those in the URL: in a file of their own fewer people can read them")
        }
        Scheme::Http | Scheme::Https => return None,
        Scheme::Git | Scheme::Local => Problem::at(at, "`auth` is for http://, https:// and SSH alone")
            .also(repo_at, "this is something else")
            .help("remove it, or use the repository's https:// or SSH URL"),
    })
}

/// SSH needs a user, and never uses a password.
fn ssh_url(repo: &RepoUrl, at: Range<usize>) -> Option<Problem> {
    let url = repo.with_secrets();
    if url.password().is_some() {
        let problem = Problem::at(at, "a password in an SSH URL is never used");
        return Some(problem.help(r#"remove it, and name a key: auth: Ssh(key: "…")"#));
    }
    if url.user().is_none_or(str::is_empty) {
        let problem = Problem::at(at, "this names no user to log in as");
        return Some(problem.help("write the user into the URL: git@HOST:PATH or ssh://git@HOST/PATH"));
    }
    None
}
