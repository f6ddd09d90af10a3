//! The small parts of all pages: icons, times, links, messages. All text that others have written goes through here.
//!
//! maud escapes text. In addition, control characters and marks of text direction are replaced, and each message is isolated
//! (`bdi`), so that it cannot change the order of the text around it.

use std::time::Duration;

use maud::{Markup, html};

use crate::base::{
    event::{self, Done, Outcome, State, Status, short},
    fault::{Failure, one_line},
    name::{Note, RunId},
};

/// A state as an icon: a shape and a colour, never a colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Ok,
    Bad,
    Busy,
    Warn,
    Paused,
    Nothing,
}

impl Look {
    /// Its CSS class, and the name of its symbol.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Bad => "bad",
            Self::Busy => "busy",
            Self::Warn => "warn",
            Self::Paused => "paused",
            Self::Nothing => "none",
        }
    }

    pub(super) fn icon(self) -> Markup {
        html! { svg class={ "i " (self.name()) } aria-hidden="true" { use href={ "#" (self.name()) } {} } }
    }

    /// The icon with a word.
    pub(super) fn badge(self, word: &str) -> Markup {
        html! { span class=(self.name()) { (self.icon()) " " (word) } }
    }

    pub(super) fn of(status: &Status) -> Self {
        let standing = &status.standing;
        let is_unasked = status.poll.as_ref().is_some_and(|poll| poll.failing.is_some());
        let is_odd =
            standing.hooks_pending || standing.mixed.is_some() || !standing.held.is_empty() || is_unasked;
        match status.state {
            State::Stuck => Self::Bad,
            _ if standing.failing.is_some() => Self::Bad,
            State::Running | State::RunningThenQueued | State::Waiting => Self::Busy,
            State::Idle if status.paused.is_some() => Self::Paused,
            State::Idle if is_odd => Self::Warn,
            State::Idle if status.is_never_deployed() => Self::Nothing,
            State::Idle => Self::Ok,
        }
    }

    pub(super) fn of_run(done: &Done) -> Self {
        match done.outcome {
            _ if done.failure.is_some() => Self::Bad,
            Outcome::Failed | Outcome::RolledBack => Self::Bad,
            _ => Self::Ok,
        }
    }
}

/// A text that others have written, on one line and isolated.
pub(super) fn plain(text: &str) -> Markup {
    html! { bdi { (one_line(text)) } }
}

/// The same, no longer than `most` characters.
pub(super) fn brief(text: &str, most: usize) -> Markup {
    let text = one_line(text);
    match text.char_indices().nth(most) {
        Some((end, _)) => html! { bdi { (text[..end].trim_end()) "…" } },
        None => html! { bdi { (text) } },
    }
}

/// What clients have said of a run, in quotation marks, since the daemon knows only which peer asked for it.
pub(super) fn notes(notes: &[Note]) -> Markup {
    html! {
        @for (at, note) in notes.iter().enumerate() {
            @if at > 0 { ", " }
            "“" (plain(note.as_str())) "”"
        }
    }
}

/// A time. The script shows it in the visitor's time zone; without the script, it is UTC.
pub(super) fn time(secs: u64) -> Markup {
    html! { time datetime=(event::time(secs)) { (minute(secs)) } }
}

fn minute(secs: u64) -> String {
    let iso = event::time(secs);
    iso.get(..16).unwrap_or(&iso).replace('T', " ") + " UTC"
}

/// A time in the future.
pub(super) fn time_ahead(secs: u64) -> Markup {
    html! { time.ahead datetime=(event::time(secs)) { (minute(secs)) } }
}

pub(super) fn duration(ms: u64) -> String {
    event::duration(Duration::from_millis(ms))
}

pub(super) fn commit(id: &str) -> Markup {
    html! { code { (short(&one_line(id))) } }
}

/// How a run ended, in the words of `gitsocket client`.
pub(super) fn outcome(done: &Done) -> &'static str {
    match done.outcome {
        Outcome::UpToDate => "up to date",
        Outcome::Updated => "updated",
        Outcome::Failed => "failed",
        Outcome::RolledBack => "rolled back",
        Outcome::Accepted => "accepted",
        Outcome::Answered => "answered",
    }
}

/// What failed and why, and what to do next, in the words of `gitsocket client`.
pub(super) fn failure(failure: &Failure) -> Markup {
    html! {
        p.said { b.bad { (failure.kind.as_str()) ":" } " " (plain(&failure.message)) }
        @if let Some(help) = &failure.help {
            p.do { b { "Next:" } " " (plain(help)) }
        }
    }
}

/// A count with its noun: `one` for 1, else `more`.
pub(super) fn many(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// The path of a trigger's page. The name needs no escape: it consists of letters, digits, `.`, `_`, `-`.
pub(super) fn trigger_path(name: &str) -> String {
    format!("/triggers/{name}")
}

/// The path of a run's page.
pub(super) fn run_path(name: &str, run: &RunId) -> String {
    format!("/triggers/{name}/runs/{run}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_name_stays_text() {
        for (text, expected) in [
            ("<script>", "<bdi>&lt;script&gt;</bdi>"),
            ("a&b\"c", "<bdi>a&amp;b&quot;c</bdi>"),
            ("x\u{202e}y\u{1b}[31m", "<bdi>x\u{fffd}y\u{fffd}[31m</bdi>"),
            ("two\nlines", "<bdi>two lines</bdi>"),
        ] {
            assert_eq!(plain(text).into_string(), expected);
        }
        assert_eq!(brief("äöü ß", 3).into_string(), "<bdi>äöü…</bdi>");
        assert_eq!(brief("äöü", 3).into_string(), "<bdi>äöü</bdi>");
    }

    #[test]
    fn times_are_said_twice() {
        let expected = r#"<time datetime="2025-11-25T02:10:31Z">2025-11-25 02:10 UTC</time>"#;
        assert_eq!(time(1_764_036_631).into_string(), expected);
    }
}
