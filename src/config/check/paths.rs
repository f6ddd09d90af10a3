//! Triggers must not damage each other: whose path may be the same as another's, or inside it. Paths count as they are
//! written here; where links lead, `deploy::target_dirs` looks at.

use std::{collections::BTreeMap, ops::Range, path::Path};

use super::target::Described;
use crate::{
    base::name::AbsPath,
    config::{
        SAME_PATH,
        form::{Form, Problem},
    },
};

/// What is wrong with the paths of all triggers.
pub(super) fn paths(form: &mut Form<'_>, described: &[Described]) {
    shared_paths(form, described);
    git_dirs(form, described);
}

/// Triggers of one path share a clone, which has as much history as any of them wants: if each run made it another one's,
/// all of it would be fetched again and again.
pub(super) fn share_depth(described: &mut [Described]) {
    let mut most = BTreeMap::new();
    for this in described.iter() {
        let depth = this.target.origin.depth;
        let most = most
            .entry(this.target.site.key().as_path().to_owned())
            .or_insert(depth);
        *most = depth.max(*most);
    }
    for this in described {
        let most = most.get(this.target.site.key().as_path());
        this.target.origin.depth = most.copied().unwrap_or(this.target.origin.depth);
    }
}

/// Targets must not damage each other. Runs exclude each other by path, so two triggers may deploy different
/// revisions of one repository to the same path; but what one of them keeps the other must not remove.
/// A path inside another target's worktree must be kept by that.
fn shared_paths(form: &mut Form<'_>, described: &[Described]) {
    let mut by_path = BTreeMap::<&Path, &Described>::new();
    for this in described {
        if let Some(first) = by_path.get(this.target.site.key().as_path()) {
            form.problems.extend(same_path(first, this));
        } else {
            by_path.insert(this.target.site.key().as_path(), this);
        }
    }
    for inner in described {
        let parents = inner.target.site.path.as_path().ancestors().skip(1);
        let outer = parents
            .filter_map(|path| by_path.get(path))
            .filter(|outer| !keeps(outer, inner));
        form.problems.extend(outer.map(|outer| nested(outer, inner)));
    }
}

/// A git directory has one worktree, and is in none.
fn git_dirs(form: &mut Form<'_>, described: &[Described]) {
    let mut by_path = BTreeMap::<&Path, &Described>::new();
    let mut by_git_dir = BTreeMap::<&Path, Vec<&Described>>::new();
    for this in described {
        let site = &this.target.site;
        by_path.entry(site.path.as_path()).or_insert(this);
        if let Some(git_dir) = &site.git_dir {
            by_git_dir.entry(git_dir.as_path()).or_default().push(this);
        }
    }
    for this in described {
        let Some(git_dir) = this.target.site.git_dir.as_ref().map(AbsPath::as_path) else {
            continue;
        };
        let around = git_dir.ancestors().find_map(|dir| by_path.get(dir));
        let mut after = by_path.range(git_dir..).map(|(_, other)| other);
        let within = || {
            let inside = |other: &&&Described| other.target.site.path.as_path().starts_with(git_dir);
            after.next().filter(inside)
        };
        let elsewhere = |other: &&&Described| other.target.site.path != this.target.site.path;
        let shared = || by_git_dir.get(git_dir)?.iter().find(elsewhere);
        let (other, what) = if let Some(other) = around.or_else(within) {
            (
                other,
                "a git directory and a worktree cannot lie inside each other",
            )
        } else if let Some(other) = shared() {
            (other, "two worktrees cannot share a git directory")
        } else {
            continue;
        };
        let problem = Problem::at(this.git_dir_at.clone(), what)
            .also(
                other.path_at.clone(),
                format!("the path of `{}`", other.target.trigger),
            )
            .help("let `git_dir` name a place of its own, outside of every trigger's path");
        form.problems.push(with_names(problem, [this, other]));
    }
}

/// A path that is a trigger's by default stands elsewhere than the trigger.
fn with_names<const N: usize>(problem: Problem, of: [&Described; N]) -> Problem {
    let stands_apart = |described: &&Described| {
        let paths = [&described.path_at, &described.git_dir_at];
        let apart = |at: &&Range<usize>| !at.is_empty() && !described.at.contains(&at.start);
        paths.iter().any(apart)
    };
    of.into_iter()
        .filter(stands_apart)
        .fold(problem, |problem, described| {
            let text = format!("the trigger `{}`", described.target.trigger);
            problem.also(described.key_at.clone(), text)
        })
}

fn same_path(first: &Described, second: &Described) -> Option<Problem> {
    let (a, b) = (&first.target, &second.target);
    let differs = a.disagrees(b, a.site.git_dir == b.site.git_dir)?;
    let message = format!(
        "the triggers `{}` and `{}` have the same path, but not the same `{differs}`",
        a.trigger, b.trigger
    );
    let problem = Problem::at(second.path_at.clone(), message)
        .label("the same path again")
        .also(first.path_at.clone(), format!("the path of `{}`", a.trigger));
    Some(with_names(problem.help(SAME_PATH), [first, second]))
}

/// Whether the patterns that `outer` keeps match the path of `inner`, or a directory above it.
fn keeps(outer: &Described, inner: &Described) -> bool {
    below(outer, inner).is_none_or(|below| outer.target.site.keeps(below))
}

fn below<'a>(outer: &Described, inner: &'a Described) -> Option<&'a Path> {
    inner
        .target
        .site
        .path
        .as_path()
        .strip_prefix(outer.target.site.path.as_path())
        .ok()
}

fn nested(outer: &Described, inner: &Described) -> Problem {
    let (out, inn) = (&outer.target, &inner.target);
    let message = format!(
        "the path of `{}` lies inside the path of `{}`, which would overwrite and clean it",
        inn.trigger, out.trigger
    );
    let problem = Problem::at(inner.path_at.clone(), message)
        .label("inside that")
        .also(outer.path_at.clone(), format!("the path of `{}`", out.trigger))
        .help(out.make_room(below(outer, inner).unwrap_or(Path::new(""))));
    with_names(problem, [inner, outer])
}
