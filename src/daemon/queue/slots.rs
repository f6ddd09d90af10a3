//! The state machine: what each target does, and which run is next. No threads, no clocks.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
};

use crate::base::{
    event::{State, Stuck},
    name::TriggerName,
};

/// What each target does, and who is next. `R` is a run.
#[derive(Debug)]
pub struct Queue<R> {
    /// A target that is not here is idle.
    targets: BTreeMap<TriggerName, Slot<R>>,
    /// Targets whose run waits for a job, the longest wait first.
    ready: VecDeque<TriggerName>,
    free_jobs: usize,
    /// How many runs want the job back that they have lent.
    wanted: usize,
}

#[derive(Debug)]
enum Slot<R> {
    /// Its run waits for a job, or for more who want it.
    Waiting(R),
    /// Its run goes on, and another may follow.
    Running { run: R, next: Option<R>, job: Job },
    /// Its run was given up on, and has not come back.
    Stuck(Stuck),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Held,
    /// Free for others, while the run waits for the target's lock.
    Lent,
    /// The run has the lock, and is the next to get a job.
    Wanted,
}

impl<R: Clone> Queue<R> {
    /// At most `jobs` runs at a time.
    pub fn new(jobs: NonZeroUsize) -> Self {
        Self {
            targets: BTreeMap::new(),
            ready: VecDeque::new(),
            free_jobs: jobs.get(),
            wanted: 0,
        }
    }

    /// The run that serves a trigger said now: one that has not yet started, or else a new one. The error: none can start.
    pub fn trigger(&mut self, name: &TriggerName, new: impl FnOnce() -> R) -> Result<R, Stuck> {
        match self.targets.get_mut(name) {
            Some(Slot::Waiting(run)) => Ok(run.clone()),
            Some(Slot::Running { next, .. }) => Ok(next.get_or_insert_with(new).clone()),
            Some(Slot::Stuck(stuck)) => Err(stuck.clone()),
            None => {
                let run = new();
                self.targets.insert(name.clone(), Slot::Waiting(run.clone()));
                self.ready.push_back(name.clone());
                Ok(run)
            }
        }
    }

    /// The next run to start, which takes a job until [`Self::finished`].
    pub fn start(&mut self) -> Option<(TriggerName, R)> {
        if self.free_jobs <= self.wanted {
            return None;
        }
        let name = self.ready.pop_front()?;
        let Some(Slot::Waiting(run)) = self.targets.remove(&name) else {
            unreachable!("only waiting targets are ready");
        };
        let slot = Slot::Running {
            run: run.clone(),
            next: None,
            job: Job::Held,
        };
        self.targets.insert(name.clone(), slot);
        self.free_jobs -= 1;
        Some((name, run))
    }

    /// The run of `name` has ended; whether another one follows, which waits for [`Self::follow`].
    #[must_use]
    pub fn finished(&mut self, name: &TriggerName) -> bool {
        match self.end(name) {
            Some(next) => {
                self.targets.insert(name.clone(), Slot::Waiting(next));
                true
            }
            None => false,
        }
    }

    /// End the run of `name`, and give the one that was to follow.
    fn end(&mut self, name: &TriggerName) -> Option<R> {
        let Some(Slot::Running { next, job, .. }) = self.targets.remove(name) else {
            return None;
        };
        match job {
            Job::Held => self.free_jobs += 1,
            Job::Lent => {}
            Job::Wanted => self.wanted -= 1,
        }
        next
    }

    /// The run that follows in `name` goes to the end of the line.
    pub fn follow(&mut self, name: &TriggerName) {
        self.ready.push_back(name.clone());
    }

    /// The run of `name` waits for the target's lock: others get its job.
    pub fn lend(&mut self, name: &TriggerName) {
        if let Some(Slot::Running { job, .. }) = self.targets.get_mut(name)
            && *job == Job::Held
        {
            *job = Job::Lent;
            self.free_jobs += 1;
        }
    }

    /// The run of `name` goes on, if there is a job for it: it gets the next one that is free.
    pub fn take_back(&mut self, name: &TriggerName) -> bool {
        let Some(Slot::Running { job, .. }) = self.targets.get_mut(name) else {
            return false;
        };
        if *job == Job::Lent {
            *job = Job::Wanted;
            self.wanted += 1;
        }
        if *job == Job::Wanted && self.free_jobs > 0 {
            *job = Job::Held;
            self.wanted -= 1;
            self.free_jobs -= 1;
        }
        *job == Job::Held
    }

    /// The run of `name` does not come back: its job is given back, and no other can start until [`Self::came_back`].
    /// Gives the one that was to follow.
    pub fn give_up(&mut self, name: &TriggerName, stuck: Stuck) -> Option<R> {
        let next = self.end(name);
        self.targets.insert(name.clone(), Slot::Stuck(stuck));
        next
    }

    /// The run of `name` that was given up on has come back.
    pub fn came_back(&mut self, name: &TriggerName) {
        self.targets.remove(name);
    }

    /// The run of `name` that was given up on and has not come back.
    pub fn stuck(&self, name: &TriggerName) -> Option<&Stuck> {
        match self.targets.get(name) {
            Some(Slot::Stuck(stuck)) => Some(stuck),
            _ => None,
        }
    }

    /// All that is stuck.
    pub fn all_stuck(&self) -> impl Iterator<Item = (&TriggerName, &Stuck)> {
        self.targets.iter().filter_map(|(name, slot)| match slot {
            Slot::Stuck(stuck) => Some((name, stuck)),
            Slot::Waiting(_) | Slot::Running { .. } => None,
        })
    }

    /// What the target of `name` does.
    pub fn state(&self, name: &TriggerName) -> State {
        match self.targets.get(name) {
            None => State::Idle,
            Some(Slot::Waiting(_)) => State::Waiting,
            Some(Slot::Running { next: None, .. }) => State::Running,
            Some(Slot::Running { next: Some(_), .. }) => State::RunningThenQueued,
            Some(Slot::Stuck(_)) => State::Stuck,
        }
    }

    /// How many runs go on, wait, and are stuck.
    pub fn load(&self) -> (usize, usize, usize) {
        let (mut running, mut waiting, mut stuck) = (0, 0, 0);
        for slot in self.targets.values() {
            match slot {
                Slot::Waiting(_) => waiting += 1,
                Slot::Running { next, .. } => {
                    running += 1;
                    waiting += usize::from(next.is_some());
                }
                Slot::Stuck(_) => stuck += 1,
            }
        }
        (running, waiting, stuck)
    }

    /// The runs of `name` that have not ended: the one that goes on, then the one that waits.
    pub fn runs(&self, name: &TriggerName) -> impl Iterator<Item = &R> {
        let (first, second) = match self.targets.get(name) {
            None | Some(Slot::Stuck(_)) => (None, None),
            Some(Slot::Waiting(run)) => (Some(run), None),
            Some(Slot::Running { run, next, .. }) => (Some(run), next.as_ref()),
        };
        first.into_iter().chain(second)
    }

    /// The runs that go on.
    pub fn going_on(&self) -> impl Iterator<Item = (&TriggerName, &R)> {
        self.targets.iter().filter_map(|(name, slot)| match slot {
            Slot::Running { run, .. } => Some((name, run)),
            Slot::Waiting(_) | Slot::Stuck(_) => None,
        })
    }

    /// Whether nothing runs or waits. What is stuck is not waited for.
    pub fn is_idle(&self) -> bool {
        self.targets.values().all(|slot| matches!(slot, Slot::Stuck(_)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
