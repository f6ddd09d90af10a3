//! Interleavings of triggers, starts and ends.

use std::collections::BTreeSet;

use super::*;

fn name(n: usize) -> TriggerName {
    TriggerName::new(format!("t{n}")).unwrap()
}

/// Whatever the interleaving: a trigger is served by a run that starts after it, a burst costs at most
/// two runs, no more than `jobs` run at once, one at a time per target, and no request is forgotten.
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
                    let run = queue.trigger(&name, Task::Update, || {
                        next_run += 1;
                        next_run
                    });
                    let run = run.unwrap();
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
        let run = self.queue.trigger(name, Task::Update, || {
            *made += 1;
            *made
        });
        let run = run.unwrap();
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
        // No target overtakes another twice, so the line is at most as long as there are targets.
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
        let run = queue.trigger(&name(n), Task::Update, || {
            runs += 1;
            runs
        });
        run.unwrap()
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
    queue.trigger(&name(0), Task::Update, || 1).unwrap();
    assert_eq!(seen(&queue), [1]);
    assert_eq!(queue.start(), Some((name(0), 1)));
    assert_eq!(seen(&queue), [1]);
    assert_eq!(queue.trigger(&name(0), Task::Update, || 2), Ok(2));
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

#[test]
fn a_lent_job_is_used_and_comes_back_first() {
    let mut queue = Queue::new(NonZeroUsize::MIN);
    for n in 0..3 {
        queue.trigger(&name(n), Task::Update, || n).unwrap();
    }
    assert_eq!(queue.start(), Some((name(0), 0)));
    assert_eq!(queue.start(), None);
    queue.lend(&name(0));
    assert_eq!(queue.start(), Some((name(1), 1)));
    assert!(!queue.take_back(&name(0)) && !queue.take_back(&name(0)));
    assert!(!queue.finished(&name(1)));
    assert_eq!(queue.start(), None, "it is wanted back");
    assert!(queue.take_back(&name(0)) && queue.take_back(&name(0)));
    assert!(!queue.finished(&name(0)));
    assert_eq!(queue.start(), Some((name(2), 2)));
    // One that ends without a job gives none back.
    queue.lend(&name(2));
    assert!(!queue.finished(&name(2)));
    queue.trigger(&name(0), Task::Update, || 3).unwrap();
    queue.trigger(&name(1), Task::Update, || 4).unwrap();
    assert_eq!(queue.start(), Some((name(0), 3)));
    assert_eq!(queue.start(), None);
}

#[test]
fn what_is_stuck_holds_its_target_and_no_job() {
    let stuck = Stuck {
        since: 7,
        step: crate::base::event::Step::Fetch,
        run: crate::base::name::RunId::none(),
    };
    let mut queue = Queue::new(NonZeroUsize::MIN);
    queue.trigger(&name(0), Task::Update, || 1).unwrap();
    queue.start().unwrap();
    queue.trigger(&name(0), Task::Update, || 2).unwrap();
    queue.trigger(&name(1), Task::Update, || 3).unwrap();
    assert_eq!(queue.give_up(&name(0), stuck.clone()), [2]);
    assert_eq!((queue.state(&name(0)), queue.load()), (State::Stuck, (0, 1, 1)));
    assert_eq!(
        queue.trigger(&name(0), Task::Update, || 4),
        Err(NoRun::Stuck(stuck))
    );
    assert_eq!(queue.start(), Some((name(1), 3)));
    assert!(!queue.is_idle());
    assert!(!queue.finished(&name(1)));
    assert!(queue.is_idle(), "what is stuck is not waited for");
    queue.came_back(&name(0));
    assert_eq!((queue.state(&name(0)), queue.load()), (State::Idle, (0, 0, 0)));
    assert_eq!(queue.trigger(&name(0), Task::Update, || 5), Ok(5));
    assert_eq!(queue.start(), Some((name(0), 5)));
}

/// What is asked for is done in the order in which it was asked for, whatever is joined; and little waits.
#[test]
fn operations_and_updates_keep_their_order() {
    let mut rng = fastrand::Rng::with_seed(crate::machine::seed());
    let to = crate::base::name::Earlier::parse("5d6e").unwrap();
    let tasks = [
        Task::Update,
        Task::Update,
        Task::Retry,
        Task::Rollback { to: None },
        Task::Rollback { to: Some(to) },
        Task::Hooks,
    ];
    for _ in 0..300 {
        let mut queue = Queue::new(NonZeroUsize::MIN);
        // What each run is to do, in the order in which they were made.
        let mut made = Vec::<Task>::new();
        let (mut started, mut goes_on) = (0, false);
        for _ in 0..100 {
            match rng.u8(0..3) {
                0 if !goes_on => {
                    if let Some((_, run)) = queue.start() {
                        assert_eq!(run, started, "another one was first");
                        (started, goes_on) = (started + 1, true);
                    }
                }
                1 if goes_on => {
                    goes_on = false;
                    if queue.finished(&name(0)) {
                        queue.follow(&name(0));
                    }
                }
                _ => {
                    let task = tasks[rng.usize(..tasks.len())].clone();
                    let before = made.len();
                    let served = queue.trigger(&name(0), task.clone(), || {
                        made.push(task.clone());
                        before
                    });
                    let waiting = &made[started..];
                    let operations = waiting.iter().filter(|task| !task.is_update()).count();
                    assert!(waiting.len() <= 3 && operations <= 1, "{waiting:?}");
                    match served {
                        Ok(run) => {
                            assert_eq!(made[run], task);
                            // An update is served by one that begins from now on, and behind what was asked for before.
                            assert!(!task.is_update() || (run >= started && run + 1 == made.len()));
                            assert!(run + 1 >= started);
                            assert!(
                                task != Task::Hooks || run >= started,
                                "those that go on have begun"
                            );
                        }
                        Err(refused) => {
                            let other = waiting.iter().find(|task| !task.is_update()).unwrap();
                            assert_eq!(refused, NoRun::Busy(other.clone()));
                            assert!(!task.is_update() && *other != task);
                        }
                    }
                }
            }
        }
        assert_eq!(
            queue.runs(&name(0)).count(),
            made.len() - started + usize::from(goes_on)
        );
    }
}

/// Whatever the interleaving: polls and runs together never have more than the jobs, a poll begins only while no run waits for a
/// job, and leaves one where there are several.
#[test]
fn polls_have_jobs_that_no_run_waits_for() {
    let mut rng = fastrand::Rng::with_seed(crate::machine::seed());
    for _ in 0..300 {
        let jobs = rng.usize(1..5);
        let mut queue = Queue::new(NonZeroUsize::new(jobs).unwrap());
        let (mut running, mut polls, mut most) = (Vec::new(), 0_usize, 0);
        for _ in 0..200 {
            let held = running.len() + polls;
            match rng.u8(0..5) {
                0 => drop(queue.trigger(&name(rng.usize(0..9)), Task::Update, || 0)),
                1 => running.extend(queue.start().map(|(name, _)| name)),
                2 if !running.is_empty() => {
                    let name = running.swap_remove(rng.usize(0..running.len()));
                    if queue.finished(&name) {
                        queue.follow(&name);
                    }
                }
                3 => {
                    let waits = queue.load().1 > 0 && !queue.ready.is_empty();
                    if queue.begin_poll() {
                        assert!(!waits && held < jobs && (jobs == 1 || held + 1 < jobs));
                        polls += 1;
                        most = most.max(polls);
                    }
                }
                4 if polls > 0 => polls -= usize::from(!queue.next_poll()),
                _ => {}
            }
            assert!(running.len() + polls <= jobs);
            if polls == 0 && running.len() < jobs && !queue.ready.is_empty() {
                running.extend(queue.start().map(|(name, _)| name));
            }
        }
        assert!(most <= 1.max(jobs - 1));
        for _ in 0..polls {
            queue.end_poll();
        }
        assert_eq!(queue.free_jobs, jobs - running.len());
    }
}
