//! Commands, options and the words behind them, as the scripts need them.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};

pub(super) struct Command<'a> {
    /// The command's name; empty for the program itself.
    pub(super) name: &'a str,
    pub(super) about: &'a str,
    pub(super) options: Vec<Flag<'a>>,
    pub(super) positionals: Vec<Positional<'a>>,
}

pub(super) struct Flag<'a> {
    /// `--config`, and `-c` before it if there is one.
    pub(super) forms: Vec<String>,
    pub(super) about: &'a str,
    pub(super) value: Option<Value<'a>>,
}

pub(super) struct Positional<'a> {
    pub(super) name: &'a str,
    pub(super) value: Value<'a>,
    pub(super) repeats: bool,
}

/// What a word of the command line may be; known by how the help calls it.
#[derive(Clone)]
pub(super) enum Value<'a> {
    /// `a|b`: one of these.
    Words(Vec<&'a str>),
    Trigger,
    File,
    Dir,
    Other,
}

impl<'a> Value<'a> {
    fn of(name: &'a str) -> Self {
        match name {
            "NAME" => Self::Trigger,
            "FILE" | "ADDR" => Self::File,
            "DIR" => Self::Dir,
            // `RELEASE|COMMIT` is either, and neither can be known.
            _ if name.contains('|') && name == name.to_lowercase() => Self::Words(name.split('|').collect()),
            _ => Self::Other,
        }
    }
}

/// The program's commands, and before them the program itself.
pub(super) fn commands(program: &CommandInfoWithArgs) -> Vec<Command<'static>> {
    let own = Command {
        name: "",
        ..command(program)
    };
    std::iter::once(own)
        .chain(program.commands.iter().map(|sub| command(&sub.command)))
        .collect()
}

fn command(info: &CommandInfoWithArgs) -> Command<'static> {
    Command {
        name: info.name,
        about: about(info.description),
        options: info.flags.iter().filter(|flag| !flag.hidden).map(flag).collect(),
        positionals: info
            .positionals
            .iter()
            .filter(|positional| !positional.hidden)
            .flat_map(|positional| {
                // Of those that may be missing, argh knows the last only: `NAME RUN` are two.
                let several = positional.name.contains(' ');
                positional.name.split(' ').map(move |name| Positional {
                    name,
                    value: Value::of(name),
                    repeats: positional.optionality == Optionality::Repeating && !several,
                })
            })
            .collect(),
    }
}

fn flag(info: &FlagInfo<'static>) -> Flag<'static> {
    let short = info.short.map(|short| format!("-{short}"));
    Flag {
        forms: short.into_iter().chain([info.long.to_owned()]).collect(),
        about: about(info.description),
        value: match info.kind {
            FlagInfoKind::Switch => None,
            FlagInfoKind::Option { arg_name } => Some(Value::of(arg_name)),
        },
    }
}

/// What a list of options has room for: the rest, on defaults, is in the help.
fn about(description: &str) -> &str {
    description.split("; ").next().unwrap_or(description)
}
