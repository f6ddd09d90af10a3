//! `gitsocket rollback` and `gitsocket retry`: the requests of an operator when a commit was not good.

use std::{path::PathBuf, process::ExitCode};

use argh::{ArgsInfo, FromArgs};

use super::{
    client::{Work, have_done},
    earlier,
    many::Shown,
};
use crate::base::event::Task;

/// ask the daemon to go back to an earlier commit: the one that you name, or else the last good one before the live one; the
/// commit that is live now is then held: no trigger deploys it again until you retry
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "rollback",
    note = "`gitsocket --help` lists the exit statuses."
)]
pub(super) struct Rollback {
    /// the trigger's name
    #[argh(positional, arg_name = "NAME")]
    name: String,
    /// the release or the commit to go back to, by four or more digits of its id; default: the last good one before the live
    /// one
    #[argh(positional, arg_name = "RELEASE|COMMIT")]
    to: Option<String>,
    /// the daemon's address: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1; default: as for client
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// print each event as a line of JSON
    #[argh(switch)]
    json: bool,
    /// print only the result
    #[argh(switch)]
    quiet: bool,
    /// the file that holds the listener's token, or - for standard input; default: as for client
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// give up after this long, such as 90s or 5m; the run goes on
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
    /// return as soon as the daemon has accepted the run
    #[argh(switch)]
    no_wait: bool,
    /// a note on who wants the run and why, for status, log and page; one line of at most 200 characters
    #[argh(option, arg_name = "TEXT")]
    note: Option<String>,
}

/// ask the daemon to deploy the newest commit, even if it is held because it was rolled back
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "retry",
    note = "`gitsocket --help` lists the exit statuses."
)]
pub(super) struct Retry {
    /// the trigger's name
    #[argh(positional, arg_name = "NAME")]
    name: String,
    /// the daemon's address: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1; default: as for client
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// print each event as a line of JSON
    #[argh(switch)]
    json: bool,
    /// print only the result
    #[argh(switch)]
    quiet: bool,
    /// the file that holds the listener's token, or - for standard input; default: as for client
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// give up after this long, such as 90s or 5m; the run goes on
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
    /// return as soon as the daemon has accepted the run
    #[argh(switch)]
    no_wait: bool,
    /// a note on who wants the run and why, for status, log and page; one line of at most 200 characters
    #[argh(option, arg_name = "TEXT")]
    note: Option<String>,
}

pub(super) fn rollback(arguments: &Rollback) -> Result<ExitCode, ExitCode> {
    let to = arguments.to.as_deref().map(earlier).transpose()?;
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

pub(super) fn retry(arguments: &Retry) -> Result<ExitCode, ExitCode> {
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
