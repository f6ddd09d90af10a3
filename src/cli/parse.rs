//! The words of the command line become arguments, or a remark on what is wrong with them.
//!
//! argh finds out what is wrong; the remark says what to type instead.

use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, FromArgs};

use super::say::{print, usage};

/// The arguments; or else the exit status, after the remark has been printed.
pub(super) fn parse<Arguments: FromArgs + ArgsInfo>() -> Result<Arguments, ExitCode> {
    let mut words = Vec::new();
    for word in std::env::args_os().skip(1) {
        match word.into_string() {
            Ok(word) => words.push(word),
            Err(word) => {
                return Err(usage(&format!(
                    "{word:?} is not UTF-8; only names in UTF-8 can be given"
                )));
            }
        }
    }
    let program = Arguments::get_args_info();
    let words = split(&program, &words);
    Arguments::from_args(&["gitsocket"], &words).map_err(|exit| match exit.status {
        Ok(()) => {
            print(exit.output.trim_end());
            ExitCode::SUCCESS
        }
        Err(()) => usage(&remark(&program, &words, exit.output.trim_end())),
    })
}

/// `words` as argh takes them: options and their values are words of their own, so `-n3` is `-n 3`, and
/// `--limit=3` is `--limit 3`.
fn split<'a>(program: &CommandInfoWithArgs, words: &'a [String]) -> Vec<&'a str> {
    let command = words.first().and_then(|word| command(program, word));
    let flags = || command.into_iter().flat_map(|command| command.flags);
    let takes_value = |option: &str| {
        flags().any(|flag| is_called(flag, option) && matches!(flag.kind, FlagInfoKind::Option { .. }))
    };
    let mut split = Vec::with_capacity(words.len());
    let mut is_value = false;
    let mut is_over = false;
    for word in words {
        let word = word.as_str();
        is_over |= word == "--" && !is_value;
        let glued = match word.split_once('=') {
            Some((option, value)) if word.starts_with("--") => Some((option, value)),
            // A short option is a hyphen and a letter.
            _ if !word.starts_with("--") => word.split_at_checked(2).filter(|(_, value)| !value.is_empty()),
            _ => None,
        };
        match glued.filter(|(option, _)| !is_value && !is_over && takes_value(option)) {
            Some((option, value)) => split.extend([option, value]),
            None if word == "-h" && !is_value && !is_over => split.push("--help"),
            None => split.push(word),
        }
        is_value = !is_value && takes_value(word);
    }
    split
}

fn command<'a>(program: &'a CommandInfoWithArgs, name: &str) -> Option<&'a CommandInfoWithArgs> {
    let mut commands = program.commands.iter();
    commands
        .find(|command| command.name == name)
        .map(|command| &command.command)
}

fn is_called(flag: &FlagInfo<'_>, option: &str) -> bool {
    flag.long == option || flag.short.is_some_and(|short| option == format!("-{short}"))
}

/// The remark where no command is given.
pub(super) fn no_command(program: &CommandInfoWithArgs) -> String {
    let mut text = String::from("a command is missing\n\nUsage: gitsocket COMMAND …\n\n");
    for command in &program.commands {
        text += &format!("  {:<12} {}\n", command.name, command.command.description);
    }
    text + "\ntry `gitsocket COMMAND --help`, or `gitsocket --help`"
}

/// What is wrong with `words`, by what argh says of them.
fn remark(program: &CommandInfoWithArgs, words: &[&str], error: &str) -> String {
    let command = words.first().and_then(|word| command(program, word));
    let of = command.unwrap_or(program);
    let shown = command.map_or_else(
        || "gitsocket".into(),
        |command| format!("gitsocket {}", command.name),
    );
    let what = if let Some(word) = error.strip_prefix("Unrecognized argument:") {
        unknown(of, &shown, word.trim(), command.is_none())
    } else if let Some(missing) = error.strip_prefix("Required positional arguments not provided:") {
        let missing: Vec<_> = missing.split_whitespace().collect();
        format!("{shown}: {} is missing", missing.join(" "))
    } else if let Some(option) = error.strip_prefix("No value provided for option ") {
        let option = option.trim_matches(['\'', '.']);
        format!("{shown}: {option} needs {} after it", value_of(of, option))
    } else if let Some((name, value, why)) = bad_value(error) {
        match why {
            "duplicate values provided" => format!("{shown}: {name} is given twice"),
            why => format!("{shown}: {name} cannot be {value:?}; {why}"),
        }
    } else {
        format!("{shown}: {error}")
    };
    format!("{what}\ntry `{shown} --help`")
}

fn unknown(of: &CommandInfoWithArgs, shown: &str, word: &str, is_program: bool) -> String {
    if word.starts_with('-') {
        let has = |command: &CommandInfoWithArgs| command.flags.iter().any(|flag| flag.long == word);
        if let Some(command) = of.commands.iter().find(|command| has(&command.command)) {
            let name = command.name;
            return format!("{word} goes after a command, as in `gitsocket {name} {word}`");
        }
        let options = of.flags.iter().filter(|flag| !flag.hidden).map(|flag| flag.long);
        return format!("{shown} has no option {word}{}", near(word, options));
    }
    if is_program {
        if let Some(instead) = instead(word) {
            return format!("there is no command {word:?}; {instead}");
        }
        let commands = of.commands.iter().map(|command| command.name);
        let near = match near(word, commands.clone()) {
            near if near.is_empty() => format!("; there are: {}", commands.collect::<Vec<_>>().join(", ")),
            near => near,
        };
        return format!("there is no command {word:?}{near}");
    }
    let positionals = of.positionals.iter().filter(|positional| !positional.hidden);
    let takes = match positionals
        .map(|positional| positional.name)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => "options only".into(),
        [one] => format!("one {one}"),
        several => several.join(" and "),
    };
    format!("{shown} takes {takes}; {word:?} is one word too many")
}

/// What the words of other programs are called here.
fn instead(word: &str) -> Option<String> {
    let command = match word {
        "deploy" | "run" | "trigger" | "push" | "pull" | "update" | "sync" => "client",
        "undo" | "revert" | "back" | "restore" => "rollback",
        "redeploy" | "again" => "retry",
        "freeze" | "hold" | "disable" | "suspend" => "pause",
        "unpause" | "unfreeze" | "enable" | "continue" => "resume",
        "list" | "ls" | "ps" | "show" | "info" | "state" => "status",
        "logs" | "history" | "runs" => "log",
        "daemon" | "serve" | "start" | "listen" => "server",
        "validate" | "verify" | "lint" | "test" => "check",
        "health" | "ping" => "healthcheck",
        "install" | "init" | "hook" => "setup",
        "webhook" | "http" => "web",
        "version" => return Some("the version is `gitsocket --version`".into()),
        "man" => return Some("the man page is `gitsocket completions man`".into()),
        "stop" => {
            return Some(
                "the daemon stops by SIGTERM, or `systemctl stop gitsocket`; \
                 `gitsocket pause NAME` stops the deploys of a trigger"
                    .into(),
            );
        }
        "reload" | "restart" => {
            return Some(
                "the daemon reloads its configuration by SIGHUP, or `systemctl reload gitsocket`".into(),
            );
        }
        _ => return None,
    };
    Some(format!("did you mean {command}?"))
}

/// The parts of `Error parsing option '-s' with value 'x': why`.
fn bad_value(error: &str) -> Option<(&str, &str, &str)> {
    let (_, rest) = error.strip_prefix("Error parsing ")?.split_once('\'')?;
    let (name, rest) = rest.split_once("' with value '")?;
    let (value, why) = rest.rsplit_once("': ")?;
    Some((name, value, why))
}

/// What comes after `option`.
fn value_of(of: &CommandInfoWithArgs, option: &str) -> &'static str {
    of.flags
        .iter()
        .find(|flag| is_called(flag, option))
        .map_or("a value", |flag| match flag.kind {
            FlagInfoKind::Option { arg_name } => arg_name,
            FlagInfoKind::Switch => "nothing",
        })
}

fn near<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        // Of a short word, nothing would be left.
        .filter(|(distance, _)| *distance <= 2 && distance * 2 < word.chars().count())
        .min()
        .map(|(_, name)| format!("; did you mean {name}?"))
        .unwrap_or_default()
}
