//! Which runs are remembered: the newest. Those that found nothing new count apart, so that a forge which triggers at each
//! push to any branch does not push the run out that deployed something yesterday.

use super::text::EndedRun;
use crate::base::event::{Event, Outcome, Standing};

/// How many runs of a trigger are remembered, without those that found nothing new.
pub const KEPT: usize = 50;
/// How many of a trigger's runs that found nothing new are remembered: enough to see that triggers come, how often and from
/// whom. More of them would tell the same.
pub const KEPT_NOTHING_NEW: usize = 10;

/// The places that are left for the runs of a trigger, from the newest to the oldest.
pub(super) struct Places {
    nothing_new: usize,
    others: usize,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            nothing_new: KEPT_NOTHING_NEW,
            others: KEPT,
        }
    }

    /// Give the next run one, if there is one.
    pub(super) fn take(&mut self, nothing_new: bool) -> bool {
        let left = if nothing_new {
            &mut self.nothing_new
        } else {
            &mut self.others
        };
        let Some(fewer) = left.checked_sub(1) else {
            return false;
        };
        *left = fewer;
        true
    }
}

/// Whether a run found nothing new, went well as the one `before` it did, and has nothing to tell.
pub(super) fn found_nothing_new(ended: &EndedRun<'_>, before: &Standing) -> bool {
    let past = &ended.last.past;
    past.task.is_update()
        && past.done.outcome == Outcome::UpToDate
        && past.done.changed == 0
        // The first success after failures tells until when these went on.
        && before.failing.is_none()
        // What is lost may have told something.
        && ended.lost == 0
        && ended.events.iter().all(is_usual)
}

/// Whether such an event tells nothing of its run.
fn is_usual(event: &Event) -> bool {
    matches!(
        event,
        Event::Queued { .. }
            | Event::Started { .. }
            | Event::Waiting { .. }
            | Event::Progress { .. }
            // Some hosts greet each client.
            | Event::Remote { .. }
            | Event::Fetched { .. }
            | Event::Updated { .. }
            | Event::Done(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        event::{Done, Last, Past, Task},
        fault::{Failure, Kind},
        name::RunId,
    };

    fn last(task: Task, done: Done) -> Last {
        Last {
            run: RunId::new(),
            past: Past {
                task,
                peer: "uid=33 pid=7".into(),
                notes: Vec::new(),
                accepted: 1,
                began: 2,
                ended: 3,
                phases_ms: Default::default(),
                done,
            },
        }
    }

    fn is_nothing_new(task: Task, done: &Done, more: &[Event], lost: u64, before: &Standing) -> bool {
        let fetched = Event::Fetched {
            old: done.old.clone(),
            new: "5d6e7f8".into(),
            rewound: false,
            dropped: Default::default(),
        };
        let mut events = vec![fetched];
        events.extend_from_slice(more);
        events.push(Event::Done(done.clone()));
        let ended = EndedRun {
            last: last(task, done.clone()),
            events: &events,
            lost,
            took: None,
        };
        found_nothing_new(&ended, before)
    }

    #[test]
    fn what_found_nothing_new_and_what_did_something() {
        let commit = || Some("5d6e7f8".into());
        let up_to_date = Done {
            old: commit(),
            new: commit(),
            ..Done::answered("site", Outcome::UpToDate)
        };
        let undone = Done {
            changed: 1,
            ..up_to_date.clone()
        };
        let updated = Done {
            outcome: Outcome::Updated,
            ..up_to_date.clone()
        };
        let failed = Done::failed("site", Failure::new(Kind::Remote, "it is gone", None));
        let well = Standing::default();
        let failing = well.after(&last(Task::Update, failed.clone()));
        let greeting = Event::Remote { line: "hello".into() };
        let warning = Event::Warning {
            message: "look".into(),
        };
        let hook = Event::HookStarted {
            hook: "make".into(),
            nth: None,
        };
        let back = Task::Rollback { to: None };
        for (task, done, more, lost, before, expected) in [
            (Task::Update, &up_to_date, None, 0, &well, true),
            (Task::Update, &up_to_date, Some(greeting), 0, &well, true),
            (Task::Update, &up_to_date, Some(warning), 0, &well, false),
            (Task::Update, &up_to_date, Some(hook), 0, &well, false),
            (Task::Update, &up_to_date, None, 1, &well, false),
            (Task::Update, &up_to_date, None, 0, &failing, false),
            (Task::Update, &undone, None, 0, &well, false),
            (Task::Update, &updated, None, 0, &well, false),
            (Task::Update, &failed, None, 0, &well, false),
            (Task::Hooks, &up_to_date, None, 0, &well, false),
            (Task::Retry, &up_to_date, None, 0, &well, false),
            (back, &up_to_date, None, 0, &well, false),
        ] {
            let more = more.as_slice();
            assert_eq!(
                is_nothing_new(task.clone(), done, more, lost, before),
                expected,
                "{task:?} {done:?} {more:?} {lost} {before:?}"
            );
        }
    }

    #[test]
    fn each_kind_has_places_of_its_own() {
        let mut places = Places::new();
        let mut given = |nothing_new| (0..100).filter(|_| places.take(nothing_new)).count();
        assert_eq!([given(true), given(false)], [KEPT_NOTHING_NEW, KEPT]);
        assert_eq!([given(true), given(false)], [0, 0]);
    }
}
