//! Runs that clients wait for are written down: what was accepted is done, whatever becomes of this process.

use super::{Run, Scheduler, Slip};
use crate::{
    base::{
        mutex,
        name::{RunId, TriggerName},
    },
    daemon::waiting::Accepted,
};

impl Scheduler {
    /// What the daemon before this one accepted and did not end. For the first worker, before it accepts anything.
    pub fn left(&self) -> Vec<(RunId, Accepted)> {
        self.waiting.left()
    }

    /// Write `run` down, before a client is told that it was accepted.
    pub(super) fn write_down(&self, name: &TriggerName, run: &Run) {
        let mut slip = mutex::lock(&run.slip);
        let notes = run.notes.shown();
        match &*slip {
            // It has ended, most likely.
            Slip::Over => return,
            Slip::Written(written) if *written == notes => return,
            Slip::Written(_) | Slip::Blank => {}
        }
        let accepted = Accepted {
            trigger: name.clone(),
            task: run.task.clone(),
            peer: run.peer.to_string(),
            accepted: run.accepted,
            notes: notes.clone(),
            pid: std::process::id(),
        };
        self.waiting.write(run.journal.run(), &accepted);
        *slip = Slip::Written(notes);
    }

    /// `run` is not to be done by another process any more.
    pub(super) fn strike(&self, run: &Run) {
        let mut slip = mutex::lock(&run.slip);
        if let Slip::Written(_) = std::mem::replace(&mut *slip, Slip::Over) {
            self.waiting.remove(run.journal.run());
        }
    }
}
