//! The words of the command line become arguments, or a remark on what is wrong with them.
//!
//! argh finds out what is wrong; here it is said so that one knows what to type instead.

use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfoKind, FromArgs};

use super::say::{print, usage};

/// The arguments; or else the exit status, when all has been said.
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
    let words: Vec<&str> = words
        .iter()
        .map(|word| if word == "-h" { "--help" } else { word.as_str() })
        .collect();
    Arguments::from_args(&["gitsocket"], &words).map_err(|exit| match exit.status {
        Ok(()) => {
            print(exit.output.trim_end());
            ExitCode::SUCCESS
        }
        Err(()) => usage(&remark(
            &Arguments::get_args_info(),
            &words,
            exit.output.trim_end(),
        )),
    })
}

/// What to say if no command is given.
pub(super) fn no_command(program: &CommandInfoWithArgs) -> String {
    let mut text = String::from("a command is missing\n\nUsage: gitsocket COMMAND …\n\n");
    for command in &program.commands {
        text += &format!("  {:<12} {}\n", command.name, command.command.description);
    }
    text + "\ntry `gitsocket COMMAND --help`, or `gitsocket --help`"
}

/// What is wrong with `words`, by what argh says of them.
fn remark(program: &CommandInfoWithArgs, words: &[&str], error: &str) -> String {
    let command = program
        .commands
        .iter()
        .find(|command| Some(&command.name) == words.first())
        .map(|command| &command.command);
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
        format!("{shown}: {option} wants {} behind it", value_of(of, option))
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
            return format!("{word} stands behind a command, as in `gitsocket {name} {word}`");
        }
        let options = of.flags.iter().filter(|flag| !flag.hidden).map(|flag| flag.long);
        return format!("{shown} has no option {word}{}", near(word, options));
    }
    if is_program {
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
        [one] => format!("one {one} only"),
        several => format!("{} only", several.join(" and ")),
    };
    format!("{shown} takes {takes}, so {word:?} is too much")
}

/// The parts of `Error parsing option '-s' with value 'x': why`.
fn bad_value(error: &str) -> Option<(&str, &str, &str)> {
    let (_, rest) = error.strip_prefix("Error parsing ")?.split_once('\'')?;
    let (name, rest) = rest.split_once("' with value '")?;
    let (value, why) = rest.rsplit_once("': ")?;
    Some((name, value, why))
}

/// What `option` is followed by.
fn value_of(of: &CommandInfoWithArgs, option: &str) -> &'static str {
    of.flags
        .iter()
        .find(|flag| flag.long == option || flag.short.is_some_and(|short| option == format!("-{short}")))
        .map_or("a value", |flag| match flag.kind {
            FlagInfoKind::Option { arg_name } => arg_name,
            FlagInfoKind::Switch => "nothing",
        })
}

fn near<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, name)| format!("; did you mean {name}?"))
        .unwrap_or_default()
}
