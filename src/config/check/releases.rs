//! Releases, and how a trigger goes on after a deploy that is not good.

use std::{
    num::NonZeroU32,
    path::{Component, Path, PathBuf},
};

use crate::config::{
    At, Clean, Hook, Live, OnFailure, Releases, Shared,
    form::{Choice, Form, Given, Kind, Problem, Read, Spanned, Value, code, fields, filled},
};

fields! {
    /// In `( )`, which may be empty. Each deployed commit gets a directory of its own, see [releases.md](releases.md).
    pub(super) struct ReleasesFields: "`releases`" {
        /// How many older releases are kept for a rollback.
        keep ("keep_releases"): NonZeroU32 = KEEP, or DEFAULT_KEEP;
        /// How a release becomes live in `path`: a symlink of this name leads to it, or a directory of this name changes
        /// places with it.
        live ("current"): Live = LIVE, or Live::Symlink("current".into());
        /// Files, and with a `/` at the end directories, that all releases share: they are in `shared` in `path`, and
        /// links in a release lead there. A directory is made if it is missing.
        shared ("linked_dirs", "linked_files", "shared_dirs", "shared_files"): Vec<Shared> = SHARED, without "none";
    }
}

pub(super) const RELEASES: Kind<Releases> = Kind::many("`(…)`", releases);
const KEEP: Kind<NonZeroU32> = Kind::new("number from 1 to 100", |value, _| keep(value)).shown(|n| code(n));
const LIVE: Kind<Live> = Kind::many(r#"`Symlink("NAME")` or `Exchange("NAME")`"#, |form, value| {
    form.one_of(value, "a way to become live", &WAYS)
})
.shown(|live| code(format_args!("{live:?}")));
const SHARED: Kind<Vec<Shared>> = Kind::many("list of relative paths", shared);
/// Each is a whole tree.
const DEFAULT_KEEP: NonZeroU32 = NonZeroU32::new(3).expect("it is not zero");
/// More releases to go back to than that are a mistake.
const MAX_KEEP: u32 = 100;
/// The longest name of what is live, in bytes: of the 255 that a name may have, temporary ones beside it need some.
const MAX_NAME: usize = 128;
/// What is in `path` besides what is live.
const TAKEN: [&str; 3] = ["releases", "shared", "repo.git"];

const SHARED_EXAMPLE: &str = r#"write shared: ["uploads/", ".env"]"#;

const WAYS: [(&str, bool, Read<Live>); 2] = [
    ("Symlink", true, |form, value| {
        form.keep(name(value)).map(Live::Symlink)
    }),
    ("Exchange", true, |form, value| {
        form.keep(name(value)).map(Live::Exchange)
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
    hooks: &Given<'_, Vec<Spanned<Hook>>>,
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

fn built_in_place(form: &mut Form<'_>, hooks: &Given<'_, Vec<Spanned<Hook>>>) {
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
        "." | ".." => wrong("it is not a name of its own".into()),
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
            let (message, help) = if other.path == this.path {
                ("this is shared twice", "remove one of them")
            } else {
                (
                    "one of these is inside the other, which is shared with all that is in it",
                    "remove the inner one",
                )
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
