//! Pausing a trigger, and what is said of one that is paused.

use maud::{Markup, html};

use super::{
    button::{May, act},
    frame::token,
    words::{plain, time, trigger_path},
};
use crate::{
    base::event::{Paused, Status},
    web::session::Session,
};

/// The longest reason that can be typed, in characters: who gave it comes behind, and both are one note.
const MAX_REASON: usize = 150;

/// The form that pauses the trigger `name`.
pub(super) fn form(name: &str, session: &Session) -> Markup {
    html! {
        details {
            summary { "Pause" }
            form method="post" action={ (trigger_path(name)) "/pause" } {
                (token(session))
                label for="reason" { "Why" }
                input #reason type="text" name="reason" maxlength=(MAX_REASON) placeholder="until the holiday is over" autocomplete="off";
                button { "Pause" }
            }
        }
    }
}

/// The peer that paused it, since when, why, and what is to be done once it is resumed.
pub(super) fn card(status: &Status, paused: &Paused, may: May, session: &Session) -> Markup {
    let name = status.trigger.as_str();
    html! {
        section.card.is-warn {
            h2 { "Paused since " (time(paused.since)) }
            p.said {
                "By " (plain(&paused.peer))
                @if let Some(reason) = &paused.reason { ": “" (plain(reason.as_str())) "”" }
                ". Until it is resumed, nothing is deployed: triggers and deliveries are refused, and its remote is not asked."
            }
            @if let Some(since) = paused.refused {
                p.do { b { "Next:" } " triggers were refused, the first of them " (time(since)) ": deploy once it is resumed" }
            }
            @if may.pause {
                div.acts {
                    (act(name, "resume", session, html! { button { "Resume" } }))
                    @if paused.refused.is_some() && may.deploy {
                        (act(name, "resume", session, html! {
                            input type="hidden" name="deploy" value="yes";
                            button { "Resume and deploy" }
                        }))
                    }
                }
            }
        }
    }
}
