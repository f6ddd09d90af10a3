//! Pages that say why a request was not answered.

use hyper::StatusCode;
use maud::{Markup, html};

use super::{
    frame::Frame,
    shown,
    words::{Look, failure},
};
use crate::{
    base::fault::{Failure, Kind},
    web::{answer::Answer, session::Session},
};

pub(super) fn answer(status: StatusCode, page: &Markup) -> Answer {
    shown(status, page.clone())
}

fn notice(title: &str, what: &Markup, next: &Markup) -> Markup {
    let content = html! {
        h1 { (title) }
        section.card.is-warn {
            p.said { (what) }
            p.do { b { "Next:" } " " (next) }
        }
    };
    Frame {
        title,
        look: Look::Warn,
        session: None,
        renews: false,
    }
    .around(&content)
}

pub(super) fn nothing_here() -> Markup {
    let (what, next) = (
        html! { "There is no such page." },
        html! { "begin with " a href="/" { "all triggers" } },
    );
    notice("Nothing here", &what, &next)
}

pub(super) fn another_name() -> Markup {
    let what = html! { "This page has no users, so it answers only requests for names of its own machine: " code { "localhost" } ", " code { "127.0.0.1" } "." };
    let next = html! { "open it by one of these names; or give it users: " code { "page: (users: {…})" } };
    notice("Wrong host name", &what, &next)
}

pub(super) fn passed_on() -> Markup {
    let what = html! { "This page has no users, and this request came through a proxy, which may be open to the internet." };
    let next = html! { "give the page users: " code { "page: (users: {…})" } "; or open it without a proxy" };
    notice("Behind a proxy", &what, &next)
}

pub(super) fn foreign_form() -> Markup {
    let what = html! { "This form comes from another site, or from an earlier sign-in. Nothing was done." };
    let next = html! { "go back to " a href="/" { "all triggers" } ", and press the button there. A proxy in front of this page must pass on Host unchanged" };
    notice("Not done", &what, &next)
}

pub(super) fn no_form() -> Markup {
    let (what, next) = (
        html! { "The request is not a form of these pages." },
        html! { "begin with " a href="/" { "all triggers" } },
    );
    notice("Not done", &what, &next)
}

/// The daemon refused, or did not answer; the message is the daemon's.
pub(super) fn failed(why: &Failure, session: &Session, is_read: bool) -> Markup {
    let title = match why.kind {
        Kind::UnknownTrigger => "No such trigger",
        Kind::NotAllowed => "Not permitted",
        Kind::NoDaemon | Kind::Timeout | Kind::Unreachable => "The daemon does not answer",
        Kind::Busy => "The daemon is busy",
        _ => "Not done",
    };
    let content = html! {
        nav.path aria-label="Where you are" { a href="/" { "All triggers" } }
        h1 { (title) }
        section.card.is-bad { (failure(why)) }
    };
    // Reloaded, since the daemon may be back by then.
    let renews = is_read && matches!(why.kind, Kind::NoDaemon | Kind::Timeout | Kind::Unreachable);
    Frame {
        title,
        look: Look::Bad,
        session: Some(session),
        renews,
    }
    .around(&content)
}
