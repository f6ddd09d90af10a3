//! `gitsocket status`: the state of the daemon's triggers, for an operator who was woken by an alert.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::{
    Show,
    ask::{Daemon, duration},
    columns::Size,
    fail_named,
    many::{self, Shown},
    print,
};
use crate::{
    base::event::{Event, Refused, Status, now},
    daemon::wire::Request,
};

mod long;
mod table;

/// show the state of the daemon's triggers: on a terminal a line for each; if you name one trigger, all about it
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "status")]
pub(super) struct Arguments {
    /// show only these triggers
    #[argh(positional, arg_name = "NAME")]
    names: Vec<String>,
    /// show all about each trigger, as where there is no terminal
    #[argh(switch)]
    long: bool,
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

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let show = Show::new(arguments.json, false);
    let names = many::names(
        Shown {
            json: arguments.json,
            quiet: false,
        },
        &arguments.names.iter().collect::<Vec<_>>(),
    );
    // What is wrong with both is said.
    let timeout = arguments.timeout.as_deref().map(duration).transpose();
    let (names, timeout) = (names?, timeout?.unwrap_or(TIMEOUT));
    let is_long = arguments.long || arguments.json || names.len() == 1;
    let size = Size::of_output().filter(|_| !is_long);
    let shown = match names.as_slice() {
        [name] => name.as_str().to_owned(),
        _ => "-".into(),
    };
    let daemon = Daemon::find(arguments.socket.as_deref(), arguments.token_file.as_ref())?;
    let request = Request::Status { names };
    let mut all: Vec<Status> = Vec::new();
    let mut refused = None;
    let answer = daemon.ask(&request, Some(timeout), |record| match &record.event {
        Event::Status(status) if !arguments.json => {
            refused.clone_from(&status.reload_refused);
            match size {
                Some(_) => all.push(Status::clone(status)),
                None => print(&long::text(status, now())),
            }
        }
        // The end of a good answer adds nothing.
        Event::Done(done) if !arguments.json && done.failure.is_none() => {}
        _ => show.record(record),
    });
    if let Some(size) = size.filter(|_| !all.is_empty()) {
        let lines = table::lines(&all, size, now());
        lines.iter().for_each(|line| print(line));
    }
    // This is about the daemon, not about a trigger.
    refused
        .as_ref()
        .map(Refused::line)
        .iter()
        .for_each(|line| print(line));
    let done = answer.map_err(|failure| fail_named(&show, &shown, failure))?;
    Ok(ExitCode::from(done.exit))
}
