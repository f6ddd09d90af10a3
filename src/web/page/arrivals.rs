//! Deliveries to webhooks, as the pages show them.

use std::time::UNIX_EPOCH;

use maud::{Markup, html};

use super::words::{Look, plain, run_path, time, trigger_path};
use crate::{
    base::name::RunId,
    web::deliveries::{Delivered, Outcome},
};

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

impl From<Delivered> for Arrival {
    fn from(delivered: Delivered) -> Self {
        let at = delivered.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let times = match delivered.times {
            1 => String::new(),
            times => format!(" ({times} times)"),
        };
        Self {
            at: at.as_secs(),
            hook: delivered.path,
            trigger: delivered.trigger.to_string(),
            came: match delivered.result {
                Outcome::Accepted(run) | Outcome::Repeated(run) => Came::Run(run),
                Outcome::Ignored(why) => Came::Nothing(why),
                Outcome::Unavailable { why, .. } => Came::Kept(why),
                Outcome::Refused { why, .. } => Came::Refused(format!("{why}{times}")),
            },
        }
    }
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
