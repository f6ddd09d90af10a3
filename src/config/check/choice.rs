//! Values of which there is a fixed choice, and guesses at what was meant by others.

use crate::config::{
    raw::{Shape, Value},
    report::Problem,
};

/// The one of `words` that `word` is most likely a slip of.
pub(super) fn closest(word: &str, words: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    let lower = word.to_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::damerau_levenshtein(&lower, &known.to_lowercase());
    words
        .into_iter()
        .map(|known| (distance(known), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1) && *distance < known.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Which of `known` variants `value` is. Its name is followed by `( )` if `known` says so.
pub(super) fn variant(
    value: Value<'_>,
    what: &str,
    known: &[(&'static str, bool)],
) -> Result<&'static str, Problem> {
    let shown = |(name, fields): &(&'static str, bool)| {
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
            return Err(match known.iter().find(|(name, _)| *name == text) {
                Some(variant) => problem.help(format!("write {}", shown(variant))),
                None => problem.help(format!("write one of: {choice}")),
            });
        }
        _ => return Err(value.unexpected(what).help(format!("write one of: {choice}"))),
    };
    let Some(found) = known.iter().find(|(known, _)| *known == name) else {
        let problem = Problem::at(value.head(), format!("`{name}` is not {what}"));
        return Err(match closest(name, known.iter().map(|(name, _)| *name)) {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None => problem.help(format!("write one of: {choice}")),
        });
    };
    match (value.shape(), found) {
        (Shape::Word(_), (name, true)) => {
            Err(Problem::at(value.head(), format!("`{name}` needs fields in ( )"))
                .help(format!("write {name}(…), with its fields in the parentheses")))
        }
        (Shape::Named(_), (name, false)) => Err(Problem::at(value.head(), format!("`{name}` has no fields"))
            .help(format!("write {name}, without parentheses"))),
        (_, (name, _)) => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips() {
        for (word, meant) in [
            ("pth", Some("path")),
            ("brnach", Some("branch")),
            ("Repo", Some("repo")),
            ("keep-alive", None),
            ("timout", Some("timeout")),
            ("x", None),
            ("colour", None),
        ] {
            assert_eq!(
                closest(word, ["repo", "branch", "path", "timeout", "clean"]),
                meant,
                "{word}"
            );
        }
    }
}
