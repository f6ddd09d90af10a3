//! What makes a deploy good: the question, and how often and how long it is asked.

use std::{num::NonZeroU32, time::Duration};

use ureq::http::Uri;

use super::hook;
use crate::{
    base::address::TcpAddr,
    config::{
        Check, Health,
        form::{
            DURATION, Form, Kind, Problem, Read, Value, code, fields, filled, show_duration, span_of_time,
            unusable_duration,
        },
    },
};

fields! {
    /// When a deploy counts as good, once its hooks have succeeded.
    pub(super) struct HealthFields: "`health`" {
        /// What is checked: whether a URL answers with a status of 200 to 399, a port accepts a connection, or a program
        /// ends with exit status 0.
        check: Check = CHECK, required r#"Http("http://127.0.0.1:8080/healthz")"#;
        /// How long the check may take to succeed.
        within: Duration = DURATION, or Duration::from_secs(30);
        /// The time between two checks.
        every ("interval"): Duration = EVERY, or DEFAULT_EVERY;
        /// How long to wait before the first check.
        after ("delay"): Duration = AFTER, or Duration::ZERO;
        /// How many checks in a row must succeed.
        times: NonZeroU32 = TIMES, or NonZeroU32::MIN;
    }
}

fields! {
    /// Instead of `Http("URL")`, with fields. Redirects are not followed.
    pub(super) struct HttpFields: "`Http`" {
        /// The URL to get.
        url: String = URL, required r#""http://127.0.0.1:8080/healthz""#;
        /// The host name to send, which the server's certificate must have.
        host: String = HOST, without "the URL's";
    }
}

/// What makes a deploy good.
pub(super) const HEALTH: Kind<Health> = Kind::many("`(…)`", health);
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

const DEFAULT_EVERY: Duration = Duration::from_secs(1);
/// More questions than that, one after the other, would be a load of their own.
const MIN_EVERY: Duration = Duration::from_millis(10);
/// More good answers in a row than that are a mistake.
const MAX_TIMES: u32 = 1000;
const URL_EXAMPLE: &str = r#"write it like "http://127.0.0.1:8080/healthz""#;

const CHECKS: [(&str, bool, Read<Check>); 3] = [
    ("Http", true, http),
    ("Tcp", true, |form, value| form.keep(tcp(value)).map(Check::Tcp)),
    ("Exec", true, |form, value| {
        hook::question(form, value).map(Check::Exec)
    }),
];

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
    if duration < MIN_EVERY {
        Err(
            unusable_duration(value, "questions follow each other after 10 ms at the earliest")
                .help("write a longer one, or remove the field"),
        )
    } else {
        Ok(duration)
    }
}

fn after(value: Value<'_>) -> Result<Duration, Problem> {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    let duration = span_of_time(value)?;
    if duration > WEEK {
        Err(unusable_duration(value, "it is longer than a week")
            .help("write a shorter one, or remove the field"))
    } else {
        Ok(duration)
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
        Err(Problem::at(value.head(), format!("this is not a valid URL: {why}")).help(help.to_owned()))
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
    if is_host(authority) {
        Ok(text)
    } else {
        wrong("it names no host, or a port that there is not", URL_EXAMPLE)
    }
}

fn host(value: Value<'_>) -> Result<String, Problem> {
    let text = filled(value)?;
    if is_host(&text) {
        Ok(text)
    } else {
        Err(Problem::at(
            value.head(),
            format!("{} is not the name of a host", value.shown()),
        )
        .help(r#"write it as the server knows it, such as "www.example.com""#))
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
