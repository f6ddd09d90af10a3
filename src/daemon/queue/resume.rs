//! What was left unfinished is finished when the daemon starts: interrupted runs, and hooks that are pending.
//!
//! It is looked for beside the work, so that nobody waits: a filesystem that hangs holds up its own targets alone.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use super::Scheduler;
use crate::{
    base::{
        event::{self, Done, Last, Past, Task},
        fault::{Failure, Kind},
        mutex,
    },
    config::Target,
    deploy::{run, state::Marker},
};

/// Who asks for such a run.
const PEER: &str = "start";
/// A target that takes longer to look at is left to its thread, and another thread looks at the others. In time.
const PATIENCE: Duration = Duration::from_secs(5);

impl Scheduler {
    /// Start a run of each trigger that has something unfinished. To be called once, by the first worker of a daemon:
    /// what the runs of a worker before it are at is not unfinished.
    pub fn resume(self: &Arc<Self>) {
        let scheduler = self.clone();
        let looking = move || {
            let targets: Vec<_> = scheduler.targets.values().cloned().collect();
            let targets = Arc::new(Mutex::new(targets.into_iter()));
            while !scheduler.look_at(&targets) {}
        };
        if let Err(err) = thread::Builder::new().name("start".into()).spawn(looking) {
            tracing::warn!("cannot look for what was left unfinished: cannot start a thread: {err}");
        }
    }

    /// Look at what is left of `targets`, on a thread of its own. Says whether nothing is; if not, that thread hangs.
    fn look_at(self: &Arc<Self>, targets: &Arc<Mutex<std::vec::IntoIter<Arc<Target>>>>) -> bool {
        let (sender, looked) = mpsc::channel();
        let (scheduler, targets) = (self.clone(), targets.clone());
        let look = move || {
            let next = || mutex::lock(&targets).next();
            while let Some(target) = next() {
                if !scheduler.stop.is_set() && scheduler.is_unfinished(&target) {
                    scheduler.finish_unfinished(&target);
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

    fn finish_unfinished(self: &Arc<Self>, target: &Target) {
        let trigger = target.trigger.as_str();
        match self.accept(&target.trigger, Task::Update, PEER) {
            Ok(_) => tracing::info!(trigger, "a run was left unfinished; it is finished now"),
            Err(failure) => tracing::warn!(trigger, "a run was left unfinished: {}", failure.message),
        }
    }

    fn is_unfinished(&self, target: &Target) -> bool {
        run::is_unfinished(target, &self.process.sandbox, |marker| {
            marker.is_some_and(|marker| marker.trigger == target.trigger)
                || (self.owner(target, marker).is_none() && self.is_first_at_its_place(target))
        })
    }

    /// The trigger of `marker`, which was found where `target` is; if it is still there.
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

    /// A run of `target` found that the run of `marker` was interrupted: that is in the log from now on.
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
        self.history.keep_interrupted(owner, last);
    }
}
