//! The state machine: the state of each target, and which run is next. No threads, no clocks.
//!
//! Updates that wait are merged, since each deploys the newest commit. Rollbacks and retries are done in the order in which they
//! were requested: such an operation is not merged with an update, and no update overtakes it.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
};

use crate::base::{
    event::{State, Stuck, Task},
    name::TriggerName,
};

/// The state of each target, and which run is next. `R` is a run.
#[derive(Debug)]
pub struct Queue<R> {
    /// A target that is not here is idle.
    targets: BTreeMap<TriggerName, Slot<R>>,
    /// Targets whose run waits for a job, the longest wait first.
    ready: VecDeque<TriggerName>,
    free_jobs: usize,
    /// How many runs wait to get back the job that they have lent.
    wanted: usize,
    /// How many jobs are reserved for runs, and not used by polls.
    for_runs: usize,
}

#[derive(Debug)]
enum Slot<R> {
    /// The first of these waits for a job, or for more clients. The line is never empty.
    Waiting(Line<R>),
    /// Its run goes on, and others may follow.
    Running { now: Item<R>, next: Line<R>, job: Job },
    /// Its run was abandoned, and its thread has not come back.
    Stuck(Stuck),
}

/// A run with its task.
#[derive(Debug, Clone)]
struct Item<R> {
    task: Task,
    run: R,
}

/// The runs that wait, in the order of their requests: at most an update, an operation and an update.
type Line<R> = VecDeque<Item<R>>;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRun {
    /// No run can start, since this one is stuck.
    Stuck(Stuck),
    /// Another operation waits.
    Busy(Task),
}

/// The run that does `task`: one that can be shared, or a new one at the end of `line`.
fn join<R: Clone>(
    now: Option<&Item<R>>,
    line: &mut Line<R>,
    task: Task,
    new: impl FnOnce() -> R,
) -> Result<R, NoRun> {
    let found = match task {
        // Only the last update: one before an operation would be done too early.
        Task::Update => line.back().filter(|last| last.task.is_update()),
        // Only hooks that wait: those that have begun may have read files that have changed since.
        Task::Hooks => line.iter().find(|other| other.task == task),
        // Two clients that request the same rollback at the same time get one run.
        _ => now.into_iter().chain(&*line).find(|other| other.task == task),
    };
    if let Some(found) = found {
        return Ok(found.run.clone());
    }
    let operation = line.iter().find(|other| !other.task.is_update());
    if let (false, Some(other)) = (task.is_update(), operation) {
        return Err(NoRun::Busy(other.task.clone()));
    }
    let run = new();
    line.push_back(Item {
        task,
        run: run.clone(),
    });
    Ok(run)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Held,
    /// Lent to other runs, while the run waits for the target's lock.
    Lent,
    /// The run has the lock, and gets the next free job.
    Wanted,
}

impl<R: Clone> Queue<R> {
    /// A queue for at most `jobs` runs at a time.
    pub fn new(jobs: NonZeroUsize) -> Self {
        Self {
            targets: BTreeMap::new(),
            ready: VecDeque::new(),
            free_jobs: jobs.get(),
            wanted: 0,
            for_runs: usize::from(jobs.get() > 1),
        }
    }

    /// The run that serves a request now: one that has not started yet, or else a new one. A rollback or retry that goes on also serves
    /// clients that request the same.
    pub fn trigger(&mut self, name: &TriggerName, task: Task, new: impl FnOnce() -> R) -> Result<R, NoRun> {
        match self.targets.get_mut(name) {
            Some(Slot::Waiting(line)) => join(None, line, task, new),
            Some(Slot::Running { now, next, .. }) => join(Some(now), next, task, new),
            Some(Slot::Stuck(stuck)) => Err(NoRun::Stuck(stuck.clone())),
            None => {
                let mut line = Line::new();
                let run = join(None, &mut line, task, new)?;
                self.targets.insert(name.clone(), Slot::Waiting(line));
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
        let Some(Slot::Waiting(mut next)) = self.targets.remove(&name) else {
            unreachable!("only waiting targets are ready");
        };
        let now = next.pop_front()?;
        let run = now.run.clone();
        let job = Job::Held;
        self.targets
            .insert(name.clone(), Slot::Running { now, next, job });
        self.free_jobs -= 1;
        Some((name, run))
    }

    /// The run of `name` has ended. Gives whether another one follows, which waits for [`Self::follow`].
    #[must_use]
    pub fn finished(&mut self, name: &TriggerName) -> bool {
        let next = self.end(name);
        let follows = !next.is_empty();
        if follows {
            self.targets.insert(name.clone(), Slot::Waiting(next));
        }
        follows
    }

    /// End the run of `name`; gives the runs that were to follow.
    fn end(&mut self, name: &TriggerName) -> Line<R> {
        let Some(Slot::Running { next, job, .. }) = self.targets.remove(name) else {
            return Line::new();
        };
        match job {
            Job::Held => self.free_jobs += 1,
            Job::Lent => {}
            Job::Wanted => self.wanted -= 1,
        }
        next
    }

    /// Take a job for a poll, if no run waits for one and another job stays free. If `jobs` is 1, none has to stay free.
    pub fn begin_poll(&mut self) -> bool {
        let is_free = self.ready.is_empty() && self.free_jobs > self.wanted + self.for_runs;
        if is_free {
            self.free_jobs -= 1;
        }
        is_free
    }

    /// The poll has ended. Gives whether another poll takes over its job, which is free otherwise.
    pub fn next_poll(&mut self) -> bool {
        self.end_poll();
        self.begin_poll()
    }

    /// The poll has ended, or was abandoned.
    pub fn end_poll(&mut self) {
        self.free_jobs += 1;
    }

    /// The next run of `name` may start, after the other targets that wait for a job.
    pub fn follow(&mut self, name: &TriggerName) {
        self.ready.push_back(name.clone());
    }

    /// The run of `name` waits for the target's lock: its job is free for others.
    pub fn lend(&mut self, name: &TriggerName) {
        if let Some(Slot::Running { job, .. }) = self.targets.get_mut(name)
            && *job == Job::Held
        {
            *job = Job::Lent;
            self.free_jobs += 1;
        }
    }

    /// Give the run of `name` a job again, if one is free. If not, it gets the next one.
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

    /// Abandon the run of `name`: its job is free, and no other run of it can start until [`Self::came_back`]. Gives the runs that were
    /// to follow.
    pub fn give_up(&mut self, name: &TriggerName, stuck: Stuck) -> Vec<R> {
        let next = self.end(name);
        self.targets.insert(name.clone(), Slot::Stuck(stuck));
        next.into_iter().map(|item| item.run).collect()
    }

    /// The abandoned run of `name` has come back.
    pub fn came_back(&mut self, name: &TriggerName) {
        self.targets.remove(name);
    }

    /// The abandoned run of `name`, if it has not come back.
    pub fn stuck(&self, name: &TriggerName) -> Option<&Stuck> {
        match self.targets.get(name) {
            Some(Slot::Stuck(stuck)) => Some(stuck),
            _ => None,
        }
    }

    /// All stuck runs.
    pub fn all_stuck(&self) -> impl Iterator<Item = (&TriggerName, &Stuck)> {
        self.targets.iter().filter_map(|(name, slot)| match slot {
            Slot::Stuck(stuck) => Some((name, stuck)),
            Slot::Waiting(_) | Slot::Running { .. } => None,
        })
    }

    /// The state of the target of `name`.
    pub fn state(&self, name: &TriggerName) -> State {
        match self.targets.get(name) {
            None => State::Idle,
            Some(Slot::Waiting(_)) => State::Waiting,
            Some(Slot::Running { next, .. }) if next.is_empty() => State::Running,
            Some(Slot::Running { .. }) => State::RunningThenQueued,
            Some(Slot::Stuck(_)) => State::Stuck,
        }
    }

    /// How many runs go on, wait, and are stuck.
    pub fn load(&self) -> (usize, usize, usize) {
        let (mut running, mut waiting, mut stuck) = (0, 0, 0);
        for slot in self.targets.values() {
            match slot {
                Slot::Waiting(line) => waiting += line.len(),
                Slot::Running { next, .. } => {
                    running += 1;
                    waiting += next.len();
                }
                Slot::Stuck(_) => stuck += 1,
            }
        }
        (running, waiting, stuck)
    }

    /// The runs of `name` that have not ended: the one that goes on, then those that wait.
    pub fn runs(&self, name: &TriggerName) -> impl DoubleEndedIterator<Item = &R> {
        let (now, line) = match self.targets.get(name) {
            None | Some(Slot::Stuck(_)) => (None, None),
            Some(Slot::Waiting(line)) => (None, Some(line)),
            Some(Slot::Running { now, next, .. }) => (Some(now), Some(next)),
        };
        now.into_iter()
            .chain(line.into_iter().flatten())
            .map(|item| &item.run)
    }

    /// The runs that go on.
    pub fn going_on(&self) -> impl Iterator<Item = (&TriggerName, &R)> {
        self.targets.iter().filter_map(|(name, slot)| match slot {
            Slot::Running { now, .. } => Some((name, &now.run)),
            Slot::Waiting(_) | Slot::Stuck(_) => None,
        })
    }

    /// Whether nothing runs or waits; stuck runs do not count.
    pub fn is_idle(&self) -> bool {
        self.targets.values().all(|slot| matches!(slot, Slot::Stuck(_)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
