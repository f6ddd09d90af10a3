//! The fields of the file itself.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    Config, Listener, Metrics, Page, Webhook,
    listen::{HttpFields, LISTENERS, TlsFields, UnixFields},
    page::{METRICS, MetricsFields, PAGE, PageFields},
    webhook::{BasicFields, HmacFields, SignedFields, TokenFields, WEBHOOKS, WebhookFields},
};
use crate::{
    base::{
        address::{Address, TcpAddr},
        name::AbsPath,
    },
    config::form::{
        self, Around, Fields as _, Form, Group, Kind, Problem, SECRET, Value, fields, filled, literal,
        show_size, size,
    },
};

fields! {
    /// The file is one `( … )` with these fields.
    struct ConfigFields: "the front's configuration" {
        /// Where the front listens.
        listen: Vec<(Listener, Range<usize>)> = LISTENERS, without "what systemd passes on, or else `[Http(addr: \"127.0.0.1:8080\")]`";
        /// Where the daemon listens: a path, or `"tcp:HOST:PORT"`.
        daemon ("socket", "server"): Address = DAEMON, without "`\"/run/gitsocket/gitsocket.sock\"`";
        /// The file that holds the token of the daemon's listener, where that is one of TCP.
        daemon_token_file: AbsPath = SECRET, without "none; required for a daemon on another machine";
        /// The webhooks that forges and others may call, by path.
        webhooks ("hooks"): BTreeMap<String, Webhook> = WEBHOOKS, without "none";
        /// The page for browsers.
        page: Page = PAGE, without "no page";
        /// `GET /metrics`, `/healthz` and `/readyz` for Prometheus and other monitors.
        metrics: Option<Metrics> = METRICS, or None;
        /// The longest body of a delivery, at most 25 MiB.
        max_body: u64 = MAX_BODY, or DEFAULT_MAX_BODY;
    }
}

/// The groups of fields, in the order of the reference.
const GROUPS: &[&Group] = &[
    ConfigFields::GROUP,
    HttpFields::GROUP,
    TlsFields::GROUP,
    UnixFields::GROUP,
    WebhookFields::GROUP,
    SignedFields::GROUP,
    TokenFields::GROUP,
    BasicFields::GROUP,
    HmacFields::GROUP,
    PageFields::GROUP,
    MetricsFields::GROUP,
];

const DAEMON: Kind<Address> = Kind::new(r#"path, or `"tcp:HOST:PORT"`"#, daemon);
const MAX_BODY: Kind<u64> = Kind::new(r#"size such as `"512KiB"`, at most `"25MiB"`"#, |value, _| {
    max_body(value)
})
.shown(|bytes| show_size(*bytes));

/// In bytes. A push is a few kilobytes; with thousands of commits, some hundred.
const DEFAULT_MAX_BODY: u64 = 1 << 20;
/// In bytes: the maximum of GitHub and GitLab. Each connection may use so much memory.
const MOST_MAX_BODY: u64 = 25 << 20;
/// How to write the field that is the reason for the file.
const EXAMPLE: &str = r#"webhooks: {"/hooks/site": (trigger: "site", from: GitHub(secret_file: "/etc/gitsocket-web/site.secret"))}"#;

/// What the fields are, as Markdown.
pub(super) fn reference() -> String {
    form::reference(GROUPS)
}

pub(super) fn config(around: Around<'_>) -> Result<Config, Vec<Problem>> {
    let mut form = Form::new(around, GROUPS);
    match whole(&mut form) {
        Some(config) if form.problems.is_empty() => Ok(config),
        _ => Err(form.problems),
    }
}

fn whole(form: &mut Form<'_>) -> Option<Config> {
    let known = "the fields listen, daemon, webhooks, page and metrics";
    let whole = form.whole(0, ("the front's configuration", known), EXAMPLE)?;
    let fields: ConfigFields<'_> = form.fields(whole)?;
    token_fits(form, &fields);
    seen_by_all(form, &fields);
    let (webhooks, metrics) = (&fields.webhooks, &fields.metrics);
    let no_webhook = webhooks.is_right && webhooks.value.as_ref().is_none_or(BTreeMap::is_empty);
    let no_metrics = metrics.is_right && metrics.value.as_ref().is_none_or(Option::is_none);
    if no_webhook && no_metrics && !fields.page.is_there() && !webhooks.is_misspelt {
        let problem = Problem::at(
            webhooks.name_at.clone(),
            "there is neither a webhook nor a page nor metrics: nothing to do",
        );
        form.problems.push(problem.help(format!("write {EXAMPLE}")));
    }
    let listen = fields.listen.value.unwrap_or_default();
    Some(Config {
        file: PathBuf::new(),
        listen: listen.into_iter().map(|(listener, _)| listener).collect(),
        daemon: fields.daemon.value.or_else(default_daemon)?,
        daemon_token_file: fields.daemon_token_file.value,
        webhooks: fields.webhooks.value.unwrap_or_default(),
        page: fields.page.value,
        metrics: fields.metrics.value?,
        max_body: fields.max_body.value?,
    })
}

/// A daemon's Unix socket has no token, and a TCP listener off the loopback interface always has one.
fn token_fits(form: &mut Form<'_>, fields: &ConfigFields<'_>) {
    let (daemon, token) = (&fields.daemon, &fields.daemon_token_file);
    let problem = match &daemon.value {
        Some(Address::Unix(_)) if token.is_there() => Problem::at(
            token.name_at.clone(),
            "a daemon's Unix socket needs no token: its `mode` and `group` say who may use it",
        )
        .help("remove it, or write daemon: \"tcp:HOST:PORT\""),
        Some(Address::Tcp(TcpAddr { addr, loopback })) if !loopback && !token.is_there() => {
            if token.is_misspelt {
                return;
            }
            Problem::at(daemon.at(), format!("the daemon at {addr} needs a token"))
                .label("not on the loopback interface")
                .help("add daemon_token_file: \"…\", with the token that is in the listener's `token_file`")
        }
        _ => return,
    };
    form.problems.push(problem);
}

/// A page without users may be reachable from this machine only.
fn seen_by_all(form: &mut Form<'_>, fields: &ConfigFields<'_>) {
    let Some(Page { users }) = &fields.page.value else {
        return;
    };
    if !users.is_empty() || !fields.page.is_right {
        return;
    }
    for (listener, at) in fields.listen.value.iter().flatten() {
        let Listener::Http { addr, .. } = listener else {
            continue;
        };
        if TcpAddr::parse(addr).is_ok_and(|addr| !addr.loopback) {
            let problem = Problem::at(
                fields.page.name_at.clone(),
                format!("everyone who can reach {addr} could deploy"),
            )
            .label("it is open without a sign-in")
            .also(at.clone(), "not on the loopback interface")
            .help(r#"add page: (users: {"admin": "/etc/gitsocket-web/admin.password"}), or listen on 127.0.0.1 or [::1]"#);
            form.problems.push(problem);
        }
    }
}

/// Where the packaged daemon listens.
fn default_daemon() -> Option<Address> {
    Address::parse("/run/gitsocket/gitsocket.sock", Path::new("/")).ok()
}

fn daemon(value: Value<'_>, around: Around<'_>) -> Result<Address, Problem> {
    let text = filled(value)?;
    literal(value, &text)?;
    Address::parse(&text, around.base(value)).map_err(|why| {
        Problem::at(
            value.head(),
            format!("{} is not an address of a daemon: {why}", value.shown()),
        )
        .help(r#"write "/run/gitsocket/gitsocket.sock", or "tcp:HOST:PORT""#)
    })
}

fn max_body(value: Value<'_>) -> Result<u64, Problem> {
    let size = size(value)?;
    if size <= MOST_MAX_BODY {
        Ok(size)
    } else {
        Err(Problem::at(
            value.head(),
            format!(
                "{} is more than 25 MiB, and no forge sends so much",
                value.shown()
            ),
        )
        .help("write a smaller size, or remove the field for 1 MiB"))
    }
}
