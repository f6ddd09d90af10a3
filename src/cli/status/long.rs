//! The long form: all that is known of a trigger.

use std::time::Duration;

use crate::base::event::{
    Current, Failing, Last, May, Outcome, Paused, Polled, Standing, Status, Stuck, Unasked, duration, said,
    short, time,
};

/// A line with name, state and commit, and one for each thing that is to be known, the worst first.
pub(super) fn text(status: &Status, now: u64) -> String {
    let Standing {
        commit,
        since,
        failing,
        hooks_pending,
        hooks_since,
        mixed,
        held: _,
        releases,
    } = &status.standing;
    let commit = commit.as_deref().map_or("-", short);
    let state = super::table::state(status);
    let mut lines = vec![format!("{} {state} {commit}", status.trigger)];
    if let Some(since) = since {
        lines[0] += &format!(" since {}", at(*since, now));
    }
    lines.extend(
        status
            .follows
            .iter()
            .map(|follows| format!("follows   {follows}")),
    );
    if status.is_never_deployed() && state != super::table::NEVER {
        lines.push("deployed  never".into());
    }
    lines.extend(status.paused.iter().flat_map(|paused| rests(status, paused, now)));
    if let Some(Stuck { since, step, run }) = &status.stuck {
        let step = step.as_str();
        lines.push(format!(
            "stuck     since {}: the run {run}, in the step {step}",
            at(*since, now)
        ));
    }
    if let Some(failing) = failing {
        let Failing {
            since, failure, run, ..
        } = failing;
        lines.push(format!(
            "failing   since {}, {}",
            at(*since, now),
            failing.times()
        ));
        let kind = format!("{}: ", failure.kind.as_str());
        // What was rolled back says itself of which kind it was.
        let kind = Some(kind).filter(|kind| !failure.message.contains(kind.as_str()));
        lines.push(format!(
            "error     {}{}",
            kind.unwrap_or_default(),
            failure.message
        ));
        lines.extend(failure.help.iter().map(|help| format!("help      {help}")));
        lines.push(format!("lines     gitsocket log {} {run}", status.trigger));
    }
    if *hooks_pending {
        let since = hooks_since.map(|since| format!(" since {}", at(since, now)));
        let is_running = status.runs.iter().any(|run| run.going_on.began.is_some());
        lines.push(format!(
            "hooks     pending for {commit}{}; {}",
            since.unwrap_or_default(),
            if is_running {
                "the run that goes on runs them"
            } else {
                "they run at the next trigger"
            }
        ));
    }
    if let Some(mixed) = mixed {
        lines.push(format!("mixed     {}; the next run updates them", mixed.line()));
    }
    lines.extend(holds(status, now));
    for release in releases {
        let since = release.since.map_or_else(|| "-".into(), |since| at(since, now));
        lines.push(format!(
            "release   {}{}{} since {since}, {}",
            release.id,
            if release.live { " live" } else { "" },
            if release.good { "" } else { " not good" },
            bytesize::ByteSize(release.bytes)
        ));
    }
    // With releases, they are listed above.
    if releases.is_empty() && commit != "-" && status.may.contains(&May::Rollback) {
        lines.push(format!(
            "earlier   gitsocket log {0} lists the commits that were deployed; gitsocket rollback {0} COMMIT goes back to one",
            status.trigger
        ));
    }
    lines.extend(status.poll.iter().map(|poll| asks(poll, now)));
    lines.extend(runs(status, now));
    lines.join("\n  ")
}

/// What is held, and what to do; without what the failure has told above.
fn holds(status: &Status, now: u64) -> Vec<String> {
    let Standing { failing, held, .. } = &status.standing;
    let failure = failing.as_ref().map(|failing| &failing.failure);
    let mut lines: Vec<_> = held
        .iter()
        .map(|held| {
            let is_told = failure.is_some_and(|failure| failure.message.contains(&held.why()));
            let why = if is_told {
                "for the error above".into()
            } else {
                held.why()
            };
            format!(
                "held      {} since {}, {why}",
                short(&held.commit),
                at(held.since, now)
            )
        })
        .collect();
    let retry = format!("gitsocket retry {}", status.trigger);
    let is_told = failure
        .and_then(|failure| failure.help.as_ref())
        .is_some_and(|told| told.contains(&retry));
    if !held.is_empty() && !is_told {
        lines.push(format!("help      push another commit, or: {retry}"));
    }
    lines
}

/// That a trigger is paused, and how it goes on.
fn rests(status: &Status, paused: &Paused, now: u64) -> [String; 2] {
    let reason = paused.reason.as_ref().map(|reason| format!(": {reason}"));
    let refused = paused.refused.map(|first| {
        format!(
            "Deploys requested since {}, were refused. To allow them: ",
            at(first, now)
        )
    });
    [
        format!(
            "paused    since {}, by {}{}",
            at(paused.since, now),
            paused.peer,
            reason.unwrap_or_default()
        ),
        format!(
            "help      {}gitsocket resume {}",
            refused.unwrap_or_default(),
            status.trigger
        ),
    ]
}

/// When the remote is asked for news, or why it cannot be.
fn asks(poll: &Polled, now: u64) -> String {
    let secs = Duration::from_secs;
    let next = poll.next.map(|next| match next.saturating_sub(now) {
        0 => ", next now".to_owned(),
        left => format!(", next in {}", duration(secs(left))),
    });
    let asked = poll
        .asked
        .map(|asked| format!(", answered {} ago", ago(asked, now)));
    let failing = poll.failing.as_ref().map(
        |Unasked {
             since,
             times,
             failure,
         }| {
            let times = match times {
                1 => "once".into(),
                times => format!("{times} times"),
            };
            format!(
                ", failing since {}, {times}: {}: {}",
                at(*since, now),
                failure.kind.as_str(),
                failure.message
            )
        },
    );
    let parts = [next, asked, failing].into_iter().flatten();
    format!(
        "poll      every {}{}",
        duration(secs(poll.every)),
        parts.collect::<String>()
    )
}

/// The runs that go on or wait, and the last one that ended, a line each.
fn runs(status: &Status, now: u64) -> Vec<String> {
    let mut lines = Vec::new();
    for Current { run, going_on } in &status.runs {
        let (what, since) = match going_on.began {
            Some(began) => ("running ", began),
            None => ("waiting ", going_on.accepted),
        };
        let overdue = going_on.overdue.map_or_else(String::new, |secs| {
            format!(
                ", longer than its run_timeout by {}",
                duration(Duration::from_secs(secs))
            )
        });
        lines.push(format!(
            "{what}  {run} {}by {}{}, for {}{overdue}",
            going_on.task.shown(),
            going_on.peer,
            said(&going_on.notes),
            ago(since, now)
        ));
    }
    if let Some(Last { run, past }) = &status.last {
        let took = duration(Duration::from_millis(past.done.ms));
        // The error is above.
        let is_told = status
            .standing
            .failing
            .as_ref()
            .is_some_and(|failing| failing.run == *run);
        let how = match &past.done.failure {
            Some(_) if past.done.outcome == Outcome::RolledBack && is_told => "rolled back".into(),
            Some(failure) if past.done.outcome == Outcome::RolledBack => {
                format!("rolled back ({})", failure.kind.as_str())
            }
            Some(failure) => format!("failed ({})", failure.kind.as_str()),
            None => past.done.line(),
        };
        lines.push(format!(
            "last run  {run} {}by {}{}, {}, took {took}: {how}",
            past.task.shown(),
            past.peer,
            said(&past.notes),
            at(past.ended, now)
        ));
    }
    lines
}

fn ago(then: u64, now: u64) -> String {
    duration(Duration::from_secs(now.saturating_sub(then)))
}

fn at(then: u64, now: u64) -> String {
    format!("{}, {} ago", time(then), ago(then, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = r#""run":"0198c0ffee0001","peer":"uid=33 pid=7","accepted":1764036600,"began":1764036600,
        "ended":1764036602,"trigger":"site","old":"1a2b3c4d","changed":3,"ms":1234"#;

    fn shown(status: &str) -> String {
        text(&serde_json::from_str(status).unwrap(), 1_764_043_200)
    }

    #[test]
    fn a_good_one() {
        let status = format!(
            r#"{{"trigger":"site","state":"idle","follows":"branch main","runs":[],"commit":"5d6e7f8a",
            "since":1764036602,"failing":null,"hooks_owed":false,
            "last":{{{RUN},"outcome":"updated","new":"5d6e7f8a","exit":0}}}}"#
        );
        insta::assert_snapshot!(shown(&status), @r"
        site idle 5d6e7f8 since 2025-11-25T02:10:02Z, 1h 49m ago
          follows   branch main
          last run  0198c0ffee0001 by uid=33 pid=7, 2025-11-25T02:10:02Z, 1h 49m ago, took 1.2s: ok site 1a2b3c4..5d6e7f8
        ");
    }

    #[test]
    fn a_bad_one() {
        let failure = r#""kind":"hook","message":"hook make: exit status 1","help":"see its lines""#;
        let status = format!(
            r#"{{"trigger":"site","state":"running-then-queued","commit":"5d6e7f8a","since":1764036602,
            "failing":{{"since":1763950000,"runs":3,"run":"0198c0ffee0001","ended":1764036602,{failure}}},
            "hooks_owed":true,"hooks_since":1763950000,"mixed":{{"commit":"6e7f8a9b","left":["a","b/c"],"more":2}},
            "runs":[{{"run":"0198c0ffee0002","peer":"uid=0 pid=1","accepted":1764043190,"began":1764043195}},
                    {{"run":"0198c0ffee0003","peer":"uid=0 pid=2","accepted":1764043199,"began":null}}],
            "last":{{{RUN},"outcome":"failed","new":"5d6e7f8a","exit":5,{failure}}}}}"#
        );
        insta::assert_snapshot!(shown(&status), @r"
        site failing, running 5d6e7f8 since 2025-11-25T02:10:02Z, 1h 49m ago
          failing   since 2025-11-24T02:06:40Z, 1d 1h ago, 3 runs
          error     hook: hook make: exit status 1
          help      see its lines
          lines     gitsocket log site 0198c0ffee0001
          hooks     pending for 5d6e7f8 since 2025-11-24T02:06:40Z, 1d 1h ago; the run that goes on runs them
          mixed     left of 6e7f8a9: a, b/c and 2 more; the next run updates them
          running   0198c0ffee0002 by uid=0 pid=1, for 5s
          waiting   0198c0ffee0003 by uid=0 pid=2, for 1s
          last run  0198c0ffee0001 by uid=33 pid=7, 2025-11-25T02:10:02Z, 1h 49m ago, took 1.2s: failed (hook)
        ");
    }

    #[test]
    fn one_that_is_paused_and_polled() {
        let status = |poll: &str, refused: &str| {
            format!(
                r#"{{"trigger":"site","state":"idle","commit":"5d6e7f8a","runs":[],"hooks_owed":false,
                "paused":{{"since":1764036602,"peer":"alice uid=7","reason":"the holiday"{refused}}},
                "poll":{{"every":600{poll}}}}}"#
            )
        };
        insta::assert_snapshot!(shown(&status(r#","next":1764043450,"asked":1764042000"#, "")), @r"
        site paused 5d6e7f8
          paused    since 2025-11-25T02:10:02Z, 1h 49m ago, by alice uid=7: the holiday
          help      gitsocket resume site
          poll      every 10m, next in 4m 10s, answered 20m ago
        ");
        let failing =
            r#","failing":{"since":1764036602,"times":2,"kind":"unreachable","message":"it is gone"}"#;
        insta::assert_snapshot!(shown(&status(failing, r#","refused":1764040000"#)), @r"
        site paused 5d6e7f8
          paused    since 2025-11-25T02:10:02Z, 1h 49m ago, by alice uid=7: the holiday
          help      Deploys requested since 2025-11-25T03:06:40Z, 53m 20s ago, were refused. To allow them: gitsocket resume site
          poll      every 10m, failing since 2025-11-25T02:10:02Z, 1h 49m ago, 2 times: unreachable: it is gone
        ");
    }

    #[test]
    fn one_that_never_ran() {
        let status = r#"{"trigger":"site","state":"idle","runs":[],"last":null,"commit":null,"since":null,
            "failing":null,"hooks_owed":false}"#;
        assert_eq!(shown(status), "site never deployed -");
    }
}
