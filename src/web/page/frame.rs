//! The parts that all pages have: head, header and footer.

use maud::{DOCTYPE, Markup, html};

use super::{assets, words::Look};
use crate::web::session::Session;

pub(super) struct Frame<'a> {
    /// Its title; the most important word comes first, since a browser's tab shows a few letters only.
    pub(super) title: &'a str,
    /// The state that the icon in the tab shows.
    pub(super) look: Look,
    /// The visitor's session; nothing before the sign-in.
    pub(super) session: Option<&'a Session>,
    /// Whether the script reloads it every few seconds while it is visible.
    pub(super) renews: bool,
}

impl Frame<'_> {
    pub(super) fn around(&self, content: &Markup) -> Markup {
        let icon = match self.look {
            Look::Bad => assets::path(assets::FAILING),
            _ => assets::path(assets::ICON),
        };
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex";
                    title { (self.title) " · gitsocket" }
                    link rel="stylesheet" href=(assets::path(assets::STYLE));
                    link rel="icon" type="image/svg+xml" href=(icon);
                    script src=(assets::path(assets::SCRIPT)) defer {}
                }
                body {
                    (symbols())
                    a.skip href="#main" { "Skip to the content" }
                    header.top { div.in { (mark()) (self.who()) } }
                    main #main.in data-renews[self.renews] { (content) }
                    footer { div.in { (self.foot()) } }
                }
            }
        }
    }

    fn who(&self) -> Markup {
        let Some(session) = self.session else {
            return html! {};
        };
        let Some(user) = &session.user else {
            return html! {};
        };
        html! {
            div.who {
                span.quiet.name { "signed in as " bdi { (user) } }
                form method="post" action="/sign-out" { (token(session)) button.small { "Sign out" } }
            }
        }
    }

    fn foot(&self) -> Markup {
        let Some(session) = self.session else {
            return html! {};
        };
        let who = match session.user {
            Some(_) => "Each user who signs in here",
            None => "Each visitor of this page",
        };
        html! {
            span #renewed {}
            (who) " has the rights of the user that " code { "gitsocket web" } " runs as: "
            code { "allow" } " and " code { "operate" } " in the daemon’s configuration decide what that user may do."
        }
    }
}

/// The field that proves that a form comes from one of our pages, in this session (CSRF).
pub(super) fn token(session: &Session) -> Markup {
    html! { input type="hidden" name="form" value=(session.form); }
}

fn mark() -> Markup {
    html! {
        a.mark href="/" {
            svg viewBox="0 0 24 24" aria-hidden="true" {
                rect x="1.5" y="1.5" width="21" height="21" rx="6" fill="none" stroke="currentColor" stroke-width="2.2" {}
                circle cx="8.2" cy="12" r="2" fill="currentColor" {}
                circle cx="15.8" cy="12" r="2" fill="currentColor" {}
            }
            "gitsocket"
        }
    }
}

/// The icons, which the page refers to by their names.
fn symbols() -> Markup {
    html! {
        svg.sprite aria-hidden="true" {
            symbol #ok viewBox="0 0 16 16" { path d="m3 8.5 3.4 3.5L13 4.6" {} }
            symbol #bad viewBox="0 0 16 16" { circle.full cx="8" cy="8" r="7.2" {} path.cut d="m5.4 5.4 5.2 5.2m0-5.2-5.2 5.2" {} }
            symbol #busy viewBox="0 0 16 16" { circle cx="8" cy="8" r="6" {} circle.full cx="8" cy="8" r="2.6" {} }
            symbol #none viewBox="0 0 16 16" { circle cx="8" cy="8" r="6" stroke-dasharray="2.2 2.5" {} }
            symbol #paused viewBox="0 0 16 16" { path d="M5.2 3v10M10.8 3v10" {} }
            symbol #warn viewBox="0 0 16 16" { path d="M8 2 14.8 14H1.2zM8 6.6v3.2M8 12v0" {} }
        }
    }
}
