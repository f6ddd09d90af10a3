//! Answers to `status` and `log`: runs that go on are in the queue, those that have ended in the history.
//!
//! Blocking, since the history may be read from the disk.

use std::{collections::BTreeSet, sync::Arc};

use super::{Run, Scheduler, may_operate};
use crate::{
    base::{
        event::{Current, GoingOn, May, Polled, Record, Refused, Status},
        fault::{Failure, Kind},
        name::{RunId, TriggerName},
        watch::Watch,
    },
    config::{Revision, Target},
    daemon::{journal::Journal, peer::Peer, wire::Which},
};

/// The answer to `log`.
pub enum Found {
    /// A run that waits or goes on.
    GoingOn(Arc<Journal>),
    /// A run that has ended, or a list; the last record is its end.
    Whole(Box<dyn Iterator<Item = Record> + Send>),
}

impl Scheduler {
    /// The state of the triggers `names`, or of all that `peer` may use; and the first refusal of one of `names`.
    pub fn status(
        &self,
        peer: &Peer,
        names: &[TriggerName],
    ) -> (Vec<Box<Status>>, Option<(TriggerName, Failure)>) {
        let permitted = self.permitted_to(peer);
        let mut refused = self.process.refusal.get();
        if let Some(refused) = &mut refused
            && permitted.len() < self.targets.len()
        {
            refused.message = None;
        }
        let mut failed = None;
        let mut targets: Vec<_> = permitted.into_iter().map(|name| &self.targets[name]).collect();
        if !names.is_empty() {
            targets.clear();
            let mut seen = BTreeSet::new();
            for name in names.iter().filter(|name| seen.insert(*name)) {
                match self.permitted(peer, name) {
                    Ok(target) => targets.push(target),
                    Err(failure) => drop(failed.get_or_insert_with(|| (name.clone(), failure))),
                }
            }
        }
        let look = self.accounts.look();
        let status = targets.into_iter().map(|target| {
            let may: &[May] = if may_operate(&look, peer, target) {
                &[May::Trigger, May::Rollback, May::Retry, May::Hooks, May::Pause]
            } else {
                &[May::Trigger]
            };
            self.status_of(target, may.into(), refused.clone())
        });
        (status.collect(), failed)
    }

    fn status_of(&self, target: &Target, may: Vec<May>, reload_refused: Option<Refused>) -> Box<Status> {
        let name = &target.trigger;
        // The queue first: a run that ends in between is then shown twice rather than not at all.
        let (state, stuck, runs) = {
            let queue = self.queue();
            (
                queue.state(name),
                queue.stuck(name).cloned(),
                queue.runs(name).map(|run| run.current(name)).collect(),
            )
        };
        let (last, standing) = self.history.newest(target, stuck.is_none());
        let failing_for = standing
            .failing
            .as_ref()
            .and_then(|failing| self.failing_for(name, failing.since));
        let paused = self.paused(name);
        let poll = self.timer.polled(name).map(|poll| match paused {
            // No poll before the trigger is resumed.
            Some(_) => Polled { next: None, ..poll },
            None => poll,
        });
        Box::new(Status {
            trigger: name.clone(),
            state,
            follows: Some(follows(&target.origin.revision)),
            paused,
            poll,
            stuck,
            runs,
            last,
            standing,
            failing_for: failing_for.map(|age| age.as_secs()),
            may,
            reload_refused,
        })
    }

    /// One run of `name`; or the runs of `name`, or of all triggers that `peer` may use, the newest first, at most `limit`.
    pub fn log(
        &self,
        peer: &Peer,
        name: Option<&TriggerName>,
        which: Option<&Which>,
        limit: Option<u32>,
    ) -> Result<Found, Failure> {
        match (name, which) {
            (None, _) => Ok(self.list_all(peer, limit)),
            (Some(name), None) => Ok(self.list(name, self.permitted(peer, name)?, limit)),
            (Some(name), Some(which)) => self.find(name, self.permitted(peer, name)?, which),
        }
    }

    fn find(&self, name: &TriggerName, target: &Target, which: &Which) -> Result<Found, Failure> {
        let going_on: Vec<_> = self.queue().runs(name).map(|run| run.journal.clone()).collect();
        let id = match which {
            Which::Newest => match going_on.first() {
                Some(journal) => Some(journal.run().clone()),
                None => self.history.list(target).next().map(|last| last.run),
            },
            Which::Id(id) => {
                let going_on = going_on.iter().map(|journal| journal.run().clone());
                let known = going_on.chain(self.history.ids(target)).collect();
                Some(the_one(id, known)?)
            }
        };
        let journal = going_on
            .into_iter()
            .find(|journal| Some(journal.run()) == id.as_ref());
        if let Some(journal) = journal {
            return Ok(Found::GoingOn(journal));
        }
        match id.and_then(|id| self.history.replay(target, &id)) {
            Some(replay) => Ok(Found::Whole(Box::new(replay))),
            None => Err(unknown_run(name, which)),
        }
    }
}

/// How many digits of an id name a run at least.
const MIN_DIGITS: usize = 4;

/// The run in `known` with this `id`, or the only one whose id begins or ends with it; `id` itself if there is none. Ids begin with
/// the time, so the last digits differ most.
fn the_one(id: &RunId, mut known: Vec<RunId>) -> Result<RunId, Failure> {
    if id.as_str().len() < MIN_DIGITS || known.contains(id) {
        return Ok(id.clone());
    }
    known.retain(|run| run.as_str().starts_with(id.as_str()) || run.as_str().ends_with(id.as_str()));
    known.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    known.dedup();
    match known.as_slice() {
        [] => Ok(id.clone()),
        [one] => Ok(one.clone()),
        several => Err(Failure::new(
            Kind::UnknownRun,
            format!(
                "the ids of {} runs of this trigger begin or end with {id}",
                several.len()
            ),
            Some("give more digits of it"),
        )),
    }
}

impl Run {
    pub(super) fn current(&self, trigger: &TriggerName) -> Current {
        Current {
            run: self.journal.run().clone(),
            going_on: GoingOn {
                trigger: Some(trigger.clone()),
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

/// The revision that is deployed, in words.
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
            format!("trigger it first: gitsocket client {name}"),
        ),
        Which::Id(id) => (
            format!("no run {id} of this trigger is remembered"),
            format!("see which there are: gitsocket log {name}"),
        ),
    };
    Failure::new(Kind::UnknownRun, message, Some(&help))
}
