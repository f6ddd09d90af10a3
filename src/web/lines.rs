//! The events of a run as lines of a page: the words of `gitsocket log`, with a CSS class for each kind.

use maud::{Markup, html};

use crate::base::{
    event::{Event, Phase, Stream, Unit},
    fault::one_line,
};

/// A line of a run's page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// A class of the stylesheet.
    pub class: &'static str,
    /// Its text.
    pub text: String,
}

/// The progress of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// In words.
    pub text: String,
    /// How much is done.
    pub done: u64,
    /// Of how much, if that is known.
    pub total: Option<u64>,
}

/// The line of `event`, if it has one.
pub fn line(event: &Event) -> Option<Shown> {
    let class = match event {
        Event::HookStarted { .. } => "hk",
        Event::HookLine {
            stream: Stream::Stdout,
            ..
        } => "ln",
        Event::HookLine {
            stream: Stream::Stderr,
            ..
        } => "er",
        Event::HookEnded { success: false, .. } => "no",
        Event::Warning { .. } | Event::Lagged { .. } | Event::RolledBack { .. } => "wa",
        Event::Health { good: false, .. } => "wa",
        Event::Done(done) if done.failure.is_some() => "no",
        Event::Done(_) => "yes",
        event if event.is_loss() => "wa",
        _ => "st",
    };
    let text = match event {
        // Without a prefix, since the class shows that it is a hook's.
        Event::HookLine { line, .. } => line.clone(),
        event => event.line()?,
    };
    Some(Shown {
        class,
        text: one_line(&text),
    })
}

/// The progress in `event`, if it has one.
pub fn progress(event: &Event) -> Option<Progress> {
    let Event::Progress {
        phase,
        done,
        total,
        unit,
    } = event
    else {
        return None;
    };
    let (doing, unit) = match (phase, unit) {
        (Phase::Remote, _) => ("the remote prepares", ""),
        (Phase::Fetch, Unit::Bytes) => ("fetching", " bytes"),
        (Phase::Fetch, _) => ("fetching", " objects"),
        (Phase::Index, _) => ("indexing", " objects"),
        (Phase::Checkout, _) => ("checking out", " files"),
    };
    let count = match total {
        Some(total) => format!("{} of {}{unit}", grouped(*done), grouped(*total)),
        None => format!("{}{unit}", grouped(*done)),
    };
    Some(Progress {
        text: format!("{doing}: {count}"),
        done: *done,
        total: *total,
    })
}

/// `1,204`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl Shown {
    /// As an item of a list.
    pub fn html(&self) -> Markup {
        html! { li class=(self.class) { (self.text) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::Nth;

    #[test]
    fn lines_are_the_words_of_the_client() {
        let hook = |stream, line: &str| Event::HookLine {
            stream,
            line: line.into(),
        };
        for (event, class, text) in [
            (hook(Stream::Stdout, "built"), "ln", "built"),
            (hook(Stream::Stderr, "a\u{1b}[1mb"), "er", "a\u{fffd}[1mb"),
            (
                Event::Warning {
                    message: "look".into(),
                },
                "wa",
                "warning: look",
            ),
            (
                Event::HookStarted {
                    hook: "make".into(),
                    nth: Some(Nth { number: 2, of: 3 }),
                },
                "hk",
                "hook 2 of 3: make",
            ),
            (Event::Lagged { lost: 3 }, "wa", "... 3 lines are lost"),
            (
                Event::Waiting {
                    on: "the lock".into(),
                },
                "st",
                "waiting for the lock",
            ),
        ] {
            assert_eq!(
                line(&event),
                Some(Shown {
                    class,
                    text: text.into()
                })
            );
        }
    }

    #[test]
    fn progress_is_said_in_full() {
        let event = |total| Event::Progress {
            phase: Phase::Fetch,
            done: 1_204,
            total,
            unit: Unit::Objects,
        };
        let text = |total| progress(&event(total)).unwrap().text;
        assert_eq!(text(Some(1_003_010)), "fetching: 1,204 of 1,003,010 objects");
        assert_eq!(text(None), "fetching: 1,204 objects");
        assert_eq!(line(&event(None)), None);
    }
}
