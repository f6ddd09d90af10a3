//! The answers to the senders of deliveries.

use hyper::{
    StatusCode,
    header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

use crate::{
    base::{fault::Kind, name::RunId},
    web::{
        answer::{self, Answer},
        config::{From, Webhook},
        deliveries::Outcome,
    },
};

/// Retry-After in seconds, while the daemon is down; a hint for forges that try again.
const RETRY: HeaderValue = HeaderValue::from_static("10");

/// The answer for `outcome`.
pub(super) fn of(webhook: &Webhook, outcome: &Outcome) -> Answer {
    let trigger = webhook.trigger.as_str();
    match outcome {
        Outcome::Accepted(run) => answer::json(StatusCode::ACCEPTED, &Said::run(trigger, run, false)),
        Outcome::Repeated(run) => answer::json(StatusCode::OK, &Said::run(trigger, run, true)),
        Outcome::Ignored(why) => answer::json(
            StatusCode::OK,
            &Said {
                ignored: Some(why),
                ..Said::of(trigger)
            },
        ),
        Outcome::OtherRefs(refs) => answer::json(
            StatusCode::OK,
            &Said {
                ignored: Some("a push to other refs"),
                refs,
                ..Said::of(trigger)
            },
        ),
        // Answered as a success, since forges disable a webhook that fails for days. The reason of the pause is not for senders.
        Outcome::Paused(_) => answer::json(
            StatusCode::OK,
            &Said {
                paused: true,
                ..Said::of(trigger)
            },
        ),
        Outcome::Refused { status: 401, .. } => {
            let kind = Kind::NotAllowed.as_str();
            let answer = answer::error_json(StatusCode::UNAUTHORIZED, kind, "not proven", None);
            match &webhook.from {
                From::Bearer { .. } => challenge(answer, "Bearer"),
                From::Basic { .. } => challenge(answer, "Basic realm=\"gitsocket\""),
                _ => answer,
            }
        }
        Outcome::Refused { status: 503, .. } => {
            // Without the reason, which may name a file.
            unavailable(
                Kind::Busy,
                "not ready for this delivery; the log of `gitsocket web` says why",
            )
        }
        Outcome::Refused { status, why } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST);
            answer::error_json(status, Kind::BadRequest.as_str(), why, None)
        }
        Outcome::Unavailable { kind, why } => unavailable(*kind, why),
    }
}

fn unavailable(kind: Kind, why: &str) -> Answer {
    let answer = answer::error_json(StatusCode::SERVICE_UNAVAILABLE, kind.as_str(), why, None);
    answer::with(answer, RETRY_AFTER, RETRY)
}

/// RFC 9110, section 15.5.2.
fn challenge(answer: Answer, scheme: &'static str) -> Answer {
    answer::with(answer, WWW_AUTHENTICATE, HeaderValue::from_static(scheme))
}

/// The answer to an authenticated sender.
#[derive(Serialize)]
struct Said<'a> {
    trigger: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ignored: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    refs: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    paused: bool,
}

impl<'a> Said<'a> {
    fn of(trigger: &'a str) -> Self {
        Self {
            trigger,
            run: None,
            repeated: false,
            ignored: None,
            refs: &[],
            paused: false,
        }
    }

    fn run(trigger: &'a str, run: &'a RunId, repeated: bool) -> Self {
        Self {
            run: Some(run.as_str()),
            repeated,
            ..Self::of(trigger)
        }
    }
}
