//! What a client says in its own words.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// A line of a client's own words: who wants a run and because of what, or why a trigger is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Note(String);

impl Note {
    pub const MAX_CHARS: usize = 200;

    /// Check `text`. White space around it is no part of it.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        match text {
            "" => Err(Invalid::new("it is empty")),
            text if text.contains(is_unprintable) => Err(Invalid::new(
                "it contains control characters; one line of text is allowed",
            )),
            text if text.chars().count() > Self::MAX_CHARS => Err(Invalid::new(format!(
                "it is longer than {} characters",
                Self::MAX_CHARS
            ))),
            text => Ok(Self(text.into())),
        }
    }

    /// `text` as far as a note can hold it: what it cannot becomes spaces, and what is too much is left out. `None`: it is
    /// empty.
    pub fn lossy(text: &str) -> Option<Self> {
        let plain: String = text
            .chars()
            .map(|c| if is_unprintable(c) { ' ' } else { c })
            .collect();
        let short: String = plain.trim().chars().take(Self::MAX_CHARS).collect();
        Self::new(&short).ok()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a terminal obeys, and the marks that turn the direction of what follows (UAX #9).
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Note> for String {
    fn from(note: Note) -> Self {
        note.0
    }
}

impl TryFrom<String> for Note {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::new(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_text() {
        let long = "ä".repeat(Note::MAX_CHARS);
        for (text, note) in [
            ("by alice", "by alice"),
            (" by alice ", "by alice"),
            ("ß \u{1f600}", "ß \u{1f600}"),
            (long.as_str(), long.as_str()),
        ] {
            assert_eq!(Note::new(text).unwrap().as_str(), note);
            assert_eq!(Note::lossy(text).unwrap().as_str(), note);
        }
        let too_long = long.clone() + "x";
        for (text, lossy) in [
            ("", None),
            (" \t ", None),
            ("a\nb", Some("a b")),
            ("a\u{1b}[2J", Some("a [2J")),
            ("a\u{202e}b", Some("a b")),
            (&too_long, Some(long.as_str())),
        ] {
            assert!(Note::new(text).is_err(), "{text:?}");
            assert_eq!(Note::lossy(text).as_ref().map(Note::as_str), lossy, "{text:?}");
            let json = serde_json::to_string(text).unwrap();
            assert!(serde_json::from_str::<Note>(&json).is_err(), "{text:?}");
        }
    }
}
