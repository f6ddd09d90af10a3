//! `gitsocket completions`: what bash, zsh and fish need to complete the command line; and the man page.
//!
//! The scripts are made from argh's declarations, so no command or option is missing. They ask for the names of triggers
//! at the time of completion, by `gitsocket completions triggers -- WORD…` with the words so far.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

use super::{
    address,
    ask::{STDIN, named_token_file, usual},
    current_dir, load, print, usage,
};
use crate::{
    base::{event::Event, name::AbsPath, secret::Secret},
    daemon::{
        client::{self, Options},
        wire::Request,
    },
};

mod bash;
mod command;
mod fish;
mod man;
mod zsh;

use command::commands;

/// print a shell script that completes commands, options and the names of triggers; or the man page
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "completions",
    example = "in ~/.bashrc:   source <(gitsocket completions bash)",
    example = "in ~/.zshrc:    source <(gitsocket completions zsh)",
    example = "once, for fish: gitsocket completions fish > ~/.config/fish/completions/gitsocket.fish",
    example = "the man page:   gitsocket completions man > /usr/local/share/man/man1/gitsocket.1"
)]
pub(super) struct Arguments {
    /// the shell, or man
    #[argh(positional, arg_name = "bash|zsh|fish|man")]
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
    /// No shell, but the man page.
    Man,
    /// No shell, but the names of the triggers, one a line.
    Triggers,
}

impl argh::FromArgValue for Shell {
    fn from_arg_value(value: &str) -> Result<Self, String> {
        match value {
            "bash" => Ok(Self::Bash),
            "zsh" => Ok(Self::Zsh),
            "fish" => Ok(Self::Fish),
            "man" => Ok(Self::Man),
            "triggers" => Ok(Self::Triggers),
            _ => Err("write bash, zsh, fish or man".into()),
        }
    }
}

pub(super) fn run(arguments: &Arguments, program: &CommandInfoWithArgs) -> Result<ExitCode, ExitCode> {
    if arguments.shell != Shell::Triggers && !arguments.words.is_empty() {
        return Err(usage("name one shell only"));
    }
    let commands = commands(program);
    match arguments.shell {
        Shell::Bash => print(&bash::script(&commands)),
        Shell::Zsh => print(&zsh::script(&commands)),
        Shell::Fish => print(&fish::script(&commands)),
        Shell::Man => print(&man::page(program)),
        Shell::Triggers => triggers(&arguments.words).iter().for_each(|name| print(name)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of the triggers, by the configuration if it can be read, or else by a daemon. No error is printed: the user is
/// typing.
fn triggers(words: &[String]) -> Vec<String> {
    let after = |forms: &[&str]| {
        let mut pairs = words.windows(2);
        pairs.find_map(|pair| forms.contains(&pair[0].as_str()).then(|| &pair[1]))
    };
    let socket = after(&["-s", "--socket"]);
    let file = after(&["-c", "--config"]).map(PathBuf::from);
    if socket.is_none()
        && let Ok(config) = load(file.as_ref())
    {
        return config.triggers.keys().map(ToString::to_string).collect();
    }
    let token_file = after(&["--token-file"]).map(PathBuf::from);
    ask(socket.map(String::as_str), token_file.as_ref()).unwrap_or_default()
}

fn ask(socket: Option<&str>, token_file: Option<&PathBuf>) -> Option<Vec<String>> {
    /// The user waits for it.
    const TIMEOUT: Duration = Duration::from_secs(1);
    let (address, of_listener) = match socket {
        Some(text) => (address(text).ok()?, None),
        None => {
            let usual = usual();
            (usual.address, usual.token_file)
        }
    };
    let named = named_token_file(token_file).filter(|file| file != Path::new(STDIN));
    let named = named.and_then(|file| AbsPath::resolve(&current_dir(), &file).ok());
    let token = named.or(of_listener).and_then(|file| Secret::read(&file).ok());
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
