//! How a trigger is: the answer to `status`.

use serde::{Deserialize, Serialize};

use super::{
    done::Outcome,
    held::{Held, Why},
    past::{Current, Last, time},
    task::{May, Task},
};
use crate::base::{
    fault::{Failure, Kind},
    name::{Note, RunId, TriggerName, short},
    report::{Mixed, Step},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub trigger: TriggerName,
    pub state: State,
    /// What of its repository is deployed: a branch, a tag or a commit. A daemon of the version before does not say it.
    #[serde(default)]
    pub follows: Option<String>,
    #[serde(default)]
    pub paused: Option<Paused>,
    /// When the remote is asked for news, if the trigger polls.
    #[serde(default)]
    pub poll: Option<Polled>,
    #[serde(default)]
    pub stuck: Option<Stuck>,
    /// The run that goes on, and the one that waits.
    pub runs: Vec<Current>,
    pub last: Option<Last>,
    /// What is deployed, and what is wrong.
    #[serde(flatten)]
    pub standing: Standing,
    /// For how many seconds the trigger has been failing, if it is and that is known: the clock may have been set
    /// since.
    #[serde(default)]
    pub failing_for: Option<u64>,
    /// What the peer that asks may ask for besides.
    #[serde(default)]
    pub may: Vec<May>,
    /// That the daemon has not taken over the configuration as it is by now: the same for each of its triggers.
    #[serde(default)]
    pub reload_refused: Option<Refused>,
}

/// A trigger that an operator has paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    pub since: u64,
    pub peer: String,
    #[serde(default)]
    pub reason: Option<Note>,
    /// When a trigger was first refused since, if one was.
    #[serde(default)]
    pub refused: Option<u64>,
}

/// A trigger that asks its remote for news by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Polled {
    /// The seconds between two questions.
    pub every: u64,
    /// When the next question is due, if that is settled.
    pub next: Option<u64>,
    /// When the remote last answered, if it has since the daemon's start.
    pub asked: Option<u64>,
    /// The questions without an answer, if the last one had none.
    pub failing: Option<Unasked>,
}

/// A remote that could not be asked for news, and has not answered since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unasked {
    /// When the first question without an answer was asked.
    pub since: u64,
    pub times: u64,
    /// Why the last question had no answer.
    #[serde(flatten)]
    pub failure: Failure,
}

/// A reload of the daemon's configuration that was refused, if none has succeeded since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub since: u64,
    /// The reason; `None` for a peer that may not use all triggers: it may name one of the others.
    pub message: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Idle,
    /// A run waits for a free job.
    Waiting,
    Running,
    /// A run goes on, and another one follows.
    RunningThenQueued,
    /// A run was given up on, but its thread has not come back: no other can start.
    Stuck,
}

/// A run that has not ended in time, and whose thread has not come back since: the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuck {
    /// When the run was given up on.
    pub since: u64,
    pub step: Step,
    pub run: RunId,
}

/// How things stand after a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The commit that is deployed, if that is known.
    pub commit: Option<String>,
    /// When the run that deployed it ended, if that is known.
    pub since: Option<u64>,
    /// What is wrong: from a run that fails until one succeeds.
    pub failing: Option<Failing>,
    /// Whether hooks have not yet succeeded for what is deployed. They run at the next trigger.
    #[serde(rename = "hooks_owed")]
    pub hooks_pending: bool,
    /// When the first run ended that left hooks pending, as far as that is known; `None` if none are.
    #[serde(default)]
    pub hooks_since: Option<u64>,
    /// What a run has left undone in the worktree. The next one does it.
    #[serde(default)]
    pub mixed: Option<Mixed>,
    /// Commits that were rolled back, and are not deployed again by themselves; the newest first.
    #[serde(default)]
    pub held: Vec<Held>,
    /// The live release, and those to go back to; the newest first. None in place.
    #[serde(default)]
    pub releases: Vec<Release>,
}

/// A release of a target that has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub id: String,
    pub commit: String,
    /// When the release last became live.
    pub since: Option<u64>,
    pub live: bool,
    /// Hooks and health of the release were good.
    pub good: bool,
    /// What the release's files take, in bytes.
    pub bytes: u64,
}

/// Runs that failed, with no success since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// When the first failed run ended.
    pub since: u64,
    pub runs: u64,
    /// The last failed run.
    pub run: RunId,
    /// When the last failed run ended.
    pub ended: u64,
    #[serde(flatten)]
    pub failure: Failure,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::RunningThenQueued => "running-then-queued",
            Self::Stuck => "stuck",
        }
    }
}

impl Standing {
    /// How things stand once `last` has ended, too.
    pub fn after(&self, last: &Last) -> Self {
        let Last { run, past } = last;
        let done = &past.done;
        let (commit, since) = match &done.new {
            None => (self.commit.clone(), self.since),
            Some(new) if done.old.as_ref() != Some(new) => (Some(new.clone()), Some(past.ended)),
            // Deployed before: by a run we know of, or by another program.
            Some(new) => (
                Some(new.clone()),
                self.since.filter(|_| self.commit.as_ref() == Some(new)),
            ),
        };
        let is_sick = || self.held.first().is_some_and(|held| held.kind != Why::ByHand);
        let failing = match &done.failure {
            // What was asked for is not to be had: the trigger is as it was.
            Some(_) if past.task.is_rollback() && done.new.is_none() => self.failing.clone(),
            // That one is live is what an operator wanted; else the newest commit is no better than it was.
            Some(failure) if failure.kind == Kind::Held => self.failing.clone().filter(|_| is_sick()),
            // Hooks ran again on what is live: the newest commit is no better for that.
            None if past.task == Task::Hooks && done.outcome == Outcome::UpToDate && is_sick() => {
                self.failing.clone()
            }
            failure => failure.as_ref().map(|failure| Failing {
                since: self.failing.as_ref().map_or(past.ended, |before| before.since),
                runs: self.failing.as_ref().map_or(0, |before| before.runs) + 1,
                run: run.clone(),
                ended: past.ended,
                failure: failure.clone(),
            }),
        };
        let hooks_pending = match &done.failure {
            None => false,
            // If those of the older commit failed, too, one can only look.
            Some(failure) if done.outcome == Outcome::RolledBack || failure.kind == Kind::Held => false,
            Some(failure) => {
                matches!(failure.kind, Kind::Hook | Kind::Unhealthy)
                    || done.new.is_some()
                    || self.hooks_pending
            }
        };
        // Where they were found to be pending, and it is not known since when, it is since this run at the latest.
        let hooks_since = self.hooks_since.or(Some(past.ended));
        Self {
            commit,
            since,
            failing,
            hooks_pending,
            hooks_since: hooks_since.filter(|_| hooks_pending),
            mixed: self.mixed.clone(),
            held: self.held.clone(),
            releases: self.releases.clone(),
        }
    }
}

impl Failing {
    /// The number of failed runs, in words.
    pub fn times(&self) -> String {
        match self.runs {
            1 => "1 run".into(),
            runs => format!("{runs} runs"),
        }
    }
}

impl Refused {
    pub fn line(&self) -> String {
        let why = self.message.as_ref().map(|why| format!(": {why}"));
        format!(
            "configuration rejected at {}; still using the previous one{}",
            time(self.since),
            why.unwrap_or_default()
        )
    }
}

impl Paused {
    /// `paused by alice since 2026-12-20T17:00:00Z: no deploys before the holidays`.
    pub fn line(&self) -> String {
        let reason = self.reason.as_ref();
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        format!("paused by {} since {}{reason}", self.peer, time(self.since))
    }
}

impl Status {
    /// Whether no run has deployed anything, as far as is known.
    pub fn is_never_deployed(&self) -> bool {
        // Of what is stuck nothing is known.
        self.standing.commit.is_none() && self.stuck.is_none()
    }

    /// One line, which begins with name, state and commit.
    pub fn line(&self) -> String {
        let standing = &self.standing;
        let commit = standing.commit.as_deref().map_or("-", short);
        let mut line = format!("{} {} {commit}", self.trigger, self.state.as_str());
        if let Some(since) = standing.since {
            line += &format!(" since {}", time(since));
        }
        if let Some(follows) = &self.follows {
            line += &format!("; follows {follows}");
        }
        if let Some(Stuck { since, step, run }) = &self.stuck {
            line += &format!(
                "; stuck since {}, run {run} in the step {}",
                time(*since),
                step.as_str()
            );
        }
        if let Some(paused) = &self.paused {
            line += &format!("; {}", paused.line());
        }
        if let Some(failing) = &standing.failing {
            line += &format!("; failing since {}, {}", time(failing.since), failing.times());
        }
        if standing.hooks_pending {
            line += "; hooks pending";
        }
        if let Some(mixed) = &standing.mixed {
            line += &format!("; mixed, {}", mixed.line());
        }
        if let Some(live) = standing.releases.iter().find(|release| release.live) {
            line += &format!("; release {}", live.id);
        }
        for held in &standing.held {
            line += &format!("; held {} since {}", short(&held.commit), time(held.since));
        }
        if let Some(refused) = &self.reload_refused {
            line += &format!("; reload refused {}", time(refused.since));
        }
        for Current { run, going_on } in &self.runs {
            line += &format!("; run {run} {}", going_on.line());
        }
        if let Some(Last { run, past }) = &self.last {
            line += &format!("; last run {run} {}", past.line());
        }
        line
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
