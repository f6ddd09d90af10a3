//! gitoxide's progress becomes events, a few a second.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gix::progress::{Count, Id, MessageLevel, NestedProgress, Step, StepShared, Unit};

use crate::base::{
    mutex,
    report::{Phase, Report, Reporter, Unit as Counted},
};

/// At most one event of a phase in this time.
const PERIOD: Duration = Duration::from_millis(100);

/// One task of gitoxide's; its children are tasks of their own.
#[derive(Clone)]
pub(super) struct Progress {
    report: Reporter,
    name: Option<String>,
    shown: Option<(Phase, Counted)>,
    max: Option<Step>,
    step: StepShared,
    last: Arc<Mutex<Option<Instant>>>,
    fatal: Arc<Mutex<Option<String>>>,
}

impl Progress {
    pub(super) fn new(report: &Reporter) -> Self {
        Self {
            report: report.clone(),
            name: None,
            shown: None,
            max: None,
            step: Arc::new(AtomicUsize::new(0)),
            last: Arc::default(),
            fatal: Arc::default(),
        }
    }

    /// Where the reason is put for which the remote gives up in the middle.
    pub(super) fn fatal(&self) -> Arc<Mutex<Option<String>>> {
        self.fatal.clone()
    }

    fn child(&self, name: String) -> Self {
        let shown = match name.as_str() {
            "remote" => Some((Phase::Remote, Counted::Steps)),
            _ => None,
        };
        Self {
            shown,
            name: Some(name),
            fatal: self.fatal.clone(),
            ..Self::new(&self.report)
        }
    }

    fn changed(&self) {
        let Some((phase, unit)) = self.shown else { return };
        let done = self.step.load(Ordering::Relaxed) as u64;
        let total = self.max.map(|max| max as u64);
        {
            let mut last = mutex::lock(&self.last);
            let complete = total == Some(done);
            if !complete && last.is_some_and(|last| last.elapsed() < PERIOD) {
                return;
            }
            *last = Some(Instant::now());
        }
        self.report.emit(Report::Progress {
            phase,
            done,
            total,
            unit,
        });
    }
}

impl Count for Progress {
    fn set(&self, step: Step) {
        self.step.store(step, Ordering::Relaxed);
        self.changed();
    }

    fn step(&self) -> Step {
        self.step.load(Ordering::Relaxed)
    }

    fn inc_by(&self, step: Step) {
        self.step.fetch_add(step, Ordering::Relaxed);
        self.changed();
    }

    fn counter(&self) -> StepShared {
        self.step.clone()
    }
}

impl gix::Progress for Progress {
    fn init(&mut self, max: Option<Step>, _unit: Option<Unit>) {
        self.max = max;
        self.step.store(0, Ordering::Relaxed);
    }

    fn max(&self) -> Option<Step> {
        self.max
    }

    fn set_max(&mut self, max: Option<Step>) -> Option<Step> {
        std::mem::replace(&mut self.max, max)
    }

    /// A remote's line that is no progress arrives here, behind the name of the task.
    fn set_name(&mut self, name: String) {
        if matches!(self.shown, Some((Phase::Remote, _)))
            && let Some(line) = name.split_once(": ").map(|(_, line)| line.trim())
            && !line.is_empty()
            && !is_progress(line)
            && self.name.as_deref() != Some(&name)
        {
            self.report.emit(Report::Remote {
                line: crate::base::fault::one_line(line),
            });
        }
        self.name = Some(name);
    }

    fn name(&self) -> Option<String> {
        self.name.clone()
    }

    fn id(&self) -> Id {
        gix::progress::UNKNOWN
    }

    /// What the remote says on the band of fatal errors; gitoxide goes on, and fails for want of data. The rest is
    /// gitoxide talking to itself.
    fn message(&self, level: MessageLevel, message: String) {
        if level == MessageLevel::Failure && matches!(self.shown, Some((Phase::Remote, _))) {
            let line = crate::base::fault::one_line(message.trim());
            *mutex::lock(&self.fatal) = Some(line);
        }
    }
}

impl NestedProgress for Progress {
    type SubProgress = Self;

    fn add_child(&mut self, name: impl Into<String>) -> Self {
        self.child(name.into())
    }

    fn add_child_with_id(&mut self, name: impl Into<String>, _id: Id) -> Self {
        self.child(name.into())
    }
}

/// Whether `line` is one of git's own counters, which arrive as counters too, or a piece of one: git sends
/// them in packets that end anywhere, such as `jects` and `00% (2/2), done. Total 2 (delta 0)`.
fn is_progress(line: &str) -> bool {
    const WORDS: &str =
        "remote Enumerating Counting Compressing objects done Total delta reused pack-reused from";
    line.split(|c: char| !c.is_alphabetic() && c != '-')
        .all(|piece| WORDS.split(' ').any(|word| word.contains(piece)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_counters_are_no_messages() {
        let counters = "Enumerating objects: 5, done.\rCounting objects: 100% (5/5), done.\r\
                        Total 5 (delta 1), reused 0 (delta 0), pack-reused 0 (from 0)";
        for start in 0..counters.len() {
            for end in start..counters.len() {
                assert!(is_progress(&counters[start..end]), "{}", &counters[start..end]);
            }
        }
        for message in [
            "Welcome to the forge",
            "access denied",
            "error: 5 objects are missing",
        ] {
            assert!(!is_progress(message), "{message}");
        }
    }
}
