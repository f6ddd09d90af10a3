//! The state machine: what each target does, and which run is next. No threads, no clocks.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
};

use crate::{event::State, name::TriggerName};

/// What each target does, and who is next. `R` is a run.
#[derive(Debug)]
pub struct Queue<R> {
    /// A target that is not here is idle.
    targets: BTreeMap<TriggerName, Slot<R>>,
    /// Targets whose run waits for a job, the longest wait first.
    ready: VecDeque<TriggerName>,
    free_jobs: usize,
}

#[derive(Debug)]
enum Slot<R> {
    /// Its run waits for a job, or for more who want it.
    Waiting(R),
    /// Its run goes on.
    Running(R),
    /// Its run goes on, and another follows.
    RunningThen(R, R),
}

impl<R: Clone> Queue<R> {
    /// At most `jobs` runs at a time.
    pub fn new(jobs: NonZeroUsize) -> Self {
        Self {
            targets: BTreeMap::new(),
            ready: VecDeque::new(),
            free_jobs: jobs.get(),
        }
    }

    /// The run that serves a trigger said now: one that has not yet started, or else a new one.
    pub fn trigger(&mut self, name: &TriggerName, new: impl FnOnce() -> R) -> R {
        match self.targets.get_mut(name) {
            Some(Slot::Waiting(run) | Slot::RunningThen(_, run)) => run.clone(),
            Some(slot @ Slot::Running(_)) => {
                let run = new();
                if let Slot::Running(running) = slot {
                    *slot = Slot::RunningThen(running.clone(), run.clone());
                }
                run
            }
            None => {
                let run = new();
                self.targets.insert(name.clone(), Slot::Waiting(run.clone()));
                self.ready.push_back(name.clone());
                run
            }
        }
    }

    /// The next run to start, which takes a job until [`Self::finished`].
    pub fn start(&mut self) -> Option<(TriggerName, R)> {
        if self.free_jobs == 0 {
            return None;
        }
        let name = self.ready.pop_front()?;
        let Some(Slot::Waiting(run)) = self.targets.remove(&name) else {
            unreachable!("only waiting targets are ready");
        };
        self.targets.insert(name.clone(), Slot::Running(run.clone()));
        self.free_jobs -= 1;
        Some((name, run))
    }

    /// The run of `name` has ended; whether another one follows, which waits for [`Self::follow`].
    #[must_use]
    pub fn finished(&mut self, name: &TriggerName) -> bool {
        self.free_jobs += 1;
        let Some(Slot::RunningThen(_, run)) = self.targets.remove(name) else {
            return false;
        };
        self.targets.insert(name.clone(), Slot::Waiting(run));
        true
    }

    /// The run that follows in `name` goes to the end of the line.
    pub fn follow(&mut self, name: &TriggerName) {
        self.ready.push_back(name.clone());
    }

    /// What the target of `name` does.
    pub fn state(&self, name: &TriggerName) -> State {
        match self.targets.get(name) {
            None => State::Idle,
            Some(Slot::Waiting(_)) => State::Waiting,
            Some(Slot::Running(_)) => State::Running,
            Some(Slot::RunningThen(..)) => State::RunningThenQueued,
        }
    }

    /// How many runs go on, and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let slots = self.targets.values();
        slots.fold((0, 0), |(running, waiting), slot| match slot {
            Slot::Waiting(_) => (running, waiting + 1),
            Slot::Running(_) => (running + 1, waiting),
            Slot::RunningThen(..) => (running + 1, waiting + 1),
        })
    }

    /// The runs of `name` that have not ended: the one that goes on, then the one that waits.
    pub fn runs(&self, name: &TriggerName) -> impl Iterator<Item = &R> {
        let (first, second) = match self.targets.get(name) {
            None => (None, None),
            Some(Slot::Waiting(run) | Slot::Running(run)) => (Some(run), None),
            Some(Slot::RunningThen(run, next)) => (Some(run), Some(next)),
        };
        first.into_iter().chain(second)
    }

    /// Whether nothing runs or waits.
    pub fn is_idle(&self) -> bool {
        self.targets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn name(n: usize) -> TriggerName {
        TriggerName::new(format!("t{n}")).unwrap()
    }

    /// Whatever the interleaving: a trigger is served by a run that starts after it, a burst costs at most
    /// two runs, no more than `jobs` run at once, one at a time per target, and nobody is forgotten.
    #[test]
    fn random_interleavings() {
        let mut rng = fastrand::Rng::with_seed(crate::machine::seed());
        for _ in 0..300 {
            let jobs = rng.usize(1..4);
            let mut queue = Queue::new(NonZeroUsize::new(jobs).unwrap());
            let (mut next_run, mut started) = (0, Vec::<usize>::new());
            let mut running: Vec<(TriggerName, usize)> = Vec::new();
            let mut served = Vec::new();
            for _ in 0..200 {
                match rng.u8(0..3) {
                    0 => {
                        let name = name(rng.usize(0..5));
                        let run = queue.trigger(&name, || {
                            next_run += 1;
                            next_run
                        });
                        assert!(!started.contains(&run), "served by a run that had started before");
                        served.push(run);
                    }
                    1 => {
                        if let Some((name, run)) = queue.start() {
                            assert!(running.iter().all(|(other, _)| *other != name));
                            running.push((name, run));
                            started.push(run);
                            assert!(running.len() <= jobs);
                        }
                    }
                    _ if !running.is_empty() => {
                        let (name, _) = running.swap_remove(rng.usize(..running.len()));
                        if queue.finished(&name) {
                            queue.follow(&name);
                        }
                    }
                    _ => {}
                }
            }
            loop {
                if let Some((name, run)) = queue.start() {
                    started.push(run);
                    running.push((name, run));
                } else if let Some((name, _)) = running.pop() {
                    if queue.finished(&name) {
                        queue.follow(&name);
                    }
                } else {
                    break;
                }
            }
            assert!(queue.is_idle());
            assert!(served.iter().all(|run| started.contains(run)));
            started.sort_unstable();
            assert_eq!(
                started,
                (1..=next_run).collect::<Vec<_>>(),
                "every run starts once"
            );
        }
    }

    /// A queue, and all that happened to it.
    struct Watched {
        queue: Queue<usize>,
        /// How many runs were made: the next one's number.
        made: usize,
        /// The runs that were started, in order.
        starts: Vec<(TriggerName, usize)>,
        running: Vec<TriggerName>,
        /// Triggers: how many runs had started, in all and of their target, and which run is to serve them.
        triggers: Vec<(TriggerName, usize, usize, usize)>,
        /// Targets in the line, and how many runs had started when they entered it.
        waiting: BTreeMap<TriggerName, usize>,
    }

    impl Watched {
        fn new(jobs: usize) -> Self {
            Self {
                queue: Queue::new(NonZeroUsize::new(jobs).unwrap()),
                made: 0,
                starts: Vec::new(),
                running: Vec::new(),
                triggers: Vec::new(),
                waiting: BTreeMap::new(),
            }
        }

        fn trigger(&mut self, name: &TriggerName) {
            let made = &mut self.made;
            let run = self.queue.trigger(name, || {
                *made += 1;
                *made
            });
            let own = self.starts.iter().filter(|(other, _)| other == name).count();
            self.triggers.push((name.clone(), self.starts.len(), own, run));
            self.look_at_the_line(name);
        }

        fn finish(&mut self, which: usize) {
            let name = self.running.swap_remove(which);
            if self.queue.finished(&name) {
                self.queue.follow(&name);
            }
            self.look_at_the_line(&name);
        }

        fn look_at_the_line(&mut self, name: &TriggerName) {
            if self.queue.state(name) == State::Waiting {
                self.waiting.entry(name.clone()).or_insert(self.starts.len());
            }
        }

        fn start(&mut self) -> bool {
            let Some((name, run)) = self.queue.start() else {
                return false;
            };
            assert!(!self.running.contains(&name), "two runs of {name} at once");
            // Nobody passes twice: so the line is at most as long as there are targets.
            let passed = &self.starts[self.waiting.remove(&name).unwrap()..];
            let others: BTreeSet<_> = passed.iter().map(|(other, _)| other).collect();
            assert_eq!(others.len(), passed.len(), "{name} was passed twice: {passed:?}");
            assert!(!others.contains(&name));
            self.running.push(name.clone());
            self.starts.push((name, run));
            true
        }
    }

    /// Whatever the interleaving, and with targets that are triggered without end: a trigger is answered by a run that
    /// starts after it arrived; a burst costs two runs at most, as triggers between two starts of their target share
    /// one; and a run that waits for a job sees every other target start once at most before it starts itself.
    #[test]
    fn no_target_starves_another() {
        let mut rng = fastrand::Rng::with_seed(crate::machine::seed());
        for _ in 0..300 {
            let (jobs, targets) = (rng.usize(1..5), rng.usize(2..8));
            let endless = rng.usize(0..targets);
            let mut watched = Watched::new(jobs);
            for _ in 0..200 {
                (0..endless).for_each(|n| watched.trigger(&name(n)));
                match rng.u8(0..4) {
                    0 => watched.trigger(&name(rng.usize(0..targets))),
                    1 | 2 => drop(watched.start()),
                    _ if !watched.running.is_empty() => {
                        let which = rng.usize(..watched.running.len());
                        watched.finish(which);
                    }
                    _ => {}
                }
            }
            while watched.start() || !watched.running.is_empty() {
                if !watched.start() {
                    watched.finish(0);
                }
            }
            assert!(watched.queue.is_idle() && watched.waiting.is_empty());
            let mut runs = BTreeMap::new();
            for (name, before, own, run) in &watched.triggers {
                let at = watched
                    .starts
                    .iter()
                    .position(|(_, started)| started == run)
                    .unwrap();
                assert!(
                    at >= *before,
                    "a trigger of {name} is answered by a run that had started"
                );
                let shared = runs.entry((name, own)).or_insert(run);
                assert_eq!(*shared, run, "one burst of {name} cost too many runs");
            }
            assert_eq!(watched.starts.len(), watched.made, "every run starts once");
        }
    }

    #[test]
    fn a_burst_costs_two_runs_and_nobody_starves() {
        let mut queue = Queue::new(NonZeroUsize::MIN);
        let mut runs = 0;
        let mut trigger = |queue: &mut Queue<usize>, n| {
            queue.trigger(&name(n), || {
                runs += 1;
                runs
            })
        };
        trigger(&mut queue, 0);
        assert_eq!(queue.start().unwrap().0, name(0));
        let served: Vec<_> = (0..100).map(|_| trigger(&mut queue, 0)).collect();
        assert_eq!(served, vec![2; 100]);
        trigger(&mut queue, 1);
        if queue.finished(&name(0)) {
            queue.follow(&name(0));
        }
        assert_eq!(queue.start().unwrap().0, name(1), "who waited longer is first");
        if queue.finished(&name(1)) {
            queue.follow(&name(1));
        }
        assert_eq!(queue.start().unwrap().0, name(0));
        if queue.finished(&name(0)) {
            queue.follow(&name(0));
        }
        assert!(queue.is_idle());
    }

    #[test]
    fn runs_are_seen_from_their_acceptance_to_their_end() {
        let mut queue = Queue::new(NonZeroUsize::MIN);
        let seen = |queue: &Queue<u8>| queue.runs(&name(0)).copied().collect::<Vec<_>>();
        assert!(seen(&queue).is_empty());
        queue.trigger(&name(0), || 1);
        assert_eq!(seen(&queue), [1]);
        assert_eq!(queue.start(), Some((name(0), 1)));
        assert_eq!(seen(&queue), [1]);
        assert_eq!(queue.trigger(&name(0), || 2), 2);
        assert_eq!(seen(&queue), [1, 2]);
        if queue.finished(&name(0)) {
            queue.follow(&name(0));
        }
        assert_eq!(seen(&queue), [2]);
        assert_eq!(queue.start(), Some((name(0), 2)));
        if queue.finished(&name(0)) {
            queue.follow(&name(0));
        }
        assert!(seen(&queue).is_empty());
    }
}
