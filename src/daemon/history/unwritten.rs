//! Runs that cannot be written to the disk, kept in memory with a limit: the oldest ones are dropped first.

use std::collections::VecDeque;

use super::{
    places::Places,
    text::{self, Head},
};
use crate::base::name::RunId;

/// How many bytes are kept in total.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The texts of runs, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    runs: VecDeque<Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    key: String,
    run: RunId,
    nothing_new: bool,
    text: String,
}

impl Unwritten {
    pub(super) fn keep(&mut self, key: &str, run: RunId, text: String, nothing_new: bool) {
        self.bytes += text.len();
        self.runs.push_back(Kept {
            key: key.into(),
            run,
            nothing_new,
            text,
        });
        let mut places = Places::new();
        let mut of_key = (0..self.runs.len()).rev().filter(|at| self.runs[*at].key == key);
        let without = of_key.find(|at| !places.take(self.runs[*at].nothing_new));
        if let Some(kept) = without.and_then(|at| self.runs.remove(at)) {
            self.bytes -= kept.text.len();
        }
        while self.bytes > MAX_BYTES
            && let Some(kept) = self.runs.pop_front()
        {
            self.bytes -= kept.text.len();
        }
    }

    /// The first lines of the runs of `key`, the newest first, and whether each run found nothing new.
    pub(super) fn heads(&self, key: &str) -> Vec<(bool, Head)> {
        let runs = self.runs.iter().rev().filter(|kept| kept.key == key);
        runs.filter_map(|kept| Some((kept.nothing_new, text::head(&kept.text)?)))
            .collect()
    }

    /// The ids of the runs of `key`.
    pub(super) fn ids(&self, key: &str) -> Vec<RunId> {
        let runs = self.runs.iter().filter(|kept| kept.key == key);
        runs.map(|kept| kept.run.clone()).collect()
    }

    /// The text of `run`.
    pub(super) fn find(&self, key: &str, run: &RunId) -> Option<String> {
        let found = self.runs.iter().find(|kept| kept.key == key && kept.run == *run);
        found.map(|kept| kept.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::places::{KEPT, KEPT_NOTHING_NEW},
        *,
    };

    #[test]
    fn bounded_per_trigger_and_in_all() {
        let mut unwritten = Unwritten::default();
        let first = RunId::new();
        unwritten.keep("quiet", first.clone(), "q".into(), false);
        let runs: Vec<RunId> = (0..60).map(|_| RunId::new()).collect();
        for run in &runs {
            unwritten.keep("busy", run.clone(), "b".into(), false);
        }
        assert_eq!(unwritten.runs.len(), KEPT + 1);
        assert_eq!(unwritten.find("busy", &runs[9]), None);
        assert_eq!(unwritten.find("busy", &runs[10]).as_deref(), Some("b"));
        assert_eq!(unwritten.find("quiet", &runs[10]), None, "each sees its own");
        assert_eq!(unwritten.find("quiet", &first).as_deref(), Some("q"));
        for _ in 0..60 {
            unwritten.keep("busy", RunId::new(), "n".into(), true);
        }
        assert_eq!(unwritten.runs.len(), KEPT + KEPT_NOTHING_NEW + 1);
        assert_eq!(unwritten.find("busy", &runs[10]).as_deref(), Some("b"));
        for n in 0..20 {
            unwritten.keep(&n.to_string(), RunId::new(), "x".repeat(MAX_BYTES / 10), false);
        }
        assert!(unwritten.bytes <= MAX_BYTES);
        let bytes: usize = unwritten.runs.iter().map(|kept| kept.text.len()).sum();
        assert_eq!(unwritten.bytes, bytes);
    }
}
