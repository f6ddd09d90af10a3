//! The table: a line for each trigger, as wide as the terminal.
//!
//! The lines stay in the order of the names, so that each is found where it was; a last line names the triggers that are not well
//! where the table is longer than the terminal.

use crate::{
    base::event::{Outcome, Past, State, Status, short},
    cli::columns::{self, Size, cut},
};

const TITLES: [&str; 5] = ["TRIGGER", "STATE", "COMMIT", "DEPLOYED", "LAST RUN"];
const NONE: &str = "-";
/// The state of a trigger that has deployed nothing yet, and of which nothing else is to be said.
pub(super) const NEVER: &str = "never deployed";

pub(super) fn lines(all: &[Status], size: Size, now: u64) -> Vec<String> {
    let titles = TITLES.map(str::to_owned);
    let rows: Vec<_> = [titles]
        .into_iter()
        .chain(all.iter().map(|status| row(status, size, now)))
        .collect();
    let mut lines = columns::lines(&rows, size.columns);
    // The prompt takes a line, too.
    if lines.len() >= size.rows {
        lines.extend(not_well(all).map(|line| cut(&line, size.columns)));
    }
    lines
}

fn row(status: &Status, size: Size, now: u64) -> [String; 5] {
    let standing = &status.standing;
    let commit = standing.commit.as_deref().map_or(NONE, short);
    let since = standing.since.map(|since| ago(since, now));
    let last = status.last.as_ref().map(|last| how(&last.past, now));
    [
        // A long name leaves the rest half of the line.
        cut(status.trigger.as_str(), (size.columns / 2).max(1)),
        state(status),
        commit.to_owned(),
        since.unwrap_or_else(|| NONE.into()),
        last.unwrap_or_else(|| NONE.into()),
    ]
}

/// The state of a trigger in words, the worst first.
pub(super) fn state(status: &Status) -> String {
    let mut words = faults(status);
    match status.state {
        State::Idle if words.is_empty() && status.is_never_deployed() => words.push(NEVER),
        State::Idle if words.is_empty() => words.push("idle"),
        State::Idle | State::Stuck => {}
        State::Waiting => words.push("waiting"),
        State::Running | State::RunningThenQueued => words.push("running"),
    }
    words.join(", ")
}

/// What is wrong with a trigger, or keeps it from being deployed.
fn faults(status: &Status) -> Vec<&'static str> {
    let standing = &status.standing;
    let is_failing = standing.failing.is_some();
    [
        (status.state == State::Stuck || status.stuck.is_some(), "stuck"),
        (is_failing, "failing"),
        (!standing.held.is_empty(), "held"),
        (status.paused.is_some(), "paused"),
        // A run that failed leaves both, and one that goes on runs them.
        (
            standing.hooks_pending && !is_failing && status.runs.is_empty(),
            "hooks pending",
        ),
        (standing.mixed.is_some() && !is_failing, "mixed"),
    ]
    .into_iter()
    .filter_map(|(is_so, word)| is_so.then_some(word))
    .collect()
}

/// `5m ago: up-to-date`.
fn how(past: &Past, now: u64) -> String {
    let how = match (&past.done.failure, past.done.outcome) {
        (Some(failure), Outcome::RolledBack) => format!("rolled back ({})", failure.kind.as_str()),
        (Some(failure), _) => format!("failed ({})", failure.kind.as_str()),
        (None, Outcome::UpToDate) => "up-to-date".into(),
        (None, _) => "updated".into(),
    };
    format!("{}: {}{how}", ago(past.ended, now), past.task.shown())
}

/// `3d ago`, in the largest unit.
fn ago(then: u64, now: u64) -> String {
    let (count, unit) = match now.saturating_sub(then) {
        secs @ 0..60 => (secs, "s"),
        secs @ 60..3600 => (secs / 60, "m"),
        secs @ 3600..86_400 => (secs / 3600, "h"),
        secs => (secs / 86_400, "d"),
    };
    format!("{count}{unit} ago")
}

/// Which triggers are not well, in a line.
fn not_well(all: &[Status]) -> Option<String> {
    let named: Vec<_> = all
        .iter()
        .map(|status| (status, faults(status)))
        .filter(|(_, faults)| !faults.is_empty())
        .map(|(status, faults)| format!("{} ({})", status.trigger, faults.join(", ")))
        .collect();
    (!named.is_empty()).then(|| {
        format!(
            "{} of {} need a look: {}",
            named.len(),
            all.len(),
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_043_200;

    fn status(text: &str) -> Status {
        let text = format!(r#"{{"runs":[],"hooks_owed":false,{text}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn run(more: &str) -> String {
        format!(
            r#""last":{{"run":"0198c0ffee0001","peer":"-","accepted":1,"began":1,"ended":1764036602,
            "trigger":"x","old":null,"changed":0,"ms":1,{more}}}"#
        )
    }

    fn some() -> Vec<Status> {
        let failure = r#""kind":"hook","message":"it is broken""#;
        let good = run(r#""outcome":"up-to-date","new":"5d6e7f8a","exit":0"#);
        let back = run(r#""task":"rollback","outcome":"updated","new":"5d6e7f8a","exit":0"#);
        let bad = run(&format!(
            r#""outcome":"failed","new":"5d6e7f8a","exit":5,{failure}"#
        ));
        vec![
            status(&format!(
                r#""trigger":"blog","state":"idle","commit":"5d6e7f8a","since":1763950000,{good}"#
            )),
            status(&format!(
                r#""trigger":"back","state":"running","commit":"5d6e7f8a","since":1764036602,{back},
                "held":[{{"commit":"6e7f","since":1,"kind":"by-hand","message":"uid=0"}}]"#
            )),
            status(r#""trigger":"new","state":"idle""#),
            status(&format!(
                r#""trigger":"shop.example.com","state":"running-then-queued","commit":"5d6e7f8a","since":1764036602,
                "failing":{{"since":1,"runs":3,"run":"0198c0ffee0001","ended":2,{failure}}},{bad}"#
            )),
        ]
    }

    fn shown(columns: usize, rows: usize) -> String {
        lines(&some(), Size { columns, rows }, NOW).join("\n")
    }

    #[test]
    fn a_line_for_each() {
        insta::assert_snapshot!(shown(usize::MAX, usize::MAX), @r"
        TRIGGER           STATE             COMMIT   DEPLOYED  LAST RUN
        blog              idle              5d6e7f8  1d ago    1h ago: up-to-date
        back              held, running     5d6e7f8  1h ago    1h ago: rollback updated
        new               never deployed    -        -         -
        shop.example.com  failing, running  5d6e7f8  1h ago    1h ago: failed (hook)
        ");
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        insta::assert_snapshot!(shown(60, 5), @r"
        TRIGGER           STATE             COMMIT   DEPLOYED  LAST…
        blog              idle              5d6e7f8  1d ago    1h a…
        back              held, running     5d6e7f8  1h ago    1h a…
        new               never deployed    -        -         -
        shop.example.com  failing, running  5d6e7f8  1h ago    1h a…
        2 of 4 need a look: back (held), shop.example.com (failing)
        ");
        for columns in 1..120 {
            let shown = shown(columns, 5);
            assert!(
                shown.lines().all(|line| line.chars().count() <= columns),
                "{columns}: {shown}"
            );
            assert_eq!(shown.lines().count(), 6);
        }
        assert_eq!(shown(60, 6).lines().count(), 5, "it is all to be seen");
    }
}
