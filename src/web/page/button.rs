//! Buttons.

use maud::{Markup, html};

use super::{frame::token, words::trigger_path};
use crate::web::session::Session;

/// What the daemon permits the user of this process, for this trigger.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct May {
    pub(super) deploy: bool,
    pub(super) rollback: bool,
    pub(super) retry: bool,
    pub(super) pause: bool,
}

/// A form with the `button` that asks for `what`.
pub(super) fn act(name: &str, what: &str, session: &Session, button: Markup) -> Markup {
    html! { form method="post" action={ (trigger_path(name)) "/" (what) } { (token(session)) (button) } }
}
