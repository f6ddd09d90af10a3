//! `gitsocket log`: the runs of a trigger or of all, or the lines of one run.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::{
    Show,
    ask::{Daemon, duration},
    columns::Size,
    fail_named, print, say, usage,
};
use crate::{
    base::{
        event::{Event, Ids, Record, time},
        name::{RunId, TriggerName},
    },
    daemon::wire::{Request, Which},
};

mod table;

/// list the runs of a trigger, or of all triggers, the newest first; or show the lines of one run, and end with its exit status
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "log")]
pub(super) struct Arguments {
    /// the trigger's name; default: all triggers. After it the id of the run to show, or its first or last digits, at least
    /// four; a run that has not ended is followed to its end
    #[argh(positional, arg_name = "NAME RUN")]
    words: Vec<String>,
    /// follow the current run; if there is none, show the newest run
    #[argh(switch, short = 'f')]
    follow: bool,
    /// list at most N runs, up to 1000; default: all remembered runs of NAME, or 20 of all triggers
    #[argh(option, short = 'n', arg_name = "N")]
    limit: Option<u32>,
    /// list runs in whole lines, as where there is no terminal, with the full ids of commits; the table leaves out columns on a
    /// narrow terminal
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
    /// give up after this long; default: 10s for the list, none for a run
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
}

const TIMEOUT: Duration = Duration::from_secs(10);
/// A daemon lists no more runs.
const MAX_LIMIT: u32 = 1000;

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let ids = if arguments.long { Ids::Whole } else { Ids::Short };
    let show = Show::replay(arguments.json, ids);
    let (name, run) = asked_for(arguments)?;
    let timeout = arguments.timeout.as_deref().map(duration).transpose()?;
    let name = name.map(|name| super::trigger_name(&show, name)).transpose()?;
    let is_list = run.is_none();
    let timeout = timeout.or(is_list.then_some(TIMEOUT));
    let size = Size::of_output().filter(|_| is_list && !arguments.long && !arguments.json);
    let shown = name.as_ref().map_or("-", TriggerName::as_str).to_owned();
    let of_all = name.is_none();
    let daemon = Daemon::find(arguments.socket.as_deref(), arguments.token_file.as_ref())?;
    let request = Request::Log {
        name,
        run,
        limit: arguments.limit,
    };
    let mut rows = Vec::new();
    let mut is_first = true;
    let answer = daemon.ask(&request, timeout, |record| {
        if size.is_some() && matches!(record.event, Event::Past(_) | Event::GoingOn(_)) {
            rows.push(record.clone());
            return;
        }
        if is_first && !is_list && !arguments.json {
            date(record).iter().for_each(|line| say(line));
        }
        is_first = false;
        show.record(record);
    });
    if let Some(size) = size.filter(|_| !rows.is_empty()) {
        let lines = table::lines(&rows, of_all, size);
        lines.iter().for_each(|line| print(line));
    }
    let done = answer.map_err(|failure| fail_named(&show, &shown, failure))?;
    Ok(ExitCode::from(done.exit))
}

/// Which run it is, and of when: its lines have no date.
fn date(record: &Record) -> Option<String> {
    let accepted = record.run.accepted()?;
    Some(format!("run {}, accepted {}", record.run, time(accepted)))
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
            let id = RunId::parse(id)
                .map_err(|why| usage(&format!("{id:?} is not a valid id of a run: {why}")))?;
            Some(Which::Id(id))
        }
    };
    match (arguments.limit, &run) {
        (Some(_), Some(_)) => Err(usage("-n is for the list of runs; leave out -n, or the run")),
        (Some(limit), None) if !(1..=MAX_LIMIT).contains(&limit) => Err(usage(&format!(
            "-n: {limit} runs cannot be listed; give a number from 1 to {MAX_LIMIT}"
        ))),
        (_, Some(Which::Newest)) if name.is_none() => Err(usage(
            "-f follows the run of one trigger; name it, as in `gitsocket log -f NAME`",
        )),
        _ => Ok((name, run)),
    }
}
