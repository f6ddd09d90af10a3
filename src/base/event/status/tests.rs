//! How a trigger stands after runs, and in words.

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

#[test]
fn hooks_that_ran_again_make_a_commit_that_is_held_no_better() {
    let sick = last(50, Some("a"), Some("a"), Some(Kind::Hook));
    for (kind, task, is_failing) in [
        (Some(Why::Hook), Task::Hooks, true),
        (Some(Why::Hook), Task::Update, false),
        (Some(Why::ByHand), Task::Hooks, false),
        (None, Task::Hooks, false),
    ] {
        let mut standing = Standing::default().after(&sick);
        standing.held = kind.into_iter().map(held).collect();
        let mut again = last(60, Some("a"), Some("a"), None);
        again.past.task = task;
        let after = standing.after(&again);
        assert_eq!(after.failing.is_some(), is_failing, "{kind:?}");
        assert!(!after.hooks_pending);
        again.past.done.outcome = Outcome::Updated;
        assert!(
            standing.after(&again).failing.is_none(),
            "another one is deployed"
        );
    }
}

fn held(kind: Why) -> Held {
    Held {
        commit: "b".into(),
        since: 50,
        kind,
        message: "it is sick".into(),
    }
}

#[test]
fn a_pause_in_words() {
    let mut paused = Paused {
        since: 1_764_036_640,
        peer: "alice".into(),
        reason: None,
        refused: None,
    };
    assert_eq!(paused.line(), "paused by alice since 2025-11-25T02:10:40Z");
    paused.reason = Note::new("no deploys before the holidays").ok();
    assert_eq!(
        paused.line(),
        "paused by alice since 2025-11-25T02:10:40Z: no deploys before the holidays"
    );
}

/// Run after run: what is deployed since when, failing since when and how often, hooks pending.
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
        assert_eq!(standing.hooks_pending, standing.hooks_since.is_some(), "{at}");
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
        hooks_pending: true,
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
    insta::assert_snapshot!(status.line(), @"site idle 1a2b3c4 since 2025-11-24T16:00:00Z; follows branch main; failing since 2025-11-25T02:10:31Z, 1 run; hooks pending; mixed, left of 5d6e7f8: a b, c and 3 more; reload refused 2025-11-25T02:10:32Z; last run 0198c0ffee0001 2025-11-25T02:10:30Z by uid=33 pid=7 took 0ms: error site remote: it is broken");
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
    insta::assert_snapshot!(status.line(), @"site running 1a2b3c4 since 2025-11-24T16:00:00Z; follows branch main; failing since 2025-11-25T02:10:31Z, 1 run; hooks pending; mixed, left of 5d6e7f8: a b, c and 3 more; reload refused 2025-11-25T02:10:32Z; run 0198c0ffee0001 2025-11-25T02:10:41Z by uid=0 pid=1: running");
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status, "{text}");
}
