//! The command line: reads arguments, calls one room, prints, and picks the exit status.
//!
//! Nothing else in this program prints. Results go to stdout, everything else to stderr.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use argh::{ArgsInfo, FromArgs};
use rustix::{fs::Mode, process::DumpableBehavior};

use crate::{
    base::{
        address::Address,
        event::{Done, Event, Record},
        fault::{Blame, Failure, Kind},
        name::{RunId, TriggerName},
    },
    config::{self, Config},
};

mod ad_hoc;
mod check;
mod client;
mod completions;
mod healthcheck;
mod log;
mod once;
mod parse;
mod server;
mod setup;
mod show;
mod status;

use show::Show;

/// Deploys a branch to a directory when its trigger's name is said on a socket.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    note = "`gitsocket COMMAND --help` tells more.",
    error_code(0, "updated, or up to date"),
    error_code(1, "the run failed"),
    error_code(2, "usage or configuration"),
    error_code(3, "no daemon there"),
    error_code(4, "refused: unknown trigger or run, not allowed, too busy"),
    error_code(5, "updated, but a hook failed"),
    error_code(6, "timed out")
)]
struct Arguments {
    /// print the version
    #[argh(switch, short = 'V')]
    version: bool,
    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum Command {
    Server(server::Arguments),
    Once(once::Arguments),
    Client(client::Arguments),
    Status(status::Arguments),
    Log(log::Arguments),
    Healthcheck(healthcheck::Arguments),
    Check(check::Arguments),
    Setup(setup::Arguments),
    Completions(completions::Arguments),
}

/// Run the program.
pub fn main() -> ExitCode {
    let umask = read_umask();
    // What is in memory, keys for one, is not for a file that is left behind.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
    let arguments = match parse::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match arguments.command {
        Some(Command::Server(arguments)) => server::run(&arguments, umask),
        Some(Command::Once(arguments)) => once::run(&arguments, umask),
        Some(Command::Client(arguments)) => client::run(&arguments),
        Some(Command::Status(arguments)) => status::run(&arguments),
        Some(Command::Log(arguments)) => log::run(&arguments),
        Some(Command::Healthcheck(arguments)) => healthcheck::run(&arguments),
        Some(Command::Check(arguments)) => check::run(&arguments),
        Some(Command::Setup(arguments)) => setup::run(&arguments),
        Some(Command::Completions(arguments)) => completions::run(&arguments),
        None if arguments.version => {
            print(&format!("gitsocket {}", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        None => usage(&parse::no_command()),
    }
}

/// The process's umask. It can only be read by setting it, so this comes before any thread.
fn read_umask() -> u32 {
    let umask = rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::umask(umask);
    umask.as_raw_mode()
}

/// A result, on stdout. Who has closed it does not want it.
fn print(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Anything else, on stderr.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

fn usage(message: &str) -> ExitCode {
    say(message);
    ExitCode::from(Kind::Config.exit())
}

/// Show an error that is not a run's, with its source and remedy.
fn fail<E: Blame + Send + Sync + 'static>(error: E) -> ExitCode {
    let exit = error.kind().exit();
    let is_terminal = std::io::stderr().is_terminal();
    let theme = if is_terminal {
        miette::GraphicalTheme::unicode_nocolor()
    } else {
        miette::GraphicalTheme::none()
    };
    let mut text = String::new();
    // What is not for a terminal is for a log or a script, where a message that is in one piece can be found.
    let mut handler = miette::GraphicalReportHandler::new_themed(theme)
        .with_width(100)
        .with_wrap_lines(is_terminal);
    // Most messages end with their cause.
    if error
        .source()
        .is_some_and(|cause| error.to_string().contains(&cause.to_string()))
    {
        handler = handler.without_cause_chain();
    }
    match handler.render_report(&mut text, &error) {
        Ok(()) => say(text.trim_end()),
        Err(_) => say(&error.to_string()),
    }
    ExitCode::from(exit)
}

/// End with a failure that belongs to a trigger's name, in the form that a run's failure has.
fn fail_named(show: &Show, name: &str, failure: Failure) -> ExitCode {
    let done = Done::failed(name, failure);
    let exit = done.exit;
    show.record(&Record {
        run: RunId::none(),
        event: Event::Done(done),
    });
    ExitCode::from(exit)
}

/// A trigger's name. What cannot be one is not shown in its place: it could hold anything.
fn trigger_name(show: &Show, text: &str) -> Result<TriggerName, ExitCode> {
    TriggerName::new(text).map_err(|why| {
        let message = format!("{text:?} is no name of a trigger: {why}");
        fail_named(show, "-", Failure::new(Kind::BadRequest, message, None))
    })
}

/// That the configuration has no trigger `name`, and which it has: who can read it may know.
fn unknown_trigger(name: &str, config: &Config) -> Failure {
    let mut failure = config::unknown_trigger(name, config.triggers.keys());
    let near = failure
        .help
        .as_deref()
        .is_some_and(|help| help.starts_with("did you mean"));
    if !near {
        failure.help = Some(format!("there are: {}", names(config)));
    }
    failure
}

/// The names of the triggers, as a list for people.
fn names(config: &Config) -> String {
    const SHOWN: usize = 10;
    let count = config.triggers.len();
    let names = config.triggers.keys().take(SHOWN).map(ToString::to_string);
    let mut list = names.collect::<Vec<_>>().join(", ");
    if count > SHOWN {
        list += &format!(" and {} more", count - SHOWN);
    }
    list
}

/// Which configuration to read: `-c`, else `$GITSOCKET_CONFIG`, else `./config.ron`, else
/// `/etc/gitsocket/config.ron`.
fn config_file(given: Option<&PathBuf>) -> PathBuf {
    const LOCAL: &str = "config.ron";
    const SYSTEM: &str = "/etc/gitsocket/config.ron";
    if let Some(file) = given {
        return file.clone();
    }
    match std::env::var_os("GITSOCKET_CONFIG") {
        Some(file) if !file.is_empty() => file.into(),
        _ if Path::new(LOCAL).exists() || !Path::new(SYSTEM).exists() => LOCAL.into(),
        _ => SYSTEM.into(),
    }
}

fn load(given: Option<&PathBuf>) -> Result<Config, config::Error> {
    Config::load(&config_file(given))
}

/// The directory that relative addresses on the command line are relative to.
fn current_dir() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| "/".into())
}

/// An address on the command line.
fn address(text: &str) -> Result<Address, ExitCode> {
    Address::parse(text, &current_dir()).map_err(|why| usage(&format!("{text:?} is not an address: {why}")))
}
