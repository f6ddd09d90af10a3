//! `gitsocket status`: how the triggers of a daemon are, for somebody who was woken by it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::{
    Show,
    ask::{self, Asked},
    many::{self, Shown},
    print,
};
use crate::{
    base::event::{Event, Record, Refused, Status, now},
    daemon::wire::Request,
};

mod long;
mod table;

use table::Size;

/// ask a daemon how its triggers are: on a terminal a line for each, and all about one that you name alone
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "status")]
pub(super) struct Arguments {
    /// these triggers only
    #[argh(positional, arg_name = "NAME")]
    names: Vec<String>,
    /// tell all about each, as is told of one, and where there is no terminal
    #[argh(switch)]
    long: bool,
    /// the daemon: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1; default: as for client
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// print every event as a line of JSON
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

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let show = Show::new(arguments.json, false);
    let names = many::names(
        Shown {
            json: arguments.json,
            quiet: false,
        },
        &arguments.names.iter().collect::<Vec<_>>(),
    );
    let timeout = arguments.timeout.as_deref().map(ask::duration).transpose();
    let (names, timeout) = match (names, timeout) {
        (Ok(names), Ok(timeout)) => (names, timeout.unwrap_or(TIMEOUT)),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let size = match arguments.long || arguments.json || names.len() == 1 {
        true => None,
        false => Size::of_output(),
    };
    let shown = match names.as_slice() {
        [name] => name.as_str().to_owned(),
        _ => "-".into(),
    };
    let asked = Asked {
        socket: arguments.socket.as_deref(),
        token_file: arguments.token_file.as_ref(),
        request: &Request::Status { names },
        timeout: Some(timeout),
    };
    let mut all: Vec<Status> = Vec::new();
    let mut refused = None;
    let answer = ask::ask(&asked, |record: &Record| match &record.event {
        Event::Status(status) if !arguments.json => {
            refused.clone_from(&status.reload_refused);
            match size {
                Some(_) => all.push(Status::clone(status)),
                None => print(&long::text(status, now())),
            }
        }
        // The end of a good answer says nothing that is not there.
        Event::Done(done) if !arguments.json && done.failure.is_none() => {}
        _ => show.record(record),
    });
    if let Some(size) = size.filter(|_| !all.is_empty()) {
        let lines = table::lines(&all, size, now());
        lines.iter().for_each(|line| print(line));
    }
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
