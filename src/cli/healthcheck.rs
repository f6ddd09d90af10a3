//! `gitsocket healthcheck`: whether the daemon answers and its triggers work, as an exit status for supervisors.
//!
//! A supervisor may restart the daemon where the check fails. So it fails only for faults that a restart may mend, or that
//! have lasted long. A rejected configuration, which a restart would not survive, is printed with exit status 0.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::{
    Show,
    ask::{self, Daemon},
    fail_named, print, say, usage,
};
use crate::{
    base::event::{Current, Event, Record, Refused, Status, Stuck, age, duration, now, short, time},
    daemon::wire::Request,
};

/// check whether the daemon answers and its triggers work, as an exit status
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "healthcheck",
    error_code(
        0,
        "the daemon answers, no run is stuck or overdue, and no trigger has been failing for long"
    ),
    error_code(1, "a trigger has been failing for long, or a run is stuck or overdue"),
    error_code(3, "no daemon answers"),
    error_code(4, "the daemon refused the request"),
    error_code(6, "the daemon did not answer in time")
)]
pub(super) struct Arguments {
    /// the daemon's address: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1; default: as for client
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// the file that holds the listener's token, or - for standard input; default: as for client
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// how long a trigger may be failing, from its first run that failed; default: 1h
    #[argh(option, arg_name = "DURATION")]
    failing_for: Option<String>,
    /// give up after this long; default: 5s
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
}

const FAILING_FOR: Duration = Duration::from_secs(60 * 60);
const TIMEOUT: Duration = Duration::from_secs(5);
/// The age of a failure that began in the future, by the clock: old enough to count, and young enough for a bound that means
/// never.
const UNKNOWN_AGE: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let timeout = arguments.timeout.as_deref().map(ask::duration).transpose();
    let bound = arguments.failing_for.as_deref().map(humantime::parse_duration);
    let (timeout, bound) = match (timeout, bound.transpose()) {
        (Ok(timeout), Ok(bound)) => (timeout.unwrap_or(TIMEOUT), bound.unwrap_or(FAILING_FOR)),
        (Err(code), _) => return Err(code),
        (_, Err(why)) => {
            let text = arguments.failing_for.as_deref().unwrap_or_default();
            return Err(usage(&format!(
                "--failing-for: {text:?} is not a valid duration ({why}); write it as 30m or 2h"
            )));
        }
    };
    let daemon = Daemon::find(arguments.socket.as_deref(), arguments.token_file.as_ref())?;
    let request = Request::Status { names: Vec::new() };
    let show = Show::new(false, true);
    let mut ill = false;
    let mut refused = None;
    let each = |record: &Record| match &record.event {
        Event::Status(status) => {
            refused.clone_from(&status.reload_refused);
            match complaint(status, bound, now()) {
                Some(complaint) => {
                    ill = true;
                    say(&complaint);
                }
                None => remarks(status).iter().for_each(|line| print(line)),
            }
        }
        Event::Done(done) if done.failure.is_none() => {}
        _ => show.record(record),
    };
    let answer = daemon.ask(&request, Some(timeout), each);
    refused
        .as_ref()
        .map(Refused::line)
        .iter()
        .for_each(|line| print(line));
    let done = answer.map_err(|failure| fail_named(&show, "-", failure))?;
    Ok(match done.exit {
        0 if ill => ExitCode::FAILURE,
        exit => ExitCode::from(exit),
    })
}

/// What is wrong with a trigger: a run that does not end, or failures for `bound`.
fn complaint(status: &Status, bound: Duration, now: u64) -> Option<String> {
    let trigger = &status.trigger;
    if let Some(Stuck { since, step, run }) = &status.stuck {
        return Some(format!(
            "{trigger} has been stuck since {}: the run {run}, in the step {}",
            time(*since),
            step.as_str()
        ));
    }
    let overdue = |Current { run, going_on }: &Current| {
        let overdue = duration(Duration::from_secs(going_on.overdue?));
        Some(format!(
            "{trigger} has the run {run}, which is longer than its run_timeout by {overdue}"
        ))
    };
    if let Some(complaint) = status.runs.iter().find_map(overdue) {
        return Some(complaint);
    }
    let failing = status.standing.failing.as_ref()?;
    // The daemon knows better: its clock may have been set since.
    let known = status.failing_for.map(Duration::from_secs);
    let long = match known.or_else(|| age(failing.since, now)) {
        Some(long) if long < bound => return None,
        Some(long) => format!("for {}, since {}", duration(long), time(failing.since)),
        None if UNKNOWN_AGE < bound => return None,
        None => format!(
            "since {}, which is in the future by this clock",
            time(failing.since)
        ),
    };
    let failure = &failing.failure;
    let pending = pending_hooks(status).map(|pending| format!("; {pending}"));
    Some(format!(
        "{trigger} has been failing {long}: {}: {}{}",
        failure.kind.as_str(),
        failure.message,
        pending.unwrap_or_default()
    ))
}

/// What is no fault of a trigger, or not for long enough, but should be known.
fn remarks(status: &Status) -> Vec<String> {
    let trigger = &status.trigger;
    let mut lines = Vec::new();
    if let Some(paused) = &status.paused {
        let reason = paused.reason.as_ref().map(|reason| format!(": {reason}"));
        let since = time(paused.since);
        let reason = reason.unwrap_or_default();
        lines.push(format!(
            "{trigger} has been paused since {since}, by {}{reason}",
            paused.peer
        ));
    }
    let pending = pending_hooks(status);
    if let Some(failing) = &status.standing.failing {
        lines.push(format!(
            "{trigger} has been failing since {}, {}: {}: {}{}",
            time(failing.since),
            failing.times(),
            failing.failure.kind.as_str(),
            failing.failure.message,
            pending.map(|pending| format!("; {pending}")).unwrap_or_default()
        ));
    } else if status.paused.is_some() {
        // It deploys nothing for now, and runs no hooks.
    } else if status.is_never_deployed() {
        lines.push(format!("{trigger} has not been deployed yet"));
    } else {
        lines.extend(pending.map(|pending| format!("{trigger}: {pending}")));
    }
    lines
}

fn pending_hooks(status: &Status) -> Option<String> {
    let standing = &status.standing;
    if !standing.hooks_pending {
        return None;
    }
    let commit = standing.commit.as_deref().map_or("-", short);
    Some(match standing.hooks_since {
        Some(since) => format!("hooks have been pending for {commit} since {}", time(since)),
        None => format!("hooks are pending for {commit}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: u64 = 1_764_036_600;

    fn said(more: &str) -> Option<String> {
        let status = format!(r#"{{"trigger":"site","state":"idle","runs":[],"hooks_owed":false{more}}}"#);
        complaint(&serde_json::from_str(&status).unwrap(), HOUR, NOW)
    }

    fn failing(since: u64, more: &str) -> Option<String> {
        said(&format!(
            r#","failing":{{"since":{since},"runs":1,"run":"0198c0ffee0001","ended":{since},
            "kind":"remote","message":"it is gone"}}{more}"#
        ))
    }

    #[test]
    fn failures_count_by_a_clock_that_is_not_set() {
        assert_eq!(said(""), None);
        assert_eq!(failing(NOW - 3599, ""), None);
        let long =
            Some("site has been failing for 1h, since 2025-11-25T01:10:00Z: remote: it is gone".into());
        assert_eq!(failing(NOW - 3600, ""), long);
        // The daemon has counted, whatever the clock was set to.
        assert_eq!(failing(NOW - 9999, r#","failing_for":10"#), None);
        assert!(failing(NOW + 9999, r#","failing_for":3600"#).is_some());
        // The daemon has not counted: a clock that was set back hides nothing.
        let said = failing(NOW + 9999, "").unwrap();
        assert!(
            said.contains("which is in the future by this clock: remote"),
            "{said}"
        );
        assert_eq!(failing(NOW + 1, ""), None, "two clocks are never the same");
    }

    #[test]
    fn runs_that_do_not_end_are_told_at_once() {
        let stuck = said(&format!(
            r#","stuck":{{"since":{NOW},"step":"worktree","run":"0198c0ffee0001"}}"#
        ));
        let expected =
            "site has been stuck since 2025-11-25T02:10:00Z: the run 0198c0ffee0001, in the step worktree";
        assert_eq!(stuck.as_deref(), Some(expected));
        let run = |more: &str| {
            let status = format!(
                r#"{{"trigger":"site","state":"running","hooks_owed":false,
                "runs":[{{"run":"0198c0ffee0001","peer":"-","accepted":{NOW},"began":{NOW}{more}}}]}}"#
            );
            complaint(&serde_json::from_str(&status).unwrap(), HOUR, NOW)
        };
        assert_eq!(run(""), None);
        let said = run(r#","overdue":0"#).unwrap();
        assert!(
            said.ends_with("the run 0198c0ffee0001, which is longer than its run_timeout by 0ms"),
            "{said}"
        );
    }

    #[test]
    fn what_is_no_fault_is_remarked() {
        let remark = |more: &str| {
            let status = format!(r#"{{"trigger":"site","state":"idle","runs":[],{more}}}"#);
            remarks(&serde_json::from_str(&status).unwrap())
        };
        let never = remark(r#""hooks_owed":false"#);
        assert_eq!(never, ["site has not been deployed yet"]);
        assert!(remark(r#""hooks_owed":false,"commit":"5d6e7f8a""#).is_empty());
        let paused =
            format!(r#""hooks_owed":true,"paused":{{"since":{NOW},"peer":"ann uid=7","reason":"a freeze"}}"#);
        let expected = "site has been paused since 2025-11-25T02:10:00Z, by ann uid=7: a freeze";
        assert_eq!(remark(&paused), [expected]);
        let failing = format!(
            r#""failing":{{"since":{NOW},"runs":2,"run":"0198c0ffee0001","ended":{NOW},
            "kind":"remote","message":"it is gone"}},{paused}"#
        );
        let failing = remark(&failing);
        assert_eq!(failing[0], expected);
        let expected = "site has been failing since 2025-11-25T02:10:00Z, 2 runs: remote: it is gone; hooks are pending for -";
        assert_eq!(failing[1..], [expected]);
        let pending = remark(&format!(
            r#""hooks_owed":true,"hooks_since":{NOW},"commit":"5d6e7f8a""#
        ));
        let expected = "site: hooks have been pending for 5d6e7f8 since 2025-11-25T02:10:00Z";
        assert_eq!(pending, [expected]);
    }
}
