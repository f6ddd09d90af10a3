//! What is wrong with a configuration: a list of [`Problem`]s, each pointing into the file's text.
//!
//! Invariant: the text that is shown has its secrets masked (`mask`), byte for byte, so that spans fit.
//! This room does not know what a configuration means.

use std::{ops::Range, path::Path};

use miette::{LabeledSpan, NamedSource};

use super::mask::mask;

/// More problems than that are counted, not listed.
const MAX_PROBLEMS: usize = 50;

/// A configuration whose text is wrong, with all that is wrong with it, in the order of the file.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the configuration {} has {}", .shown.name(), count(*.found))]
pub struct Invalid {
    #[source_code]
    shown: NamedSource<String>,
    #[related]
    problems: Vec<Problem>,
    found: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
pub struct Problem {
    message: String,
    #[help]
    help: Option<String>,
    #[label(collection)]
    labels: Vec<LabeledSpan>,
}

impl Invalid {
    /// The problems of `text`, which is called `file`.
    pub(crate) fn new(file: &Path, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(Problem::offset);
        problems.dedup();
        let found = problems.len();
        problems.truncate(MAX_PROBLEMS);
        Self {
            shown: NamedSource::new(file.display().to_string(), mask(text)),
            problems,
            found,
        }
    }

    /// The problems; the first ones, if there are very many.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The text as it is shown: as long as the file's, its secrets masked.
    pub fn shown(&self) -> &str {
        self.shown.inner()
    }

    /// One line a problem for logs, as compilers write them: `FILE:LINE:COLUMN: message (help)`.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.problems.iter().map(|problem| {
            let (line, column) = position(self.shown(), problem.offset());
            let help = problem
                .help
                .as_ref()
                .map(|help| format!(" ({help})"))
                .unwrap_or_default();
            let text = format!("{}:{line}:{column}: {problem}{help}", self.shown.name());
            crate::base::fault::one_line(&text)
        })
    }
}

impl Problem {
    /// `message`, about the text at `span`.
    pub(crate) fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            labels: vec![LabeledSpan::new_primary_with_span(None, span)],
        }
    }

    /// What stands below the underlined text.
    pub(crate) fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(first) = self.labels.first_mut() {
            first.set_label(Some(text.into()));
        }
        self
    }

    /// Another place that has to do with it.
    pub(crate) fn also(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels
            .push(LabeledSpan::new_with_span(Some(text.into()), span));
        self
    }

    /// What to do.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// The places it is about, the first being the cause.
    pub fn spans(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.labels
            .iter()
            .map(|label| label.offset()..label.offset() + label.len())
    }

    fn offset(&self) -> usize {
        self.labels.first().map_or(0, LabeledSpan::offset)
    }
}

fn count(problems: usize) -> String {
    match problems {
        1 => "an error".into(),
        n if n > MAX_PROBLEMS => format!("{n} errors; these are the first {MAX_PROBLEMS}"),
        n => format!("{n} errors"),
    }
}

/// Line and column of the byte at `offset`, both from 1; the column in characters.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    (
        before.matches('\n').count() + 1,
        before[start..].chars().count() + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_logs() {
        let problems = vec![
            Problem::at(4..5, "b is wrong"),
            Problem::at(0..1, "a is\nwrong").help("mend it"),
            Problem::at(4..5, "b is wrong"),
        ];
        let invalid = Invalid::new(Path::new("/c.ron"), "ä\nxyz", problems);
        assert_eq!(
            invalid.lines().collect::<Vec<_>>(),
            ["/c.ron:1:1: a is wrong (mend it)", "/c.ron:2:2: b is wrong"]
        );
        assert_eq!(invalid.to_string(), "the configuration /c.ron has 2 errors");
    }

    #[test]
    fn floods_are_counted() {
        let problems = (0..1000).map(|n| Problem::at(n..n, "wrong")).collect();
        let invalid = Invalid::new(Path::new("/c.ron"), &" ".repeat(1000), problems);
        assert_eq!(invalid.problems().len(), MAX_PROBLEMS);
        assert!(invalid.to_string().contains("1000 errors"), "{invalid}");
    }
}
