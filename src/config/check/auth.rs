//! Credentials, keys and certificates.

use super::{
    Check,
    choice::variant,
    field::{BASIC, BEARER, Fields, SSH, TLS},
    value::filled,
};
use crate::{
    base::name::{RepoUrl, Scheme},
    config::{
        Auth, ClientCertificate, Roots, Ssh, Tls,
        raw::{Shape, Value},
        report::Problem,
    },
};

impl Check<'_> {
    pub(super) fn auth(&mut self, fields: &Fields<'_>) -> Option<Auth> {
        let value = fields.get("auth")?;
        let around = self.around;
        let which = variant(
            value,
            "a way to authenticate",
            &[("Basic", true), ("Bearer", true), ("Ssh", true), ("None", false)],
        );
        match self.keep(which)? {
            "Basic" => {
                let fields = self.fields(value, &BASIC)?;
                let user = self.required(&fields, "user", r#""me""#, user);
                let password_file = self.required(
                    &fields,
                    "password_file",
                    r#""/etc/gitsocket/password""#,
                    |value| around.secret_path(value),
                );
                Some(Auth::Basic {
                    user: user?,
                    password_file: password_file?,
                })
            }
            "Ssh" => self.ssh(value).map(Auth::Ssh),
            _ => {
                let fields = self.fields(value, &BEARER)?;
                let token_file = self.required(&fields, "token_file", r#""/etc/gitsocket/token""#, |value| {
                    around.secret_path(value)
                });
                Some(Auth::Bearer {
                    token_file: token_file?,
                })
            }
        }
    }

    /// Which keys are used is decided here: the agent's if there is no other or `agent` says so.
    fn ssh(&mut self, value: Value<'_>) -> Option<Ssh> {
        let fields = self.fields(value, &SSH)?;
        let around = self.around;
        let path = |value: Value<'_>| around.secret_path(value);
        let key = self.optional(&fields, "key", path);
        let passphrase_file = self.optional(&fields, "passphrase_file", path);
        let known_hosts = self.optional(&fields, "known_hosts", path);
        let agent = self.optional(&fields, "agent", Value::bool);
        if fields.has("passphrase_file") && !fields.has("key") {
            let problem = Problem::at(
                fields.name_span("passphrase_file"),
                "there is no `key` that this passphrase could open",
            )
            .help(r#"name the encrypted key, too: key: "/etc/gitsocket/key""#);
            self.problems.push(problem);
        }
        if agent == Some(false) && !fields.has("key") {
            let problem = Problem::at(
                fields.name_span("agent"),
                "there is neither a `key` nor an agent to log in with",
            )
            .help(r#"add key: "/etc/gitsocket/key", or remove this field"#);
            self.problems.push(problem);
        }
        Some(Ssh {
            agent: agent.unwrap_or(!fields.has("key")),
            key,
            passphrase_file,
            known_hosts,
        })
    }

    pub(super) fn tls(&mut self, fields: &Fields<'_>) -> Option<Tls> {
        let fields = self.fields(fields.get("tls")?, &TLS)?;
        let around = self.around;
        let ca_file = self.optional(&fields, "ca_file", |value| around.secret_path(value));
        let roots = self.optional(&fields, "roots", roots);
        let client = self.client_certificate(&fields);
        let plain = self.optional(&fields, "allow_plain_credentials", Value::bool);
        if fields.has("ca_file") && fields.has("roots") {
            let problem = Problem::at(
                fields.name_span("roots"),
                "either `ca_file` or `roots` says whom to trust, not both",
            )
            .also(
                fields.name_span("ca_file"),
                "only the certificates of this file would be trusted",
            )
            .help("remove one of them");
            self.problems.push(problem);
        }
        Some(Tls {
            roots: ca_file.map(Roots::File).or(roots).unwrap_or_default(),
            client,
            allow_plain_credentials: plain.unwrap_or_default(),
        })
    }

    /// A certificate proves nothing without its key, nor a key without its certificate.
    fn client_certificate(&mut self, fields: &Fields<'_>) -> Option<ClientCertificate> {
        let around = self.around;
        let cert_file = self.optional(fields, "cert_file", |value| around.secret_path(value));
        let key_file = self.optional(fields, "key_file", |value| around.secret_path(value));
        for (given, missing) in [("cert_file", "key_file"), ("key_file", "cert_file")] {
            if fields.has(given) && !fields.has(missing) && !fields.was_misspelt(missing) {
                let problem = Problem::at(
                    fields.name_span(given),
                    format!("`{given}` is of no use without `{missing}`"),
                )
                .help(format!(
                    r#"add {missing}: "/etc/gitsocket/{}"; both may name one file"#,
                    if missing == "key_file" {
                        "client.key"
                    } else {
                        "client.pem"
                    }
                ));
                self.problems.push(problem);
            }
        }
        Some(ClientCertificate {
            cert_file: cert_file?,
            key_file: key_file?,
        })
    }

    /// Credentials and certificates must be of use for the URL, and must not be sent where everybody can read them.
    pub(super) fn credentials_fit(&mut self, fields: &Fields<'_>, repo: &RepoUrl, tls: Option<&Tls>) {
        let scheme = repo.scheme();
        let http = matches!(scheme, Scheme::Http | Scheme::Https);
        let repo_at = fields.get("repo").map(Value::head).unwrap_or_default();
        let in_url = http && repo.with_secrets().user().is_some();
        if fields.has("auth") {
            self.auth_fits(fields, scheme, in_url);
        }
        if scheme == Scheme::Ssh {
            let problem = ssh_url(repo, repo_at.clone());
            self.problems.extend(problem);
        }
        let plain = tls.is_some_and(|tls| tls.allow_plain_credentials);
        if scheme == Scheme::Http && (fields.has("auth") || in_url) && !plain && self.understood(fields, tls)
        {
            let problem = Problem::at(
                repo_at.clone(),
                "credentials would be sent over http://, readable for everybody on the way",
            )
            .help("use https://, or accept it with tls: (allow_plain_credentials: true)");
            self.problems.push(problem);
        }
        let certificates = tls.is_some_and(|tls| tls.roots != Roots::Mozilla || tls.client.is_some());
        if fields.has("tls") && (!http || certificates && scheme == Scheme::Http) {
            let problem = Problem::at(fields.name_span("tls"), "certificates are for https:// alone")
                .also(repo_at, "this is something else")
                .help("remove `tls`, or use the repository's https:// URL");
            self.problems.push(problem);
        }
    }

    /// Each way to authenticate belongs to some schemes.
    fn auth_fits(&mut self, fields: &Fields<'_>, scheme: Scheme, in_url: bool) {
        let Some(value) = fields.get("auth") else {
            return;
        };
        let repo_at = fields.get("repo").map(Value::head).unwrap_or_default();
        let ssh = matches!(value.shape(), Shape::Named("Ssh") | Shape::Word("Ssh"));
        let at = fields.name_span("auth");
        let problem = match scheme {
            Scheme::Ssh if ssh => return,
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
            Scheme::Http | Scheme::Https => return,
            Scheme::Git | Scheme::Local => Problem::at(at, "`auth` is for http://, https:// and SSH alone")
                .also(repo_at, "this is something else")
                .help("remove it, or use the repository's https:// or SSH URL"),
        };
        self.problems.push(problem);
    }

    /// Whether `tls` is absent or right: a second error about a wrong one would only confuse.
    fn understood(&self, fields: &Fields<'_>, tls: Option<&Tls>) -> bool {
        !fields.has("tls") || tls.is_some()
    }
}

/// SSH needs a user, and never uses a password.
fn ssh_url(repo: &RepoUrl, at: std::ops::Range<usize>) -> Option<Problem> {
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

fn roots(value: Value<'_>) -> Result<Roots, Problem> {
    match variant(
        value,
        "a set of certificates",
        &[("Mozilla", false), ("System", false)],
    )? {
        "Mozilla" => Ok(Roots::Mozilla),
        _ => Ok(Roots::System),
    }
}

/// RFC 7617: a user's name holds neither a colon nor control characters.
fn user(value: Value<'_>) -> Result<String, Problem> {
    let text = filled(value)?;
    match text.contains(|c: char| c == ':' || c.is_control()) {
        true => Err(Problem::at(
            value.head(),
            "a user's name holds no `:` and no control characters",
        )
        .help("write the name alone; the password stands in `password_file`")),
        false => Ok(text),
    }
}
