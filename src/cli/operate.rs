//! `gitsocket rollback` and `gitsocket retry`: what an operator asks a daemon for, when a commit turned out not to be good.

use std::{path::PathBuf, process::ExitCode};

use argh::{ArgsInfo, FromArgs};

use super::{
    client::{Work, have_done},
    earlier,
    many::Shown,
};
use crate::base::event::Task;

/// ask a daemon to go back to an earlier commit, the last good one unless you name one; the one that is left is not deployed
/// again until you retry
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "rollback")]
pub(super) struct Rollback {
    /// the trigger's name
    #[argh(positional, arg_name = "NAME")]
    name: String,
    /// go back to this release, or to this commit, by four or more digits of its id; default: the last good one before
    #[argh(positional, arg_name = "RELEASE|COMMIT")]
    to: Option<String>,
    /// the daemon: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1; default: as for client
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// print every event as a line of JSON
    #[argh(switch)]
    json: bool,
    /// print the last line only
    #[argh(switch)]
    quiet: bool,
    /// the file that holds the listener's token, or - for standard input; default: as for client
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// give up after this long, such as 90s or 5m; the run goes on
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
    /// return as soon as it is accepted
    #[argh(switch)]
    no_wait: bool,
    /// say who wants it and why: shown in status, in the log and on the page; one line of at most 200 characters
    #[argh(option, arg_name = "TEXT")]
    note: Option<String>,
}

/// ask a daemon to deploy the newest commit, even if it was rolled back
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "retry")]
pub(super) struct Retry {
    /// the trigger's name
    #[argh(positional, arg_name = "NAME")]
    name: String,
    /// the daemon: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1; default: as for client
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// print every event as a line of JSON
    #[argh(switch)]
    json: bool,
    /// print the last line only
    #[argh(switch)]
    quiet: bool,
    /// the file that holds the listener's token, or - for standard input; default: as for client
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// give up after this long, such as 90s or 5m; the run goes on
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
    /// return as soon as it is accepted
    #[argh(switch)]
    no_wait: bool,
    /// say who wants it and why: shown in status, in the log and on the page; one line of at most 200 characters
    #[argh(option, arg_name = "TEXT")]
    note: Option<String>,
}

pub(super) fn rollback(arguments: &Rollback) -> ExitCode {
    let to = match arguments.to.as_deref().map(earlier).transpose() {
        Ok(to) => to,
        Err(code) => return code,
    };
    have_done(Work {
        names: vec![&arguments.name],
        task: Task::Rollback { to },
        note: arguments.note.as_deref(),
        socket: arguments.socket.as_deref(),
        shown: Shown {
            json: arguments.json,
            quiet: arguments.quiet,
        },
        token_file: arguments.token_file.as_ref(),
        timeout: arguments.timeout.as_deref(),
        wait: !arguments.no_wait,
    })
}

pub(super) fn retry(arguments: &Retry) -> ExitCode {
    have_done(Work {
        names: vec![&arguments.name],
        task: Task::Retry,
        note: arguments.note.as_deref(),
        socket: arguments.socket.as_deref(),
        shown: Shown {
            json: arguments.json,
            quiet: arguments.quiet,
        },
        token_file: arguments.token_file.as_ref(),
        timeout: arguments.timeout.as_deref(),
        wait: !arguments.no_wait,
    })
}
