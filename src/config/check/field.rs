//! Which fields there are, and how they are read: known ones once, others refused with a guess.

use std::{collections::BTreeMap, ops::Range};

use super::{Check, choice::closest};
use crate::config::{
    raw::{Name, Shape, Value},
    report::Problem,
};

/// The fields of one kind of `(…)`.
pub(super) struct Schema {
    /// What it is, in a sentence.
    what: &'static str,
    known: &'static [&'static str],
}

pub(super) static CONFIG: Schema = Schema {
    what: "the configuration",
    known: &["listen", "jobs", "keep_alive", "sandbox", "triggers"],
};
pub(super) static SANDBOX: Schema = Schema {
    what: "`sandbox`",
    known: &["mode", "hooks"],
};
pub(super) static UNIX: Schema = Schema {
    what: "`Unix`",
    known: &["path", "mode", "group"],
};
pub(super) static TCP: Schema = Schema {
    what: "`Tcp`",
    known: &["addr", "token_file"],
};
pub(super) static TRIGGER: Schema = Schema {
    what: "a trigger",
    known: &[
        "repo",
        "branch",
        "tag",
        "rev",
        "path",
        "git_dir",
        "remote",
        "depth",
        "clean",
        "keep",
        "auth",
        "tls",
        "hooks",
        "umask",
        "timeout",
        "run_timeout",
        "max_blob",
        "max_pack",
        "retries",
        "fsync",
        "allow",
    ],
};
pub(super) static BASIC: Schema = Schema {
    what: "`Basic`",
    known: &["user", "password_file"],
};
pub(super) static BEARER: Schema = Schema {
    what: "`Bearer`",
    known: &["token_file"],
};
pub(super) static SSH: Schema = Schema {
    what: "`Ssh`",
    known: &["key", "passphrase_file", "known_hosts", "agent"],
};
pub(super) static TLS: Schema = Schema {
    what: "`tls`",
    known: &[
        "ca_file",
        "roots",
        "cert_file",
        "key_file",
        "allow_plain_credentials",
    ],
};
pub(super) static EXEC: Schema = Schema {
    what: "`Exec`",
    known: &["run", "when", "timeout", "user_env"],
};
static ALL: [&Schema; 10] = [
    &CONFIG, &SANDBOX, &UNIX, &TCP, &TRIGGER, &BASIC, &BEARER, &SSH, &TLS, &EXEC,
];

/// Without `_file`, they would hold the secret itself.
const SECRETS: [&str; 3] = ["password_file", "token_file", "passphrase_file"];

/// What other programs call it.
const OTHER_WORDS: [(&str, &str); 30] = [
    ("url", "repo"),
    ("repository", "repo"),
    ("source", "repo"),
    ("dir", "path"),
    ("directory", "path"),
    ("target", "path"),
    ("worktree", "path"),
    ("ref", "branch"),
    ("exclude", "keep"),
    ("ignore", "keep"),
    ("address", "addr"),
    ("command", "run"),
    ("cmd", "run"),
    ("env", "user_env"),
    ("username", "user"),
    ("identity_file", "key"),
    ("private_key", "key"),
    ("private_key", "key_file"),
    ("client_key", "key_file"),
    ("ssl_key", "key_file"),
    ("sslkey", "key_file"),
    ("client_cert", "cert_file"),
    ("client_certificate", "cert_file"),
    ("ssl_cert", "cert_file"),
    ("sslcert", "cert_file"),
    ("cacert", "ca_file"),
    ("sslcainfo", "ca_file"),
    ("known_hosts_file", "known_hosts"),
    ("hook", "hooks"),
    ("workers", "jobs"),
];

/// The fields that were given.
pub(super) struct Fields<'a> {
    schema: &'static Schema,
    /// Where to point if something is missing.
    place: Range<usize>,
    given: BTreeMap<&'a str, Given<'a>>,
}

struct Given<'a> {
    name: Name<'a>,
    /// Nothing if it is `None`.
    value: Option<Value<'a>>,
}

impl<'a> Fields<'a> {
    /// The value of `name`.
    pub(super) fn get(&self, name: &'static str) -> Option<Value<'a>> {
        debug_assert!(self.schema.known.contains(&name));
        self.given.get(name)?.value
    }

    /// Whether `name` was written, if only to be `None`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|given| given.value.is_some())
    }

    /// Where the name of the field `name` stands, or where it should.
    pub(super) fn name_span(&self, name: &str) -> Range<usize> {
        self.given
            .get(name)
            .map_or_else(|| self.place(), |given| given.name.span())
    }

    /// Where to point if something is missing.
    pub(super) fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// Point there if something is missing.
    pub(super) fn placed_at(mut self, place: Range<usize>) -> Self {
        self.place = place;
        self
    }
}

impl Check<'_> {
    /// The fields of `value`, as far as `schema` knows them.
    pub(super) fn fields<'v>(&mut self, value: Value<'v>, schema: &'static Schema) -> Option<Fields<'v>> {
        let pairs = value.fields(schema.what).map_err(|problem| match schema.known {
            [first, ..] if value.shape() != Shape::Fields => {
                problem.help(format!("{} is written in ( ): ({first}: …, …)", schema.what))
            }
            _ => problem,
        });
        let pairs = self.keep(pairs)?;
        let open = value.text().find('(').map_or(1, |at| at + 1);
        let mut fields = Fields {
            schema,
            place: value.span().start..value.span().start + open,
            given: BTreeMap::new(),
        };
        for (name, value) in pairs {
            if let Some(first) = fields.given.get(name.text) {
                let problem = Problem::at(name.span(), format!("the field `{}` is given twice", name.text))
                    .label("the second time")
                    .also(first.name.span(), "the first time")
                    .help("remove one of them");
                self.problems.push(problem);
                continue;
            }
            if schema.known.contains(&name.text) {
                let value = self.keep(value.given()).flatten();
                fields.given.insert(name.text, Given { name, value });
            } else {
                self.problems.push(schema.not_known(name));
                // Its value is of no interest, but a second one is.
                fields.given.insert(name.text, Given { name, value: None });
            }
        }
        Some(fields)
    }

    /// The field `name`, read by `read`. A wrong one counts as absent, once it is on the list.
    pub(super) fn optional<'v, T>(
        &mut self,
        fields: &Fields<'v>,
        name: &'static str,
        read: impl FnOnce(Value<'v>) -> Result<T, Problem>,
    ) -> Option<T> {
        let result = read(fields.get(name)?);
        self.keep(result)
    }

    /// The field `name`, which must be there; `example` shows how to write it.
    pub(super) fn required<'v, T>(
        &mut self,
        fields: &Fields<'v>,
        name: &'static str,
        example: &str,
        read: impl FnOnce(Value<'v>) -> Result<T, Problem>,
    ) -> Option<T> {
        if !fields.has(name) && !fields.was_misspelt(name) {
            let problem = Problem::at(fields.place(), format!("{} needs `{name}`", fields.schema.what));
            self.problems.push(problem.help(format!("add {name}: {example}")));
        }
        self.optional(fields, name, read)
    }
}

impl Fields<'_> {
    /// Whether `name` is missing because something unknown was meant to be it: then one error is enough.
    pub(super) fn was_misspelt(&self, name: &str) -> bool {
        self.given
            .keys()
            .filter(|given| !self.schema.known.contains(given))
            .any(|given| self.schema.meant(given) == Some(name))
    }
}

impl Schema {
    fn not_known(&self, name: Name<'_>) -> Problem {
        let Self { what, known } = self;
        let text = name.text;
        let problem = Problem::at(name.span(), format!("{what} has no field `{text}`"));
        if let Some(file) = known
            .iter()
            .find(|known| known.strip_suffix("_file") == Some(text) && SECRETS.contains(known))
        {
            return problem.help(format!(
                "a configuration holds no secrets: write it into a file that only gitsocket can read, and name \
                 that with {file}: \"…\""
            ));
        }
        if let Some(meant) = self.meant(text) {
            return problem.help(format!("did you mean `{meant}`?"));
        }
        if let Some(other) = ALL.iter().find(|other| other.known.contains(&text)) {
            return problem.help(format!("`{text}` is a field of {}", other.what));
        }
        problem.help(format!("its fields are {}", known.join(", ")))
    }

    /// The field that was meant by `name`.
    fn meant(&self, name: &str) -> Option<&'static str> {
        let other = OTHER_WORDS
            .iter()
            .filter(|(word, _)| word.eq_ignore_ascii_case(name))
            .map(|(_, meant)| *meant)
            .find(|meant| self.known.contains(meant));
        let file = self
            .known
            .iter()
            .copied()
            .find(|known| known.strip_suffix("_file") == Some(name));
        file.or(other)
            .or_else(|| closest(name, self.known.iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_words_lead_to_known_fields() {
        for (word, meant) in OTHER_WORDS {
            assert!(ALL.iter().any(|schema| schema.known.contains(&meant)), "{word}");
            assert!(!ALL.iter().any(|schema| schema.known.contains(&word)), "{word}");
        }
    }
}
