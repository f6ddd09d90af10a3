//! Files of accepted runs, so that these are done even if this process is killed.

use super::{Run, Scheduler, Slip};
use crate::{
    base::{
        mutex,
        name::{RunId, TriggerName},
    },
    daemon::waiting::Accepted,
};

impl Scheduler {
    /// The runs that an earlier daemon accepted and did not end. For the first worker, before it accepts runs.
    pub fn left(&self) -> Vec<(RunId, Accepted)> {
        self.waiting.left()
    }

    /// Write the file of `run`, before a client is told that it was accepted.
    pub(super) fn write_down(&self, name: &TriggerName, run: &Run) {
        let mut slip = mutex::lock(&run.slip);
        let notes = run.notes.shown();
        match &*slip {
            // The run has probably ended.
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

    /// Remove the file of `run`: no other process is to do it any more.
    pub(super) fn strike(&self, run: &Run) {
        let mut slip = mutex::lock(&run.slip);
        if let Slip::Written(_) = std::mem::replace(&mut *slip, Slip::Over) {
            self.waiting.remove(run.journal.run());
        }
    }
}
