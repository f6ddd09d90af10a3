//! How a trigger is: the answer to `status`.

use serde::{Deserialize, Serialize};

use super::{
    done::Outcome,
    held::{Held, Why},
    past::{Current, Last, time},
    task::May,
};
use crate::base::{
    fault::{Failure, Kind},
    name::{Note, RunId, TriggerName, short},
    report::{Mixed, Step},
};

/// How a trigger is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The trigger.
    pub trigger: TriggerName,
    /// What its target does.
    pub state: State,
    /// What of its repository is deployed: a branch, a tag or a commit. A daemon of the version before does not say it.
    #[serde(default)]
    pub follows: Option<String>,
    /// That it is paused, if it is.
    #[serde(default)]
    pub paused: Option<Paused>,
    /// When its remote is asked for news, if it is by itself.
    #[serde(default)]
    pub poll: Option<Polled>,
    /// What is stuck, if it is.
    #[serde(default)]
    pub stuck: Option<Stuck>,
    /// The run that goes on, and the one that waits.
    pub runs: Vec<Current>,
    /// The last run that ended.
    pub last: Option<Last>,
    /// What is deployed, and what is wrong.
    #[serde(flatten)]
    pub standing: Standing,
    /// For how many seconds it has been failing, if it is and that is known: the clock may have been set since.
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
    /// When.
    pub since: u64,
    /// Who wanted it.
    pub peer: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<Note>,
    /// When a trigger was first refused since, if one was.
    #[serde(default)]
    pub refused: Option<u64>,
}

/// A trigger that asks its remote for news by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Polled {
    /// How often, in seconds.
    pub every: u64,
    /// When next, if that is settled.
    pub next: Option<u64>,
    /// When the remote last answered, if it has since the daemon's start.
    pub asked: Option<u64>,
    /// That it does not answer, if it does not.
    pub failing: Option<Unasked>,
}

/// A remote that could not be asked for news, and has not answered since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unasked {
    /// When that was first tried.
    pub since: u64,
    /// How many times.
    pub times: u64,
    /// Why, at the last of them.
    #[serde(flatten)]
    pub failure: Failure,
}

/// A reload of the daemon's configuration that was refused, with none since that was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When.
    pub since: u64,
    /// Why; nothing for a peer that may not use all triggers: it may name one of the others.
    pub message: Option<String>,
}

/// What a target does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing.
    Idle,
    /// A run waits for a free job.
    Waiting,
    /// A run goes on.
    Running,
    /// A run goes on, and another one follows.
    RunningThenQueued,
    /// A run was given up on, but its thread has not come back: no other can start.
    Stuck,
}

/// A run that has not ended in time, and whose thread has not come back since: the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuck {
    /// When it was given up on.
    pub since: u64,
    /// What it was at.
    pub step: Step,
    /// The run.
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
    pub hooks_owed: bool,
    /// When the first run ended, of which that is known, since which they have not; if they have not.
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
    /// Its name.
    pub id: String,
    /// The commit that it holds.
    pub commit: String,
    /// When it last became live.
    pub since: Option<u64>,
    /// It is live.
    pub live: bool,
    /// Its hooks and its health were good.
    pub good: bool,
    /// What its files take, in bytes.
    pub bytes: u64,
}

/// Runs that failed, with no success since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// When the first of them ended.
    pub since: u64,
    /// How many there were.
    pub runs: u64,
    /// The last of them.
    pub run: RunId,
    /// When that ended.
    pub ended: u64,
    /// Why it failed.
    #[serde(flatten)]
    pub failure: Failure,
}

impl State {
    /// The word, as in JSON.
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
            // Deployed before: by a run we know of, or by somebody else.
            Some(new) => (
                Some(new.clone()),
                self.since.filter(|_| self.commit.as_ref() == Some(new)),
            ),
        };
        let failing = match &done.failure {
            // What was asked for is not to be had: the trigger is as it was.
            Some(_) if past.task.is_rollback() && done.new.is_none() => self.failing.clone(),
            // That one is live is what an operator wanted; else the newest commit is no better than it was.
            Some(failure) if failure.kind == Kind::Held => {
                let is_sick = self.held.first().is_some_and(|held| held.kind != Why::ByHand);
                self.failing.clone().filter(|_| is_sick)
            }
            failure => failure.as_ref().map(|failure| Failing {
                since: self.failing.as_ref().map_or(past.ended, |before| before.since),
                runs: self.failing.as_ref().map_or(0, |before| before.runs) + 1,
                run: run.clone(),
                ended: past.ended,
                failure: failure.clone(),
            }),
        };
        let hooks_owed = match &done.failure {
            None => false,
            // If those of the older commit failed, too, whoever can look knows.
            Some(failure) if done.outcome == Outcome::RolledBack || failure.kind == Kind::Held => false,
            Some(failure) => {
                matches!(failure.kind, Kind::Hook | Kind::Unhealthy) || done.new.is_some() || self.hooks_owed
            }
        };
        // Where they were found to be owed, and nobody knows since when, it is since this run at the latest.
        let hooks_since = self.hooks_since.or(Some(past.ended));
        Self {
            commit,
            since,
            failing,
            hooks_owed,
            hooks_since: hooks_since.filter(|_| hooks_owed),
            mixed: self.mixed.clone(),
            held: self.held.clone(),
            releases: self.releases.clone(),
        }
    }
}

impl Failing {
    /// How often, in words.
    pub fn times(&self) -> String {
        match self.runs {
            1 => "1 run".into(),
            runs => format!("{runs} runs"),
        }
    }
}

impl Refused {
    /// One line.
    pub fn line(&self) -> String {
        let why = self.message.as_ref().map(|why| format!(": {why}"));
        format!(
            "the reload of {} was refused, and the configuration from before it is in force{}",
            time(self.since),
            why.unwrap_or_default()
        )
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
        if let Some(failing) = &standing.failing {
            line += &format!("; failing since {}, {}", time(failing.since), failing.times());
        }
        if standing.hooks_owed {
            line += "; hooks owed";
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
mod tests {
    use super::*;
    use crate::base::event::{Done, Outcome, Past, Task};

    fn last(ended: u64, old: Option<&str>, new: Option<&str>, kind: Option<Kind>) -> Last {
        let failure = kind.map(|kind| Failure::new(kind, "it is broken", None));
        let outcome = match &failure {
            Some(_) => Outcome::Failed,
            None if old == new => Outcome::UpToDate,
            None => Outcome::Updated,
        };
        Last {
            run: RunId::new(),
            past: Past {
                task: Task::Update,
                peer: "uid=33 pid=7".into(),
                notes: Vec::new(),
                accepted: ended - 2,
                began: ended - 1,
                ended,
                phases_ms: Default::default(),
                done: Done {
                    old: old.map(Into::into),
                    new: new.map(Into::into),
                    failure,
                    ..Done::answered("site", outcome)
                },
            },
        }
    }

    /// Run after run: what is deployed since when, failing since when and how often, hooks owed.
    #[test]
    fn standings() {
        type Expected = (Option<&'static str>, Option<u64>, Option<(u64, u64)>, Option<u64>);
        let story: [(Last, Expected); 11] = [
            (
                last(10, None, None, Some(Kind::Remote)),
                (None, None, Some((10, 1)), None),
            ),
            (
                last(20, None, None, Some(Kind::Timeout)),
                (None, None, Some((10, 2)), None),
            ),
            (last(30, None, Some("a"), None), (Some("a"), Some(30), None, None)),
            (
                last(40, Some("a"), Some("a"), None),
                (Some("a"), Some(30), None, None),
            ),
            (
                last(50, Some("a"), Some("b"), Some(Kind::Hook)),
                (Some("b"), Some(50), Some((50, 1)), Some(50)),
            ),
            (
                last(60, Some("b"), None, Some(Kind::Unreachable)),
                (Some("b"), Some(50), Some((50, 2)), Some(50)),
            ),
            (
                last(70, Some("b"), Some("b"), None),
                (Some("b"), Some(50), None, None),
            ),
            (
                last(80, Some("b"), None, Some(Kind::Unreachable)),
                (Some("b"), Some(50), Some((80, 1)), None),
            ),
            // The files are at `c`, but the rest could not be written: the hooks have not seen it.
            (
                last(90, Some("b"), Some("c"), Some(Kind::Resources)),
                (Some("c"), Some(90), Some((80, 2)), Some(90)),
            ),
            (
                last(95, Some("c"), Some("c"), None),
                (Some("c"), Some(90), None, None),
            ),
            // Somebody else has deployed `d`, nobody knows when.
            (
                last(99, Some("d"), Some("d"), None),
                (Some("d"), None, None, None),
            ),
        ];
        let mut standing = Standing::default();
        for (last, expected) in story {
            standing = standing.after(&last);
            let failing = standing
                .failing
                .as_ref()
                .map(|failing| (failing.since, failing.runs));
            let commit = standing.commit.as_deref();
            let at = last.past.ended;
            assert_eq!(
                (commit, standing.since, failing, standing.hooks_since),
                expected,
                "{at}"
            );
            assert_eq!(standing.hooks_owed, standing.hooks_since.is_some(), "{at}");
        }
    }

    #[test]
    fn lines() {
        let failed = Last {
            run: serde_json::from_str("\"0198c0ffee0001\"").unwrap(),
            ..last(1_764_036_631, Some("1a2b3c4d5e"), None, Some(Kind::Remote))
        };
        let standing = Standing {
            commit: Some("1a2b3c4d5e".into()),
            since: Some(1_764_000_000),
            failing: None,
            hooks_owed: true,
            hooks_since: Some(1_764_000_000),
            mixed: Some(Mixed {
                commit: "5d6e7f8a9b".into(),
                left: vec!["a\nb".into(), "c".into()],
                more: 3,
            }),
            held: Vec::new(),
            releases: Vec::new(),
        };
        let mut status = Status {
            trigger: TriggerName::new("site").unwrap(),
            state: State::Idle,
            follows: None,
            paused: None,
            poll: None,
            stuck: None,
            runs: Vec::new(),
            last: None,
            standing: Standing::default(),
            failing_for: None,
            may: Vec::new(),
            reload_refused: None,
        };
        assert_eq!(status.line(), "site idle -");
        status.standing = standing.after(&failed);
        status.last = Some(failed.clone());
        status.follows = Some("branch main".into());
        status.reload_refused = Some(Refused {
            since: 1_764_036_632,
            message: Some("it is wrong".into()),
        });
        insta::assert_snapshot!(status.line(), @"site idle 1a2b3c4 since 2025-11-24T16:00:00Z; follows branch main; failing since 2025-11-25T02:10:31Z, 1 run; hooks owed; mixed, left of 5d6e7f8: a b, c and 3 more; reload refused 2025-11-25T02:10:32Z; last run 0198c0ffee0001 2025-11-25T02:10:30Z by uid=33 pid=7 took 0ms: error site remote: it is broken");
        status.state = State::Running;
        let going_on = super::super::GoingOn {
            trigger: None,
            task: Task::Update,
            peer: "uid=0 pid=1".into(),
            notes: Vec::new(),
            accepted: 1_764_036_640,
            began: Some(1_764_036_641),
            overdue: None,
        };
        status.runs = vec![Current {
            run: failed.run,
            going_on,
        }];
        status.last = None;
        insta::assert_snapshot!(status.line(), @"site running 1a2b3c4 since 2025-11-24T16:00:00Z; follows branch main; failing since 2025-11-25T02:10:31Z, 1 run; hooks owed; mixed, left of 5d6e7f8: a b, c and 3 more; reload refused 2025-11-25T02:10:32Z; run 0198c0ffee0001 2025-11-25T02:10:41Z by uid=0 pid=1: running");
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status, "{text}");
    }
}
