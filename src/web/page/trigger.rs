//! `/triggers/NAME`: the state of a trigger, its buttons, runs, releases and deliveries.

use maud::{Markup, html};

use super::{
    arrivals,
    button::{May, act},
    frame::{Frame, token},
    pause,
    timeline::{self, Part, Parts},
    words::{
        Look, commit, duration, failure, many, notes, outcome, plain, run_path, time, time_ahead,
        trigger_path,
    },
};
use crate::{
    base::event::{Current, Held, Last, Past, Polled, Release, Standing, Status, short},
    web::{daemon::Log, deliveries::Delivered, session::Session},
};

/// Runs that are shown: as many as a daemon remembers, with those that found nothing new.
const RUNS: usize = 60;
const DELIVERIES: usize = 20;

pub(super) fn page(
    status: &Status,
    log: &Log,
    deliveries: &[Delivered],
    may: May,
    session: &Session,
) -> Markup {
    let name = status.trigger.as_str();
    let look = Look::of(status);
    let of_this: Vec<&Delivered> = deliveries
        .iter()
        .filter(|delivered| delivered.trigger == status.trigger)
        .take(DELIVERIES)
        .collect();
    let content = html! {
        nav.path aria-label="Where you are" { a href="/" { "All triggers" } }
        div.head { h1 { (name) } (look.badge(word(status))) }
        p.lead { (deployed(status)) }
        @if let Some(paused) = &status.paused { (pause::card(status, paused, may, session)) }
        (wrong(status))
        (actions(status, may, session))
        (runs(name, log))
        (releases(name, &status.standing.releases, may, session))
        @if !of_this.is_empty() {
            h2 { "Deliveries" }
            (arrivals::list(&of_this, false))
        }
    };
    let title = format!("{name}: {}", word(status));
    Frame {
        title: &title,
        look,
        session: Some(session),
        renews: true,
    }
    .around(&content)
}

fn word(status: &Status) -> &'static str {
    match Look::of(status) {
        Look::Bad if status.stuck.is_some() => "stuck",
        Look::Bad => "failing",
        Look::Busy if status.runs.iter().any(|run| run.going_on.began.is_some()) => "running",
        Look::Busy => "waiting",
        Look::Warn => "not all well",
        Look::Paused => "paused",
        Look::Ok => "well",
        Look::Nothing => "never deployed",
    }
}

fn deployed(status: &Status) -> Markup {
    let standing = &status.standing;
    html! {
        @match &standing.commit {
            Some(id) => {
                (commit(id)) @if let Some(since) = standing.since { " has been deployed since " (time(since)) } @else { " is deployed" }
            },
            None if status.stuck.is_some() => "What is deployed is not known",
            None => "Nothing is deployed",
        }
        @if let Some(follows) = &status.follows { " · follows " (plain(follows)) }
        @if let Some(poll) = &status.poll && status.paused.is_none() { " · " (polls(poll)) }
    }
}

fn polls(poll: &Polled) -> Markup {
    html! {
        "polls its remote every " (duration(poll.every.saturating_mul(1000)))
        @if let Some(next) = poll.next { ", next " (time_ahead(next)) }
        @if let Some(asked) = poll.asked { ", last answer " (time(asked)) }
    }
}

/// What is wrong, the worst first, and what to do next, in the words of `gitsocket status`.
fn wrong(status: &Status) -> Markup {
    let name = status.trigger.as_str();
    let standing = &status.standing;
    html! {
        @if let Some(stuck) = &status.stuck {
            section.card.is-bad {
                h2 { "Stuck since " (time(stuck.since)) }
                p.said { "The run " a href=(run_path(name, &stuck.run)) { code { (stuck.run) } } " does not end, in the step " (stuck.step.as_str()) ": no other run can start." }
            }
        }
        @if let Some(failing) = &standing.failing {
            section.card.is-bad {
                h2 { "Failing since " (time(failing.since)) ", " (failing.times()) }
                (failure(&failing.failure))
                p.more { a href=(run_path(name, &failing.run)) { "Output of the last run" } }
            }
        }
        @for held in &standing.held { (held_card(held)) }
        (odd(status, standing))
    }
}

fn held_card(held: &Held) -> Markup {
    html! {
        section.card.is-warn {
            h2 { (commit(&held.commit)) " is held" }
            p.said { "It was rolled back " (time(held.since)) ", " (plain(&held.why())) }
            p.do { b { "Next:" } " push another commit; or press Retry to deploy this one again" }
        }
    }
}

fn odd(status: &Status, standing: &Standing) -> Markup {
    let unasked = status.poll.as_ref().and_then(|poll| poll.failing.as_ref());
    html! {
        @if let Some(unasked) = unasked {
            section.card.is-warn {
                h2 { "Polls of the remote have been failing since " (time(unasked.since)) ", " (many(usize::try_from(unasked.times).unwrap_or(usize::MAX), "time", "times")) }
                (failure(&unasked.failure))
            }
        }
        @if standing.hooks_pending && status.runs.is_empty() {
            section.card.is-warn {
                h2 { @match standing.hooks_since {
                    Some(since) => { "Hooks have been pending since " (time(since)) },
                    None => "Hooks are pending",
                } }
                p.said { "They have not succeeded for " (commit(standing.commit.as_deref().unwrap_or("-"))) "; they run at the next trigger." }
            }
        }
        @if let Some(mixed) = &standing.mixed {
            section.card.is-warn {
                h2 { "Files are mixed" }
                p.said { (plain(&mixed.line())) "; the next run updates them." }
            }
        }
        @if let Some(refused) = &status.reload_refused {
            section.card.is-warn aria-label="The configuration" { p.said { (plain(&refused.line())) } }
        }
    }
}

fn actions(status: &Status, may: May, session: &Session) -> Markup {
    let name = status.trigger.as_str();
    let standing = &status.standing;
    let has_older = !standing.releases.is_empty() || standing.commit.is_some();
    let is_paused = status.paused.is_some();
    html! {
        @if may.deploy || may.rollback || may.retry || may.pause {
            div.acts {
                @if may.deploy && !is_paused { (act(name, "deploy", session, html! { button.main { "Deploy" } })) }
                @if may.retry && !is_paused && let Some(held) = standing.held.first() {
                    (act(name, "retry", session, html! { button { "Retry " code { (short(&held.commit)) } } }))
                }
                @if may.rollback && has_older {
                    (act(name, "rollback", session, html! { button data-sure="Roll back to the last good commit before the live one?" { "Roll back" } }))
                }
                @if may.pause && !is_paused { (pause::form(name, session)) }
            }
        } @else {
            p.more { "The daemon lets the user of this page look at this trigger, but not deploy." }
        }
    }
}

fn runs(name: &str, log: &Log) -> Markup {
    let bars: Vec<Parts> = log.past.iter().take(RUNS).map(|last| parts(&last.past)).collect();
    let whole = bars.iter().map(timeline::total).max().unwrap_or(1);
    html! {
        h2 #runs { "Runs" }
        @if log.current.is_empty() && log.past.is_empty() { p.quiet { "No run yet." } }
        @else {
            ul.rows.r aria-labelledby="runs" {
                @for run in &log.current { (going_on(name, run)) }
                @for (last, bar) in log.past.iter().zip(&bars) { (ended(name, last, bar, whole)) }
            }
            (timeline::key(&bars))
        }
    }
}

fn going_on(name: &str, Current { run, going_on }: &Current) -> Markup {
    let (word, since) = match going_on.began {
        Some(began) => ("running", began),
        None => ("waiting", going_on.accepted),
    };
    html! {
        li {
            (Look::Busy.icon())
            a.s href=(run_path(name, run)) { (time(since)) }
            span { b.busy { (word) } " " span.s {
                (going_on.task.shown())
                @if going_on.notes.is_empty() { "by " (plain(&going_on.peer)) } @else { (notes(&going_on.notes)) }
            } }
            @if let Some(secs) = going_on.overdue { span.why.warn { "overdue for " (duration(secs.saturating_mul(1000))) } }
        }
    }
}

fn ended(name: &str, Last { run, past }: &Last, bar: &Parts, whole: u64) -> Markup {
    let done = &past.done;
    html! {
        li {
            (Look::of_run(done).icon())
            a.s href=(run_path(name, run)) { (time(past.began)) }
            span {
                b.bad[done.failure.is_some()] { (outcome(done)) } " " (commits(past))
                @if !past.task.is_update() { span.s { " by " (past.task.word()) } }
                @if !past.notes.is_empty() { " " span.s { (notes(&past.notes)) } }
            }
            span.bars { (timeline::bar(bar, whole, "bar")) }
            span.s.num { (duration(done.ms)) }
            @if let Some(why) = &done.failure { span.why { (why.kind.as_str()) ": " (plain(&why.message)) } }
        }
    }
}

/// `1a2b3c4..5d6e7f8`, or the one commit where nothing has changed.
pub(super) fn commits(past: &Past) -> Markup {
    let done = &past.done;
    html! {
        @match (&done.old, &done.new) {
            (Some(old), Some(new)) if old != new => code { (short(old)) ".." (short(new)) },
            (None, Some(new)) | (_, Some(new)) => (commit(new)),
            _ => {},
        }
    }
}

/// The time of a run by part.
pub(super) fn parts(past: &Past) -> Parts {
    let ms = |phase: &str| past.phases_ms.get(phase).copied().unwrap_or(0);
    let queued = past.began.saturating_sub(past.accepted).saturating_mul(1000);
    let mut parts = vec![
        (Part::Waiting, queued.saturating_add(ms("lock"))),
        (Part::Fetch, ms("fetch")),
        (Part::Files, ms("worktree").saturating_add(ms("publish"))),
        (Part::Build, ms("build")),
        (Part::Hooks, ms("hooks")),
        (Part::Health, ms("health")),
    ];
    if past.phases_ms.is_empty() {
        parts.push((Part::All, past.done.ms));
    }
    parts.retain(|(_, ms)| *ms > 0);
    parts
}

fn releases(name: &str, releases: &[Release], may: May, session: &Session) -> Markup {
    html! {
        @if !releases.is_empty() {
            h2 #releases { "Releases" }
            ul.rows.l aria-labelledby="releases" {
                @for release in releases { (one_release(name, release, may, session)) }
            }
        }
    }
}

fn one_release(name: &str, release: &Release, may: May, session: &Session) -> Markup {
    let look = match (release.live, release.good) {
        (true, true) => Look::Ok,
        (_, false) => Look::Warn,
        (false, true) => Look::Nothing,
    };
    html! {
        li {
            (look.icon())
            code { (plain(&release.id)) }
            span.s {
                @if release.live { b.ok { "live" } " " }
                @if !release.good { b.warn { "not good" } " " }
                @if let Some(since) = release.since { (if release.live { "since " } else { "last live " }) (time(since)) }
            }
            span.s.num { (bytesize::ByteSize(release.bytes)) }
            @if may.rollback && !release.live && release.good {
                form method="post" action={ (trigger_path(name)) "/rollback" } {
                    (token(session))
                    input type="hidden" name="to" value=(release.id);
                    button.small data-sure={ "Roll back to " (release.id) "?" } aria-label={ "Roll back to " (release.id) } { "Roll back" }
                }
            } @else { span {} }
        }
    }
}
