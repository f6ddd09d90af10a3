//! `gitsocket log`: the runs of a trigger, what one of them said, or what one says while it goes on.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::{
    Show,
    client::{self, Asked},
    usage,
};
use crate::{
    base::name::RunId,
    daemon::wire::{Request, Which},
};

/// list the past runs of a trigger, the newest first; or show one of them, and end with its exit status
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "log")]
pub(super) struct Arguments {
    /// the trigger's name
    #[argh(positional, arg_name = "NAME")]
    name: String,
    /// show this run, by its id; one that goes on is followed to its end
    #[argh(positional, arg_name = "RUN")]
    run: Option<String>,
    /// follow the run that goes on; if none does, show the newest
    #[argh(switch, short = 'f')]
    follow: bool,
    /// the daemon: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1; default: as for client
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// print every event as a line of JSON
    #[argh(switch)]
    json: bool,
    /// the file that holds the listener's token; default: as for client
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// give up after this long; default: 10s for the list, none for a run
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
}

const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let show = Show::replay(arguments.json);
    let run = match (arguments.run.as_deref(), arguments.follow) {
        (None, false) => None,
        (None, true) => Some(Which::Newest),
        (Some(id), _) => match RunId::parse(id) {
            Ok(id) => Some(Which::Id(id)),
            Err(why) => return usage(&format!("{id:?} is no id of a run: {why}")),
        },
    };
    let given = arguments.timeout.as_deref().map(client::duration).transpose();
    let (timeout, name) = match (given, super::trigger_name(&show, &arguments.name)) {
        (Ok(given), Ok(name)) => (given.or(run.is_none().then_some(TIMEOUT)), name),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let asked = Asked {
        socket: arguments.socket.as_deref(),
        token_file: arguments.token_file.as_ref(),
        request: &Request::Log {
            name: Some(name),
            run,
            limit: None,
        },
        timeout,
    };
    match client::ask(&asked, |record| show.record(record)) {
        Ok(done) => ExitCode::from(done.exit),
        Err(ended) => ended.show(&show, &arguments.name),
    }
}
