//! `defaults`: what holds for triggers that do not say it.
//!
//! A trigger is read together with them, so that whatever comes of both is seen as if it had been written there. Nothing is
//! merged below a field.

use std::{collections::BTreeSet, ops::Range};

use zeroize::Zeroizing;

use super::{
    allow,
    pattern::keep,
    target::{Described, REVISIONS, TriggerFields, target},
};
use crate::{
    base::name::TriggerName,
    config::form::{Fields as _, Form, Given, Problem, Value, Written, has_name},
};

/// What `{name}` stands for where no trigger's name is known.
const ANY: &str = "name";

/// What holds for triggers that do not say it.
pub(super) enum Defaults<'v> {
    Absent,
    /// It cannot be known, so it cannot be known either what a trigger lacks.
    Unreadable,
    Written {
        fields: Written<'v>,
        span: Range<usize>,
        /// Where there are problems that are on the list: each trigger has them again.
        told: BTreeSet<usize>,
        /// Whether each trigger gets paths of its own.
        are_apart: bool,
    },
}

impl<'v> Defaults<'v> {
    /// Read each field for itself, so that what is wrong with one is found even if no trigger has it.
    pub(super) fn read(form: &mut Form<'_>, given: &Given<'v, ()>, no_token: bool) -> Self {
        let Some(value) = given.raw else {
            return Self::Absent;
        };
        let mut inner = form.of(ANY);
        let fields = inner.written(value, TriggerFields::GROUP, value.head());
        let fields = fields.map(Written::part);
        let are_apart = fields
            .as_ref()
            .is_some_and(|fields| by_themselves(&mut inner, fields, no_token));
        let problems = inner.problems;
        let told = problems.iter().map(Problem::offset).collect();
        form.problems.extend(problems);
        match fields {
            Some(fields) => Self::Written {
                fields,
                span: value.span(),
                told,
                are_apart,
            },
            None => Self::Unreadable,
        }
    }

    /// Whether it is of use to compare the paths of triggers.
    pub(super) fn are_apart(&self) -> bool {
        !matches!(self, Self::Written { are_apart: false, .. })
    }

    /// The target that `value`, below `key`, describes with them.
    pub(super) fn target(
        &mut self,
        form: &mut Form<'_>,
        (key, value): (Value<'v>, Value<'v>),
        name: Option<TriggerName>,
        no_token: bool,
    ) -> Option<Described> {
        let known = name.as_ref().map_or(ANY, TriggerName::as_str).to_owned();
        let mut inner = form.of(&known);
        let own = inner.written(value, TriggerFields::GROUP, key.span());
        let all = own.map(|own| match &*self {
            Self::Absent => own,
            Self::Unreadable => own.part(),
            Self::Written { fields, .. } => own.or(fields, &REVISIONS),
        });
        let described = all.and_then(|all| target(&mut inner, (key, value), &all, name, no_token));
        let problems = inner.problems;
        form.problems.extend(self.news(problems, key));
        described
    }

    /// Those of a trigger's `problems` that are not on the list. What is wrong with the defaults alone is told once, with the
    /// first trigger that has it.
    fn news(&mut self, problems: Vec<Problem>, key: Value<'_>) -> Vec<Problem> {
        let Self::Written { span, told, .. } = self else {
            return problems;
        };
        let is_theirs = |problem: &Problem| {
            let mut spans = problem.spans();
            spans.all(|at| span.start <= at.start && at.end <= span.end)
        };
        let news = problems.into_iter().filter_map(|problem| {
            if !is_theirs(&problem) {
                return Some(problem);
            }
            let is_new = told.insert(problem.offset());
            is_new.then(|| problem.also(key.span(), "with this trigger"))
        });
        news.collect()
    }
}

/// Put what is wrong with any of them, whatever a trigger says besides, on the list. Whether each trigger gets paths of its
/// own.
fn by_themselves(form: &mut Form<'_>, written: &Written<'_>, no_token: bool) -> bool {
    let fields = TriggerFields::read(form, written);
    keep(form, &fields.keep, None);
    allow::allow(form, &fields.allow, no_token);
    allow::operate(form, &fields.operate, no_token);
    let (repo, path, git_dir) = (&fields.repo, &fields.path, &fields.git_dir);
    let mut are_apart = true;
    for (raw, is_right, name, example) in [
        (
            repo.raw,
            repo.is_right,
            "repo",
            "git@git.example.com:me/{name}.git",
        ),
        (path.raw, path.is_right, "path", "/srv/{name}"),
        (
            git_dir.raw,
            git_dir.is_right,
            "git_dir",
            "/var/lib/gitsocket/{name}.git",
        ),
    ] {
        let Some(value) = raw.filter(|_| is_right) else {
            continue;
        };
        // A URL may hold a password.
        let text = value.string().map(Zeroizing::new);
        if text.is_ok_and(|text| !has_name(&text)) {
            are_apart = false;
            form.problems.push(one_for_all(value, name, example));
        }
    }
    are_apart
}

fn one_for_all(value: Value<'_>, name: &str, example: &str) -> Problem {
    Problem::at(value.head(), format!("all triggers would have the same `{name}`")).help(format!(
        "write {{name}} where it has the name of the trigger, such as {name}: {example:?}"
    ))
}
