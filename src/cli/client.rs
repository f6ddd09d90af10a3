//! `gitsocket client`: triggers runs.

use std::{path::PathBuf, process::ExitCode};

use argh::{ArgsInfo, FromArgs};

use super::{
    ask::duration,
    given::note,
    many::{self, Question, Shown},
};
use crate::{base::event::Task, daemon::wire::Request};

/// trigger: ask the daemon to deploy, and show what happens
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "client",
    note = "`gitsocket --help` lists the exit statuses."
)]
pub(super) struct Arguments {
    /// the trigger's name
    #[argh(positional, arg_name = "NAME")]
    name: String,
    /// more triggers; up to 16 requests are sent at a time, and the highest exit status counts
    #[argh(positional, arg_name = "NAME")]
    more: Vec<String>,
    /// the daemon's address: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1;
    /// default: the first listener of the configuration, ./gitsocket.sock, /run/gitsocket/gitsocket.sock
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// print each event as a line of JSON
    #[argh(switch)]
    json: bool,
    /// print only the result of each run
    #[argh(switch)]
    quiet: bool,
    /// the file that holds the listener's token, or - for standard input; default: $GITSOCKET_TOKEN_FILE, or, without -s,
    /// the file that the configuration names
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// give up after this long, such as 90s or 5m; the runs go on
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
    /// return as soon as the daemon has accepted the runs
    #[argh(switch)]
    no_wait: bool,
    /// run all hooks again, even if nothing has changed; only users who may roll back can do this
    #[argh(switch)]
    hooks: bool,
    /// a note on who wants the run and why, for status, log and page; one line of at most 200 characters
    #[argh(option, arg_name = "TEXT")]
    note: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    have_done(Work {
        names: std::iter::once(&arguments.name).chain(&arguments.more).collect(),
        task: if arguments.hooks {
            Task::Hooks
        } else {
            Task::Update
        },
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

/// A request, as the command line has it.
pub(super) struct Work<'a> {
    pub(super) names: Vec<&'a String>,
    pub(super) task: Task,
    pub(super) note: Option<&'a str>,
    pub(super) socket: Option<&'a str>,
    pub(super) shown: Shown,
    pub(super) token_file: Option<&'a PathBuf>,
    pub(super) timeout: Option<&'a str>,
    pub(super) wait: bool,
}

/// Send the request for each name, and show the answers.
pub(super) fn have_done(work: Work<'_>) -> Result<ExitCode, ExitCode> {
    let timeout = work.timeout.map(duration).transpose()?;
    let note = work.note.map(|text| note("--note", text)).transpose()?;
    many::ask(&Question {
        names: work.names,
        request: &|name| Request::Trigger {
            name: name.clone(),
            task: work.task.clone(),
            wait: work.wait,
            note: note.clone(),
        },
        socket: work.socket,
        token_file: work.token_file,
        shown: work.shown,
        timeout,
        done: None,
    })
}
