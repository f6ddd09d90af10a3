//! Errors as snapshots show them, and the proof that none is missing there.

use std::{fmt, ops::Deref};

use crate::{base::fault::Failure, git::transport::Error};

/// How a connection failed: the error's name, and all that a user gets to see of it.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// Such as `UnknownHost`, or `Secret::Exposed`.
    name: String,
    failure: Failure,
}

impl Refusal {
    pub(crate) fn of(err: &Error) -> Self {
        let debug = format!("{err:?}");
        let name: Vec<_> = debug
            .split(['(', ' '])
            .take_while(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
            .collect();
        let name = match &name[..] {
            ["Http" | "Ssh", name @ ..] => name.join("::"),
            name => name.join("::"),
        };
        Self {
            name,
            failure: Failure::of(err),
        }
    }

    pub(crate) fn map(self, mut text: impl FnMut(&str) -> String) -> Self {
        let Failure { kind, message, help } = self.failure;
        let failure = Failure {
            kind,
            message: text(&message),
            help: help.as_deref().map(text),
        };
        Self { failure, ..self }
    }
}

impl Deref for Refusal {
    type Target = Failure;

    fn deref(&self) -> &Failure {
        &self.failure
    }
}

/// With this machine's ports and temporary files replaced.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { kind, message, help } = &self.failure;
        writeln!(f, "{} ({}): {}", self.name, kind.as_str(), anonymous(message))?;
        write!(f, "help: {}", anonymous(help.as_deref().unwrap_or("none")))
    }
}

/// `text` with `PORT` for each port, and `DIR` and `FILE` for what is temporary.
fn anonymous(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    // Files are in the one, directories may be in the other.
    let temporary = [std::env::temp_dir(), crate::machine::MEMORY.into()]
        .map(|dir| dir.join(".tmp").display().to_string());
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if let Some(name) = temporary.iter().find_map(|dir| rest.strip_prefix(dir.as_str())) {
            rest = name.trim_start_matches(char::is_alphanumeric);
            out += if rest.starts_with('/') { "DIR" } else { "FILE" };
        } else if c == ':' && digits >= 4 {
            rest = &after[digits..];
            out += ":PORT";
        } else {
            rest = after;
            out.push(c);
        }
    }
    out
}

/// Each variant of the `Error` in `code` must begin a snapshot in `tests`, with `prefix` before its name; but for those
/// in `others`, which pass on other errors, or cannot be had in a test.
pub(crate) fn assert_all_are_shown(code: &str, prefix: &str, others: &[&str], tests: &[&str]) {
    let (_, body) = code.split_once("pub enum Error {\n").unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let variants = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.split(['(', ' ', ',']).next().unwrap());
    let mut count = 0;
    for variant in variants.filter(|variant| !others.contains(variant)) {
        let line = format!("{prefix}{variant} (");
        let shown = |test: &&str| test.lines().any(|text| text.trim_start().starts_with(&line));
        assert!(tests.iter().any(shown), "no snapshot begins with {line}");
        count += 1;
    }
    assert!(count > 2, "only {count} errors were found");
}
