//! Credentials and certificates.

use super::{
    Check,
    choice::variant,
    field::{BASIC, BEARER, Fields, TLS, not_yet},
    target::NO_SSH,
    value::filled,
};
use crate::{
    config::{
        Auth, Roots, Tls,
        raw::{Shape, Value},
        report::Problem,
    },
    name::{RepoUrl, Scheme},
};

impl Check<'_> {
    pub(super) fn auth(&mut self, fields: &Fields<'_>) -> Option<Auth> {
        let value = fields.get("auth")?;
        if matches!(value.shape(), Shape::Named("Ssh") | Shape::Word("Ssh")) {
            self.problems.push(not_yet(value.head(), "Ssh", NO_SSH));
            return None;
        }
        let around = self.around;
        let which = variant(
            value,
            "a way to authenticate",
            &[("Basic", true), ("Bearer", true), ("None", false)],
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

    pub(super) fn tls(&mut self, fields: &Fields<'_>) -> Option<Tls> {
        let fields = self.fields(fields.get("tls")?, &TLS)?;
        let around = self.around;
        let ca_file = self.optional(&fields, "ca_file", |value| around.secret_path(value));
        let roots = self.optional(&fields, "roots", roots);
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
            allow_plain_credentials: plain.unwrap_or_default(),
        })
    }

    /// Credentials and certificates must be of use for the URL, and must not be sent where everybody can read them.
    pub(super) fn credentials_fit(&mut self, fields: &Fields<'_>, repo: &RepoUrl, tls: Option<&Tls>) {
        let scheme = repo.scheme();
        let http = matches!(scheme, Scheme::Http | Scheme::Https);
        let repo_at = fields.get("repo").map(Value::head).unwrap_or_default();
        let in_url = http && repo.with_secrets().user().is_some();
        if fields.has("auth") && !http {
            let problem = Problem::at(
                fields.name_span("auth"),
                "`auth` is for http:// and https:// alone",
            )
            .also(repo_at.clone(), "this is neither")
            .help("remove it, or use the repository's https:// URL");
            self.problems.push(problem);
        } else if fields.has("auth") && in_url {
            let problem = Problem::at(
                fields.name_span("auth"),
                "there are credentials in `auth` and in the URL",
            )
            .also(repo_at.clone(), "user or password before the `@`")
            .help("remove those in the URL: in a file of their own fewer people can read them");
            self.problems.push(problem);
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
        let certificates = tls.is_some_and(|tls| tls.roots != Roots::Mozilla);
        if fields.has("tls") && (!http || certificates && scheme == Scheme::Http) {
            let problem = Problem::at(fields.name_span("tls"), "certificates are for https:// alone")
                .also(repo_at, "this is something else")
                .help("remove `tls`, or use the repository's https:// URL");
            self.problems.push(problem);
        }
    }

    /// Whether `tls` is absent or right: a second error about a wrong one would only confuse.
    fn understood(&self, fields: &Fields<'_>, tls: Option<&Tls>) -> bool {
        !fields.has("tls") || tls.is_some()
    }
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
