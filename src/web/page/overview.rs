//! `/`: all triggers, the failing ones first.

use maud::{Markup, html};

use super::{
    arrivals,
    frame::Frame,
    words::{Look, brief, commit, duration, many, outcome, plain, run_path, time, trigger_path},
};
use crate::{
    base::event::{Current, Last, Status},
    web::{deliveries::Delivered, session::Session},
};

pub(super) const A_PAGE: usize = 100;
/// Failing triggers on one page that are shown with what to do next; the others are rows, with links to their own pages.
const IN_FULL: usize = 20;
/// The longest message or help that is shown here, in characters; the trigger's page shows all of it.
const LONGEST: usize = 240;
/// The same in a row.
const LONGEST_IN_A_ROW: usize = 80;
const REFUSED: usize = 5;
/// Up to so many triggers, the page has no search.
const MANY: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The page, from 1.
    pub(super) page: usize,
    /// A part of the wanted triggers' names; all triggers if empty.
    pub(super) find: String,
}

/// Triggers by how urgent they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Failing,
    Running,
    Odd,
    Paused,
    Well,
}

impl Group {
    fn of(status: &Status) -> Self {
        match Look::of(status) {
            Look::Bad => Self::Failing,
            Look::Busy => Self::Running,
            Look::Warn => Self::Odd,
            Look::Paused => Self::Paused,
            Look::Ok | Look::Nothing => Self::Well,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Failing => "Failing",
            Self::Running => "Running",
            Self::Odd => "Not all well",
            Self::Paused => "Paused",
            Self::Well => "Well",
        }
    }
}

pub(super) fn page(all: Vec<Status>, deliveries: &[Delivered], asked: &Asked, session: &Session) -> Markup {
    let count = |group| all.iter().filter(|status| Group::of(status) == group).count();
    let [failing, running, odd] = [Group::Failing, Group::Running, Group::Odd].map(count);
    let paused = all.iter().filter(|status| status.paused.is_some()).count();
    let total = all.len();
    let refused = all.iter().find_map(|status| status.reload_refused.clone());
    let found = sorted(all, &asked.find);
    let pages = found.len().div_ceil(A_PAGE).max(1);
    let page = asked.page.clamp(1, pages);
    let shown = &found[(page - 1) * A_PAGE..(page * A_PAGE).min(found.len())];
    let content = html! {
        h1 { (headline(total, failing, odd + paused)) }
        p.lead {
            (lead(total, failing + odd + paused, running, arrivals::ill_webhooks(deliveries)))
            @if paused > 0 { " " b.warn { (many(paused, "trigger is", "triggers are")) " paused." } }
        }
        @if let Some(refused) = refused {
            section.card.is-warn aria-label="The configuration" { p.said { (plain(&refused.line())) } }
        }
        @if total > MANY { (search(&asked.find)) }
        @if found.is_empty() && total > 0 { p { "No trigger’s name contains this." } }
        @for of_one in shown.chunk_by(|a, b| a.0 == b.0) { (group(of_one)) }
        @if pages > 1 { (turn(page, pages, &asked.find)) }
        @if asked.find.is_empty() && page == 1 { (refusals(deliveries)) }
    };
    let title = match failing {
        0 if paused > 0 => format!("{paused} paused"),
        0 if odd > 0 => "none failing".into(),
        0 => "all well".into(),
        failing => format!("{failing} failing"),
    };
    let look = if failing > 0 { Look::Bad } else { Look::Ok };
    Frame {
        title: &title,
        look,
        session: Some(session),
        renews: true,
    }
    .around(&content)
}

/// The failing triggers first, the most recent failure before older ones; the others by name.
fn sorted(all: Vec<Status>, find: &str) -> Vec<(Group, Status)> {
    let find = find.to_lowercase();
    let mut found: Vec<(Group, Status)> = all
        .into_iter()
        .filter(|status| find.is_empty() || status.trigger.as_str().to_lowercase().contains(&find))
        .map(|status| (Group::of(&status), status))
        .collect();
    found.sort_by_cached_key(|(group, status)| {
        let since = status.stuck.as_ref().map(|stuck| stuck.since);
        let since = since.or(status.standing.failing.as_ref().map(|failing| failing.since));
        let since = since.filter(|_| *group == Group::Failing);
        (
            *group,
            std::cmp::Reverse(since),
            status.trigger.as_str().to_owned(),
        )
    });
    found
}

fn headline(total: usize, failing: usize, odd: usize) -> String {
    match (total, failing) {
        (0, _) => "There is no trigger".into(),
        (_, 0) if odd > 0 => "No trigger is failing".into(),
        (1, 0) => "The trigger is well".into(),
        (1, _) => "The trigger is failing".into(),
        (total, 0) => format!("All {total} triggers are well"),
        (total, 1) => format!("1 of {total} triggers is failing"),
        (total, failing) => format!("{failing} of {total} triggers are failing"),
    }
}

fn lead(total: usize, wrong: usize, running: usize, ill: usize) -> Markup {
    html! {
        @if ill > 0 { b.warn { (many(ill, "webhook is", "webhooks are")) " refused:" } " see the deliveries below. " }
        @if total == 0 { "The daemon has none for the user of this page: see " code { "triggers" } " and " code { "allow" } " in its configuration." }
        @else if running > 0 { (many(running, "deploy is", "deploys are")) " running." }
        @else if wrong == 0 && ill == 0 { "Nothing to do." }
        @else { "No deploy is running." }
    }
}

fn search(find: &str) -> Markup {
    html! {
        form.find role="search" method="get" action="/" {
            label for="find" { "Find a trigger" }
            input #find type="text" name="find" value=(find) maxlength="64" autocomplete="off" autocapitalize="none" spellcheck="false";
            button { "Find" }
        }
    }
}

fn group(group: &[(Group, Status)]) -> Markup {
    let Some((kind, _)) = group.first() else {
        return html! {};
    };
    let (full, rows) = group.split_at(if *kind == Group::Failing {
        IN_FULL.min(group.len())
    } else {
        0
    });
    html! {
        h2.quiet { (kind.title()) }
        @if !full.is_empty() { ul.cards { @for (_, status) in full { (card(status)) } } }
        @if !rows.is_empty() { ul.rows.t { @for (_, status) in rows { (row(status)) } } }
    }
}

/// A failing trigger: what failed, what to do next, what is live.
fn card(status: &Status) -> Markup {
    let name = status.trigger.as_str();
    let standing = &status.standing;
    html! {
        li.card.is-bad {
            div.head {
                (Look::Bad.icon())
                h3 { a href=(trigger_path(name)) { (name) } }
                @if let Some(stuck) = &status.stuck {
                    span.when { "stuck since " (time(stuck.since)) ", at " (stuck.step.as_str()) }
                } @else if let Some(failing) = &standing.failing {
                    span.when { "failing since " (time(failing.since)) ", " (failing.times()) }
                }
            }
            @if let Some(failing) = &standing.failing {
                p.said { b.bad { (failing.failure.kind.as_str()) ":" } " " (brief(&failing.failure.message, LONGEST)) }
                @if let Some(help) = &failing.failure.help { p.do { b { "Next:" } " " (brief(help, LONGEST)) } }
            }
            @if let Some(paused) = &status.paused { p.said { b.warn { "Paused" } " since " (time(paused.since)) } }
            p.more { (deployed(status)) " · " (last(status)) }
        }
    }
}

fn row(status: &Status) -> Markup {
    let name = status.trigger.as_str();
    let look = Look::of(status);
    html! {
        li {
            (look.icon())
            a.name href=(trigger_path(name)) { (name) }
            span.s { (deployed(status)) }
            span.s { (note(status)) }
            span.s { (last(status)) }
        }
    }
}

/// The most important fact of a row beside its commit.
fn note(status: &Status) -> Markup {
    let standing = &status.standing;
    html! {
        @if let Some(failing) = &standing.failing {
            b.bad { (failing.failure.kind.as_str()) ":" } " " (brief(&failing.failure.message, LONGEST_IN_A_ROW))
        } @else if let Some(paused) = &status.paused {
            span.warn { "paused" } " since " (time(paused.since))
            @if let Some(reason) = &paused.reason { ": " (brief(reason.as_str(), LONGEST_IN_A_ROW)) }
        } @else if let Some(held) = standing.held.first() {
            span.warn { (commit(&held.commit)) " is held" }
        } @else if standing.hooks_pending {
            span.warn { "hooks are pending" }
        } @else if standing.mixed.is_some() {
            span.warn { "files are mixed" }
        } @else if status.poll.as_ref().is_some_and(|poll| poll.failing.is_some()) {
            span.warn { "polls of the remote fail" }
        } @else if let Some(since) = standing.since {
            "since " (time(since))
        }
    }
}

fn deployed(status: &Status) -> Markup {
    html! {
        @match &status.standing.commit {
            Some(id) => (commit(id)),
            None if status.stuck.is_some() => "not known",
            None => "nothing deployed yet",
        }
        @if status.standing.commit.is_some() && let Some(follows) = &status.follows { " of " (brief(follows, 40)) }
    }
}

fn last(status: &Status) -> Markup {
    let name = status.trigger.as_str();
    html! {
        @if let Some(Current { run, going_on }) = status.runs.first() {
            @let (word, since) = match going_on.began {
                Some(began) => ("running", began),
                None => ("waiting", going_on.accepted),
            };
            a.busy href=(run_path(name, run)) { (word) } " since " (time(since))
        } @else if let Some(Last { run, past }) = &status.last {
            a href=(run_path(name, run)) { (outcome(&past.done)) } " " (time(past.ended)) ", " (duration(past.done.ms))
        } @else { "no run yet" }
    }
}

fn turn(page: usize, pages: usize, find: &str) -> Markup {
    let find: String = match find {
        "" => String::new(),
        find => format!(
            "&find={}",
            percent_encoding::utf8_percent_encode(find, percent_encoding::NON_ALPHANUMERIC)
        ),
    };
    html! {
        nav.pages aria-label="Pages" {
            @if page > 1 { a rel="prev" href=(format!("/?page={}{find}", page - 1)) { "Previous" } }
            span.quiet { "Page " (page) " of " (pages) }
            @if page < pages { a rel="next" href=(format!("/?page={}{find}", page + 1)) { "Next" } }
        }
    }
}

fn refusals(all: &[Delivered]) -> Markup {
    let undone: Vec<&Delivered> = all
        .iter()
        .filter(|delivered| arrivals::is_undone(delivered))
        .collect();
    let shown = &undone[..REFUSED.min(undone.len())];
    html! {
        @if !undone.is_empty() {
            h2.quiet { "Refused deliveries" @if shown.len() < undone.len() { ": the latest of " (undone.len()) } }
            (arrivals::list(shown, true))
        }
    }
}
