//! Releases, and how a trigger goes on when a deploy turns out not to be good.

use std::{
    num::NonZeroU32,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use ureq::http::Uri;

use super::hook;
use crate::{
    base::address::TcpAddr,
    config::{
        At, Check, Clean, Health, Hook, Live, OnFailure, Releases, Shared,
        form::{
            Choice, DURATION, Form, Given, Kind, Problem, Read, Value, code, fields, filled, show_duration,
            span_of_time, unusable_duration,
        },
    },
};

fields! {
    /// In `( )`, which may be empty. Each deployed commit has a tree of its own, see [releases.md](releases.md).
    pub(super) struct ReleasesFields: "`releases`" {
        /// How many older releases there are to go back to.
        keep ("keep_releases"): NonZeroU32 = KEEP, or DEFAULT_KEEP;
        /// How a release becomes live in `path`: a symlink of this name leads to it, or a directory of this name changes
        /// places with it.
        live ("current"): Live = LIVE, or Live::Symlink("current".into());
        /// Files, and with a `/` at the end directories, that all releases share: they are in `shared` in `path`, and
        /// links in a release lead there. A directory is made if it is missing.
        shared ("linked_dirs", "linked_files", "shared_dirs", "shared_files"): Vec<Shared> = SHARED, without "none";
    }
}

fields! {
    /// When a deploy counts as good, once its hooks have succeeded.
    pub(super) struct HealthFields: "`health`" {
        /// What is asked: whether a URL answers with a status of 200 to 399, a port accepts a connection, or a program
        /// ends with exit status 0.
        check: Check = CHECK, required r#"Http("http://127.0.0.1:8080/healthz")"#;
        /// The answer must be good by then.
        within: Duration = DURATION, or Duration::from_secs(30);
        /// From one question to the next.
        every ("interval"): Duration = EVERY, or DEFAULT_EVERY;
        /// How long to wait before the first question.
        after ("delay"): Duration = AFTER, or Duration::ZERO;
        /// How often in a row the answer must be good.
        times: NonZeroU32 = TIMES, or NonZeroU32::MIN;
    }
}

fields! {
    /// Instead of `Http("URL")`, with fields. Redirects are not followed.
    pub(super) struct HttpFields: "`Http`" {
        /// What is asked for.
        url: String = URL, required r#""http://127.0.0.1:8080/healthz""#;
        /// The name that the server is asked by, and that its certificate must have.
        host: String = HOST, without "the URL's";
    }
}

/// Releases.
pub(super) const RELEASES: Kind<Releases> = Kind::many("`(…)`", releases);
/// What makes a deploy good.
pub(super) const HEALTH: Kind<Health> = Kind::many("`(…)`", health);
const KEEP: Kind<NonZeroU32> = Kind::new("number from 1 to 100", |value, _| keep(value)).shown(|n| code(n));
const LIVE: Kind<Live> = Kind::many(r#"`Symlink("NAME")` or `Exchange("NAME")`"#, |form, value| {
    form.one_of(value, "a way to become live", &WAYS)
})
.shown(|live| code(format_args!("{live:?}")));
const SHARED: Kind<Vec<Shared>> = Kind::many("list of relative paths", shared);
const CHECK: Kind<Check> = Kind::many(
    r#"`Http("URL")`, `Http(…)`, `Tcp("HOST:PORT")` or `Exec(…)`"#,
    |form, value| form.one_of(value, "a check", &CHECKS),
);
const EVERY: Kind<Duration> =
    Kind::new(r#"duration of at least `"10ms"`"#, |value, _| every(value)).shown(show_duration);
const AFTER: Kind<Duration> =
    Kind::new("duration, at most a week", |value, _| after(value)).shown(show_duration);
const TIMES: Kind<NonZeroU32> =
    Kind::new("number from 1 to 1000", |value, _| times(value)).shown(|n| code(n));
const URL: Kind<String> = Kind::new("`http://` or `https://` URL", |value, _| url(value));
const HOST: Kind<String> = Kind::new("`\"HOST\"` or `\"HOST:PORT\"`", |value, _| host(value));

/// Each is a whole tree.
const DEFAULT_KEEP: NonZeroU32 = NonZeroU32::new(3).expect("it is not zero");
/// More releases to go back to than that are a mistake.
const MAX_KEEP: u32 = 100;
const DEFAULT_EVERY: Duration = Duration::from_secs(1);
/// More questions than that, one after the other, would be a load of their own.
const MIN_EVERY: Duration = Duration::from_millis(10);
/// More good answers in a row than that are a mistake.
const MAX_TIMES: u32 = 1000;
/// The longest name of what is live, in bytes: of the 255 that a name may have, temporary ones beside it need some.
const MAX_NAME: usize = 128;
/// What is in `path` besides what is live.
const TAKEN: [&str; 3] = ["releases", "shared", "repo.git"];

const SHARED_EXAMPLE: &str = r#"write shared: ["uploads/", ".env"]"#;
const URL_EXAMPLE: &str = r#"write it like "http://127.0.0.1:8080/healthz""#;

const WAYS: [(&str, bool, Read<Live>); 2] = [
    ("Symlink", true, |form, value| {
        form.keep(name(value)).map(Live::Symlink)
    }),
    ("Exchange", true, |form, value| {
        form.keep(name(value)).map(Live::Exchange)
    }),
];

const CHECKS: [(&str, bool, Read<Check>); 3] = [
    ("Http", true, http),
    ("Tcp", true, |form, value| form.keep(tcp(value)).map(Check::Tcp)),
    ("Exec", true, |form, value| {
        hook::question(form, value).map(Check::Exec)
    }),
];

impl Choice for At {
    const WHAT: &'static str = "a stage of a run";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("Build", Self::Build),
        ("Live", Self::Live),
        ("Failed", Self::Failed),
    ];
}

impl Choice for OnFailure {
    const WHAT: &'static str = "what to do after a failure";
    const WORDS: &'static [(&'static str, Self)] = &[("Rollback", Self::Rollback), ("Keep", Self::Keep)];
}

/// What a trigger does when it is not said.
pub(super) fn on_failure(given: &Given<'_, OnFailure>, releases: Option<&Releases>) -> OnFailure {
    let default = match releases {
        Some(_) => OnFailure::Rollback,
        None => OnFailure::Keep,
    };
    given.value.unwrap_or(default)
}

/// Some fields have no place beside `releases`, and some none without it.
pub(super) fn fit(
    form: &mut Form<'_>,
    releases: &Given<'_, Releases>,
    (clean, keep): (&Given<'_, Clean>, &Given<'_, ()>),
    hooks: &Given<'_, Vec<hook::Placed>>,
) {
    if !releases.is_there() {
        built_in_place(form, hooks);
        return;
    }
    for (is_there, at, name) in [
        (clean.is_there(), &clean.name_at, "clean"),
        (keep.is_there(), &keep.name_at, "keep"),
    ] {
        if is_there {
            let message = format!(
                "`{name}` has no place beside `releases`: a new release holds its commit and no more"
            );
            let problem = Problem::at(at.clone(), message)
                .also(releases.name_at.clone(), "each deploy has a tree of its own")
                .help(r#"remove it, and name what all releases have in common: releases: (shared: ["uploads/"])"#);
            form.problems.push(problem);
        }
    }
}

fn built_in_place(form: &mut Form<'_>, hooks: &Given<'_, Vec<hook::Placed>>) {
    let hooks = hooks.value.iter().flatten();
    for (_, at) in hooks.filter(|(hook, _)| matches!(hook, Hook::Exec { at: At::Build, .. })) {
        let problem = Problem::at(
            at.clone(),
            "nothing can be built before it is live: without `releases`, files are updated in place",
        )
        .help("add releases: (), or write at: Live");
        form.problems.push(problem);
    }
}

fn releases(form: &mut Form<'_>, value: Value<'_>) -> Option<Releases> {
    let fields: ReleasesFields<'_> = form.fields(value)?;
    Some(Releases {
        keep: fields.keep.value?,
        live: fields.live.value?,
        shared: fields.shared.value.unwrap_or_default(),
    })
}

fn keep(value: Value<'_>) -> Result<NonZeroU32, Problem> {
    let number = value.number(1..=MAX_KEEP).map_err(|problem| {
        problem.help(
            "write how many older releases to keep, each of them a whole tree; or remove the field for 3",
        )
    })?;
    Ok(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
}

/// The name in `Symlink(…)` or `Exchange(…)`.
fn name(way: Value<'_>) -> Result<String, Problem> {
    const HELP: &str = r#"write the name alone, such as Symlink("current")"#;
    let value = way.argument().map_err(|problem| problem.help(HELP))?;
    let text = filled(value).map_err(|problem| problem.help(HELP))?;
    let wrong = |why: String| {
        Err(Problem::at(value.head(), format!("{} cannot be live: {why}", value.shown())).help(HELP))
    };
    match text.as_str() {
        text if meant(text).is_some() => wrong(meant(text).unwrap_or_default().into()),
        "." | ".." => wrong("it is no name of its own".into()),
        text if text.contains('/') => wrong("it is in `path` itself, so its name has no slash".into()),
        text if text.contains(char::is_control) => wrong("its name has a control character".into()),
        text if text.len() > MAX_NAME => wrong(format!("its name is longer than {MAX_NAME} bytes")),
        text if TAKEN.contains(&text) => wrong(format!("`{text}` in `path` is something else")),
        text if is_of_git(text) => wrong("names that begin with .git are git's".into()),
        _ => Ok(text),
    }
}

/// Why `name` is hardly meant as it is written.
fn meant(name: &str) -> Option<&'static str> {
    match name.chars().next() {
        Some('~' | '$') => Some("neither `~` nor variables are expanded here"),
        _ if name.trim() != name => Some("it begins or ends with white space"),
        _ => None,
    }
}

fn is_of_git(name: &str) -> bool {
    name.get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(".git"))
}

fn shared(form: &mut Form<'_>, value: Value<'_>) -> Option<Vec<Shared>> {
    let list = form.keep(value.list().map_err(|problem| problem.help(SHARED_EXAMPLE)))?;
    let mut read: Vec<(Shared, Value<'_>)> = Vec::new();
    for value in list {
        let Some(this) = form.keep(shared_path(value)) else {
            continue;
        };
        let clash = read
            .iter()
            .find(|(other, _)| this.path.starts_with(&other.path) || other.path.starts_with(&this.path));
        if let Some((other, first)) = clash {
            let (message, help) = match other.path == this.path {
                true => ("this is shared twice", "remove one of them"),
                false => (
                    "one of these is inside the other, which is shared with all that is in it",
                    "remove the inner one",
                ),
            };
            let problem = Problem::at(value.head(), message)
                .also(first.head(), "the other one")
                .help(help);
            form.problems.push(problem);
        }
        read.push((this, value));
    }
    Some(read.into_iter().map(|(shared, _)| shared).collect())
}

fn shared_path(value: Value<'_>) -> Result<Shared, Problem> {
    let text = filled(value).map_err(|problem| problem.help(SHARED_EXAMPLE))?;
    let wrong = |why: &str, help: &str| {
        let message = format!("{} cannot be shared: {why}", value.shown());
        Err(Problem::at(value.head(), message).help(help.to_owned()))
    };
    if let Some(why) = meant(&text) {
        return wrong(why, SHARED_EXAMPLE);
    }
    if text.starts_with('/') {
        return wrong(
            "it is not relative",
            "write where it is in a release; what is somewhere else is linked in `shared`, by hand",
        );
    }
    if text.split('/').any(|part| part == "." || part == "..") {
        return wrong(
            "`.` and `..` lead out of a release",
            r#"write it as "uploads/" or "config/secrets.yml""#,
        );
    }
    if text.contains('*') {
        return wrong(
            "it is a pattern",
            r#"name each file, or the directory that they are in: "logs/""#,
        );
    }
    if text.contains(char::is_control) {
        return wrong("it has a control character", "remove the character");
    }
    // As git does: a tree with such a name is refused, too.
    if text.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
        return wrong(
            "a release has no .git",
            "remove it; the git directory is repo.git in `path`",
        );
    }
    let parts = Path::new(&text).components();
    let path: PathBuf = parts
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    let is_dir = text.ends_with('/');
    Ok(Shared { path, is_dir })
}

fn health(form: &mut Form<'_>, value: Value<'_>) -> Option<Health> {
    let fields: HealthFields<'_> = form.fields(value)?;
    let (within, times) = (fields.within.value?, fields.times.value?);
    let mut every = fields.every.value?;
    if !fields.every.is_there() {
        every = every.min(within);
    } else if every > within {
        let problem = Problem::at(fields.every.at(), "the second question would come too late")
            .also(
                fields.within.name_at.clone(),
                format!("within {}", humantime::format_duration(within)),
            )
            .help("let `every` be shorter than `within`");
        form.problems.push(problem);
    }
    let least = every.checked_mul(times.get() - 1).unwrap_or(Duration::MAX);
    if least > within {
        let message = format!(
            "{times} good answers, one every {}, take longer than there is time",
            humantime::format_duration(every)
        );
        let problem = Problem::at(fields.times.at(), message)
            .also(
                fields.within.name_at.clone(),
                format!("within {}", humantime::format_duration(within)),
            )
            .help("write a longer `within`, a shorter `every`, or fewer `times`");
        form.problems.push(problem);
    }
    Some(Health {
        check: fields.check.value?,
        within,
        every,
        after: fields.after.value?,
        times,
    })
}

fn every(value: Value<'_>) -> Result<Duration, Problem> {
    let duration = span_of_time(value)?;
    match duration < MIN_EVERY {
        true => Err(
            unusable_duration(value, "questions follow each other after 10 ms at the earliest")
                .help("write a longer one, or remove the field"),
        ),
        false => Ok(duration),
    }
}

/// A pause, or none.
fn after(value: Value<'_>) -> Result<Duration, Problem> {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    let duration = span_of_time(value)?;
    match duration > WEEK {
        true => Err(unusable_duration(value, "it is longer than a week")
            .help("write a shorter one, or remove the field")),
        false => Ok(duration),
    }
}

fn times(value: Value<'_>) -> Result<NonZeroU32, Problem> {
    let number = value.number(1..=MAX_TIMES).map_err(|problem| {
        problem.help("write how often in a row the answer must be good, or remove the field for once")
    })?;
    Ok(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
}

/// `Http("…")`, or `Http(url: "…", …)`.
fn http(form: &mut Form<'_>, value: Value<'_>) -> Option<Check> {
    if let Ok(text) = value.argument() {
        let url = form.keep(url(text))?;
        return Some(Check::Http { url, host: None });
    }
    let fields: HttpFields<'_> = form.fields(value)?;
    Some(Check::Http {
        url: fields.url.value?,
        host: fields.host.value,
    })
}

/// A URL that is asked. Its text is not shown where it is wrong: it may hold a password.
fn url(value: Value<'_>) -> Result<String, Problem> {
    let text = filled(value).map_err(|problem| problem.help(URL_EXAMPLE))?;
    let wrong = |why: &str, help: &str| {
        Err(Problem::at(value.head(), format!("this is no URL to ask: {why}")).help(help.to_owned()))
    };
    let scheme = text
        .split_once("://")
        .map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return wrong("it begins neither with http:// nor with https://", URL_EXAMPLE);
    }
    let Ok(uri) = text.parse::<Uri>() else {
        return wrong("it cannot be read as one", URL_EXAMPLE);
    };
    let authority = uri
        .authority()
        .map(|authority| authority.as_str())
        .unwrap_or_default();
    if authority.contains('@') {
        return wrong(
            "it holds a user or a password",
            "remove what stands before the `@`, and ask for something that needs none; or let a program ask: Exec(run: […])",
        );
    }
    match is_host(authority) {
        true => Ok(text),
        false => wrong("it names no host, or a port that there is not", URL_EXAMPLE),
    }
}

fn host(value: Value<'_>) -> Result<String, Problem> {
    let text = filled(value)?;
    match is_host(&text) {
        true => Ok(text),
        false => Err(Problem::at(
            value.head(),
            format!("{} is not the name of a host", value.shown()),
        )
        .help(r#"write it as the server knows it, such as "www.example.com""#)),
    }
}

/// Whether it is `HOST` or `HOST:PORT`.
fn is_host(text: &str) -> bool {
    let has_port = TcpAddr::parse(text).is_ok_and(|addr| addr.host_and_port().1 != 0) && text.contains(':');
    has_port || TcpAddr::parse(&format!("{text}:80")).is_ok()
}

fn tcp(check: Value<'_>) -> Result<TcpAddr, Problem> {
    const HELP: &str = r#"write Tcp("127.0.0.1:8080"), Tcp("[::1]:8080"), or only a port of 127.0.0.1"#;
    let value = check.argument().map_err(|problem| problem.help(HELP))?;
    let text = value.string().map_err(|problem| problem.help(HELP))?;
    let wrong = |why: &str| {
        Problem::at(
            value.head(),
            format!("{} is not a TCP address: {why}", value.shown()),
        )
        .help(HELP)
    };
    let addr = TcpAddr::parse(&text).map_err(wrong)?;
    match addr.host_and_port().1 {
        0 => Err(wrong("its port is 0, where nothing listens")),
        _ => Ok(addr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in [
            "a",
            "a.example.com:8080",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:80",
        ] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "", ":80", "a:", "a:0", "a:99999", "::1", "a b", "a/b", "me@a", "8080",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
