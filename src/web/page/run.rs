//! `/triggers/NAME/runs/ID`: the lines of a run.

use maud::{Markup, html};

use super::{
    frame::Frame,
    timeline,
    trigger::{commits, parts},
    words::{Look, duration, failure, notes, outcome, plain, run_path, time, trigger_path},
};
use crate::{
    base::{
        event::{Current, Last},
        name::{RunId, TriggerName},
    },
    web::{daemon::Line, lines, session::Session},
};

/// A run that has ended.
pub(super) fn ended(
    name: &TriggerName,
    Last { run, past }: &Last,
    said: &[Line],
    session: &Session,
) -> Markup {
    let done = &past.done;
    let look = Look::of_run(done);
    let parts = parts(past);
    let content = html! {
        (path(name))
        div.head { h1 { "Run " code { (run) } } (look.badge(outcome(done))) }
        p.lead {
            @if !past.task.is_update() { (past.task.word()) ", " }
            "began " (time(past.began)) ", took " (duration(done.ms)) ", by " (plain(&past.peer))
            @if !past.notes.is_empty() { ": " (notes(&past.notes)) }
            @if done.new.is_some() { " · " (commits(past)) }
        }
        @if let Some(why) = &done.failure { section.card.is-bad aria-label="What failed" { (failure(why)) } }
        h2 { "Time" }
        (timeline::bar(&parts, timeline::total(&parts), "bar big"))
        (timeline::legend(&parts))
        h2 #said { "Output" }
        ol.log tabindex="0" aria-labelledby="said" { (all(said)) }
    };
    let title = format!("{}: {name}", outcome(done));
    Frame {
        title: &title,
        look,
        session: Some(session),
        renews: false,
    }
    .around(&content)
}

/// A run that goes on or waits. The script adds its lines as they come.
pub(super) fn going_on(name: &TriggerName, Current { run, going_on }: &Current, session: &Session) -> Markup {
    let word = if going_on.began.is_some() {
        "running"
    } else {
        "waiting"
    };
    let content = html! {
        (path(name))
        div.head { h1 { "Run " code { (run) } } (Look::Busy.badge(word)) }
        p.lead {
            @if !going_on.task.is_update() { (going_on.task.word()) ", " }
            @match going_on.began {
                Some(began) => { "began " (time(began)) },
                None => { "waiting since " (time(going_on.accepted)) },
            }
            ", by " (plain(&going_on.peer))
            @if !going_on.notes.is_empty() { ": " (notes(&going_on.notes)) }
            @if let Some(secs) = going_on.overdue { " · " b.warn { "overdue for " (duration(secs.saturating_mul(1000))) } }
        }
        h2 #said { "Output" }
        div.live {
            output #state { noscript { "Live output needs JavaScript. Without it: reload this page once the run has ended, or type " code { "gitsocket log -f " (name) } "." } }
            button.small #follow type="button" hidden { "Scroll to the end" }
        }
        progress #progress hidden aria-labelledby="state" {}
        ol.log #log tabindex="0" aria-labelledby="said" data-events={ (run_path(name.as_str(), run)) "/events" } {}
    };
    let title = format!("{word}: {name}");
    Frame {
        title: &title,
        look: Look::Busy,
        session: Some(session),
        renews: false,
    }
    .around(&content)
}

pub(super) fn none(name: &TriggerName, run: &RunId, session: &Session) -> Markup {
    let content = html! {
        (path(name))
        div.head { h1 { "Run " code { (run) } } }
        section.card.is-warn {
            p.said { "The daemon does not remember this run." }
            p.do { b { "Next:" } " see the runs of " a href=(trigger_path(name.as_str())) { (name) } }
        }
    };
    Frame {
        title: "no such run",
        look: Look::Warn,
        session: Some(session),
        renews: false,
    }
    .around(&content)
}

fn path(name: &TriggerName) -> Markup {
    html! {
        nav.path aria-label="Where you are" {
            a href="/" { "All triggers" } " / " a href=(trigger_path(name.as_str())) { (name) }
        }
    }
}

fn all(said: &[Line]) -> Markup {
    html! { @for line in said { @if let Some(line) = lines::line(&line.record.event) { (line.html()) } } }
}
