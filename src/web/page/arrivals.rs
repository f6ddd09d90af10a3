//! Deliveries to webhooks, as the pages show them.

use maud::{Markup, html};

use super::words::{Look, plain, run_path, time, trigger_path};
use crate::base::name::RunId;

/// A delivery.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// When, in seconds since the epoch.
    pub(super) at: u64,
    /// The webhook's path.
    pub(super) hook: String,
    /// Its trigger.
    pub(super) trigger: String,
    /// What came of it.
    pub(super) came: Came,
}

/// What came of a delivery.
#[derive(Debug, Clone)]
pub(super) enum Came {
    /// A run.
    Run(RunId),
    /// Nothing, as it should be: a ping, another branch, a repeated one.
    Nothing(String),
    /// It waits for the daemon.
    Kept(String),
    /// It was refused.
    Refused(String),
}

impl Arrival {
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.came, Came::Refused(_))
    }

    fn look(&self) -> Look {
        match self.came {
            Came::Run(_) => Look::Ok,
            Came::Nothing(_) => Look::Nothing,
            Came::Kept(_) => Look::Busy,
            Came::Refused(_) => Look::Warn,
        }
    }
}

/// A list of them, `named` with their triggers.
pub(super) fn list(arrivals: &[&Arrival], named: bool) -> Markup {
    html! {
        ul.rows.d {
            @for arrival in arrivals {
                li {
                    (arrival.look().icon())
                    span.s { (time(arrival.at)) }
                    span {
                        code { (plain(&arrival.hook)) }
                        @if named { " for " a href=(trigger_path(&arrival.trigger)) { (arrival.trigger) } }
                    }
                    span.why {
                        @match &arrival.came {
                            Came::Run(run) => { "run " a href=(run_path(&arrival.trigger, run)) { code { (run) } } },
                            Came::Nothing(why) | Came::Kept(why) => (plain(why)),
                            Came::Refused(why) => { b.warn { "refused:" } " " (plain(why)) },
                        }
                    }
                }
            }
        }
    }
}
