//! Finishes unfinished work when the daemon starts, or after one of its workers was killed: interrupted runs, pending hooks, and
//! runs that were accepted and never began.
//!
//! The search runs in the background, so that no client waits: a file system that hangs delays only its own targets.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use super::{Notes, Run, Scheduler, Slip};
use crate::{
    base::{
        event::{self, Done, Last, Past, Paused, State, Task},
        fault::{Failure, Kind},
        mutex,
        name::{RunId, TriggerName},
    },
    config::Target,
    daemon::waiting::Accepted,
    deploy::{run, state::Marker},
};

/// Runs that another process has accepted and did not end.
type Pending = Vec<(RunId, Accepted)>;

/// The targets that have not been looked at yet, each with its pending runs.
type Left = Arc<Mutex<std::vec::IntoIter<(Pending, Arc<Target>)>>>;

/// The greatest age, in seconds, of an operation that another worker has accepted. The operator decided by what was deployed at that
/// time; later it may do harm.
const LONGEST_WAIT: u64 = 10 * 60;
/// The peer of runs that finish unfinished work.
const PEER: &str = "start";
/// After so long on one target, another thread looks at the remaining ones.
const PATIENCE: Duration = Duration::from_secs(5);

impl Scheduler {
    /// Start a run of each trigger with unfinished work, and the runs that were `left`. For the first worker of a daemon, and after
    /// another worker was killed. Work of a running worker, which holds the lock, does not count as unfinished.
    pub fn finish_unfinished(self: &Arc<Self>, left: Pending) {
        let mut pending = BTreeMap::<TriggerName, Pending>::new();
        for (run, accepted) in left {
            let trigger = accepted.trigger.clone();
            if self.targets.contains_key(&trigger) {
                pending.entry(trigger).or_default().push((run, accepted));
            } else {
                let (trigger, peer) = (trigger.as_str(), accepted.peer);
                tracing::warn!(
                    trigger,
                    peer,
                    "the run {run} waited, and is not done: there is no such trigger"
                );
                self.waiting.remove(&run);
            }
        }
        let scheduler = self.clone();
        let looking = move || {
            let targets: Vec<_> = scheduler.targets.values().cloned().collect();
            let pending = |target: Arc<Target>| (pending.remove(&target.trigger).unwrap_or_default(), target);
            let targets: Vec<_> = targets.into_iter().map(pending).collect();
            let targets = Arc::new(Mutex::new(targets.into_iter()));
            while !scheduler.look_at(&targets) {}
        };
        if let Err(err) = thread::Builder::new().name("start".into()).spawn(looking) {
            tracing::warn!("cannot look for what was left unfinished: cannot start a thread: {err}");
        }
    }

    /// The same after another worker of this daemon was killed.
    pub fn finish_left(self: &Arc<Self>) {
        let scheduler = self.clone();
        let looking = move || scheduler.finish_unfinished(scheduler.waiting.left_by_gone());
        if let Err(err) = thread::Builder::new().name("start".into()).spawn(looking) {
            tracing::warn!("cannot look for what another worker has left: cannot start a thread: {err}");
        }
    }

    /// Look at the rest of `targets` on another thread. Gives whether it came to the end; if not, that thread hangs.
    fn look_at(self: &Arc<Self>, targets: &Left) -> bool {
        let (sender, looked) = mpsc::channel();
        let (scheduler, targets) = (self.clone(), targets.clone());
        let look = move || {
            let next = || mutex::lock(&targets).next();
            while let Some((pending, target)) = next() {
                if !scheduler.stop.is_set() {
                    scheduler.do_pending(&target, pending);
                }
                if sender.send(()).is_err() {
                    // Another thread has taken over.
                    return;
                }
            }
        };
        if let Err(err) = thread::Builder::new().name("start".into()).spawn(look) {
            tracing::warn!("cannot look for what was left unfinished: cannot start a thread: {err}");
            return true;
        }
        loop {
            match looked.recv_timeout(PATIENCE) {
                Ok(()) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return true,
                Err(mpsc::RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Finish what is unfinished of `target`, then do the `pending` runs.
    fn do_pending(self: &Arc<Self>, target: &Target, mut pending: Pending) {
        let name = &target.trigger;
        let paused = self.paused(name);
        if let Some(paused) = &paused {
            tracing::warn!(
                trigger = name.as_str(),
                "{}; see: gitsocket resume {name}",
                paused.line()
            );
        }
        // Checked first, since runs that are accepted below would count as newer.
        let late: Vec<_> = pending
            .iter()
            .map(|(run, accepted)| self.is_late(target, run, accepted))
            .collect();
        let mut late = late.into_iter();
        pending.retain(|(run, accepted)| {
            let late = late.next().flatten();
            late.inspect(|why| self.drop_late(name, run, accepted, why))
                .is_none()
        });
        let (is_unfinished, begun) = self.is_unfinished(target);
        // A run that was accepted meanwhile finishes it, or is itself the one that looks unfinished.
        let is_unfinished = is_unfinished && self.queue().state(name) == State::Idle;
        // If one of the pending runs had begun, the run that finishes its work replaces it.
        let begun = pending.iter().position(|(run, _)| Some(run) == begun.as_ref());
        let begun = begun.map(|at| pending.remove(at));
        let is_struck = begun.as_ref().map(|(run, _)| run.clone());
        let finishes = |(_, accepted): &(RunId, Accepted)| accepted.task.is_update();
        if is_unfinished && let Some(paused) = &paused {
            self.pauses.refuse(name, paused);
            tracing::warn!(
                trigger = name.as_str(),
                "a run was left unfinished, and is not finished while the trigger is paused"
            );
        } else if is_unfinished && !pending.first().is_some_and(finishes) {
            let accepted = self.accept(name, Task::Update, PEER);
            if let Ok(run) = &accepted {
                if let Some((_, begun)) = begun {
                    run.notes.join(&Notes::of(begun.notes));
                }
                // In case this worker is killed as well, and its lock is still held when the next one looks.
                self.write_down(name, run);
            }
            self.tell_left(name, accepted.map(drop), "was left unfinished");
        }
        for (run, accepted) in pending {
            self.accept_pending(name, run, accepted, paused.as_ref());
        }
        if let Some(run) = is_struck {
            self.waiting.remove(&run);
        }
    }

    /// Why the operation `run` must not be done any more, since the deployed commit may be another one now; `None` if it may be done.
    fn is_late(&self, target: &Target, run: &RunId, accepted: &Accepted) -> Option<&'static str> {
        if accepted.task.is_update() {
            return None;
        }
        let age = event::now().checked_sub(accepted.accepted);
        if age.is_none_or(|age| age > LONGEST_WAIT) {
            return Some("that is more than 10 minutes ago, or the clock was set back");
        }
        // The history has both an interrupted run and the run that finishes it; only the latter counts.
        let is_newer = |last: Last| {
            let failure = last.past.done.failure;
            let is_interrupted = failure.is_some_and(|failure| failure.kind == Kind::Interrupted);
            last.run != *run && !is_interrupted && last.past.began >= accepted.accepted
        };
        let is_since = self.history.list(target).any(is_newer)
            || self
                .queue()
                .runs(&target.trigger)
                .any(|other| other.journal.run() != run && other.accepted >= accepted.accepted);
        is_since.then_some("another run was asked for or began since then")
    }

    fn drop_late(&self, name: &TriggerName, run: &RunId, accepted: &Accepted, why: &str) {
        let (trigger, peer, task) = (name.as_str(), &accepted.peer, accepted.task.word());
        let again = match accepted.task {
            Task::Hooks => "client --hooks",
            _ => task,
        };
        tracing::warn!(
            trigger,
            peer,
            "the {task} {run}, accepted at {}, waited, and is not done: {why}; if it is still wanted: gitsocket {again} {name}",
            event::time(accepted.accepted)
        );
        self.waiting.remove(run);
    }

    /// Accept a pending run.
    fn accept_pending(
        self: &Arc<Self>,
        name: &TriggerName,
        run: RunId,
        accepted: Accepted,
        paused: Option<&Paused>,
    ) {
        if self.queue().runs(name).any(|other| *other.journal.run() == run) {
            return;
        }
        let target = &self.targets[name];
        if self.history.list(target).any(|last| last.run == run) {
            // The run had ended, and its worker was killed before it removed the file.
            return self.waiting.remove(&run);
        }
        if let Some(paused) = paused.filter(|_| !accepted.task.is_rollback()) {
            self.pauses.refuse(name, paused);
            let (trigger, peer) = (name.as_str(), accepted.peer);
            tracing::warn!(
                trigger,
                peer,
                "a run waited, and is refused since the trigger is paused; see: gitsocket resume {name}"
            );
            return self.waiting.remove(&run);
        }
        let Accepted {
            task,
            peer,
            accepted,
            notes,
            ..
        } = accepted;
        let new = Run::accepted(
            (name, run.clone()),
            (task, accepted),
            &peer,
            Notes::of(notes.clone()),
        );
        *mutex::lock(&new.slip) = Slip::Written(notes);
        let accepted = self.accept_run(name, new);
        if let Ok(found) = &accepted {
            // If the run was merged with another one, that one now has the notes of its clients.
            self.write_down(name, found);
        }
        if accepted
            .as_ref()
            .map_or(true, |found| *found.journal.run() != run)
        {
            self.waiting.remove(&run);
        }
        self.tell_left(name, accepted.map(drop), "waited");
    }

    fn tell_left(&self, name: &TriggerName, accepted: Result<(), Failure>, how: &str) {
        let trigger = name.as_str();
        match accepted {
            Ok(()) => tracing::info!(trigger, "a run {how}; it is done now"),
            Err(failure) => tracing::warn!(trigger, "a run {how}: {}", failure.message),
        }
    }

    /// Whether `target` has unfinished work, and the run that left it, if that is known.
    fn is_unfinished(&self, target: &Target) -> (bool, Option<RunId>) {
        let mut begun = None;
        let is_unfinished = run::is_unfinished(target, &self.process.sandbox, |marker| {
            begun = marker.map(|marker| marker.run.clone());
            marker.is_some_and(|marker| marker.trigger == target.trigger)
                || (self.owner(target, marker).is_none() && self.is_first_at_its_place(target))
        });
        (is_unfinished, begun)
    }

    /// The target of the trigger in `marker`, which was found in the git directory of `target`, if it still has that git directory.
    fn owner(&self, target: &Target, marker: Option<&Marker>) -> Option<&Arc<Target>> {
        let owner = self.targets.get(&marker?.trigger)?;
        (owner.site.git_dir() == target.site.git_dir()).then_some(owner)
    }

    fn is_first_at_its_place(&self, target: &Target) -> bool {
        let git_dir = target.site.git_dir();
        let first = self
            .targets
            .values()
            .find(|other| other.site.git_dir() == git_dir);
        first.is_some_and(|first| first.trigger == target.trigger)
    }

    /// A run of `target` has found that the run of `marker` was interrupted: record that.
    pub(super) fn was_interrupted(&self, target: &Arc<Target>, marker: &Marker) {
        let owner = self.owner(target, Some(marker)).unwrap_or(target);
        let failure = Failure::new(
            Kind::Interrupted,
            "the run was killed before its end, or the machine stopped",
            Some("another run finishes it"),
        );
        let peer = crate::base::fault::one_line(&marker.peer);
        let last = Last {
            run: marker.run.clone(),
            past: Past {
                task: Task::Update,
                peer,
                notes: Vec::new(),
                accepted: marker.began,
                began: marker.began,
                ended: event::now(),
                phases_ms: Default::default(),
                done: Done::failed(marker.trigger.as_str(), failure),
            },
        };
        // A run that is repeated under the same id does not count as interrupted.
        if self
            .queue()
            .runs(&owner.trigger)
            .all(|run| *run.journal.run() != last.run)
        {
            self.history.keep_interrupted(owner, last);
        }
    }
}
