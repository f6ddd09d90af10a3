//! `gitsocket status`: how the triggers of a daemon are, for somebody who was woken by it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::{
    Show,
    client::{self, Asked},
    print,
};
use crate::{
    base::{
        event::{
            Current, Event, Failing, Last, Outcome, Record, Refused, Standing, Status, Stuck, duration, now,
            short, time,
        },
        name::TriggerName,
    },
    daemon::wire::Request,
};

/// ask a daemon how its triggers are
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "status")]
pub(super) struct Arguments {
    /// this trigger only
    #[argh(positional, arg_name = "NAME")]
    name: Option<String>,
    /// the daemon: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1; default: as for client
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// print every event as a line of JSON
    #[argh(switch)]
    json: bool,
    /// the file that holds the listener's token; default: as for client
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// give up after this long; default: 10s
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
}

const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let show = Show::new(arguments.json, false);
    let name = arguments.name.as_deref();
    let checked = name.map(|name| super::trigger_name(&show, name)).transpose();
    let timeout = arguments.timeout.as_deref().map(client::duration).transpose();
    let (name, timeout) = match (checked, timeout) {
        (Ok(name), Ok(timeout)) => (name, timeout.unwrap_or(TIMEOUT)),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let shown = name.as_ref().map_or("-", TriggerName::as_str).to_owned();
    let asked = Asked {
        socket: arguments.socket.as_deref(),
        token_file: arguments.token_file.as_ref(),
        request: &Request::Status {
            names: name.into_iter().collect(),
        },
        timeout: Some(timeout),
    };
    let mut refused = None;
    let each = |record: &Record| match &record.event {
        Event::Status(status) if !arguments.json => {
            print(&text(status, now()));
            refused.clone_from(&status.reload_refused);
        }
        // The end of a good answer says nothing that is not there.
        Event::Done(done) if !arguments.json && done.failure.is_none() => {}
        _ => show.record(record),
    };
    let answer = client::ask(&asked, each);
    // It is the daemon's, not a trigger's.
    refused
        .as_ref()
        .map(Refused::line)
        .iter()
        .for_each(|line| print(line));
    match answer {
        Ok(done) => ExitCode::from(done.exit),
        Err(ended) => ended.show(&show, &shown),
    }
}

/// A line with name, state and commit, and one for each thing that is to be known, the worst first.
fn text(status: &Status, now: u64) -> String {
    let Standing {
        commit,
        since,
        failing,
        hooks_owed,
        hooks_since,
        mixed,
        held,
        releases,
    } = &status.standing;
    let commit = commit.as_deref().map_or("-", short);
    let mut lines = vec![format!("{} {} {commit}", status.trigger, status.state.as_str())];
    if let Some(since) = since {
        lines[0] += &format!(" since {}", at(*since, now));
    }
    lines.extend(
        status
            .follows
            .iter()
            .map(|follows| format!("follows   {follows}")),
    );
    if status.is_never_deployed() {
        lines.push("deployed  never".into());
    }
    if let Some(Stuck { since, step, run }) = &status.stuck {
        let step = step.as_str();
        lines.push(format!(
            "stuck     since {}: the run {run}, in the step {step}",
            at(*since, now)
        ));
    }
    if let Some(failing) = failing {
        let Failing { since, failure, .. } = failing;
        lines.push(format!(
            "failing   since {}, {}",
            at(*since, now),
            failing.times()
        ));
        lines.push(format!(
            "error     {}: {}",
            failure.kind.as_str(),
            failure.message
        ));
        lines.extend(failure.help.iter().map(|help| format!("help      {help}")));
    }
    if *hooks_owed {
        let since = hooks_since.map(|since| format!(" since {}", at(since, now)));
        lines.push(format!(
            "hooks     owed to {commit}{}: they run at the next trigger",
            since.unwrap_or_default()
        ));
    }
    if let Some(mixed) = mixed {
        lines.push(format!("mixed     {}; the next run does it", mixed.line()));
    }
    for held in held {
        lines.push(format!(
            "held      {} since {}: {}: {}",
            short(&held.commit),
            at(held.since, now),
            held.kind.as_str(),
            held.message
        ));
    }
    if !held.is_empty() {
        lines.push(format!(
            "help      push another commit, or: gitsocket retry {}",
            status.trigger
        ));
    }
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
    lines.extend(runs(status, now));
    lines.join("\n  ")
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
            "{what}  {run} {}by {}, for {}{overdue}",
            going_on.task.shown(),
            going_on.peer,
            ago(since, now)
        ));
    }
    if let Some(Last { run, past }) = &status.last {
        let took = duration(Duration::from_millis(past.done.ms));
        // The error is above.
        let how = match &past.done.failure {
            Some(failure) if past.done.outcome == Outcome::RolledBack => {
                format!("rolled back ({})", failure.kind.as_str())
            }
            Some(failure) => format!("failed ({})", failure.kind.as_str()),
            None => past.done.line(),
        };
        lines.push(format!(
            "last run  {run} {}by {}, {}, took {took}: {how}",
            past.task.shown(),
            past.peer,
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
        site running-then-queued 5d6e7f8 since 2025-11-25T02:10:02Z, 1h 49m ago
          failing   since 2025-11-24T02:06:40Z, 1d 1h ago, 3 runs
          error     hook: hook make: exit status 1
          help      see its lines
          hooks     owed to 5d6e7f8 since 2025-11-24T02:06:40Z, 1d 1h ago: they run at the next trigger
          mixed     left of 6e7f8a9: a, b/c and 2 more; the next run does it
          running   0198c0ffee0002 by uid=0 pid=1, for 5s
          waiting   0198c0ffee0003 by uid=0 pid=2, for 1s
          last run  0198c0ffee0001 by uid=33 pid=7, 2025-11-25T02:10:02Z, 1h 49m ago, took 1.2s: failed (hook)
        ");
    }

    #[test]
    fn one_that_never_ran() {
        let status = r#"{"trigger":"site","state":"idle","runs":[],"last":null,"commit":null,"since":null,
            "failing":null,"hooks_owed":false}"#;
        assert_eq!(shown(status), "site idle -\n  deployed  never");
    }
}
