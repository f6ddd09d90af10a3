//! The command line: reads arguments, calls one module, prints, and picks the exit status.
//!
//! Nothing else in this program prints. Results go to stdout, everything else to stderr.

use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};
use rustix::{fs::Mode, process::DumpableBehavior};

use crate::deploy::hook::Guard;

mod ad_hoc;
mod ask;
mod check;
mod client;
mod columns;
mod completions;
mod given;
mod healthcheck;
mod log;
mod many;
mod once;
mod operate;
mod parse;
mod pause;
mod say;
mod server;
mod setup;
mod show;
mod status;
mod web;

use given::{
    address, config_file, current_dir, earlier, fail_named, file_in, load, trigger_name, unknown_trigger,
};
use say::{fail, print, say, usage};
use show::Show;

/// Deploys a Git branch to a directory when a program sends the trigger's name to a socket.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    note = "`gitsocket COMMAND --help` lists the options of a command.",
    error_code(0, "updated, or up to date"),
    error_code(1, "the run failed, or the trigger is paused"),
    error_code(2, "the command line or the configuration is wrong"),
    error_code(3, "no daemon answers"),
    error_code(4, "the daemon refused: unknown trigger or run, not allowed, too busy"),
    error_code(5, "updated, but a hook or the health check failed"),
    error_code(6, "timed out"),
    error_code(7, "a hook or the health check failed, and the commit before is live again")
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
    Rollback(operate::Rollback),
    Retry(operate::Retry),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Status(status::Arguments),
    Log(log::Arguments),
    Healthcheck(healthcheck::Arguments),
    Check(check::Arguments),
    Setup(setup::Arguments),
    Web(web::Arguments),
    Completions(completions::Arguments),
}

pub fn main() -> ExitCode {
    let umask = read_umask();
    // A core file would hold keys.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
    match run(umask) {
        Ok(code) | Err(code) => code,
    }
}

/// `Err` where a command ended early: what was wrong has been printed.
fn run(umask: u32) -> Result<ExitCode, ExitCode> {
    let arguments = parse::parse::<Arguments>()?;
    match arguments.command {
        Some(Command::Server(arguments)) => server::run(&arguments, umask),
        Some(Command::Once(arguments)) => once::run(&arguments, umask),
        Some(Command::Client(arguments)) => client::run(&arguments),
        Some(Command::Rollback(arguments)) => operate::rollback(&arguments),
        Some(Command::Retry(arguments)) => operate::retry(&arguments),
        Some(Command::Pause(arguments)) => pause::pause(&arguments),
        Some(Command::Resume(arguments)) => pause::resume(&arguments),
        Some(Command::Status(arguments)) => status::run(&arguments),
        Some(Command::Log(arguments)) => log::run(&arguments),
        Some(Command::Healthcheck(arguments)) => healthcheck::run(&arguments),
        Some(Command::Check(arguments)) => check::run(&arguments),
        Some(Command::Setup(arguments)) => setup::run(&arguments),
        Some(Command::Web(arguments)) => web::run(&arguments),
        Some(Command::Completions(arguments)) => completions::run(&arguments, &Arguments::get_args_info()),
        None if arguments.version => {
            print(&format!("gitsocket {}", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
        None => Err(usage(&parse::no_command(&Arguments::get_args_info()))),
    }
}

/// A guard for the hooks; or none, if it cannot be started.
fn start_guard() -> Guard {
    Guard::start().unwrap_or_else(|err| {
        say(&format!(
            "cannot start the process that guards hooks: {err}; hooks will go on if this process is killed"
        ));
        Guard::default()
    })
}

/// The process's umask. It can only be read by setting it, so this happens before any thread starts.
fn read_umask() -> u32 {
    let umask = rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::umask(umask);
    umask.as_raw_mode()
}
