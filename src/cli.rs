//! The command line: reads arguments, calls one module, prints, and picks the exit status.
//!
//! Nothing else in this program prints. Results go to stdout, everything else to stderr.

use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};
use rustix::{fs::Mode, process::DumpableBehavior};

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

/// Run the program.
pub fn main() -> ExitCode {
    let umask = read_umask();
    // A core file would hold keys.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
    let arguments = match parse::parse::<Arguments>() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
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
            ExitCode::SUCCESS
        }
        None => usage(&parse::no_command(&Arguments::get_args_info())),
    }
}

/// The process's umask. It can only be read by setting it, so this happens before any thread starts.
fn read_umask() -> u32 {
    let umask = rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::umask(umask);
    umask.as_raw_mode()
}
