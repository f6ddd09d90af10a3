//! The triggers of all files, and what holds for those that do not say it.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{defaults::Defaults, paths};
use crate::{
    base::name::TriggerName,
    config::{
        Target,
        form::{Form, Given, Problem, Value},
    },
};

/// What the files say of triggers.
pub(super) struct Said<'v> {
    /// Names and triggers, those of the main file first.
    pub(super) entries: Vec<(Value<'v>, Value<'v>)>,
    /// `defaults` of the main file.
    pub(super) defaults: Given<'v, ()>,
    /// It is certain that no listener has a token.
    pub(super) no_token: bool,
}

pub(super) fn triggers(form: &mut Form<'_>, said: &Said<'_>) -> BTreeMap<TriggerName, Arc<Target>> {
    let mut defaults = Defaults::read(form, &said.defaults, said.no_token);
    let mut seen = BTreeMap::<TriggerName, Range<usize>>::new();
    let mut described = Vec::new();
    for (key, value) in said.entries.iter().copied() {
        let name = form.keep(trigger_name(key));
        if let Some(name) = &name {
            if let Some(first) = seen.get(name) {
                form.problems.push(twice(name, key, first.clone()));
            } else {
                seen.insert(name.clone(), key.span());
            }
        }
        described.extend(defaults.target(form, (key, value), name, said.no_token));
    }
    if defaults.are_apart() {
        paths::paths(form, &described);
    }
    paths::share_depth(&mut described);
    let targets = described.into_iter().map(|described| described.target);
    targets
        .map(|target| (target.trigger.clone(), Arc::new(target)))
        .collect()
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

fn twice(name: &TriggerName, key: Value<'_>, first: Range<usize>) -> Problem {
    Problem::twice(key.span(), first, format!("two triggers are called `{name}`"))
        .help("rename or remove one of them")
}
