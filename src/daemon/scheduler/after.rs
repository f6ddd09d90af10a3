//! The end of a run: its line in the log, the history, its followers, and maintenance.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{TryLockError, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Run, Scheduler};
use crate::{
    base::{
        event::{self, Done, Event, Last, Past, Standing, Task, Took},
        fault::Kind,
        mutex,
        name::TriggerName,
    },
    daemon::{history, journal::Journal},
    deploy::run,
    git::maintenance,
};

impl Scheduler {
    /// The run has ended: remember it, free its target, then tell its followers. So a client that has seen the end of a run
    /// finds that run in the log, and if it triggers again, it gets a run that starts afterwards.
    ///
    /// Gives whether a run follows.
    pub(super) fn finish(&self, name: &TriggerName, run: &Run, done: Done) -> bool {
        log(run, &done);
        match done.kind() {
            // The run has not begun.
            Some(Kind::Paused) => {}
            Some(Kind::Held) if done.new.is_none() => self.history.note_held(&self.targets[name]),
            // If the run did not look at its target, the target may hang.
            _ => self.remember(name, run, &done, run.foregone().is_none()),
        }
        self.strike(run);
        let follows = self.queue().finished(name);
        self.timer.run_ended(name, has_asked(&run.task, &done));
        // A run that has the lock may be waiting for the job.
        self.stop.wake();
        run.journal.write(Event::Done(done));
        self.changed.notify(usize::MAX);
        follows
    }

    /// The same for a run whose target stays locked.
    pub(super) fn tell(&self, name: &TriggerName, run: &Run, done: Done) {
        log(run, &done);
        self.remember(name, run, &done, false);
        self.strike(run);
        run.journal.write(Event::Done(done));
        self.changed.notify(usize::MAX);
    }

    /// How long the trigger has been failing since `since`; `None` if the clock was set back.
    pub(super) fn failing_for(&self, name: &TriggerName, since: u64) -> Option<Duration> {
        mutex::lock(&self.ages).of(name, since, event::now(), Instant::now())
    }

    /// Record the run in the history. `looks` says whether the target may be looked at; a stuck one would hang this thread, too.
    fn remember(&self, name: &TriggerName, run: &Run, done: &Done, looks: bool) {
        let (lost, mut events) = run.journal.kept();
        events.push(Event::Done(done.clone()));
        let ended = event::now();
        let took = run.watch.get().map(|watch| Took {
            steps: watch.spent(),
            fetched_bytes: run.received.load(Ordering::Relaxed),
        });
        let past = Past {
            task: run.task.clone(),
            peer: run.peer.to_string(),
            notes: run.notes.shown(),
            accepted: run.accepted,
            began: run.began.get().copied().unwrap_or(ended),
            ended,
            phases_ms: took.iter().flat_map(Took::phases_ms).collect(),
            done: done.clone(),
        };
        let ended = history::EndedRun {
            last: Last {
                run: run.journal.run().clone(),
                past,
            },
            events: &events,
            lost,
            took,
        };
        let target = &self.targets[name];
        self.history.keep(target, ended, looks);
        if done.failure.is_some()
            && let (
                _,
                Standing {
                    failing: Some(failing),
                    ..
                },
            ) = self.history.newest(target, looks)
        {
            // Starts the age, which is independent of the clock from now on.
            self.failing_for(name, failing.since);
        }
    }

    /// Do the maintenance of the target, if it is due. Only one target at a time, so that it leaves processors and disks to runs.
    pub(super) fn maintain(&self, name: &TriggerName) {
        let _alone = match self.maintaining.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(alone)) => alone.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let (trigger, target) = (name.as_str(), &self.targets[name]);
        if self.process.target_dirs.links().look(target).is_err() {
            // The run has reported it.
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| run::tidy(target, &self.process.sandbox))) {
            Ok(Ok(
                maintenance::Outcome::NotDue | maintenance::Outcome::Busy | maintenance::Outcome::Uncut(0),
            )) => {}
            Ok(Ok(outcome)) => tracing::info!(trigger, ?outcome, "maintenance is done"),
            Ok(Err(failure)) => tracing::warn!(trigger, "maintenance failed: {}", failure.message),
            Err(_) => tracing::error!(trigger, "maintenance stopped at a fault of gitsocket itself"),
        }
    }
}

/// Whether the remote has answered the run.
fn has_asked(task: &Task, done: &Done) -> bool {
    !task.is_rollback() && (done.failure.is_none() || done.new.is_some() || done.kind() == Some(Kind::Held))
}

/// Log an event that tells of lost files or commits, since this may be the only trace of them.
pub(super) fn log_loss(journal: &Journal, trigger: &TriggerName, event: &Event) {
    if event.is_loss()
        && let Some(line) = event.line()
    {
        tracing::warn!(run = journal.run().as_str(), trigger = trigger.as_str(), "{line}");
    }
}

/// The run's line in the log.
fn log(run: &Run, done: &Done) {
    let Done {
        trigger,
        old,
        new,
        changed,
        ms,
        ..
    } = done;
    let [old, new] = [old, new].map(|id| id.as_deref().unwrap_or("-"));
    let (id, peer) = (run.journal.run().as_str(), &*run.peer);
    let notes = run.notes.line();
    match &done.failure {
        None => tracing::info!(
            run = id,
            peer,
            notes,
            trigger,
            old,
            new,
            changed,
            ms,
            "{}",
            done.line()
        ),
        Some(failure) => {
            let kind = failure.kind.as_str();
            tracing::error!(
                run = id,
                peer,
                notes,
                trigger,
                old,
                new,
                changed,
                ms,
                kind,
                "{}",
                done.line()
            );
        }
    }
}
