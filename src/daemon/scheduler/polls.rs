//! When each remote is polled, and what follows from its answer. No threads, no clocks: callers pass the time.
//!
//! If a remote does not answer, the interval grows. If the run of a commit fails, the interval to its next try grows, but the remote is
//! polled as often as before, since it may get a better commit.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    base::{
        event::{Polled, Unasked},
        fault::{Failure, Kind},
        name::TriggerName,
    },
    deploy::poll::{Answer, Is, PATIENCE},
    git::fetch::Newest,
};

/// The longest wait after a failure, unless the trigger's interval is longer.
const RAREST: Duration = Duration::from_secs(60 * 60);
/// By what fraction a wait may differ from the interval, so that hosts that were started together do not poll together.
const JITTER: f64 = 0.1;
/// How far apart the first polls of a worker are, on average.
const APART: Duration = Duration::from_millis(50);
/// A poll that takes longer hangs in the kernel, since the remote itself has only [`PATIENCE`].
pub(super) const HANGS: Duration = PATIENCE.saturating_add(Duration::from_secs(15));

/// When each trigger is polled.
#[derive(Debug, Default)]
pub(super) struct Polls(BTreeMap<TriggerName, Turn>);

#[derive(Debug)]
struct Turn {
    every: Duration,
    at: At,
    /// How many runs have begun: an answer from before the last begin does not count.
    runs: u64,
    /// The last answer, if it called for no run.
    quiet: Option<Answer>,
    tried: Option<Tried>,
    /// When the remote last answered, in seconds since 1970-01-01 UTC.
    asked: Option<u64>,
    failing: Option<Unasked>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The next poll begins then.
    Due(Instant),
    /// A poll goes on, since then.
    Asking(Instant),
    /// A poll hangs, and its thread was abandoned.
    Lost,
    /// A run waits or goes on; the next poll begins some time after its end.
    Run,
}

/// A commit that was tried by a run.
#[derive(Debug)]
struct Tried {
    newest: Newest,
    times: u64,
    /// When a run may try it again.
    again: Instant,
}

/// A trigger whose turn it is.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) name: TriggerName,
    /// The last answer, if it called for no run.
    pub(super) quiet: Option<Answer>,
    runs: u64,
}

/// What follows from a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A run is needed.
    Run,
    /// No run is needed, or the answer does not count.
    Nothing,
    /// The poll had been abandoned.
    Late,
}

/// The time, by the monotonic clock and by the system clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) at: Instant,
    pub(super) clock: u64,
}

/// `time`, with a random difference of up to [`JITTER`].
fn about(time: Duration) -> Duration {
    time.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}

/// How long to wait after so many failures.
fn rarely(every: Duration, times: u64) -> Duration {
    // More doublings do not matter.
    let times = u32::try_from(times.min(16)).unwrap_or(0);
    about(every.saturating_mul(1 << times).min(RAREST.max(every)))
}

/// The failure of a poll that hangs in the kernel.
pub(super) fn hangs() -> Failure {
    Failure::new(
        Kind::Timeout,
        format!(
            "the remote did not answer within {} s, and the poll cannot be ended: the kernel holds its thread",
            HANGS.as_secs()
        ),
        Some(
            "see whether the file systems of the target and of a repository on this machine answer, or are dead NFS or FUSE \
             mounts; once they answer, or are unmounted by force, polls go on by themselves",
        ),
    )
}

impl Polls {
    /// The polls of `targets`, each with its interval. All remotes are polled soon after `now`, since this process has no answers
    /// yet.
    pub(super) fn new(targets: impl Iterator<Item = (TriggerName, Duration)>, now: Instant) -> Self {
        let targets: Vec<_> = targets.collect();
        let spread = APART * u32::try_from(targets.len()).unwrap_or(u32::MAX);
        let turns = targets.into_iter().map(|(name, every)| {
            let at = At::Due(now + spread.min(every).mul_f64(fastrand::f64()));
            (name, Turn::new(every, at))
        });
        Self(turns.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next time after `after` at which a poll is due, or counts as hanging.
    pub(super) fn next(&self, after: Instant) -> Option<Instant> {
        let times = self.0.values().filter_map(|turn| match turn.at {
            At::Due(at) => Some(at),
            At::Asking(since) => Some(since + HANGS),
            At::Lost | At::Run => None,
        });
        times.filter(|at| *at > after).min()
    }

    /// How many polls are due at `now`.
    pub(super) fn due(&self, now: Instant) -> usize {
        self.0.values().filter(|turn| turn.is_due(now)).count()
    }

    /// Begin the poll that has been due for the longest time. A trigger whose target is not idle waits for the end of its run
    /// instead.
    pub(super) fn begin(&mut self, now: Instant, is_idle: impl Fn(&TriggerName) -> bool) -> Option<Poll> {
        loop {
            let due = self.0.iter_mut().filter(|(_, turn)| turn.is_due(now));
            let (name, turn) = due.min_by_key(|(_, turn)| match turn.at {
                At::Due(at) => at,
                _ => now,
            })?;
            if !is_idle(name) {
                turn.at = At::Run;
                continue;
            }
            turn.at = At::Asking(now);
            return Some(Poll {
                name: name.clone(),
                quiet: turn.quiet.clone(),
                runs: turn.runs,
            });
        }
    }

    /// Skip `poll` this time.
    pub(super) fn put_off(&mut self, poll: &Poll, now: Instant) {
        if let Some(turn) = self.0.get_mut(&poll.name) {
            turn.at = At::Due(now + about(turn.every));
        }
    }

    /// The remote of `poll` gave this `answer`, or there was a failure. `is_failing` says whether the trigger's last run failed.
    pub(super) fn answered(
        &mut self,
        poll: &Poll,
        answer: Result<Answer, Failure>,
        is_failing: bool,
        now: Now,
    ) -> Verdict {
        let Some(turn) = self.0.get_mut(&poll.name) else {
            return Verdict::Nothing;
        };
        let is_late = !matches!(turn.at, At::Asking(_));
        turn.at = At::Due(now.at + about(turn.every));
        if is_late {
            return Verdict::Late;
        }
        if turn.runs != poll.runs {
            return Verdict::Nothing;
        }
        let is_news = match answer {
            Ok(answer) => turn.hear(answer, is_failing, now),
            Err(failure) => turn.hear_nothing(failure, is_failing, now),
        };
        if is_news { Verdict::Run } else { Verdict::Nothing }
    }

    pub(super) fn run_begins(&mut self, name: &TriggerName) {
        if let Some(turn) = self.0.get_mut(name) {
            turn.runs += 1;
            turn.quiet = None;
        }
    }

    /// A run of `name` has ended, which counts as a poll. `has_asked` says whether its remote has answered.
    pub(super) fn run_ended(&mut self, name: &TriggerName, has_asked: bool, now: Now) {
        let Some(turn) = self.0.get_mut(name) else { return };
        if has_asked {
            turn.failing = None;
            turn.asked = Some(now.clock);
        }
        if matches!(turn.at, At::Due(_) | At::Run) {
            let times = turn.failing.as_ref().map_or(0, |failing| failing.times);
            turn.at = At::Due(now.at + rarely(turn.every, times));
        }
    }

    /// When `name` is due, if that is known.
    pub(super) fn when(&self, name: &TriggerName) -> Option<Instant> {
        match self.0.get(name)?.at {
            At::Due(at) => Some(at),
            At::Asking(_) | At::Lost | At::Run => None,
        }
    }

    /// Poll the remote of `name` as soon as possible.
    pub(super) fn soon(&mut self, name: &TriggerName, now: Instant) {
        if let Some(turn) = self.0.get_mut(name)
            && matches!(turn.at, At::Due(_))
        {
            turn.at = At::Due(now);
        }
    }

    /// Abandon polls that began at `before` or earlier; all polls without it.
    pub(super) fn give_up(&mut self, before: Option<Instant>) -> Vec<TriggerName> {
        let mut lost = Vec::new();
        for (name, turn) in &mut self.0 {
            if let At::Asking(since) = turn.at
                && before.is_none_or(|before| since <= before)
            {
                turn.at = At::Lost;
                lost.push(name.clone());
            }
        }
        lost
    }

    /// Abandon polls that hang at `now`; they count as not answered.
    pub(super) fn give_up_at(&mut self, now: Now) -> Vec<TriggerName> {
        let Some(before) = now.at.checked_sub(HANGS) else {
            return Vec::new();
        };
        let lost = self.give_up(Some(before));
        for name in &lost {
            if let Some(turn) = self.0.get_mut(name) {
                turn.count(hangs(), now);
            }
        }
        lost
    }

    pub(super) fn polled(&self, name: &TriggerName, now: Now) -> Option<Polled> {
        let turn = self.0.get(name)?;
        let next = match turn.at {
            At::Due(at) => Some(now.clock + at.saturating_duration_since(now.at).as_secs()),
            At::Asking(_) => Some(now.clock),
            At::Lost | At::Run => None,
        };
        Some(Polled {
            every: turn.every.as_secs(),
            next,
            asked: turn.asked,
            failing: turn.failing.clone(),
        })
    }
}

impl Turn {
    fn new(every: Duration, at: At) -> Self {
        Self {
            every,
            at,
            runs: 0,
            quiet: None,
            tried: None,
            asked: None,
            failing: None,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        matches!(self.at, At::Due(at) if at <= now)
    }

    /// Whether `answer` calls for a run.
    fn hear(&mut self, answer: Answer, is_failing: bool, now: Now) -> bool {
        let is_back = self.failing.take().is_some();
        self.asked = Some(now.clock);
        let is_quiet = match answer.is {
            Is::Held => true,
            Is::Deployed => !is_failing,
            Is::News => false,
        };
        if is_quiet {
            self.quiet = Some(answer);
            self.tried = None;
            return false;
        }
        let times = match &self.tried {
            Some(tried) if tried.newest == answer.newest => {
                if now.at < tried.again && !is_back {
                    return false;
                }
                tried.times + 1
            }
            _ => 1,
        };
        self.tried = Some(Tried {
            newest: answer.newest,
            times,
            again: now.at + rarely(self.every, times),
        });
        true
    }

    /// Whether the `failure` calls for a run that reports it: not if the trigger is failing already.
    fn hear_nothing(&mut self, failure: Failure, is_failing: bool, now: Now) -> bool {
        let times = self.count(failure, now);
        self.at = At::Due(now.at + rarely(self.every, times));
        !is_failing
    }

    /// Count a poll without an answer. Gives the number in a row.
    fn count(&mut self, failure: Failure, now: Now) -> u64 {
        let (since, times) = match &self.failing {
            Some(failing) => (failing.since, failing.times + 1),
            None => (now.clock, 1),
        };
        self.failing = Some(Unasked {
            since,
            times,
            failure,
        });
        times
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
