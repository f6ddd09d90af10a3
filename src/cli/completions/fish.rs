//! Completions for fish 3.1 or newer.

use std::fmt::Write as _;

use super::command::{Command, Value};

/// The script: a file in `~/.config/fish/completions`.
pub(super) fn script(commands: &[Command<'_>]) -> String {
    let mut out = format!(
        "# Completions of gitsocket {} for fish: the file ~/.config/fish/completions/gitsocket.fish\n\
         function __gitsocket_in\n    set -l words (commandline -opc)\n    test \"$words[2]\" = \"$argv[1]\"\nend\n\
         function __gitsocket_triggers\n    set -l words (commandline -opc)\n    \
         $words[1] completions triggers -- $words 2>/dev/null\nend\n\
         complete -c gitsocket -f",
        env!("CARGO_PKG_VERSION")
    );
    for command in commands {
        if !command.name.is_empty() {
            let about = quoted(command.about);
            let _ = write!(
                out,
                "\ncomplete -c gitsocket -n '__gitsocket_in \"\"' -a {} -d {about}",
                command.name
            );
        }
        let condition = format!("-n '__gitsocket_in \"{}\"'", command.name);
        for flag in &command.options {
            let _ = write!(out, "\ncomplete -c gitsocket {condition}");
            for form in &flag.forms {
                let _ = match form.strip_prefix("--") {
                    Some(long) => write!(out, " -l {long}"),
                    None => write!(out, " -s {}", form.trim_start_matches('-')),
                };
            }
            let _ = write!(out, "{} -d {}", value(flag.value.as_ref()), quoted(flag.about));
        }
        for positional in &command.positionals {
            let about = match positional.value {
                Value::Trigger => " -d trigger",
                _ => "",
            };
            let words = words(&positional.value);
            if !words.is_empty() {
                let _ = write!(out, "\ncomplete -c gitsocket {condition}{words}{about}");
            }
        }
    }
    out
}

/// What an option wants behind it.
fn value(value: Option<&Value<'_>>) -> String {
    match value {
        None => String::new(),
        Some(Value::File) => " -r -F".into(),
        Some(value) => format!(" -x{}", words(value)),
    }
}

fn words(value: &Value<'_>) -> String {
    match value {
        Value::Words(words) => format!(" -a '{}'", words.join(" ")),
        Value::Trigger => " -a '(__gitsocket_triggers)'".into(),
        Value::Dir => " -a '(__fish_complete_directories)'".into(),
        Value::File => " -F".into(),
        Value::Other => String::new(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
