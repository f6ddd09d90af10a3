//! Webhooks: by which path, from which forge, for which trigger.

use std::{collections::BTreeMap, ops::Range};

use hyper::header::HeaderName;

use super::{From, Webhook};
use crate::{
    base::name::{AbsPath, RefName, TriggerName},
    config::form::{
        Form, Given, Kind, Problem, Read, SECRET, USER, Value, argument, fields, filled, invalid,
    },
};

fields! {
    /// A webhook: its path is the key before it.
    pub(super) struct WebhookFields: "a webhook" {
        /// The daemon's trigger to run.
        trigger ("name", "site", "target"): TriggerName = TRIGGER, required r#""site""#;
        /// The forge that calls it, and how that is verified.
        from ("forge", "kind", "type"): From = FROM, required r#"GitHub(secret_file: "/etc/gitsocket-web/site.secret")"#;
        /// Pushes to other refs than these do nothing. Full names, such as `"refs/heads/main"`.
        refs ("branches", "branch", "ref"): Vec<String> = REFS, without "every push triggers";
    }
}

fields! {
    /// GitHub, Gitea (and Forgejo, Codeberg, Gogs), Bitbucket, and Standard Webhooks with GitLab's signing tokens.
    pub(super) struct SignedFields: "`GitHub`, `Gitea`, `Bitbucket` or `StandardWebhooks`" {
        /// The file that holds the secret which the forge signs with.
        secret_file ("key_file"): AbsPath = SECRET, without "this or `secret_files`";
        /// Files that hold secrets, any of which counts: the old and the new one, while it is changed.
        secret_files: Vec<AbsPath> = SECRETS, without "this or `secret_file`";
    }
}

fields! {
    /// GitLab with a secret token, or a CI job with `Authorization: Bearer`.
    pub(super) struct TokenFields: "`GitLab` or `Bearer`" {
        /// The file that holds the token.
        token_file ("secret_file"): AbsPath = SECRET, required r#""/etc/gitsocket-web/site.token""#;
    }
}

fields! {
    /// User and password, such as Azure DevOps sends.
    pub(super) struct BasicFields: "`Basic`" {
        /// The user.
        user ("username"): String = USER, required r#""azure""#;
        /// The file that holds the password.
        password_file: AbsPath = SECRET, required r#""/etc/gitsocket-web/site.password""#;
    }
}

fields! {
    /// Any sender that signs its body with HMAC-SHA256 and sends the signature in hexadecimal.
    pub(super) struct HmacFields: "`Hmac`" {
        /// The header that the signature is in.
        header ("name"): String = HEADER, required r#""X-Signature""#;
        /// What is before the signature in that header, such as `"sha256="`.
        prefix: String = PREFIX, or String::new();
        /// The file that holds the secret.
        secret_file ("key_file"): AbsPath = SECRET, without "this or `secret_files`";
        /// Files that hold secrets, any of which counts.
        secret_files: Vec<AbsPath> = SECRETS, without "this or `secret_file`";
    }
}

pub(super) const WEBHOOKS: Kind<BTreeMap<String, Webhook>> = Kind::many("map of paths to `(…)`", webhooks);
const TRIGGER: Kind<TriggerName> = Kind::new("name of a trigger", |value, _| trigger(value));
const FROM: Kind<From> = Kind::many(
    "`GitHub(…)`, `Gitea(…)`, `GitLab(…)`, `Bitbucket(…)`, `StandardWebhooks(…)`, `Bearer(…)`, `Basic(…)` or `Hmac(…)`",
    |form, value| form.one_of(value, "a sender of deliveries", &SENDERS),
);
const REFS: Kind<Vec<String>> = Kind::many("list of refs", refs);
const SECRETS: Kind<Vec<AbsPath>> = Kind::many("list of paths", secrets).with_variables();
const HEADER: Kind<String> = Kind::new("name of a header", |value, _| header(value));
const PREFIX: Kind<String> =
    Kind::new("text in quotes", |value, _| argument(value)).shown(|_| "`\"\"`".into());

const SENDERS: [(&str, bool, Read<From>); 8] = [
    ("GitHub", true, |form, value| {
        signed(form, value).map(|secret_files| From::GitHub { secret_files })
    }),
    ("Gitea", true, |form, value| {
        signed(form, value).map(|secret_files| From::Gitea { secret_files })
    }),
    ("GitLab", true, |form, value| {
        token(form, value).map(|token_file| From::GitLab { token_file })
    }),
    ("Bitbucket", true, |form, value| {
        signed(form, value).map(|secret_files| From::Bitbucket { secret_files })
    }),
    ("StandardWebhooks", true, |form, value| {
        signed(form, value).map(|secret_files| From::StandardWebhooks { secret_files })
    }),
    ("Bearer", true, |form, value| {
        token(form, value).map(|token_file| From::Bearer { token_file })
    }),
    ("Basic", true, basic),
    ("Hmac", true, hmac),
];

fn webhooks(form: &mut Form<'_>, value: Value<'_>) -> Option<BTreeMap<String, Webhook>> {
    const EXAMPLE: &str =
        r#"write webhooks: {"/hooks/site": (trigger: "site", from: GitHub(secret_file: "…"))}"#;
    let entries = form.keep(value.map().map_err(|problem| problem.help(EXAMPLE)))?;
    let mut seen = BTreeMap::<String, Range<usize>>::new();
    let mut out = BTreeMap::new();
    for (key, value) in entries {
        let path = form.keep(path(key));
        if let Some(path) = &path
            && let Some(first) = seen.insert(path.clone(), key.span())
        {
            let problem = Problem::twice(key.span(), first, format!("two webhooks have the path {path}"))
                .help("change or remove one of them");
            form.problems.push(problem);
        }
        let webhook = webhook(form, key, value);
        out.extend(path.zip(webhook));
    }
    Some(out)
}

fn webhook(form: &mut Form<'_>, key: Value<'_>, value: Value<'_>) -> Option<Webhook> {
    let fields: WebhookFields<'_> = form.fields_at(value, key.span())?;
    // After an error in `refs`, a webhook without them would trigger too much; the error is reported.
    let refs = fields.refs.is_right.then_some(fields.refs.value)?;
    Some(Webhook {
        trigger: fields.trigger.value?,
        from: fields.from.value?,
        refs,
    })
}

/// The longest path of a webhook, in bytes: some forges take URLs up to 2,000 bytes.
const MAX_PATH: usize = 1000;
/// Paths of the front itself, and all paths below those that end with a slash.
const OWN: [&str; 9] = [
    "/",
    "/triggers/",
    "/assets/",
    "/sign-in",
    "/sign-out",
    "/favicon.svg",
    "/metrics",
    "/healthz",
    "/readyz",
];

/// A path that every proxy passes on unchanged.
fn path(key: Value<'_>) -> Result<String, Problem> {
    const HELP: &str = r#"write a path such as "/hooks/site""#;
    let text = key.string().map_err(|problem| problem.help(HELP))?;
    let wrong = |why: &str| {
        Err(Problem::at(
            key.span(),
            format!("{} is not a path for a webhook: {why}", key.shown()),
        )
        .help(HELP))
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._~-".contains(c);
    let Some(below) = text.strip_prefix('/') else {
        return wrong("it does not begin with `/`");
    };
    if let Some(odd) = text.chars().find(|c| !is_plain(*c)) {
        return wrong(&format!(
            "it contains {odd:?}; letters, digits and / . _ ~ - are allowed"
        ));
    }
    if text.len() > MAX_PATH {
        return wrong(&format!("it is longer than {MAX_PATH} bytes"));
    }
    let mut steps = below.split('/').rev();
    let last = steps.next().unwrap_or_default();
    if [".", ".."].contains(&last) || steps.any(|step| ["", ".", ".."].contains(&step)) {
        return wrong("it has a step that is empty, `.` or `..`");
    }
    let is_below = |own: &str| own.len() > 1 && own.ends_with('/') && text.starts_with(own);
    match OWN.into_iter().find(|own| text == *own || is_below(own)) {
        Some(own) => wrong(&format!("{own} is the front's own")),
        None => Ok(text),
    }
}

fn trigger(value: Value<'_>) -> Result<TriggerName, Problem> {
    TriggerName::new(value.string()?).map_err(|err| {
        invalid(value, "name of a trigger", &err).help("write the name as in the daemon's configuration")
    })
}

fn refs(form: &mut Form<'_>, value: Value<'_>) -> Option<Vec<String>> {
    const HELP: &str = r#"write refs: ["refs/heads/main"], or remove the field for every push"#;
    let list = form.keep(value.list().map_err(|problem| problem.help(HELP)))?;
    if list.is_empty() {
        let problem = Problem::at(value.span(), "no push would ever trigger");
        form.problems.push(problem.help(HELP));
    }
    let read: Vec<_> = list.into_iter().map(|value| form.keep(full_ref(value))).collect();
    read.into_iter().collect()
}

/// A full ref. A short name may be both a branch and a tag, and a push to one would count as a push to the other.
fn full_ref(value: Value<'_>) -> Result<String, Problem> {
    let text = filled(value)?;
    let wrong = |why: String| {
        Problem::at(
            value.head(),
            format!("{} is not a full ref: {why}", value.shown()),
        )
    };
    let is_full = text.starts_with("refs/heads/") || text.starts_with("refs/tags/");
    if !is_full {
        let short = text.trim_start_matches("refs/").trim_start_matches('/');
        let problem = wrong("it does not begin with refs/heads/ or refs/tags/".into());
        return Err(problem.help(format!(
            r#"write "refs/heads/{short}" for a branch, "refs/tags/{short}" for a tag"#
        )));
    }
    if text.contains('*') {
        return Err(wrong("patterns are not known here".into())
            .help("name each ref, or remove the field for every push"));
    }
    let name = if text.starts_with("refs/heads/") {
        RefName::branch(&text)
    } else {
        RefName::tag(&text)
    };
    name.map(|name| name.to_string())
        .map_err(|err| wrong(err.to_string()).help(r#"write it as git does: "refs/heads/main""#))
}

fn secrets(form: &mut Form<'_>, value: Value<'_>) -> Option<Vec<AbsPath>> {
    const HELP: &str =
        r#"write secret_files: ["/etc/gitsocket-web/new.secret", "/etc/gitsocket-web/old.secret"]"#;
    let list = form.keep(value.list().map_err(|problem| problem.help(HELP)))?;
    if list.is_empty() {
        let problem = Problem::at(value.span(), "the list is empty: nothing could be verified");
        form.problems.push(problem.help(HELP));
    }
    let around = form.around;
    let read = list.into_iter().map(|value| form.keep(around.secret_path(value)));
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn signed(form: &mut Form<'_>, value: Value<'_>) -> Option<Vec<AbsPath>> {
    let fields: SignedFields<'_> = form.fields(value)?;
    files(form, fields.secret_file, fields.secret_files)
}

/// The files of `secret_file` or `secret_files`, of which exactly one must be given.
fn files(
    form: &mut Form<'_>,
    one: Given<'_, AbsPath>,
    many: Given<'_, Vec<AbsPath>>,
) -> Option<Vec<AbsPath>> {
    if one.is_there() && many.is_there() {
        let problem = Problem::at(one.name_at.clone(), "`secret_files` is given as well")
            .also(many.name_at.clone(), "these files would count, too")
            .help("put this file into `secret_files`, and remove `secret_file`");
        form.problems.push(problem);
    }
    if !(one.is_there() || many.is_there() || one.is_misspelt || many.is_misspelt) {
        let problem = Problem::at(
            one.missing_at.clone(),
            "nothing could be verified without a secret",
        )
        .help(r#"add secret_file: "/etc/gitsocket-web/site.secret""#);
        form.problems.push(problem);
    }
    if one.is_there() {
        Some(vec![one.value?])
    } else {
        many.value
    }
}

fn token(form: &mut Form<'_>, value: Value<'_>) -> Option<AbsPath> {
    let fields: TokenFields<'_> = form.fields(value)?;
    fields.token_file.value
}

fn basic(form: &mut Form<'_>, value: Value<'_>) -> Option<From> {
    let fields: BasicFields<'_> = form.fields(value)?;
    Some(From::Basic {
        user: fields.user.value?,
        password_file: fields.password_file.value?,
    })
}

fn hmac(form: &mut Form<'_>, value: Value<'_>) -> Option<From> {
    let fields: HmacFields<'_> = form.fields(value)?;
    let secret_files = files(form, fields.secret_file, fields.secret_files)?;
    Some(From::Hmac {
        header: fields.header.value?,
        prefix: fields.prefix.value?,
        secret_files,
    })
}

fn header(value: Value<'_>) -> Result<String, Problem> {
    let text = filled(value)?;
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text),
        Err(_) => Err(Problem::at(
            value.head(),
            format!("{} is not the name of a header", value.shown()),
        )
        .help(r#"write it without a colon: "X-Signature""#)),
    }
}
