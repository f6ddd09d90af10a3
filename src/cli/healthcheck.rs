//! `gitsocket healthcheck`: whether a daemon answers and its triggers work, as an exit status for supervisors.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::{
    Show,
    client::{self, Asked},
    say, usage,
};
use crate::{
    event::{Event, Record, Status, duration, now, time},
    wire::Request,
};

/// ask a daemon whether all is well
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "healthcheck",
    error_code(0, "it answers, and no trigger has been failing for long"),
    error_code(1, "a trigger has"),
    error_code(3, "no daemon there"),
    error_code(4, "refused"),
    error_code(6, "no answer in time")
)]
pub(super) struct Arguments {
    /// the daemon: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1; default: as for client
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// the file that holds the listener's token; default: as for client
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// how long a trigger may fail, from the first run that failed until one succeeds; default: 1h
    #[argh(option, arg_name = "DURATION")]
    failing_for: Option<String>,
    /// give up after this long; default: 5s
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
}

const FAILING_FOR: Duration = Duration::from_secs(60 * 60);
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let timeout = arguments.timeout.as_deref().map(client::duration).transpose();
    let bound = arguments.failing_for.as_deref().map(humantime::parse_duration);
    let (timeout, bound) = match (timeout, bound.transpose()) {
        (Ok(timeout), Ok(bound)) => (timeout.unwrap_or(TIMEOUT), bound.unwrap_or(FAILING_FOR)),
        (Err(code), _) => return code,
        (_, Err(why)) => {
            let text = arguments.failing_for.as_deref().unwrap_or_default();
            return usage(&format!(
                "--failing-for: {text:?} is no duration ({why}); write it as 30m or 2h"
            ));
        }
    };
    let asked = Asked {
        socket: arguments.socket.as_deref(),
        token_file: arguments.token_file.as_ref(),
        request: &Request::Status { name: None },
        timeout: Some(timeout),
    };
    let show = Show::new(false, true);
    let mut ill = false;
    let each = |record: &Record| match &record.event {
        Event::Status(status) => {
            let complaint = complaint(status, bound, now());
            ill |= complaint.is_some();
            complaint.iter().for_each(|line| say(line));
        }
        Event::Done(done) if done.failure.is_none() => {}
        _ => show.record(record),
    };
    match client::ask(&asked, each) {
        Ok(done) if done.exit != 0 => ExitCode::from(done.exit),
        Ok(_) if ill => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(ended) => ended.show(&show, "-"),
    }
}

/// What is wrong with a trigger, if it has been for `bound`.
fn complaint(status: &Status, bound: Duration, now: u64) -> Option<String> {
    let failing = status.standing.failing.as_ref()?;
    let long = Duration::from_secs(now.saturating_sub(failing.since));
    (long >= bound).then(|| {
        format!(
            "{} has been failing for {}, since {}: {}: {}",
            status.trigger,
            duration(long),
            time(failing.since),
            failing.failure.kind.as_str(),
            failing.failure.message
        )
    })
}
