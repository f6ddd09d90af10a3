//! The man page, for man(7): commands and options as argh knows them, between what is written for it alone.

use std::fmt::Write as _;

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};

/// What it is, and what a run does.
const ABOUT: &str = include_str!("man/about.man");
/// Addresses, the configuration, hooks, the environment, files, signals and examples.
const MORE: &str = include_str!("man/more.man");

/// The day on which the page was last changed.
const DATE: &str = "2026-11-26";

pub(super) fn page(program: &CommandInfoWithArgs) -> String {
    let commands = || program.commands.iter().map(|sub| &sub.command);
    let mut out = format!(
        ".\\\" Made by `gitsocket completions man`.\n.TH GITSOCKET 1 {DATE} \"gitsocket {}\" \"User Commands\"\n.SH NAME\n\
         gitsocket \\- {}\n.SH SYNOPSIS\n",
        env!("CARGO_PKG_VERSION"),
        plain(program.description.trim_end_matches('.'))
    );
    for command in commands() {
        out += &synopsis(command);
    }
    out += ".B gitsocket\n.RB { \\-\\-help | \\-\\-version }\n";
    out += ABOUT;
    out += ".SH OPTIONS\n.TP\n.B \\-h, \\-\\-help, help\nPrint a short help, also after the name of a command.\n";
    options(program).for_each(|flag| out += &option(flag));
    out += ".SH COMMANDS\n";
    for command in commands() {
        let _ = writeln!(
            out,
            ".SS {}\n{}",
            plain(command.name),
            sentence(command.description)
        );
        let positionals = command.positionals.iter().filter(|positional| !positional.hidden);
        for PositionalInfo {
            name, description, ..
        } in positionals
        {
            let _ = writeln!(out, ".TP\n.I {}\n{}", plain(name), sentence(description));
        }
        options(command).for_each(|flag| out += &option(flag));
    }
    out += ".SH EXIT STATUS\n";
    for code in program.error_codes {
        let _ = writeln!(out, ".TP\n.B {}\n{}", code.code, sentence(code.description));
    }
    out + MORE.trim_end()
}

fn synopsis(command: &CommandInfoWithArgs) -> String {
    let mut out = format!(".B gitsocket {}\n", plain(command.name));
    if options(command).next().is_some() {
        out += ".RI [ OPTION ]...\n";
    }
    for positional in command.positionals.iter().filter(|positional| !positional.hidden) {
        let name = plain(positional.name);
        let _ = match positional.optionality {
            Optionality::Required => writeln!(out, ".I {name}"),
            Optionality::Optional => writeln!(out, ".RI [ {name} ]"),
            Optionality::Repeating | Optionality::Greedy => writeln!(out, ".RI [ {name} ]..."),
        };
    }
    out + ".br\n"
}

/// The options that are shown. `--help` is the same for all commands and stands at the top.
fn options(command: &CommandInfoWithArgs) -> impl Iterator<Item = &FlagInfo<'static>> {
    let flags = command.flags.iter();
    flags.filter(|flag| !flag.hidden && flag.long != "--help")
}

fn option(flag: &FlagInfo<'_>) -> String {
    let short = flag
        .short
        .map_or_else(String::new, |short| format!("\\-{short}, "));
    let names = format!("{short}{}", plain(flag.long));
    let head = match flag.kind {
        FlagInfoKind::Switch => format!(".B {names}"),
        FlagInfoKind::Option { arg_name } => format!(".BI \"{names} \" {}", plain(arg_name)),
    };
    format!(".TP\n{head}\n{}\n", sentence(flag.description))
}

/// A description as a sentence of its own.
fn sentence(text: &str) -> String {
    let text = plain(text.trim().trim_end_matches('.'));
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

/// Text that man(7) takes as it is: one line, with hyphens that can be copied, and no control line.
fn plain(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ").replace('\\', "\\e").replace('-', "\\-");
    // A line that begins so would be a request to man(7).
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}
