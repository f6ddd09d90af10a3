//! Deliveries to webhooks, as the pages show them.

use std::time::UNIX_EPOCH;

use maud::{Markup, html};

use super::words::{Look, plain, run_path, time, trigger_path};
use crate::web::deliveries::{Delivered, Outcome};

/// Whether it should have led to a run, and did not.
pub(super) fn is_undone(delivered: &Delivered) -> bool {
    matches!(
        delivered.result,
        Outcome::Refused { .. } | Outcome::Unavailable { .. }
    )
}

/// How many webhooks fail now: of the deliveries that should lead to a run, the latest one did not.
pub(super) fn ill_webhooks(latest_first: &[Delivered]) -> usize {
    let mut latest = std::collections::BTreeMap::new();
    for delivered in latest_first {
        if !matches!(delivered.result, Outcome::Ignored(_) | Outcome::OtherRefs(_)) {
            latest
                .entry(&delivered.path)
                .or_insert_with(|| is_undone(delivered));
        }
    }
    latest.into_values().filter(|is_ill| *is_ill).count()
}

fn look(delivered: &Delivered) -> Look {
    match delivered.result {
        Outcome::Accepted(_) | Outcome::Repeated(_) => Look::Ok,
        Outcome::Ignored(_) | Outcome::OtherRefs(_) => Look::Nothing,
        Outcome::Paused(_) => Look::Paused,
        Outcome::Refused { .. } | Outcome::Unavailable { .. } => Look::Warn,
    }
}

/// A list of deliveries; with their triggers, if `named`.
pub(super) fn list(deliveries: &[&Delivered], named: bool) -> Markup {
    html! { ul.rows.d { @for delivered in deliveries { (one(delivered, named)) } } }
}

fn one(delivered: &Delivered, named: bool) -> Markup {
    let name = delivered.trigger.as_str();
    let at = delivered.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    html! {
        li {
            (look(delivered).icon())
            span.s { (time(at.as_secs())) @if delivered.times > 1 { ", " (delivered.times) " times" } }
            span {
                code { (plain(&delivered.path)) }
                @if named { " for " a href=(trigger_path(name)) { (name) } }
                " " span.s { (delivered.from) " from " (plain(&delivered.client)) }
            }
            span.why { (result(delivered)) }
        }
    }
}

fn result(delivered: &Delivered) -> Markup {
    let name = delivered.trigger.as_str();
    html! {
        @match &delivered.result {
            Outcome::Accepted(run) => { "run " a href=(run_path(name, run)) { code { (run) } } },
            Outcome::Repeated(run) => { "delivered before: run " a href=(run_path(name, run)) { code { (run) } } },
            Outcome::Ignored(why) => { "nothing to do: " (plain(why)) },
            Outcome::OtherRefs(refs) => { "nothing to do: the push was to other refs: " (plain(&refs.join(", "))) },
            Outcome::Paused(why) => { b.warn { "not deployed:" } " " (plain(why)) },
            Outcome::Refused { status, why } => { b.warn { "refused with " (status) ":" } " " (plain(why)) },
            Outcome::Unavailable { kind, why } => { b.warn { (kind.as_str()) ":" } " " (plain(why)) },
        }
    }
}
