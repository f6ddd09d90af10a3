//! The notes of all clients that share a run.

use std::sync::{Arc, Mutex};

use crate::base::{mutex, name::Note};

/// How many notes of a run are kept. If there are more, the last one gives their number.
const MOST: usize = 8;

/// The notes of one run, each only once.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Said>>);

#[derive(Debug, Clone, Default)]
struct Said {
    kept: Vec<Note>,
    more: usize,
}

impl Notes {
    pub(super) fn of(notes: impl IntoIterator<Item = Note>) -> Self {
        let all = Self::default();
        notes.into_iter().for_each(|note| all.add(note));
        all
    }

    fn add(&self, note: Note) {
        let mut said = mutex::lock(&self.0);
        if said.kept.contains(&note) {
        } else if said.kept.len() < MOST {
            said.kept.push(note);
        } else {
            said.more += 1;
        }
    }

    /// Add the notes of another run, whose clients this one serves.
    pub(super) fn join(&self, other: &Self) {
        let other = mutex::lock(&other.0).clone();
        other.kept.into_iter().for_each(|note| self.add(note));
        mutex::lock(&self.0).more += other.more;
    }

    /// The notes to show, at most [`MOST`].
    pub(super) fn shown(&self) -> Vec<Note> {
        let said = mutex::lock(&self.0);
        let mut shown = said.kept.clone();
        if said.more > 0 {
            shown.truncate(MOST - 1);
            let left = said.kept.len() - shown.len() + said.more;
            shown.extend(Note::lossy(&format!("and {left} more")));
        }
        shown
    }

    /// All notes on one line; `None` if there are none.
    pub(super) fn line(&self) -> Option<String> {
        let shown = self.shown();
        let words: Vec<_> = shown.iter().map(Note::as_str).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(numbers: std::ops::Range<usize>) -> Notes {
        Notes::of(numbers.map(|n| Note::new(&n.to_string()).unwrap()))
    }

    #[test]
    fn the_last_counts_what_is_too_much() {
        for (one, other, expected) in [
            (0..0, 0..0, None),
            (0..1, 0..1, Some("0")),
            (0..2, 1..3, Some("0; 1; 2")),
            (0..8, 0..8, Some("0; 1; 2; 3; 4; 5; 6; 7")),
            (0..8, 7..9, Some("0; 1; 2; 3; 4; 5; 6; and 2 more")),
            (0..5, 5..20, Some("0; 1; 2; 3; 4; 5; 6; and 13 more")),
        ] {
            let notes = numbered(one);
            notes.join(&numbered(other));
            assert_eq!(notes.line().as_deref(), expected);
        }
    }
}
