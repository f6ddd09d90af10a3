//! What is known of runs: those that go on, from the queue; those that have ended, from the history.
//!
//! Blocking: what has not been asked for since the daemon was started is read from the disk.

use std::sync::Arc;

use super::{Run, Scheduler};
use crate::{
    event::{Current, Event, GoingOn, Last, Record, Status},
    fault::{Failure, Kind},
    journal::Journal,
    name::TriggerName,
    wire::Which,
};

/// A run that was asked for.
#[derive(Debug)]
pub enum Found {
    /// It waits or goes on.
    GoingOn(Arc<Journal>),
    /// It has ended; the last record is its end.
    Ended(Vec<Record>),
    /// There is none.
    Unknown(Failure),
}

impl Scheduler {
    /// How the trigger `name` is, or all of them. `None`: there is no such trigger.
    pub fn status(&self, name: Option<&TriggerName>) -> Option<Vec<Status>> {
        match name {
            Some(name) => Some(vec![self.status_of(name)?]),
            None => Some(self.names().filter_map(|name| self.status_of(name)).collect()),
        }
    }

    fn status_of(&self, name: &TriggerName) -> Option<Status> {
        let target = self.target(name)?;
        // In this order: a run that ends in between is seen twice rather than not at all.
        let (state, runs) = {
            let queue = self.queue();
            (
                queue.state(name),
                queue.runs(name).map(|run| run.current()).collect(),
            )
        };
        let (last, standing) = self.history.newest(&target);
        Some(Status {
            trigger: name.clone(),
            state,
            runs,
            last,
            standing,
        })
    }

    /// The runs of `name`, the newest first. `None`: there is no such trigger.
    pub fn log(&self, name: &TriggerName) -> Option<Vec<Record>> {
        let target = self.target(name)?;
        let going_on: Vec<Current> = self.queue().runs(name).map(|run| run.current()).collect();
        let ended = self.history.list(&target).into_iter();
        let ended = ended.filter(|last| going_on.iter().all(|current| current.run != last.run));
        let current = going_on.iter().rev().map(|Current { run, going_on }| Record {
            run: run.clone(),
            event: Event::GoingOn(going_on.clone()),
        });
        let past = ended.map(|Last { run, past }| Record {
            run,
            event: Event::Past(past),
        });
        Some(current.chain(past).collect())
    }

    /// The run `which` of `name`. `None`: there is no such trigger.
    pub fn find(&self, name: &TriggerName, which: &Which) -> Option<Found> {
        let target = self.target(name)?;
        let going_on = {
            let queue = self.queue();
            let mut runs = queue.runs(name);
            match which {
                Which::Newest => runs.next(),
                Which::Id(id) => runs.find(|run| run.journal.run() == id),
            }
            .map(|run| run.journal.clone())
        };
        if let Some(journal) = going_on {
            return Some(Found::GoingOn(journal));
        }
        let id = match which {
            Which::Id(id) => Some(id.clone()),
            Which::Newest => self.history.list(&target).into_iter().next().map(|last| last.run),
        };
        let records = id.and_then(|id| self.history.replay(&target, &id));
        Some(records.map_or_else(|| Found::Unknown(unknown_run(name, which)), Found::Ended))
    }
}

impl Run {
    fn current(&self) -> Current {
        Current {
            run: self.journal.run().clone(),
            going_on: GoingOn {
                peer: self.peer.to_string(),
                accepted: self.accepted,
                began: self.began.get().copied(),
            },
        }
    }
}

fn unknown_run(name: &TriggerName, which: &Which) -> Failure {
    let (message, help) = match which {
        Which::Newest => (
            "no run of this trigger is remembered".into(),
            format!("say its name: {name}"),
        ),
        Which::Id(id) => (
            format!("no run {id} of this trigger is remembered"),
            format!("see which there are: log {name}"),
        ),
    };
    Failure::new(Kind::UnknownRun, message, Some(&help))
}
