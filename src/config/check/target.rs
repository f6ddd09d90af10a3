//! What a trigger's name stands for.

use std::{ffi::OsStr, num::NonZeroU32};

use super::{
    Check, Placed,
    field::{BASIC, BEARER, Fields, TLS, TRIGGER, not_yet, variant},
    value::{duration, filled, invalid, literal},
};
use crate::{
    config::{
        Auth, Clean, DEFAULT_FETCH_TIMEOUT, Revision, Roots, Target, Tls,
        mask::redact,
        raw::{Shape, Value},
        report::Problem,
    },
    name::{AbsPath, Invalid, RefName, RemoteName, RepoUrl, Scheme, TriggerName},
};

/// What to do while there is no SSH.
const NO_SSH: &str = "use the repository's https:// URL, with auth: Basic(…) or Bearer(…) if it is private";
/// git takes this and more for "all".
const MAX_DEPTH: u32 = i32::MAX as u32 - 1;

impl Check<'_> {
    pub(super) fn target(
        &mut self,
        key: Value<'_>,
        trigger: Option<TriggerName>,
        value: Value<'_>,
    ) -> Option<Placed> {
        let fields = self.fields(value, &TRIGGER)?.placed_at(key.span());
        let around = self.around;
        let repo = self.required(&fields, "repo", r#""https://example.com/site.git""#, |value| {
            repo(value, around.base)
        });
        let path = self.required(&fields, "path", r#""/srv/site""#, |value| {
            worktree(value, around.path(value)?)
        });
        let revision = self.revision(&fields);
        let remote = self.optional(&fields, "remote", remote);
        let depth = self.optional(&fields, "depth", |value| {
            value.number(1..=MAX_DEPTH).map_err(|problem| {
                problem.help("write how many commits to fetch, or remove the field for the full history")
            })
        });
        let clean = self.optional(&fields, "clean", clean);
        let keep = self.keep_patterns(&fields, path.as_ref());
        let auth = self.auth(&fields);
        let tls = self.tls(&fields);
        let hooks = self.hooks(&fields);
        let timeout = self.optional(&fields, "timeout", duration);
        if let Some(repo) = &repo {
            self.credentials_fit(&fields, repo, tls.as_ref());
            self.not_itself(&fields, repo, path.as_ref());
        }
        let target = Target {
            trigger: trigger?,
            repo: repo?,
            revision,
            path: path?,
            remote: remote.or_else(|| RemoteName::new("origin").ok())?,
            depth: depth.and_then(NonZeroU32::new),
            clean: clean.unwrap_or(Clean::Untracked),
            keep,
            auth: auth.unwrap_or(Auth::None),
            tls: tls.unwrap_or_default(),
            hooks,
            timeout: timeout.unwrap_or(DEFAULT_FETCH_TIMEOUT),
        };
        let path_at = fields.get("path")?.head();
        Some(Placed { target, path_at })
    }

    fn revision(&mut self, fields: &Fields<'_>) -> Revision {
        let branch = self.optional(fields, "branch", |value| {
            ref_name(value, "branch", RefName::branch)
        });
        let tag = self.optional(fields, "tag", |value| ref_name(value, "tag", RefName::tag));
        if fields.has("branch") && fields.has("tag") {
            let problem = Problem::at(
                fields.name_span("tag"),
                "a trigger has a branch or a tag, not both",
            )
            .label("a tag")
            .also(fields.name_span("branch"), "and a branch")
            .help("remove one of them");
            self.problems.push(problem);
        }
        match (branch, tag) {
            (Some(branch), _) => Revision::Branch(branch),
            (None, Some(tag)) => Revision::Tag(tag),
            (None, None) => Revision::RemoteHead,
        }
    }

    fn keep_patterns(&mut self, fields: &Fields<'_>, path: Option<&AbsPath>) -> Vec<String> {
        let example = r#"write keep: ["uploads/", "*.local"]"#;
        let list = self.optional(fields, "keep", |value| value.list().map_err(|p| p.help(example)));
        let patterns = list.unwrap_or_default().into_iter();
        patterns
            .filter_map(|value| self.keep(pattern(value, path)))
            .collect()
    }

    fn auth(&mut self, fields: &Fields<'_>) -> Option<Auth> {
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

    fn tls(&mut self, fields: &Fields<'_>) -> Option<Tls> {
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
    fn credentials_fit(&mut self, fields: &Fields<'_>, repo: &RepoUrl, tls: Option<&Tls>) {
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

    /// A repository cannot be deployed onto itself.
    fn not_itself(&mut self, fields: &Fields<'_>, repo: &RepoUrl, path: Option<&AbsPath>) {
        let (Some(local), Some(path)) = (repo.local_path(), path) else {
            return;
        };
        if local == path || local.as_path() == path.as_path().join(".git") {
            let at = |name| fields.get(name).map(Value::head).unwrap_or_default();
            let problem = Problem::at(at("path"), "this is the repository itself")
                .also(at("repo"), "the repository")
                .help("give the directory to deploy to as `path`");
            self.problems.push(problem);
        }
    }
}

fn repo(value: Value<'_>, base: &std::path::Path) -> Result<RepoUrl, Problem> {
    let text = filled(value)?;
    literal(value, &text)?;
    let repo = RepoUrl::parse(&text, base).map_err(|err| {
        // Neither the text nor what is wrong with it may show a password.
        let reason = match redact(&err.to_string(), &text) {
            // All that gix says is the URL again.
            reason if reason.contains("input=") => "its host or port cannot be read".into(),
            reason => reason,
        };
        Problem::at(
            value.head(),
            format!("this is not a usable URL or path of a repository: {reason}"),
        )
        .help("write https://HOST/PATH, http://…, git://…, file:///PATH or a path")
    })?;
    match repo.scheme() {
        Scheme::Ssh => Err(not_yet(value.head(), "ssh", NO_SSH)
            .label(r#"`ssh://` and `user@host:path` are SSH; a path with a `:` begins with "./""#)),
        _ => Ok(repo),
    }
}

fn worktree(value: Value<'_>, path: AbsPath) -> Result<AbsPath, Problem> {
    let problem = if path.as_path().parent().is_none() {
        "the root directory cannot be a worktree"
    } else if path
        .as_path()
        .components()
        .any(|part| part.as_os_str() == OsStr::new(".git"))
    {
        "a directory inside a .git directory cannot be a worktree"
    } else {
        return Ok(path);
    };
    Err(Problem::at(value.head(), problem).help(r#"give the directory to deploy to, such as "/srv/site""#))
}

fn ref_name(
    value: Value<'_>,
    what: &str,
    new: fn(&str) -> Result<RefName, Invalid>,
) -> Result<RefName, Problem> {
    let text = value.string()?;
    new(&text).map_err(|err| {
        invalid(value, &format!("name of a {what}"), &err).help(match what {
            "tag" => r#"write it as `git tag` shows it, such as "v1.2""#,
            _ => r#"write it as `git branch` shows it, such as "main"; remove the field for the remote's default"#,
        })
    })
}

fn remote(value: Value<'_>) -> Result<RemoteName, Problem> {
    let text = value.string()?;
    RemoteName::new(&text).map_err(|err| {
        invalid(value, "name of a remote", &err)
            .help(r#"write a name such as "origin", not a URL; the URL is `repo`"#)
    })
}

fn clean(value: Value<'_>) -> Result<Clean, Problem> {
    let known = [("Untracked", false), ("All", false), ("Nothing", false)];
    match variant(value, "a way to clean", &known)? {
        "Untracked" => Ok(Clean::Untracked),
        "All" => Ok(Clean::All),
        _ => Ok(Clean::Nothing),
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

/// A gitignore pattern that can match: gitignore(5) and wildmatch silently ignore the others.
fn pattern(value: Value<'_>, path: Option<&AbsPath>) -> Result<String, Problem> {
    let text = value.string()?;
    let wrong = |why: &str, help: &str| {
        Err(
            Problem::at(value.head(), format!("{} keeps nothing: {why}", value.shown()))
                .help(help.to_owned()),
        )
    };
    let bare = text.strip_prefix('!').unwrap_or(&text);
    if bare.trim().is_empty() {
        return wrong("it is empty", "remove it");
    }
    if text.contains(['\0', '\n', '\r']) {
        return wrong("it contains a line break or NUL", "write one pattern a string");
    }
    if text.starts_with('#') {
        return wrong(
            "it is a comment of gitignore",
            r#"write "\\#…" if the name begins with #"#,
        );
    }
    if bare.split('/').any(|part| part == "." || part == "..") {
        return wrong(
            "patterns hold no `.` and `..`",
            "write it relative to the trigger's path: \"/uploads/\"",
        );
    }
    if path.is_some_and(|path| std::path::Path::new(bare).starts_with(path)) {
        return wrong(
            "patterns begin at the trigger's path",
            "write only what is below: \"/uploads/\"",
        );
    }
    match unfinished(bare) {
        Some(why) => wrong(why, r#"write \\ before a sign that stands for itself"#),
        None => Ok(text),
    }
}

/// Why wildmatch would give up on `pattern`.
fn unfinished(pattern: &str) -> Option<&'static str> {
    let mut signs = pattern.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' if signs.next().is_none() => return Some("it ends with a single backslash"),
            '[' => {
                signs.next_if(|c| *c == '!' || *c == '^');
                // Here `]` stands for itself.
                signs.next_if(|c| *c == ']');
                loop {
                    match signs.next() {
                        None => return Some("a `[` in it is never closed"),
                        Some(']') => break,
                        Some('\\') => drop(signs.next()),
                        Some('[') if signs.peek() == Some(&':') => drop(signs.find(|c| *c == ']')),
                        Some(_) => {}
                    }
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_never_match() {
        for good in [
            "a",
            "[a]",
            "[]]",
            "[!]a]",
            "[[:alpha:]x]",
            r"\[",
            r"a\\",
            r"[\]]",
            "*.[oa]",
            "**/x",
        ] {
            assert_eq!(unfinished(good), None, "{good}");
        }
        for bad in ["[", "[]", "[a", "[!]", r"a\", r"[a\]", "[[:alpha:]"] {
            assert!(unfinished(bad).is_some(), "{bad}");
        }
    }
}
