//! Completions for zsh, by its own `_arguments`, which explains each option.

use std::fmt::Write as _;

use super::command::{Command, Flag, Value};

/// The script. It is sourced, or is the file `_gitsocket` in a directory of `$fpath`.
pub(super) fn script(commands: &[Command<'_>]) -> String {
    let mut names = String::new();
    let mut cases = String::new();
    for command in commands {
        if command.name.is_empty() {
            continue;
        }
        let _ = writeln!(
            names,
            "        {}",
            quoted(&format!("{}:{}", command.name, command.about))
        );
        let _ = writeln!(cases, "    {})", command.name);
        arguments(&mut cases, command);
        let _ = writeln!(cases, "        ;;");
    }
    let own = commands.iter().filter(|command| command.name.is_empty());
    let options: Vec<_> = own
        .flat_map(|command| &command.options)
        .flat_map(|flag| flag.forms.clone())
        .collect();
    format!(
        r#"#compdef gitsocket
# Completions of gitsocket {version} for zsh, in ~/.zshrc after compinit: source <(gitsocket completions zsh)
_gitsocket_triggers() {{
    local -a names
    names=(${{(f)"$($program completions triggers -- $words 2>/dev/null)"}})
    compadd -a names
}}
_gitsocket() {{
    local program=$words[1]
    local -a commands
    commands=(
{names}    )
    if (( CURRENT == 2 )); then
        if [[ $words[2] == -* ]]; then
            compadd -- {options}
        else
            _describe command commands
        fi
        return
    fi
    shift words
    (( CURRENT-- ))
    case $words[1] in
{cases}    esac
}}
if [[ $funcstack[1] == _gitsocket ]]; then
    _gitsocket "$@"
else
    compdef _gitsocket gitsocket
fi"#,
        version = env!("CARGO_PKG_VERSION"),
        options = options.join(" "),
    )
}

fn arguments(out: &mut String, command: &Command<'_>) {
    let _ = write!(out, "        _arguments -S");
    for flag in &command.options {
        let _ = write!(out, " \\\n            {}", option(flag));
    }
    for positional in &command.positionals {
        let place = if positional.repeats { "*" } else { "" };
        let name = positional.name.replace(['|', ':'], " ");
        let _ = write!(
            out,
            " \\\n            {}",
            quoted(&format!("{place}:{name}{}", action(&positional.value)))
        );
    }
    out.push('\n');
}

fn option(flag: &Flag<'_>) -> String {
    let about: String = flag
        .about
        .chars()
        .flat_map(|c| match c {
            '[' | ']' | ':' | '\\' => vec!['\\', c],
            c => vec![c],
        })
        .collect();
    let value = flag
        .value
        .as_ref()
        .map(|value| format!(": {}", action(value)))
        .unwrap_or_default();
    let tail = quoted(&format!("[{about}]{value}"));
    match flag.forms.as_slice() {
        [form] => format!("{form}{tail}"),
        forms => format!("'({})'{{{}}}{tail}", forms.join(" "), forms.join(",")),
    }
}

fn action(value: &Value<'_>) -> String {
    match value {
        Value::Words(words) => format!(":({})", words.join(" ")),
        Value::Trigger => ":_gitsocket_triggers".into(),
        Value::File => ":_files".into(),
        Value::Dir => ":_files -/".into(),
        Value::Other => ": ".into(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
