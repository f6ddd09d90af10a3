//! The reference of a file's fields, as Markdown.

use super::{Declared, Group};

/// A section for each of `groups`, with a table of its fields.
pub(crate) fn reference(groups: &[&Group]) -> String {
    groups.iter().map(|group| section(group)).collect()
}

fn section(group: &Group) -> String {
    let has_variables = group.fields.iter().any(|field| field.has_variables());
    let rows: String = group
        .fields
        .iter()
        .map(|field| row(*field, has_variables))
        .collect();
    let (variables, line) = if has_variables {
        (" may use `$VAR` |", "---|")
    } else {
        ("", "")
    };
    format!(
        "\n## {}\n\n{}\n\n| field | value |{variables} default | |\n|---|---|{line}---|---|\n{rows}",
        capital(group.what),
        group.about.trim_start()
    )
}

fn row(field: &dyn Declared, has_column: bool) -> String {
    let entry = field.entry();
    let (value, default, about) = (field.syntax(), field.default(), entry.about.trim_start());
    let variables = match (has_column, field.has_variables()) {
        (false, _) => "",
        (true, true) => " yes |",
        (true, false) => " no |",
    };
    let names = [entry.name].into_iter().chain(entry.aliases.iter().copied());
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    format!(
        "| {} | {value} |{variables} {default} | {about} |\n",
        names.join(" or ")
    )
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
