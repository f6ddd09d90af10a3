//! The answer to `metrics`: numbers of the daemon, and of each trigger that the peer may use.

use super::Scheduler;
use crate::{
    base::{
        event::{BUCKETS, Daemon, Event, Numbers},
        fault::{Failure, Kind},
        vitals::Vitals,
    },
    config::Target,
    daemon::{peer::Peer, wire::Format},
};

/// The word of the request. A trigger may have the same name, which was possible before the word was reserved.
const WORD: &str = "metrics";

impl Scheduler {
    /// The numbers that `peer` may see, as events. Blocking, as [`Self::status`]; but no target is looked at.
    pub fn numbers(&self, peer: &Peer, format: Format) -> Result<Vec<Event>, Failure> {
        let permitted = self.permitted_to(peer);
        if format == Format::Text && permitted.iter().any(|name| name.as_str() == WORD) {
            return Err(Failure::new(
                Kind::BadRequest,
                format!("{WORD} is a trigger's name and the word for numbers"),
                Some("send: trigger metrics; or for the numbers: {\"op\":\"metrics\"}"),
            ));
        }
        let daemon = Daemon {
            version: env!("CARGO_PKG_VERSION").into(),
            jobs: self.jobs,
            reload_refused: self.process.refusal.get().map(|refused| refused.since),
            buckets_ms: BUCKETS.into(),
            process: Vitals::now(self.since),
        };
        let targets = permitted.into_iter().map(|name| &self.targets[name]);
        let numbers = targets.map(|target| Event::Metrics(Box::new(self.numbers_of(target))));
        Ok([Event::Daemon(Box::new(daemon))]
            .into_iter()
            .chain(numbers)
            .collect())
    }

    fn numbers_of(&self, target: &Target) -> Numbers {
        let name = &target.trigger;
        let (state, running, waiting) = {
            let queue = self.queue();
            let (running, waiting) = queue
                .runs(name)
                .partition::<Vec<_>, _>(|run| run.began.get().is_some());
            (queue.state(name), running.len() as u64, waiting.len() as u64)
        };
        let (last, standing, mut tally) = self.history.counted(target);
        // An older version had no counters, but its last run may have been a success.
        let succeeded = last.filter(|last| last.past.done.failure.is_none());
        tally.succeeded = tally.succeeded.or(succeeded.map(|last| last.past.ended));
        Numbers {
            trigger: name.clone(),
            state,
            running,
            waiting,
            failing_since: standing.failing.map(|failing| failing.since),
            hooks_pending: standing.hooks_pending,
            held: standing.held.len() as u64,
            polls_unanswered: self.timer.unanswered(name),
            paused: self.paused(name).is_some(),
            deployed: standing.since,
            tally,
        }
    }
}
