//! `gitsocket pause` and `gitsocket resume`: a freeze, in which nothing is deployed.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::{
    ask::{Daemon, duration},
    given::note,
    many::{self, Question, Shown},
};
use crate::{base::name::TriggerName, daemon::wire::Request};

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

pub(super) fn pause(arguments: &Pause) -> ExitCode {
    let reason = arguments.reason.as_deref();
    match reason.map(|text| note("--reason", text)).transpose() {
        Ok(reason) => ask(Given {
            names: std::iter::once(&arguments.name).chain(&arguments.more).collect(),
            done: "paused",
            request: &|name| Request::Pause {
                name: name.clone(),
                reason: reason.clone(),
            },
            socket: arguments.socket.as_deref(),
            json: arguments.json,
            token_file: arguments.token_file.as_ref(),
            timeout: arguments.timeout.as_deref(),
        }),
        Err(code) => code,
    }
}

pub(super) fn resume(arguments: &Resume) -> ExitCode {
    ask(Given {
        names: std::iter::once(&arguments.name).chain(&arguments.more).collect(),
        done: "resumed",
        request: &|name| Request::Resume { name: name.clone() },
        socket: arguments.socket.as_deref(),
        json: arguments.json,
        token_file: arguments.token_file.as_ref(),
        timeout: arguments.timeout.as_deref(),
    })
}

/// What the command line says.
struct Given<'a> {
    names: Vec<&'a String>,
    done: &'static str,
    request: &'a (dyn Fn(&TriggerName) -> Request + Sync),
    socket: Option<&'a str>,
    json: bool,
    token_file: Option<&'a PathBuf>,
    timeout: Option<&'a str>,
}

fn ask(given: Given<'_>) -> ExitCode {
    let shown = Shown {
        json: given.json,
        quiet: false,
    };
    let prepare = || {
        let timeout = given.timeout.map(duration).transpose()?;
        let names = many::names(shown, &given.names)?;
        let daemon = Daemon::find(given.socket, given.token_file)?;
        Ok((timeout, names, daemon))
    };
    let (timeout, names, daemon) = match prepare() {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let question = Question {
        daemon: &daemon,
        request: given.request,
        timeout: Some(timeout.unwrap_or(TIMEOUT)),
        done: Some(given.done),
    };
    many::ask(&names, shown, &question)
}
