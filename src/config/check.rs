//! A configuration as written becomes a [`Config`] as used, or the list of all that is wrong with it.
//!
//! Checks never stop at a problem: it is put on the list, the value counts as absent, and checking goes on.
//! Nothing is looked up on the system here: whether files and hosts exist is found out by runs.

mod allow;
mod auth;
mod choice;
mod field;
mod hook;
mod listen;
mod pattern;
mod sandbox;
mod target;
mod value;

use std::{
    collections::BTreeMap, ffi::OsString, num::NonZeroUsize, ops::Range, os::unix::ffi::OsStrExt as _,
    path::Path, sync::Arc, thread::available_parallelism,
};

use gix::bstr::ByteSlice as _;

use super::{
    Config, DEFAULT_KEEP_ALIVE, Listener, Target,
    raw::{Shape, Value},
    report::Problem,
};
use crate::base::name::{AbsPath, TriggerName};
use field::{CONFIG, Fields};
use value::keep_alive;

/// Looks a variable of the environment up.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// More runs at a time than that are a mistake.
const MAX_JOBS: u32 = 1024;

/// Check the configuration `text`, in which paths are relative to `base`.
pub(super) fn config(text: &str, base: &Path, env: Environment<'_>) -> Result<Config, Vec<Problem>> {
    let mut check = Check {
        around: Around { base, env },
        problems: Vec::new(),
        no_token: false,
    };
    let config = check.config(text);
    match config {
        Some(config) if check.problems.is_empty() => Ok(config),
        _ => Err(check.problems),
    }
}

/// What checks need, and what they found.
struct Check<'a> {
    around: Around<'a>,
    problems: Vec<Problem>,
    /// Whether it is certain that no listener has a token.
    no_token: bool,
}

/// What the text does not say.
#[derive(Clone, Copy)]
struct Around<'a> {
    /// What relative paths are relative to.
    base: &'a Path,
    env: Environment<'a>,
}

/// A target, and where in the file it is described.
struct Placed {
    target: Target,
    path_at: Range<usize>,
    git_dir_at: Range<usize>,
}

impl Check<'_> {
    /// The value, if there was no problem with it.
    fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn config(&mut self, text: &str) -> Option<Config> {
        let whole = Value::whole(text);
        let whole = self.keep(whole)?;
        if !matches!(whole.shape(), Shape::Fields | Shape::Named(_)) {
            let problem = whole.unexpected("the configuration in ( )");
            self.problems
                .push(problem.help("the file is one ( … ) with the fields listen, jobs and triggers"));
            return None;
        }
        let fields = self.fields(whole, &CONFIG)?;
        let known = self.problems.len();
        let listen = self.listeners(&fields);
        let has_token = |listener: &Listener| {
            matches!(
                listener,
                Listener::Tcp {
                    token_file: Some(_),
                    ..
                }
            )
        };
        self.no_token = self.problems.len() == known && !listen.iter().any(has_token);
        let jobs = self.optional(&fields, "jobs", |value| {
            let number = value.number(1..=MAX_JOBS);
            number.map_err(|problem| {
                problem.help(
                    "write how many runs may go on at a time, or remove the field for the number of cores",
                )
            })
        });
        let keep_alive = self.optional(&fields, "keep_alive", keep_alive);
        let sandbox = self.sandbox(&fields);
        let triggers = self.triggers(&fields)?;
        Some(Config {
            listen,
            sandbox: sandbox.unwrap_or_default(),
            keep_alive: keep_alive.unwrap_or(DEFAULT_KEEP_ALIVE),
            jobs: jobs
                .and_then(|jobs| NonZeroUsize::new(jobs as usize))
                .or_else(|| available_parallelism().ok())
                .unwrap_or(NonZeroUsize::MIN),
            triggers,
        })
    }

    fn triggers(&mut self, fields: &Fields<'_>) -> Option<BTreeMap<TriggerName, Arc<Target>>> {
        let example = r#"write triggers: {"site": (repo: "https://…", path: "/srv/site")}"#;
        let Some(value) = fields.get("triggers") else {
            if !fields.has("triggers") {
                let problem = Problem::at(fields.place(), "the configuration has no `triggers`");
                self.problems.push(problem.help(example));
            }
            return None;
        };
        let entries = value.map().map_err(|problem| problem.help(example));
        let entries = self.keep(entries)?;
        if entries.is_empty() {
            let problem = Problem::at(value.span(), "there is no trigger").help(example);
            self.problems.push(problem);
        }
        let mut seen = BTreeMap::<TriggerName, Range<usize>>::new();
        let mut placed = Vec::new();
        for (key, value) in entries {
            let name = self.keep(trigger_name(key));
            if let Some(name) = &name {
                if let Some(first) = seen.get(name) {
                    let problem = Problem::at(key.span(), format!("two triggers are called `{name}`"))
                        .label("the second one")
                        .also(first.clone(), "the first one")
                        .help("rename or remove one of them");
                    self.problems.push(problem);
                } else {
                    seen.insert(name.clone(), key.span());
                }
            }
            placed.extend(self.target(key, name, value));
        }
        self.shared_paths(&placed);
        self.git_dirs(&placed);
        Some(
            placed
                .into_iter()
                .map(|Placed { target, .. }| (target.trigger.clone(), Arc::new(target)))
                .collect(),
        )
    }

    /// Targets must not damage each other. Runs exclude each other by path, so two triggers may deploy different
    /// revisions of one repository to the same path; but what one of them keeps the other must not remove.
    /// A path inside another target's worktree must be kept by that.
    fn shared_paths(&mut self, placed: &[Placed]) {
        let mut by_path = BTreeMap::<&Path, &Placed>::new();
        for this in placed {
            if let Some(first) = by_path.get(this.target.site.path.as_path()) {
                self.problems.extend(same_path(first, this));
            } else {
                by_path.insert(this.target.site.path.as_path(), this);
            }
        }
        for inner in placed {
            let parents = inner.target.site.path.as_path().ancestors().skip(1);
            let outer = parents
                .filter_map(|path| by_path.get(path))
                .filter(|outer| !keeps(outer, inner));
            self.problems.extend(outer.map(|outer| nested(outer, inner)));
        }
    }
}

impl Check<'_> {
    /// A git directory has one worktree, and is in none.
    fn git_dirs(&mut self, placed: &[Placed]) {
        for this in placed {
            let Some(git_dir) = &this.target.site.git_dir else {
                continue;
            };
            for other in placed {
                let path = &other.target.site.path;
                let is_other = path != &this.target.site.path;
                let inside = |a: &AbsPath, b: &AbsPath| a.as_path().starts_with(b.as_path());
                let what = if inside(git_dir, path) || inside(path, git_dir) {
                    "a git directory and a worktree cannot lie inside each other"
                } else if is_other && other.target.site.git_dir.as_ref() == Some(git_dir) {
                    "two worktrees cannot share a git directory"
                } else {
                    continue;
                };
                let problem = Problem::at(this.git_dir_at.clone(), what)
                    .also(
                        other.path_at.clone(),
                        format!("the path of `{}`", other.target.trigger),
                    )
                    .help("let `git_dir` name a place of its own, outside of every trigger's path");
                self.problems.push(problem);
                break;
            }
        }
    }
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

fn same_path(first: &Placed, second: &Placed) -> Option<Problem> {
    let (a, b) = (&first.target, &second.target);
    let differs = if a.origin.repo != b.origin.repo {
        "repo"
    } else if a.site.git_dir != b.site.git_dir {
        "git_dir"
    } else if a.origin.remote != b.origin.remote {
        "remote"
    } else if a.site.clean != b.site.clean {
        "clean"
    } else if a.site.keep != b.site.keep {
        "keep"
    } else {
        return None;
    };
    let message = format!(
        "the triggers `{}` and `{}` have the same path, but not the same `{differs}`",
        a.trigger, b.trigger
    );
    let problem = Problem::at(second.path_at.clone(), message)
        .label("the same path again")
        .also(first.path_at.clone(), format!("the path of `{}`", a.trigger));
    Some(problem.help(
        "give one another path; or give both the same repo, git_dir, remote, clean and keep: \
         then they deploy different revisions of one repository, one at a time",
    ))
}

/// Whether the patterns that `outer` keeps match the path of `inner`, or a directory above it.
fn keeps(outer: &Placed, inner: &Placed) -> bool {
    let Some(below) = below(outer, inner) else {
        return true;
    };
    let patterns = outer.target.site.keep.iter();
    let search = gix::ignore::Search::from_overrides(patterns, gix::ignore::search::Ignore::default());
    below
        .ancestors()
        .filter(|path| !path.as_os_str().is_empty())
        .any(|path| {
            search
                .pattern_matching_relative_path(
                    path.as_os_str().as_bytes().as_bstr(),
                    Some(true),
                    gix::glob::pattern::Case::Sensitive,
                )
                .is_some_and(|found| !found.pattern.is_negative())
        })
}

fn below<'a>(outer: &Placed, inner: &'a Placed) -> Option<&'a Path> {
    inner
        .target
        .site
        .path
        .as_path()
        .strip_prefix(outer.target.site.path.as_path())
        .ok()
}

fn nested(outer: &Placed, inner: &Placed) -> Problem {
    let (out, inn) = (&outer.target, &inner.target);
    let message = format!(
        "the path of `{}` lies inside the path of `{}`, which would overwrite and clean it",
        inn.trigger, out.trigger
    );
    let pattern = below(outer, inner)
        .map(|path| format!("/{}/", path.display()))
        .unwrap_or_default();
    Problem::at(inner.path_at.clone(), message)
        .label("inside that")
        .also(outer.path_at.clone(), format!("the path of `{}`", out.trigger))
        .help(format!(
            "move one of them, or write keep: [{pattern:?}] into `{}`",
            out.trigger
        ))
}
