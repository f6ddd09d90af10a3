//! Lists of runs, the newest first: those of one trigger, or of all.
//!
//! Blocking, as [`query`](super::query) is. For all triggers, only as much is read as is listed: the newest run of each is known, and
//! older ones are read one by one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{Found, Run, Scheduler};
use crate::{
    base::{
        event::{Current, Done, Event, Last, Outcome, Record},
        name::{RunId, TriggerName},
    },
    config::Target,
    daemon::peer::Peer,
};

/// How many runs are listed at most. A line has some hundred bytes.
const MAX_LISTED: u32 = 1000;
/// How many runs of all triggers are listed, unless the client gives a number. For one trigger, all are.
const LISTED: u32 = 20;

impl Scheduler {
    pub(super) fn list(&self, name: &TriggerName, target: &Target, limit: Option<u32>) -> Found {
        let going_on: Vec<_> = self
            .queue()
            .runs(name)
            .rev()
            .map(|run| run.current(name))
            .collect();
        let paused = self.paused_line(name).into_iter().collect();
        let ended = self.history.list(target);
        let limit = limit.unwrap_or(MAX_LISTED);
        answer(name.as_str(), (paused, going_on), ended, limit)
    }

    /// The runs of all triggers that `peer` may use.
    pub(super) fn list_all(&self, peer: &Peer, limit: Option<u32>) -> Found {
        let permitted = self.permitted_to(peer);
        let mut going_on: Vec<Current> = {
            let queue = self.queue();
            let runs = |name| queue.runs(name).map(move |run: &Run| run.current(name));
            permitted.iter().flat_map(|name| runs(name)).collect()
        };
        going_on.sort_by_key(|current| Reverse(current.going_on.began.unwrap_or(current.going_on.accepted)));
        let paused = permitted
            .iter()
            .filter_map(|name| self.paused_line(name))
            .collect();
        let targets = permitted.into_iter().map(|name| self.targets[name].as_ref());
        let ended = self.merged(targets.collect());
        answer("-", (paused, going_on), ended, limit.unwrap_or(LISTED))
    }

    /// A line before the runs, if `name` is paused.
    fn paused_line(&self, name: &TriggerName) -> Option<Event> {
        let message = format!("{name} is {}", self.paused(name)?.line());
        Some(Event::Warning { message })
    }

    /// The runs of all `targets` that have ended, the newest first by the time that a list shows, which is their begin.
    fn merged(&self, targets: Vec<&Target>) -> impl Iterator<Item = Last> {
        let newest = |target| self.history.counted(target).0;
        // The newest run of each target that the iterator has not given yet.
        let mut next: BTreeMap<usize, Last> = targets
            .iter()
            .enumerate()
            .filter_map(|(at, target)| Some((at, newest(target)?)))
            .collect();
        let mut order: BinaryHeap<_> = next
            .iter()
            .map(|(at, last)| (last.past.began, Reverse(*at)))
            .collect();
        let mut older: BTreeMap<usize, _> = BTreeMap::new();
        std::iter::from_fn(move || {
            let (_, Reverse(at)) = order.pop()?;
            let last = next.remove(&at)?;
            let older = older.entry(at).or_insert_with(|| {
                let newest = last.run.clone();
                let runs = self.history.list(targets[at]);
                runs.filter(move |run| run.run != newest)
            });
            if let Some(before) = older.next() {
                order.push((before.past.began, Reverse(at)));
                next.insert(at, before);
            }
            Some(last)
        })
    }
}

/// The answer for `shown`: the lines about pauses, the runs that go on, those that have `ended`, and the last line.
fn answer(
    shown: &str,
    (paused, going_on): (Vec<Event>, Vec<Current>),
    ended: impl Iterator<Item = Last>,
    limit: u32,
) -> Found {
    let limit = limit.min(MAX_LISTED) as usize;
    let listed: BTreeSet<String> = going_on.iter().map(|current| current.run.to_string()).collect();
    let current = going_on.into_iter().map(|Current { run, going_on }| Record {
        run,
        event: Event::GoingOn(going_on),
    });
    // A run that ended in between is not listed twice.
    let past = ended.filter(|last| !listed.contains(last.run.as_str()));
    let past = past.map(|Last { run, past }| Record {
        run,
        event: Event::Past(past),
    });
    let of_none = |event| Record {
        run: RunId::none(),
        event,
    };
    let listed = current.chain(past).take(limit);
    let mut records: Vec<_> = paused.into_iter().map(of_none).chain(listed).collect();
    records.push(of_none(Event::Done(Done::answered(shown, Outcome::Answered))));
    Found::Whole(Box::new(records.into_iter()))
}
