//! What is known of runs: those that go on, from the queue; those that have ended, from the history.
//!
//! Blocking: what has not been asked for since the daemon was started is read from the disk.

use std::sync::Arc;

use super::{Run, Scheduler, may_operate};
use crate::{
    base::{
        event::{Current, Done, Event, GoingOn, Last, May, Outcome, Record, Refused, Status},
        fault::{Failure, Kind},
        name::{RunId, TriggerName},
        watch::Watch,
    },
    config::{Revision, Target},
    daemon::{journal::Journal, peer::Peer, wire::Which},
};

/// What was asked for.
pub enum Found {
    /// A run that waits or goes on.
    GoingOn(Arc<Journal>),
    /// A run that has ended, or a list; the last record is its end.
    Whole(Box<dyn Iterator<Item = Record> + Send>),
}

impl Scheduler {
    /// How the trigger `name` is, or all that `peer` may use.
    pub fn status(&self, peer: &Peer, names: &[TriggerName]) -> Result<Vec<Box<Status>>, Failure> {
        let permitted = self.permitted_to(peer);
        let mut refused = self.process.refusal.get();
        if let Some(refused) = &mut refused
            && permitted.len() < self.targets.len()
        {
            refused.message = None;
        }
        let targets: Vec<_> = match names {
            [] => permitted.into_iter().map(|name| &self.targets[name]).collect(),
            names => names
                .iter()
                .map(|name| self.permitted(peer, name))
                .collect::<Result<_, _>>()?,
        };
        let look = self.accounts.look();
        let status = targets.into_iter().map(|target| {
            let may: &[May] = match may_operate(&look, peer, target) {
                true => &[May::Trigger, May::Rollback, May::Retry, May::Hooks, May::Pause],
                false => &[May::Trigger],
            };
            self.status_of(target, may.into(), refused.clone())
        });
        Ok(status.collect())
    }

    fn status_of(&self, target: &Target, may: Vec<May>, reload_refused: Option<Refused>) -> Box<Status> {
        let name = &target.trigger;
        // In this order: a run that ends in between is seen twice rather than not at all.
        let (state, stuck, runs) = {
            let queue = self.queue();
            (
                queue.state(name),
                queue.stuck(name).cloned(),
                queue.runs(name).map(|run| run.current()).collect(),
            )
        };
        let (last, standing) = self.history.newest(target, stuck.is_none());
        let failing_for = standing
            .failing
            .as_ref()
            .and_then(|failing| self.failing_for(name, failing.since));
        Box::new(Status {
            trigger: name.clone(),
            state,
            follows: Some(follows(&target.origin.revision)),
            paused: self.paused(name),
            poll: None,
            stuck,
            runs,
            last,
            standing,
            failing_for: failing_for.map(|age| age.as_secs()),
            may,
            reload_refused,
        })
    }

    /// The runs of `name`, the newest first; or one of them.
    pub fn log(&self, peer: &Peer, name: &TriggerName, which: Option<&Which>) -> Result<Found, Failure> {
        let target = self.permitted(peer, name)?;
        match which {
            None => Ok(self.list(name, target)),
            Some(which) => self.find(name, target, which),
        }
    }

    fn list(&self, name: &TriggerName, target: &Target) -> Found {
        let going_on: Vec<Current> = self.queue().runs(name).map(Run::current).collect();
        let mut ended = self.history.list(target);
        // One that ended in between is not listed twice.
        ended.retain(|last| going_on.iter().all(|current| current.run != last.run));
        let current = going_on
            .into_iter()
            .rev()
            .map(|Current { run, going_on }| Record {
                run,
                event: Event::GoingOn(going_on),
            });
        let past = ended.into_iter().map(|Last { run, past }| Record {
            run,
            event: Event::Past(past),
        });
        let of_none = |event| Record {
            run: RunId::none(),
            event,
        };
        let paused = self.paused(name).map(|paused| Event::Warning {
            message: format!("{name} is {}", paused.line()),
        });
        let paused = paused.map(of_none).into_iter();
        let done = of_none(Event::Done(Done::answered(name.as_str(), Outcome::Answered)));
        Found::Whole(Box::new(paused.chain(current).chain(past).chain([done])))
    }

    fn find(&self, name: &TriggerName, target: &Target, which: &Which) -> Result<Found, Failure> {
        let going_on = {
            let queue = self.queue();
            let mut runs = queue.runs(name);
            let run = match which {
                Which::Newest => runs.next(),
                Which::Id(id) => runs.find(|run| run.journal.run() == id),
            };
            run.map(|run| run.journal.clone())
        };
        if let Some(journal) = going_on {
            return Ok(Found::GoingOn(journal));
        }
        let id = match which {
            Which::Id(id) => Some(id.clone()),
            Which::Newest => self.history.list(target).into_iter().next().map(|last| last.run),
        };
        match id.and_then(|id| self.history.replay(target, &id)) {
            Some(replay) => Ok(Found::Whole(Box::new(replay))),
            None => Err(unknown_run(name, which)),
        }
    }
}

impl Run {
    fn current(&self) -> Current {
        Current {
            run: self.journal.run().clone(),
            going_on: GoingOn {
                trigger: None,
                notes: self.notes.shown(),
                task: self.task.clone(),
                peer: self.peer.to_string(),
                accepted: self.accepted,
                began: self.began.get().copied(),
                overdue: self.watch.get().and_then(Watch::late).map(|late| late.as_secs()),
            },
        }
    }
}

/// What of the repository is deployed, as the configuration says it.
fn follows(revision: &Revision) -> String {
    match revision {
        Revision::RemoteHead => "the remote's default branch".into(),
        Revision::Branch(name) => format!("branch {}", name.short()),
        Revision::Tag(name) => format!("tag {}", name.short()),
        Revision::Commit(id) => format!("rev {id}"),
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
            format!("see which there are: gitsocket log {name}"),
        ),
    };
    Failure::new(Kind::UnknownRun, message, Some(&help))
}
