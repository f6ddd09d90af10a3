//! `gitsocket pause` and `gitsocket resume`: a freeze, in which nothing is deployed.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::{
    ask::duration,
    given::note,
    many::{self, Question, Shown},
};
use crate::daemon::wire::Request;

/// pause triggers: they deploy nothing until you resume them; a rollback works
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "pause")]
pub(super) struct Pause {
    /// the trigger's name
    #[argh(positional, arg_name = "NAME")]
    name: String,
    /// more triggers
    #[argh(positional, arg_name = "NAME")]
    more: Vec<String>,
    /// why, for status and for the clients that are refused; one line of at most 200 characters
    #[argh(option, arg_name = "TEXT")]
    reason: Option<String>,
    /// the daemon's address: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1; default: as for client
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// print each event as a line of JSON
    #[argh(switch)]
    json: bool,
    /// the file that holds the listener's token, or - for standard input; default: as for client
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// give up after this long; default: 10s
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
}

/// resume paused triggers: they deploy again
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "resume")]
pub(super) struct Resume {
    /// the trigger's name
    #[argh(positional, arg_name = "NAME")]
    name: String,
    /// more triggers
    #[argh(positional, arg_name = "NAME")]
    more: Vec<String>,
    /// the daemon's address: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1; default: as for client
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// print each event as a line of JSON
    #[argh(switch)]
    json: bool,
    /// the file that holds the listener's token, or - for standard input; default: as for client
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// give up after this long; default: 10s
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
}

const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn pause(arguments: &Pause) -> Result<ExitCode, ExitCode> {
    let reason = arguments.reason.as_deref();
    let reason = reason.map(|text| note("--reason", text)).transpose()?;
    many::ask(&Question {
        names: std::iter::once(&arguments.name).chain(&arguments.more).collect(),
        request: &|name| Request::Pause {
            name: name.clone(),
            reason: reason.clone(),
        },
        socket: arguments.socket.as_deref(),
        token_file: arguments.token_file.as_ref(),
        shown: shown(arguments.json),
        timeout: timeout(arguments.timeout.as_deref())?,
        done: Some("paused"),
    })
}

pub(super) fn resume(arguments: &Resume) -> Result<ExitCode, ExitCode> {
    many::ask(&Question {
        names: std::iter::once(&arguments.name).chain(&arguments.more).collect(),
        request: &|name| Request::Resume { name: name.clone() },
        socket: arguments.socket.as_deref(),
        token_file: arguments.token_file.as_ref(),
        shown: shown(arguments.json),
        timeout: timeout(arguments.timeout.as_deref())?,
        done: Some("resumed"),
    })
}

fn shown(json: bool) -> Shown {
    Shown { json, quiet: false }
}

fn timeout(given: Option<&str>) -> Result<Option<Duration>, ExitCode> {
    let given = given.map(duration).transpose()?;
    Ok(Some(given.unwrap_or(TIMEOUT)))
}
