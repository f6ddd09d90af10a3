//! The fields of the file itself; and how it becomes a [`Config`] as used, or the list of all that is wrong with it.
//!
//! Each field is declared once, by `fields!`, beside what reads it. Nothing is looked up on the system here: whether
//! files and hosts exist is found out by runs, and before them by `gitsocket check`.

mod allow;
mod auth;
mod hook;
mod listen;
mod paths;
mod pattern;
mod releases;
mod sandbox;
mod target;

use std::{
    collections::BTreeMap, num::NonZeroUsize, ops::Range, sync::Arc, thread::available_parallelism,
    time::Duration,
};

use super::{
    Config, DEFAULT_KEEP_ALIVE, Listener, Sandbox, Target,
    form::{
        self, Around, Fields as _, Form, Given, Group, Kind, Problem, Shape, Value, fields, show_duration,
        span_of_time, unusable_duration,
    },
};
use crate::{base::name::TriggerName, git::transport::MAX_KEEP_ALIVE};
use auth::{BasicFields, BearerFields, SshFields, TlsFields};
use hook::ExecFields;
use listen::{LISTENERS, TcpFields, UnixFields};
use releases::{HealthFields, HttpFields, ReleasesFields};
use sandbox::{SANDBOX, SandboxFields};
use target::{TriggerFields, target};

fields! {
    /// The file is one `( … )` with these fields.
    struct ConfigFields: "the configuration" {
        /// Where the daemon listens.
        listen: Vec<Listener> = LISTENERS, without "`./gitsocket.sock`, for the daemon's user";
        /// How many runs go on at a time.
        jobs ("workers"): NonZeroUsize = JOBS, or available_parallelism().unwrap_or(NonZeroUsize::MIN);
        /// How long an unused connection to a remote is kept.
        keep_alive: Duration = KEEP_ALIVE, or DEFAULT_KEEP_ALIVE;
        /// What the daemon shuts itself out of. A word puts hooks inside, too.
        sandbox: Sandbox = SANDBOX, or Sandbox::default();
        /// What can be triggered: by each name, a trigger. There is at least one.
        triggers: () = Kind::later("map of names to `(…)`"), without "required";
    }
}

/// All that a configuration has, in the order of the reference.
const GROUPS: &[&Group] = &[
    ConfigFields::GROUP,
    SandboxFields::GROUP,
    UnixFields::GROUP,
    TcpFields::GROUP,
    TriggerFields::GROUP,
    ReleasesFields::GROUP,
    HealthFields::GROUP,
    HttpFields::GROUP,
    BasicFields::GROUP,
    BearerFields::GROUP,
    SshFields::GROUP,
    TlsFields::GROUP,
    ExecFields::GROUP,
];

const JOBS: Kind<NonZeroUsize> =
    Kind::new("number from 1 to 1024", |value, _| jobs(value)).shown(|_| "number of cores".into());
const KEEP_ALIVE: Kind<Duration> =
    Kind::new(r#"duration, at most an hour; `"0s"`: not at all"#, |value, _| {
        keep_alive(value)
    })
    .shown(show_duration);

/// More runs at a time than that are a mistake.
const MAX_JOBS: u32 = 1024;
/// How to write the field that must be there.
const EXAMPLE: &str = r#"triggers: {"site": (repo: "https://…", path: "/srv/site")}"#;

/// What the fields are, as Markdown.
pub(super) fn reference() -> String {
    form::reference(GROUPS)
}

/// Check the configuration `text`.
pub(super) fn config(text: &str, around: Around<'_>) -> Result<Config, Vec<Problem>> {
    let mut form = Form::new(around, GROUPS);
    match whole(&mut form, text) {
        Some(config) if form.problems.is_empty() => Ok(config),
        _ => Err(form.problems),
    }
}

fn whole(form: &mut Form<'_>, text: &str) -> Option<Config> {
    let whole = form.keep(Value::whole(text, &format!("({EXAMPLE})")))?;
    if !matches!(whole.shape(), Shape::Fields | Shape::Named(_)) {
        let problem = whole.unexpected("the configuration in ( )");
        form.problems
            .push(problem.help("the file is one ( … ) with the fields listen, jobs and triggers"));
        return None;
    }
    let fields: ConfigFields<'_> = form.fields(whole)?;
    let listen = fields.listen.value.unwrap_or_default();
    let has_token = |listener: &Listener| {
        matches!(
            listener,
            Listener::Tcp {
                token_file: Some(_),
                ..
            }
        )
    };
    let no_token = fields.listen.is_right && !listen.iter().any(has_token);
    let triggers = triggers(form, &fields.triggers, no_token)?;
    Some(Config {
        listen,
        jobs: fields.jobs.value?,
        keep_alive: fields.keep_alive.value?,
        sandbox: fields.sandbox.value?,
        triggers,
    })
}

/// `no_token`: it is certain that no listener has a token.
fn triggers(
    form: &mut Form<'_>,
    given: &Given<'_, ()>,
    no_token: bool,
) -> Option<BTreeMap<TriggerName, Arc<Target>>> {
    let help = format!("write {EXAMPLE}");
    let Some(value) = given.raw else {
        let problem = Problem::at(given.place.clone(), "the configuration has no `triggers`");
        form.problems.push(problem.help(help));
        return None;
    };
    let entries = form.keep(value.map().map_err(|problem| problem.help(help.clone())))?;
    if entries.is_empty() {
        let problem = Problem::at(value.span(), "there is no trigger").help(help);
        form.problems.push(problem);
    }
    let mut seen = BTreeMap::<TriggerName, Range<usize>>::new();
    let mut placed = Vec::new();
    for (key, value) in entries {
        let name = form.keep(trigger_name(key));
        if let Some(name) = &name {
            if let Some(first) = seen.get(name) {
                let problem = Problem::at(key.span(), format!("two triggers are called `{name}`"))
                    .label("the second one")
                    .also(first.clone(), "the first one")
                    .help("rename or remove one of them");
                form.problems.push(problem);
            } else {
                seen.insert(name.clone(), key.span());
            }
        }
        placed.extend(target(form, (key, value), name, no_token));
    }
    paths::paths(form, &placed);
    paths::share_depth(&mut placed);
    let targets = placed.into_iter().map(|placed| placed.target);
    Some(
        targets
            .map(|target| (target.trigger.clone(), Arc::new(target)))
            .collect(),
    )
}

fn trigger_name(key: Value<'_>) -> Result<TriggerName, Problem> {
    TriggerName::new(key.string()?).map_err(|err| {
        Problem::at(
            key.span(),
            format!("{} is not a valid name of a trigger: {err}", key.shown()),
        )
        .help("clients say this name on the socket; choose one like \"site\" or \"shop.staging\"")
    })
}

fn jobs(value: Value<'_>) -> Result<NonZeroUsize, Problem> {
    let number = value.number(1..=MAX_JOBS).map_err(|problem| {
        problem.help("write how many runs may go on at a time, or remove the field for the number of cores")
    })?;
    Ok(NonZeroUsize::new(number as usize).unwrap_or(NonZeroUsize::MIN))
}

/// How long connections are kept.
fn keep_alive(value: Value<'_>) -> Result<Duration, Problem> {
    let duration = span_of_time(value)?;
    if duration > MAX_KEEP_ALIVE {
        let problem = unusable_duration(value, "connections are opened anew after an hour at the latest");
        return Err(problem.help("write a shorter one, or remove the field"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_words_are_no_fields() {
        for group in GROUPS {
            let entries = || group.fields.iter().map(|field| field.entry());
            for word in entries().flat_map(|entry| entry.other_words) {
                assert!(
                    entries().all(|entry| entry.name != *word),
                    "{}: {word}",
                    group.what
                );
            }
        }
    }
}
