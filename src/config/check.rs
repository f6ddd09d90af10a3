//! The fields of the file itself; and how it becomes a [`Config`] as used, or the list of all that is wrong with it.
//!
//! Each field is declared once, by `fields!`, beside what reads it. Nothing is looked up on the system here: whether
//! files and hosts exist is found out by runs, and before them by `gitsocket check`.

mod allow;
mod auth;
mod defaults;
mod health;
mod hook;
mod listen;
mod paths;
mod pattern;
mod releases;
mod sandbox;
mod target;
mod triggers;

use std::{num::NonZeroUsize, thread::available_parallelism, time::Duration};

use super::{
    Config, DEFAULT_KEEP_ALIVE, Included, Listener, Sandbox,
    form::{
        self, Around, Fields as _, Form, Given, Group, Kind, Problem, Shape, Value, fields, show_duration,
        span_of_time, unusable_duration,
    },
    include::{self, Found},
};
use crate::git::transport::MAX_KEEP_ALIVE;
use auth::{BasicFields, BearerFields, SshFields, TlsFields};
use health::{HealthFields, HttpFields};
use hook::ExecFields;
use listen::{LISTENERS, TcpFields, UnixFields};
use releases::ReleasesFields;
use sandbox::{SANDBOX, SandboxFields};
use target::TriggerFields;
use triggers::{Said, triggers};

fields! {
    /// The file is one `( … )` with these fields.
    struct ConfigFields: "the configuration" {
        /// Where the daemon listens.
        listen: Vec<Listener> = LISTENERS, without "`./gitsocket.sock`, for the daemon's user";
        /// How many runs go on at a time.
        jobs ("workers"): NonZeroUsize = JOBS, or available_parallelism().unwrap_or(NonZeroUsize::MIN);
        /// How long an unused connection to a remote is kept.
        keep_alive: Duration = KEEP_ALIVE, or DEFAULT_KEEP_ALIVE;
        /// What the daemon shuts itself out of. A word alone puts hooks into the sandbox, too.
        sandbox: Sandbox = SANDBOX, or Sandbox::default();
        /// Files with more triggers: each is a `(triggers: {…})` and nothing else, whose paths are relative to its own directory.
        /// `*` matches any part of a name, in the last part of a path; such a pattern may match no file.
        include ("includes", "import"): () = INCLUDE, without "none";
        /// Fields for all triggers that do not have them. `repo`, `path` and `git_dir` must contain `{name}` here.
        defaults ("default"): () = Kind::later("`(…)`"), without "none";
        /// The triggers, by name. There must be at least one.
        triggers: () = Kind::later("map of names to `(…)`"), without "required, unless `include` gives some";
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
const INCLUDE: Kind<()> = Kind::many("list of paths, with `*` in the last part", |form, value| {
    let main = form.around.files.file(0);
    for pattern in form.keep(include::list(value))? {
        form.keep(include::pattern(pattern, main));
    }
    Some(())
});
const KEEP_ALIVE: Kind<Duration> =
    Kind::new(r#"duration, at most an hour; `"0s"`: not at all"#, |value, _| {
        keep_alive(value)
    })
    .shown(show_duration);

/// More runs at a time than that are a mistake.
const MAX_JOBS: u32 = 1024;
/// How to write the field that must be there.
const EXAMPLE: &str = r#"triggers: {"site": (repo: "https://…", path: "/srv/site")}"#;
/// What is said of a file that is none of these.
const KNOWN: &str = "the fields listen, jobs and triggers";

/// What the fields are, as Markdown.
pub(super) fn reference() -> String {
    form::reference(GROUPS)
}

/// Where the daemon listens, as far as that can be read, whatever is wrong besides.
pub(super) fn listeners(around: Around<'_>) -> Result<Vec<Listener>, Vec<Problem>> {
    let mut form = Form::new(around, GROUPS);
    let main = form.whole(0, ("the configuration", KNOWN), EXAMPLE);
    let fields: Option<ConfigFields<'_>> = main.and_then(|main| form.fields(main));
    match fields.and_then(|fields| fields.listen.value) {
        Some(listeners) => Ok(listeners),
        None if form.problems.is_empty() => Ok(Vec::new()),
        None => Err(form.problems),
    }
}

/// Check the configuration, which includes what was `found`.
pub(super) fn config(around: Around<'_>, found: Found) -> Result<Config, Vec<Problem>> {
    let mut form = Form::new(around, GROUPS);
    form.problems = found.problems;
    match whole(&mut form, found.patterns) {
        Some(config) if form.problems.is_empty() => Ok(config),
        _ => Err(form.problems),
    }
}

fn whole(form: &mut Form<'_>, patterns: Vec<(String, usize)>) -> Option<Config> {
    let main = form.whole(0, ("the configuration", KNOWN), EXAMPLE)?;
    let fields: ConfigFields<'_> = form.fields(main)?;
    let mut entries = triggers_of_main(form, &fields);
    let mut included = Vec::new();
    let mut number = 0;
    for (pattern, count) in patterns {
        let mut files = Vec::with_capacity(count);
        for _ in 0..count {
            number += 1;
            let triggers = included_triggers(form, number).unwrap_or_default();
            files.push((form.around.files.file(number).to_owned(), triggers.len()));
            entries.extend(triggers);
        }
        included.push(Included { pattern, files });
    }
    if entries.is_empty() {
        no_trigger(form, &fields);
    }
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
    let said = Said {
        entries,
        defaults: fields.defaults,
        no_token,
    };
    let triggers = triggers(form, &said);
    Some(Config {
        listen,
        jobs: fields.jobs.value?,
        keep_alive: fields.keep_alive.value?,
        sandbox: fields.sandbox.value?,
        included,
        triggers,
    })
}

/// Names and triggers of a file.
type Entries<'v> = Vec<(Value<'v>, Value<'v>)>;

fn triggers_of_main<'v>(form: &mut Form<'_>, fields: &ConfigFields<'v>) -> Entries<'v> {
    let given = &fields.triggers;
    if given.raw.is_none() && !fields.include.is_there() {
        let problem = Problem::at(given.missing_at.clone(), "the configuration has no `triggers`");
        form.problems.push(problem.help(format!("write {EXAMPLE}")));
    }
    entries(form, given).unwrap_or_default()
}

/// Those of the included file with this number, which has nothing else.
fn included_triggers<'v>(form: &mut Form<'v>, number: usize) -> Option<Entries<'v>> {
    let value = form.whole(number, ("an included file", "the field triggers"), EXAMPLE)?;
    let fields: ConfigFields<'_> = form.fields(value)?;
    let main = form.around.files.file(0).display();
    for (name, is_there, at) in [
        ("listen", fields.listen.is_there(), &fields.listen.name_at),
        ("jobs", fields.jobs.is_there(), &fields.jobs.name_at),
        (
            "keep_alive",
            fields.keep_alive.is_there(),
            &fields.keep_alive.name_at,
        ),
        ("sandbox", fields.sandbox.is_there(), &fields.sandbox.name_at),
        ("include", fields.include.is_there(), &fields.include.name_at),
        ("defaults", fields.defaults.is_there(), &fields.defaults.name_at),
    ] {
        if is_there {
            let problem = Problem::at(
                at.clone(),
                format!("`{name}` has no place in a file that is included"),
            );
            form.problems
                .push(problem.help(format!("move it to {main}; here are `triggers` alone")));
        }
    }
    let given = &fields.triggers;
    if !given.is_there() && !given.is_misspelt {
        let problem = Problem::at(
            given.missing_at.clone(),
            "this file is included, and has no `triggers`",
        );
        form.problems
            .push(problem.help(format!("write {EXAMPLE}, or triggers: {{}} where there is none")));
    }
    entries(form, given)
}

fn entries<'v>(form: &mut Form<'_>, given: &Given<'v, ()>) -> Option<Entries<'v>> {
    let read = given.raw?.map();
    form.keep(read.map_err(|problem| problem.help(format!("write {EXAMPLE}"))))
}

/// That there is no trigger at all, if that is not said yet in other words.
fn no_trigger(form: &mut Form<'_>, fields: &ConfigFields<'_>) {
    let (triggers, include) = (&fields.triggers, &fields.include);
    let problem = match triggers.raw {
        _ if include.is_there() && !form.problems.is_empty() => return,
        Some(value) if value.shape() == Shape::Map => Problem::at(value.span(), "there is no trigger"),
        None if include.is_there() => {
            Problem::at(include.name_at.clone(), "there is no trigger in what is included")
        }
        _ => return,
    };
    form.problems.push(problem.help(format!("write {EXAMPLE}")));
}

fn jobs(value: Value<'_>) -> Result<NonZeroUsize, Problem> {
    let number = value.number(1..=MAX_JOBS).map_err(|problem| {
        problem.help("write how many runs may go on at a time, or remove the field for the number of cores")
    })?;
    Ok(NonZeroUsize::new(number as usize).unwrap_or(NonZeroUsize::MIN))
}

fn keep_alive(value: Value<'_>) -> Result<Duration, Problem> {
    let duration = span_of_time(value)?;
    if duration > MAX_KEEP_ALIVE {
        let problem = unusable_duration(value, "connections are closed after an hour at the latest");
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
            for word in entries().flat_map(|entry| entry.aliases.iter().chain(entry.other_words)) {
                assert!(
                    entries().all(|entry| entry.name != *word),
                    "{}: {word}",
                    group.what
                );
            }
        }
    }
}
