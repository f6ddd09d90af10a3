//! `gitsocket log`: the runs of a trigger or of all, what one of them said, or what one says while it goes on.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::{
    Show,
    ask::{self, Asked},
    usage,
};
use crate::{
    base::{
        event::Ids,
        name::{RunId, TriggerName},
    },
    daemon::wire::{Request, Which},
};

/// list the past runs of a trigger, or of all, the newest first; or show one of them, and end with its exit status
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "log")]
pub(super) struct Arguments {
    /// the trigger's name; default: all triggers. Behind it the run to show: its id, or four or more digits that only its id
    /// begins with; one that goes on is followed to its end
    #[argh(positional, arg_name = "NAME RUN")]
    words: Vec<String>,
    /// follow the run that goes on; if none does, show the newest
    #[argh(switch, short = 'f')]
    follow: bool,
    /// list so many runs, at most 1000; default: all that are remembered of NAME, 20 of all triggers
    #[argh(option, short = 'n', arg_name = "N")]
    limit: Option<u32>,
    /// list commits by their whole ids
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
    /// give up after this long; default: 10s for the list, none for a run
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
}

const TIMEOUT: Duration = Duration::from_secs(10);
/// As many runs are listed at most: a daemon lists no more.
const MAX_LIMIT: u32 = 1000;

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let ids = match arguments.long {
        true => Ids::Whole,
        false => Ids::Short,
    };
    let show = Show::replay(arguments.json, ids);
    let prepare = || {
        let (name, run) = asked_for(arguments)?;
        let given = arguments.timeout.as_deref().map(ask::duration).transpose()?;
        let name = name.map(|name| super::trigger_name(&show, name)).transpose()?;
        Ok((name, given.or(run.is_none().then_some(TIMEOUT)), run))
    };
    let (name, timeout, run) = match prepare() {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let shown = name.as_ref().map_or("-", TriggerName::as_str).to_owned();
    let asked = Asked {
        socket: arguments.socket.as_deref(),
        token_file: arguments.token_file.as_ref(),
        request: &Request::Log {
            name,
            run,
            limit: arguments.limit,
        },
        timeout,
    };
    match ask::ask(&asked, |record| show.record(record)) {
        Ok(done) => ExitCode::from(done.exit),
        Err(ended) => ended.show(&show, &shown),
    }
}

/// The trigger and the run that are meant, if it is one.
fn asked_for(arguments: &Arguments) -> Result<(Option<&str>, Option<Which>), ExitCode> {
    let mut words = arguments.words.iter().map(String::as_str);
    let (name, run) = (words.next(), words.next());
    if let Some(word) = words.next() {
        return Err(usage(&format!(
            "gitsocket log takes NAME and RUN only, so {word:?} is too much\ntry `gitsocket log --help`"
        )));
    }
    let run = match (run, arguments.follow) {
        (None, false) => None,
        (None, true) => Some(Which::Newest),
        (Some(id), _) => {
            let id = RunId::parse(id).map_err(|why| usage(&format!("{id:?} is no id of a run: {why}")))?;
            Some(Which::Id(id))
        }
    };
    match (arguments.limit, &run) {
        (Some(_), Some(_)) => Err(usage("-n is for the list of runs; leave it out, or the run")),
        (Some(limit), None) if !(1..=MAX_LIMIT).contains(&limit) => Err(usage(&format!(
            "-n: {limit} runs cannot be listed; say 1 to {MAX_LIMIT}"
        ))),
        (_, Some(Which::Newest)) if name.is_none() => Err(usage(
            "-f follows the run of one trigger; name it, as in `gitsocket log -f NAME`",
        )),
        _ => Ok((name, run)),
    }
}
