//! The form that pauses a trigger, and the card of a paused one.

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

/// The longest reason that can be typed, in characters: the user's name is added, and both have to fit into one note.
const MAX_REASON: usize = 150;

/// The form that pauses the trigger `name`.
pub(super) fn form(name: &str, session: &Session) -> Markup {
    html! {
        details {
            summary { "Pause" }
            form method="post" action={ (trigger_path(name)) "/pause" } {
                (token(session))
                label for="reason" { "Why" }
                input #reason type="text" name="reason" maxlength=(MAX_REASON) placeholder="database migration" autocomplete="off";
                button { "Pause" }
            }
        }
    }
}

pub(super) fn card(status: &Status, paused: &Paused, may: May, session: &Session) -> Markup {
    let name = status.trigger.as_str();
    html! {
        section.card.is-warn {
            h2 { "Paused since " (time(paused.since)) }
            p.said {
                "By " (plain(&paused.peer))
                @if let Some(reason) = &paused.reason { ": “" (plain(reason.as_str())) "”" }
                ". Until it is resumed, nothing is deployed: triggers and deliveries are refused, and its remote is not polled."
            }
            @if let Some(since) = paused.refused {
                p.do { b { "Next:" } " resume and deploy: triggers were refused, the first one " (time(since)) }
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
