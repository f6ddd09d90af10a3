//! `gitsocket completions`: what bash, zsh and fish need to complete the command line.
//!
//! The scripts are made from what argh knows, so a command or an option cannot be missing from them. Only the names of
//! triggers are asked for while somebody types: the scripts call `gitsocket completions triggers -- WORD…` with the
//! words so far.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

use super::{address, client::default_daemon, load, print, usage};
use crate::{
    base::{event::Event, secret::Secret},
    daemon::{
        client::{self, Options},
        wire::Request,
    },
};

mod bash;
mod command;
mod fish;
mod zsh;

use command::commands;

/// print a script that completes commands, options and the names of triggers
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "completions",
    example = "in ~/.bashrc:   source <(gitsocket completions bash)",
    example = "in ~/.zshrc:    source <(gitsocket completions zsh)",
    example = "once, for fish: gitsocket completions fish > ~/.config/fish/completions/gitsocket.fish"
)]
pub(super) struct Arguments {
    /// the shell
    #[argh(positional, arg_name = "bash|zsh|fish")]
    shell: Shell,
    /// for the scripts: the words of the command line
    #[argh(positional, hidden_help)]
    words: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    /// No shell, but the names of the triggers, one a line.
    Triggers,
}

impl argh::FromArgValue for Shell {
    fn from_arg_value(value: &str) -> Result<Self, String> {
        match value {
            "bash" => Ok(Self::Bash),
            "zsh" => Ok(Self::Zsh),
            "fish" => Ok(Self::Fish),
            "triggers" => Ok(Self::Triggers),
            _ => Err("write bash, zsh or fish".into()),
        }
    }
}

pub(super) fn run(arguments: &Arguments, program: &CommandInfoWithArgs) -> ExitCode {
    if arguments.shell != Shell::Triggers && !arguments.words.is_empty() {
        return usage("name one shell only");
    }
    let commands = commands(program);
    match arguments.shell {
        Shell::Bash => print(&bash::script(&commands)),
        Shell::Zsh => print(&zsh::script(&commands)),
        Shell::Fish => print(&fish::script(&commands)),
        Shell::Triggers => triggers(&arguments.words).iter().for_each(|name| print(name)),
    }
    ExitCode::SUCCESS
}

/// The names of the triggers, if the configuration can be read, or else a daemon answers. Of what is wrong
/// nothing is said: somebody is typing.
fn triggers(words: &[String]) -> Vec<String> {
    let after = |forms: [&str; 2]| {
        let mut pairs = words.windows(2);
        pairs.find_map(|pair| forms.contains(&pair[0].as_str()).then(|| &pair[1]))
    };
    let socket = after(["-s", "--socket"]);
    let file = after(["-c", "--config"]).map(PathBuf::from);
    if socket.is_none()
        && let Ok(config) = load(file.as_ref())
    {
        return config.triggers.keys().map(ToString::to_string).collect();
    }
    ask(socket.map(String::as_str)).unwrap_or_default()
}

fn ask(socket: Option<&str>) -> Option<Vec<String>> {
    /// Somebody waits for it.
    const TIMEOUT: Duration = Duration::from_secs(1);
    let (address, token_file) = match socket {
        Some(text) => (address(text).ok()?, None),
        None => default_daemon(),
    };
    let token = token_file.and_then(|file| Secret::read(&file).ok());
    let options = Options {
        address: &address,
        request: &Request::Status { names: Vec::new() },
        token: token.as_ref().map(Secret::expose),
        timeout: Some(TIMEOUT),
    };
    let mut names = Vec::new();
    let answer = client::ask(&options, |record| {
        if let Event::Status(status) = &record.event {
            names.push(status.trigger.to_string());
        }
    });
    answer.is_ok().then_some(names)
}
