//! Pauses: while a trigger is paused, none of its runs begins, except rollbacks.

use std::sync::Arc;

use super::Scheduler;
use crate::{
    base::{
        event::{Paused, Task},
        fault::Failure,
        name::{Note, TriggerName},
    },
    config::Target,
    daemon::peer::Peer,
};

impl Scheduler {
    /// Pause `name` for `peer`. Blocking.
    pub fn pause(&self, peer: &Peer, name: &TriggerName, reason: Option<Note>) -> Result<(), Failure> {
        self.operable(peer, name)?;
        let (trigger, peer) = (name.as_str(), self.accounts.look().named(peer));
        let paused = self.pauses.pause(name, &peer, reason.clone());
        paused.map_err(|err| Failure::of(&err))?;
        let reason = reason.as_ref().map(Note::as_str);
        tracing::info!(trigger, peer, reason, "paused");
        self.changed.notify(usize::MAX);
        Ok(())
    }

    /// Resume `name` for `peer`. Gives a line about refused triggers, if there were any. Blocking.
    pub fn resume(self: &Arc<Self>, peer: &Peer, name: &TriggerName) -> Result<Option<String>, Failure> {
        self.operable(peer, name)?;
        let before = self.pauses.resume(name).map_err(|err| Failure::of(&err))?;
        let Some(before) = before else {
            return Ok(None);
        };
        let (trigger, peer) = (name.as_str(), self.accounts.look().named(peer));
        tracing::info!(trigger, peer, "resumed; it was {}", before.line());
        self.changed.notify(usize::MAX);
        self.poll_soon(name);
        let then = match self.targets[name].poll {
            Some(_) => "its remote is polled, so a new commit is deployed now".into(),
            None => format!(
                "to deploy it now: gitsocket client {name}, or, if it was rolled back, gitsocket retry {name}"
            ),
        };
        let refused = before.refused.map(|refused| {
            format!(
                "triggers of {name} were refused while it was paused, the first one at {}; {then}",
                crate::base::event::time(refused)
            )
        });
        Ok(refused)
    }

    /// The pause of `name`, if there is one. Blocking, since a file is read.
    pub(super) fn paused(&self, name: &TriggerName) -> Option<Paused> {
        self.pauses.get(name)
    }

    /// Why no run of `target` with this `task` can begin, if it cannot. Blocking.
    pub(super) fn stopped(&self, target: &Target, task: &Task) -> Option<Failure> {
        if let Some(failure) = self.stuck_at(target) {
            return Some(failure);
        }
        if task.is_rollback() {
            return None;
        }
        let name = &target.trigger;
        self.paused(name).map(|paused| self.pauses.refuse(name, &paused))
    }
}
