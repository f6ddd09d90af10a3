//! `gitsocket client`: ask a daemon to run a trigger; and what all commands that ask one have in common.

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::{Show, address, config_file, current_dir, fail, fail_named, trigger_name, usage};
use crate::{
    base::{
        address::Address,
        event::{Done, Record, Task},
        fault::Failure,
        name::AbsPath,
        secret::{self, Secret},
    },
    config::{Config, Listener},
    daemon::{client, wire::Request},
};

/// ask a daemon to run a trigger, and show what it does
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "client")]
pub(super) struct Arguments {
    /// the trigger's name
    #[argh(positional, arg_name = "NAME")]
    name: String,
    /// the daemon: a path with a slash, HOST:PORT, or a PORT of 127.0.0.1;
    /// default: the first listener of the configuration, ./gitsocket.sock, /run/gitsocket/gitsocket.sock
    #[argh(option, short = 's', arg_name = "ADDR")]
    socket: Option<String>,
    /// print every event as a line of JSON
    #[argh(switch)]
    json: bool,
    /// print the last line only
    #[argh(switch)]
    quiet: bool,
    /// the file that holds the listener's token; default, without -s: the one that the configuration names
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// give up after this long, such as 90s or 5m; the run goes on
    #[argh(option, arg_name = "DURATION")]
    timeout: Option<String>,
    /// return as soon as the trigger is accepted
    #[argh(switch)]
    no_wait: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    have_done(Work {
        name: &arguments.name,
        task: Task::Update,
        socket: arguments.socket.as_deref(),
        show: Show::new(arguments.json, arguments.quiet),
        token_file: arguments.token_file.as_ref(),
        timeout: arguments.timeout.as_deref(),
        wait: !arguments.no_wait,
    })
}

/// What a daemon is to do, as the command line has it.
pub(super) struct Work<'a> {
    pub(super) name: &'a str,
    pub(super) task: Task,
    pub(super) socket: Option<&'a str>,
    pub(super) show: Show,
    pub(super) token_file: Option<&'a PathBuf>,
    pub(super) timeout: Option<&'a str>,
    pub(super) wait: bool,
}

/// Ask a daemon to do it, and show what comes of that.
pub(super) fn have_done(work: Work<'_>) -> ExitCode {
    let show = &work.show;
    let timeout = match work.timeout.map(duration).transpose() {
        Ok(timeout) => timeout,
        Err(code) => return code,
    };
    let name = match trigger_name(show, work.name) {
        Ok(name) => name,
        Err(code) => return code,
    };
    let request = Request::Trigger {
        name,
        task: work.task,
        wait: work.wait,
        note: None,
    };
    let asked = Asked {
        socket: work.socket,
        token_file: work.token_file,
        request: &request,
        timeout,
    };
    match ask(&asked, |record| show.record(record)) {
        Ok(done) => ExitCode::from(done.exit),
        Err(ended) => ended.show(show, work.name),
    }
}

/// What is asked, as the command line has it.
pub(super) struct Asked<'a> {
    pub(super) socket: Option<&'a str>,
    pub(super) token_file: Option<&'a PathBuf>,
    pub(super) request: &'a Request,
    pub(super) timeout: Option<Duration>,
}

/// Why there is no answer.
pub(super) enum Ended {
    /// It has been said on the command line already.
    Said(ExitCode),
    /// The daemon did not answer.
    Unanswered(client::Error),
}

impl Ended {
    /// Show it in the form that a run's failure has.
    pub(super) fn show(self, show: &Show, name: &str) -> ExitCode {
        match self {
            Self::Said(code) => code,
            Self::Unanswered(err) => fail_named(show, name, Failure::of(&err)),
        }
    }
}

/// Ask a daemon, and pass each record of its answer on.
pub(super) fn ask(asked: &Asked<'_>, each: impl FnMut(&Record)) -> Result<Done, Ended> {
    let (address, token_file) = match asked.socket.map(address) {
        Some(address) => (address.map_err(Ended::Said)?, None),
        None => default_daemon(),
    };
    let token = match (asked.token_file, token_file) {
        (Some(file), _) => read_token(file).map(Some),
        (None, Some(file)) => token_of_listener(&file),
        (None, None) => Ok(None),
    };
    let token = token.map_err(Ended::Said)?;
    let options = client::Options {
        address: &address,
        request: asked.request,
        token: token.as_ref().map(Secret::expose),
        timeout: asked.timeout,
    };
    client::ask(&options, each).map_err(Ended::Unanswered)
}

/// The value of `--timeout`.
pub(super) fn duration(text: &str) -> Result<Duration, ExitCode> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err(usage(
            "--timeout is zero, so no answer could be in time; give a longer one",
        )),
        Ok(duration) => Ok(duration),
        Err(why) => Err(usage(&format!(
            "--timeout: {text:?} is no duration ({why}); write it as 90s or 5m"
        ))),
    }
}

fn read_token(file: &std::path::Path) -> Result<Secret, ExitCode> {
    let file =
        AbsPath::resolve(&current_dir(), file).map_err(|why| usage(&format!("--token-file: {why}")))?;
    Secret::read(&file).map_err(fail)
}

/// The first listener of the configuration if that can be read, and the file of its token; else where a daemon
/// usually listens.
pub(super) fn default_daemon() -> (Address, Option<AbsPath>) {
    const SYSTEM: &str = "/run/gitsocket/gitsocket.sock";
    if let Some(listener) = Config::first_listener(&config_file(None)) {
        let token_file = match &listener {
            Listener::Tcp { token_file, .. } => token_file.clone(),
            Listener::Unix { .. } => None,
        };
        return (listener.address(), token_file);
    }
    let here = current_dir().join("gitsocket.sock");
    let path = if here.exists() { here } else { SYSTEM.into() };
    let path = AbsPath::resolve(&current_dir(), &path).expect("neither is empty or holds a NUL");
    (Address::Unix(path), None)
}

/// Who may not read the token goes without it, and hears from the daemon what is missing.
fn token_of_listener(file: &AbsPath) -> Result<Option<Secret>, ExitCode> {
    match Secret::read(file) {
        Ok(token) => Ok(Some(token)),
        Err(secret::Error::Read { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(None)
        }
        Err(err) => Err(fail(err)),
    }
}
