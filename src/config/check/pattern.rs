//! The gitignore patterns of `keep`.

use std::path::Path;

use crate::{
    base::name::AbsPath,
    config::form::{Form, Given, Problem, Value},
};

/// The patterns of a trigger whose path is `path`.
pub(super) fn keep(form: &mut Form<'_>, given: &Given<'_, ()>, path: Option<&AbsPath>) -> Vec<String> {
    let example = r#"write keep: ["uploads/", "*.local"]"#;
    let list = given.raw.map(|value| value.list().map_err(|p| p.help(example)));
    let list = list.and_then(|list| form.keep(list)).unwrap_or_default();
    list.into_iter()
        .filter_map(|value| form.keep(pattern(value, path)))
        .collect()
}

/// A gitignore pattern that can match: gitignore(5) and wildmatch silently ignore the others.
fn pattern(value: Value<'_>, path: Option<&AbsPath>) -> Result<String, Problem> {
    let text = value.string()?;
    let wrong = |why: &str, help: &str| {
        Err(
            Problem::at(value.head(), format!("{} keeps nothing: {why}", value.shown()))
                .help(help.to_owned()),
        )
    };
    let bare = text.strip_prefix('!').unwrap_or(&text);
    if bare.trim().is_empty() {
        return wrong("it is empty", "remove it");
    }
    // Blanks at the end do not count, as in a .gitignore.
    if bare.trim_end_matches(' ').trim_matches('/').is_empty() {
        return wrong("it is nothing but slashes", "write what is below: \"/uploads/\"");
    }
    if text.contains(['\0', '\n', '\r']) {
        return wrong("it contains a line break or NUL", "write one pattern a string");
    }
    if text.starts_with('#') {
        return wrong(
            "it is a comment of gitignore",
            r#"write "\\#…" if the name begins with #"#,
        );
    }
    if bare.split('/').any(|part| part == "." || part == "..") {
        return wrong(
            "patterns hold no `.` and `..`",
            "write it relative to the trigger's path: \"/uploads/\"",
        );
    }
    if path.is_some_and(|path| Path::new(bare).starts_with(path)) {
        return wrong(
            "patterns begin at the trigger's path",
            "write only what is below: \"/uploads/\"",
        );
    }
    match unfinished(bare) {
        Some(why) => wrong(why, r#"write \\ before a character that means itself"#),
        None => Ok(text),
    }
}

/// Why wildmatch would give up on `pattern`.
fn unfinished(pattern: &str) -> Option<&'static str> {
    let mut signs = pattern.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' if signs.next().is_none() => return Some("it ends with a single backslash"),
            '[' => {
                signs.next_if(|c| *c == '!' || *c == '^');
                // Here `]` stands for itself.
                signs.next_if(|c| *c == ']');
                loop {
                    match signs.next() {
                        None => return Some("a `[` in it is never closed"),
                        Some(']') => break,
                        Some('\\') => drop(signs.next()),
                        Some('[') if signs.peek() == Some(&':') => drop(signs.find(|c| *c == ']')),
                        Some(_) => {}
                    }
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_never_match() {
        for good in [
            "a",
            "[a]",
            "[]]",
            "[!]a]",
            "[[:alpha:]x]",
            r"\[",
            r"a\\",
            r"[\]]",
            "*.[oa]",
            "**/x",
        ] {
            assert_eq!(unfinished(good), None, "{good}");
        }
        for bad in ["[", "[]", "[a", "[!]", r"a\", r"[a\]", "[[:alpha:]"] {
            assert!(unfinished(bad).is_some(), "{bad}");
        }
    }
}
