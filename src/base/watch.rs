//! A run's time: until when it may go on, in which step it is, and what ends its waits early.
//!
//! A run looks at its [`Watch`] at the beginning of each step, and wherever it waits. One that does not look, because
//! the kernel holds its thread, is given up on by the thread that started it: see [`GRACE`].

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::base::{
    fault::{Failure, Kind},
    mutex,
    name::AbsPath,
    report::Step,
};

/// How long a run may take to end once its time is over, before it counts as stuck: its hooks get a few seconds to end by
/// themselves, and a file that is being written is written to its end.
pub const GRACE: Duration = Duration::from_secs(15);

/// Where a run takes part in `jobs`: the place is free for others while the run waits for the target's lock.
pub trait Job: Send + Sync {
    fn lend(&self);
    /// Take a place again; false if there is none. [`Stop::wake`] says when to ask again.
    fn take_back(&self) -> bool;
}

/// A run's time. Clones are the same run's.
#[derive(Clone)]
pub struct Watch(Arc<Inner>);

struct Inner {
    limit: Duration,
    until: Instant,
    over: AtomicBool,
    at: Mutex<At>,
    stop: Stop,
    job: Option<Arc<dyn Job>>,
}

/// Where a run is, and how long it was where it has been.
struct At {
    step: Step,
    since: Instant,
    /// The steps before, in the order in which they were first entered.
    before: Vec<(Step, Duration)>,
}

/// There is no time left for a step.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("no time was left for it")]
pub struct Over;

/// Why a wait ended before what it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Early {
    Over,
    Stopping,
}

impl Watch {
    /// A run that begins now and may take as long as `limit`.
    pub fn new(limit: Duration, stop: Stop, job: Option<Arc<dyn Job>>) -> Self {
        let now = Instant::now();
        let at = At {
            step: Step::Lock,
            since: now,
            before: Vec::new(),
        };
        Self(Arc::new(Inner {
            limit,
            until: now + limit,
            over: AtomicBool::new(false),
            at: Mutex::new(at),
            stop,
            job,
        }))
    }

    /// Begin `step`, if any time is left.
    pub fn enter(&self, step: Step) -> Result<(), Over> {
        mutex::lock(&self.0.at).enter(step);
        if self.is_over() { Err(Over) } else { Ok(()) }
    }

    /// The step that the run is in.
    pub fn step(&self) -> Step {
        mutex::lock(&self.0.at).step
    }

    /// How long the run was in each of its steps, up to now.
    pub fn spent(&self) -> Vec<(Step, Duration)> {
        let mut at = mutex::lock(&self.0.at);
        let step = at.step;
        at.enter(step);
        at.before.clone()
    }

    /// How long the run may take in all.
    pub fn limit(&self) -> Duration {
        self.0.limit
    }

    /// When the run's time is over.
    pub fn until(&self) -> Instant {
        self.0.until
    }

    pub fn left(&self) -> Duration {
        self.0.until.saturating_duration_since(Instant::now())
    }

    /// For how long the run's time has been over.
    pub fn late(&self) -> Option<Duration> {
        Instant::now().checked_duration_since(self.0.until)
    }

    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Relaxed) || self.late().is_some()
    }

    /// As [`Self::is_over`], for loops that look often: set once [`Self::end`] was called.
    pub fn over(&self) -> &AtomicBool {
        &self.0.over
    }

    /// End the run's time: loops that look at [`Self::over`] end.
    pub fn end(&self) {
        self.0.over.store(true, Ordering::Relaxed);
    }

    pub fn pause(&self, time: Duration) -> Result<(), Early> {
        if time >= self.left() {
            Err(Early::Over)
        } else if self.0.stop.wait(time) {
            Err(Early::Stopping)
        } else {
            Ok(())
        }
    }

    /// Wait until `is_there`, without a place in `jobs`. The code that makes it true calls [`Self::ring`].
    pub fn wait_for(&self, is_there: impl Fn() -> bool) -> Result<(), Early> {
        let Inner { stop, until, job, .. } = &*self.0;
        let Some(job) = job else {
            return stop.wait_until(*until, is_there);
        };
        job.lend();
        // Also if it came too early: the end of a run counts its place.
        let waited = stop.wait_until(*until, is_there);
        waited.and_then(|()| stop.wait_until(*until, || job.take_back()))
    }

    /// Wait until `is_there`, which is looked at after every `pause`, without a place in `jobs`: for what
    /// rings no bell.
    pub fn look_every(&self, pause: Duration, is_there: impl Fn() -> bool) -> Result<(), Early> {
        let Inner { stop, until, job, .. } = &*self.0;
        if let Some(job) = job {
            job.lend();
        }
        while !is_there() {
            self.pause(pause)?;
        }
        match job {
            Some(job) => stop.wait_until(*until, || job.take_back()),
            None => Ok(()),
        }
    }

    /// Let all waiters look again.
    pub fn ring(&self) {
        self.0.stop.wake();
    }
}

/// The end of a run that has not come back in time, though it was told: on `path`.
pub fn stuck(watch: &Watch, path: &AbsPath) -> Failure {
    let message = format!(
        "the run was not over after {} (`run_timeout`), and is stuck in the step {}",
        humantime::format_duration(watch.limit()),
        watch.step().as_str()
    );
    Failure::new(Kind::Timeout, message, Some(&held_by_the_kernel(path)))
}

/// What to do about a thread that hangs with something below `path`.
pub fn held_by_the_kernel(path: &AbsPath) -> String {
    format!(
        "the kernel holds its thread: see whether the file system at {path} answers, or is a dead NFS or FUSE mount, a \
         frozen or broken disk; once it answers, or is unmounted by force, triggers work again by themselves"
    )
}

impl At {
    /// Go on with `step`, which the run may have entered before.
    fn enter(&mut self, step: Step) {
        let now = Instant::now();
        let time = now - self.since;
        match self.before.iter_mut().find(|(before, _)| *before == self.step) {
            Some((_, spent)) => *spent += time,
            None => self.before.push((self.step, time)),
        }
        self.step = step;
        self.since = now;
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({:?}, {:?} left)", self.step(), self.left())
    }
}

/// Whether the process is stopping: then runs end as soon as they can do so well. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    pub fn is_set(&self) -> bool {
        *mutex::lock(&self.0.0)
    }

    pub fn set(&self) {
        let (stopping, bell) = &*self.0;
        *mutex::lock(stopping) = true;
        bell.notify_all();
    }

    /// Wait for `time`, or until the process is stopping, which is the value.
    pub fn wait(&self, time: Duration) -> bool {
        let (stopping, bell) = &*self.0;
        let (stopping, _) = bell
            .wait_timeout_while(mutex::lock(stopping), time, |stopping| !*stopping)
            .unwrap_or_else(PoisonError::into_inner);
        *stopping
    }

    /// Wait until `is_there`, which [`Self::wake`] says to look at again.
    fn wait_until(&self, until: Instant, is_there: impl Fn() -> bool) -> Result<(), Early> {
        let (stopping, bell) = &*self.0;
        let mut stopping = mutex::lock(stopping);
        loop {
            if is_there() {
                return Ok(());
            }
            if *stopping {
                return Err(Early::Stopping);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Early::Over);
            }
            let woken = bell.wait_timeout(stopping, left);
            (stopping, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Let all waiters look again.
    pub fn wake(&self) {
        let (stopping, bell) = &*self.0;
        // Not between a look and the wait that follows it.
        drop(mutex::lock(stopping));
        bell.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_stop_ends_the_wait() {
        let stop = Stop::default();
        assert!(!stop.wait(Duration::from_millis(20)));
        let begin = Instant::now();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| stop.wait(LONG));
            stop.set();
            assert!(waiting.join().is_ok_and(|stopped| stopped));
        });
        assert!(stop.wait(LONG), "from now on at once");
        assert!(begin.elapsed() < LONG);
    }

    #[test]
    fn waits_end_with_the_run() {
        let watch = Watch::new(Duration::from_millis(20), Stop::default(), None);
        assert_eq!(watch.pause(LONG), Err(Early::Over), "not even begun");
        assert_eq!(watch.wait_for(|| false), Err(Early::Over));
        assert!(watch.is_over() && watch.late().is_some());
        assert!(watch.enter(Step::Fetch).is_err());
        assert_eq!(watch.step(), Step::Fetch, "it says where it ended");

        let watch = Watch::new(LONG, Stop::default(), None);
        assert!(!watch.is_over() && watch.enter(Step::Fetch).is_ok());
        watch.end();
        assert!(watch.enter(Step::Hooks).is_err());
    }

    #[test]
    fn steps_are_timed() {
        let watch = Watch::new(LONG, Stop::default(), None);
        let begin = Instant::now();
        for step in [Step::Fetch, Step::Hooks, Step::Health, Step::Hooks] {
            watch.enter(step).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        let (spent, most) = (watch.spent(), begin.elapsed());
        let steps: Vec<Step> = spent.iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, [Step::Lock, Step::Fetch, Step::Hooks, Step::Health]);
        assert!(spent[2].1 >= Duration::from_millis(4), "both times: {spent:?}");
        let all: Duration = spent.iter().skip(1).map(|(_, time)| *time).sum();
        assert!(all >= Duration::from_millis(8) && all <= most, "{spent:?}");
    }

    struct FakeJob(Mutex<Vec<&'static str>>, AtomicBool);

    impl Job for FakeJob {
        fn lend(&self) {
            mutex::lock(&self.0).push("lent");
        }
        fn take_back(&self) -> bool {
            self.1.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_place_is_lent_until_there_is_one_again() {
        let place = Arc::new(FakeJob(Mutex::default(), AtomicBool::new(false)));
        let stop = Stop::default();
        let watch = Watch::new(LONG, stop.clone(), Some(place.clone()));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| watch.wait_for(|| !mutex::lock(&place.0).is_empty()));
            place.1.store(true, Ordering::Relaxed);
            watch.ring();
            assert_eq!(waiting.join().unwrap(), Ok(()));
        });
        assert_eq!(*mutex::lock(&place.0), ["lent"]);
        place.1.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| watch.wait_for(|| true));
            stop.set();
            assert_eq!(waiting.join().unwrap(), Err(Early::Stopping));
        });
    }
}
