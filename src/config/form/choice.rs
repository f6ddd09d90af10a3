//! Values of which there is a fixed choice.

use super::{Kind, Problem, Shape, Value, group::closest, kind::code};

/// A type of which each value is written as a word.
pub(crate) trait Choice: Clone + PartialEq + 'static {
    /// What it is, in a sentence.
    const WHAT: &'static str;
    /// The words, in the order in which they are shown.
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Choice> Kind<T> {
    pub(crate) const fn choice() -> Self {
        Self::composed(syntax::<T>, |value, _| choice(value)).shown(|value| code(word_of(value)))
    }
}

fn syntax<T: Choice>() -> String {
    let words: Vec<_> = T::WORDS.iter().map(|(word, _)| code(word)).collect();
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.concat(),
    }
}

/// The value that is written as one of the words.
pub(crate) fn choice<T: Choice>(value: Value<'_>) -> Result<T, Problem> {
    let known: Vec<_> = T::WORDS
        .iter()
        .map(|(word, meant)| (*word, false, meant))
        .collect();
    variant(value, T::WHAT, &known).map(|meant| (*meant).clone())
}

pub(crate) fn word_of<T: Choice>(value: &T) -> &'static str {
    let found = T::WORDS.iter().find(|(_, known)| known == value);
    found.map_or("", |(word, _)| word)
}

/// What stands beside the one of the `known` variants that `value` is. Its name is followed by `( )` if `known` says so.
pub(crate) fn variant<'k, T>(
    value: Value<'_>,
    what: &str,
    known: &'k [(&'static str, bool, T)],
) -> Result<&'k T, Problem> {
    let shown = |(name, fields, _): &(&'static str, bool, T)| {
        if *fields {
            format!("{name}(…)")
        } else {
            (*name).into()
        }
    };
    let choice = known.iter().map(shown).collect::<Vec<_>>().join(", ");
    let name = match value.shape() {
        Shape::Named(name) | Shape::Word(name) => name,
        Shape::String => {
            let text = value.text().trim_matches('"');
            let problem = value.unexpected(&format!("{what} without quotes"));
            return Err(match known.iter().find(|(name, ..)| *name == text) {
                Some(variant) => problem.help(format!("write {}", shown(variant))),
                None => problem.help(format!("write one of: {choice}")),
            });
        }
        _ => return Err(value.unexpected(what).help(format!("write one of: {choice}"))),
    };
    let Some(found) = known.iter().find(|(known, ..)| *known == name) else {
        let problem = Problem::at(value.head(), format!("`{name}` is not {what}"));
        return Err(match closest(name, known.iter().map(|(name, ..)| *name)) {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None => problem.help(format!("write one of: {choice}")),
        });
    };
    match (value.shape(), found) {
        (Shape::Word(_), (name, true, _)) => {
            Err(Problem::at(value.head(), format!("`{name}` needs fields in ( )"))
                .help(format!("write {name}(…), with its fields in the parentheses")))
        }
        (Shape::Named(_), (name, false, _)) => {
            Err(Problem::at(value.head(), format!("`{name}` has no fields"))
                .help(format!("write {name}, without parentheses")))
        }
        (_, (.., meant)) => Ok(meant),
    }
}
