//! Groups of fields, and what is said of a field that is in none: guesses at what was meant.

use super::{Problem, raw::Name};

/// The fields of one kind of `(…)`.
pub(crate) struct Group {
    /// What it is, in a sentence.
    pub(crate) what: &'static str,
    pub(crate) about: &'static str,
    /// The fields, in the order in which they are shown.
    pub(crate) fields: &'static [&'static dyn Declared],
}

impl Group {
    /// Whether it has the field `name`, by that name or another that it answers to.
    pub(super) fn has(&self, name: &str) -> bool {
        self.name_of(name).is_some()
    }

    /// The name of the field that answers to `name`.
    pub(super) fn name_of(&self, name: &str) -> Option<&'static str> {
        let mut entries = self.fields.iter().map(|field| field.entry());
        let entry = entries.find(|entry| entry.name == name || entry.aliases.contains(&name))?;
        Some(entry.name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|field| field.entry().name)
    }
}

/// What is known of a field, whatever its values are.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    /// What other programs call it.
    pub(crate) other_words: &'static [&'static str],
    /// What it is for, in a sentence or two.
    pub(crate) about: &'static str,
}

/// A field whatever its type.
pub(crate) trait Declared: Sync {
    fn entry(&self) -> &Entry;
    /// Whether it names a file that holds a secret.
    fn is_secret(&self) -> bool;
    /// Whether variables of the environment are replaced in its value.
    fn has_variables(&self) -> bool;
    fn syntax(&self) -> String;
    fn default(&self) -> String;
}

/// That `group` has no field `name`; `groups` are all that the file has.
pub(super) fn not_known(name: Name<'_>, group: &Group, groups: &[&Group]) -> Problem {
    let (what, text) = (group.what, name.text);
    let problem = Problem::at(name.span(), format!("{what} has no field `{text}`"));
    let mut secrets = group.fields.iter().filter(|field| field.is_secret());
    if let Some(file) = secrets.find(|field| field.entry().name.strip_suffix("_file") == Some(text)) {
        return problem.help(format!(
            "a configuration holds no secrets: write it into a file that only gitsocket can read, and name \
             that with {}: \"…\"",
            file.entry().name
        ));
    }
    if let Some(meant) = was_meant(text, group) {
        return problem.help(format!("did you mean `{meant}`?"));
    }
    if let Some(other) = groups.iter().find(|other| other.has(text)) {
        return problem.help(format!("`{text}` is a field of {}", other.what));
    }
    let known: Vec<_> = group.names().collect();
    problem.help(format!("its fields are {}", known.join(", ")))
}

pub(super) fn was_meant(name: &str, group: &Group) -> Option<&'static str> {
    let file = group
        .names()
        .find(|known| known.strip_suffix("_file") == Some(name));
    let other = || {
        let called = |word: &&str| word.eq_ignore_ascii_case(name);
        let mut entries = group.fields.iter().map(|field| field.entry());
        entries
            .find(|entry| entry.other_words.iter().chain(entry.aliases).any(called))
            .map(|entry| entry.name)
    };
    let aliases = group.fields.iter().flat_map(|field| field.entry().aliases);
    file.or_else(other)
        .or_else(|| closest(name, group.names().chain(aliases.copied())))
}

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
