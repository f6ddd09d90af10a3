//! Completions for bash 4.2 or newer; nothing of the package bash-completion is needed.

use std::fmt::Write as _;

use super::command::{Command, Value};

/// The script. It is sourced, and completes what is called `gitsocket`.
pub(super) fn script(commands: &[Command<'_>]) -> String {
    let mut cases = String::new();
    for command in commands {
        case(&mut cases, command, commands);
    }
    format!(
        r#"# Completions of gitsocket {version} for bash, in ~/.bashrc: source <(gitsocket completions bash)
_gitsocket() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}
    local command= options= takes= words= at=0 i
    if ((COMP_CWORD > 1)); then command=${{COMP_WORDS[1]}}; fi
    COMPREPLY=()
    case $command in
{cases}    *)
        return
        ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi
    # Which word of the command this is, options and what belongs to them left out.
    for ((i = 2; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
        -*) if [[ " $takes " == *" ${{COMP_WORDS[i]}} "* ]]; then ((i++)); fi ;;
        *) ((at++)) ;;
        esac
    done
    case $command:$at in
{places}    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -F _gitsocket gitsocket"#,
        version = env!("CARGO_PKG_VERSION"),
        places = places(commands),
    )
}

/// What there is for one command, and what belongs behind the option before the cursor.
fn case(out: &mut String, command: &Command<'_>, commands: &[Command<'_>]) {
    let forms = |takes: bool| {
        let flags = command
            .options
            .iter()
            .filter(move |flag| !takes || flag.value.is_some());
        flags
            .flat_map(|flag| flag.forms.clone())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let _ = writeln!(out, "    {})", pattern(command.name));
    let _ = writeln!(out, "        options='{}'", forms(false));
    let _ = writeln!(out, "        takes='{}'", forms(true));
    if command.name.is_empty() {
        let names: Vec<_> = commands
            .iter()
            .map(|command| command.name)
            .filter(|name| !name.is_empty())
            .collect();
        let _ = writeln!(out, "        words='{}'", names.join(" "));
    }
    let _ = writeln!(out, "        case $prev in");
    for flag in &command.options {
        let Some(value) = &flag.value else { continue };
        let does = match value {
            Value::File => "compopt -o default".into(),
            Value::Dir => "compopt -o dirnames".into(),
            Value::Other => ":".into(),
            value => format!("COMPREPLY=($(compgen -W {} -- \"$cur\"))", list(value)),
        };
        let _ = writeln!(out, "        {}) {does}; return ;;", flag.forms.join(" | "));
    }
    let _ = writeln!(out, "        esac\n        ;;");
}

/// What the words of the commands may be.
fn places(commands: &[Command<'_>]) -> String {
    let mut out = String::new();
    for command in commands {
        for (at, positional) in command.positionals.iter().enumerate() {
            let at = if positional.repeats {
                "*".into()
            } else {
                at.to_string()
            };
            let _ = match &positional.value {
                Value::File => writeln!(out, "    {}:{at}) compopt -o default; return ;;", command.name),
                Value::Dir => writeln!(out, "    {}:{at}) compopt -o dirnames; return ;;", command.name),
                Value::Other => continue,
                value => writeln!(out, "    {}:{at}) words={} ;;", command.name, list(value)),
            };
        }
    }
    out
}

fn list(value: &Value<'_>) -> String {
    match value {
        Value::Words(words) => format!("'{}'", words.join(" ")),
        Value::Trigger => {
            "\"$(\"${COMP_WORDS[0]}\" completions triggers -- \"${COMP_WORDS[@]:1}\" 2>/dev/null)\"".into()
        }
        Value::File | Value::Dir | Value::Other => "''".into(),
    }
}

fn pattern(name: &str) -> &str {
    if name.is_empty() { "''" } else { name }
}
