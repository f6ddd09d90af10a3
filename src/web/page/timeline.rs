//! The time of a run by phase, as a bar.

use maud::{Markup, html};

use super::words::duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Waiting,
    Fetch,
    Files,
    Build,
    Hooks,
    Health,
    /// The whole run, where its phases are not known.
    All,
}

impl Part {
    const NAMED: [Self; 6] = [
        Self::Waiting,
        Self::Fetch,
        Self::Files,
        Self::Build,
        Self::Hooks,
        Self::Health,
    ];

    fn class(self) -> &'static str {
        match self {
            Self::Waiting => "w",
            Self::Fetch => "f",
            Self::Files => "c",
            Self::Build => "b",
            Self::Hooks => "h",
            Self::Health => "g",
            Self::All => "x",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Fetch => "fetch",
            Self::Files => "files",
            Self::Build => "build",
            Self::Hooks => "hooks",
            Self::Health => "health",
            Self::All => "run",
        }
    }
}

/// The parts in their order, with milliseconds.
pub(super) type Parts = Vec<(Part, u64)>;

pub(super) fn total(parts: &Parts) -> u64 {
    parts.iter().map(|(_, ms)| ms).sum()
}

/// A bar of which `whole` milliseconds are the full width.
pub(super) fn bar(parts: &Parts, whole: u64, class: &str) -> Markup {
    let share = |ms: u64| ms as f64 * 100.0 / whole.max(1) as f64;
    let mut from = 0;
    let placed: Vec<(Part, u64, u64)> = parts
        .iter()
        .map(|(part, ms)| {
            let at = from;
            from += ms;
            (*part, at, *ms)
        })
        .collect();
    html! {
        svg class=(class) viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=(words(parts)) {
            @for (part, at, ms) in placed {
                // A part that took any time stays visible.
                rect class=(part.class()) x=(format!("{:.2}", share(at))) width=(format!("{:.2}", share(ms).max(0.4))) height="8" {}
            }
        }
    }
}

fn words(parts: &Parts) -> String {
    let words: Vec<String> = parts
        .iter()
        .map(|(part, ms)| format!("{} {}", part.word(), duration(*ms)))
        .collect();
    words.join(", ")
}

/// The key to the colours of these bars.
pub(super) fn key(bars: &[Parts]) -> Markup {
    let has = |part: &Part| bars.iter().flatten().any(|(of, _)| of == part);
    html! { p.key.more aria-hidden="true" { @for part in Part::NAMED.iter().filter(|part| has(part)) { span { (patch(*part)) (part.word()) } } } }
}

/// The key to the colours, with the time of each part.
pub(super) fn legend(parts: &Parts) -> Markup {
    html! {
        p.key { @for (part, ms) in parts { span { (patch(*part)) (part.word()) " " b { (duration(*ms)) } } } }
    }
}

fn patch(part: Part) -> Markup {
    html! { svg viewBox="0 0 8 8" aria-hidden="true" { rect class=(part.class()) width="8" height="8" {} } }
}
