//! What is wrong with a configuration: a list of [`Problem`]s, each pointing into the text of its files.
//!
//! Invariant: the text that is shown has its secrets masked (`mask`), byte for byte, so that spans fit.
//! This module does not know what a configuration means.

use std::ops::Range;

use miette::LabeledSpan;

use super::Files;

/// More problems than that are counted, not listed.
const MAX_PROBLEMS: usize = 50;

/// A configuration whose text is wrong, with all that is wrong with it, in the order of its files.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the configuration {} has {}", .shown.file(0).display(), count(*.found))]
pub struct Invalid {
    #[source_code]
    shown: Files,
    #[related]
    problems: Vec<Problem>,
    found: usize,
}

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
    pub(crate) fn new(files: &Files, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(Problem::offset);
        problems.dedup();
        let found = problems.len();
        problems.truncate(MAX_PROBLEMS);
        Self {
            shown: files.masked(),
            problems,
            found,
        }
    }

    /// The problems; the first ones, if there are very many.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The text as it is shown: as long as the files', its secrets masked.
    pub fn shown(&self) -> &str {
        self.shown.text()
    }

    /// One line a problem for logs, as compilers write them: `FILE:LINE:COLUMN: message (help)`. What it has to do with in
    /// another file comes after the message.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.problems.iter().map(|problem| {
            let at = problem.offset();
            let others = problem.labels.iter().skip(1);
            let elsewhere: String = others
                .filter(|label| !self.shown.are_together(at, label.offset()))
                .map(|label| {
                    let place = self.shown.place(label.offset());
                    format!("; {}: {place}", label.label().unwrap_or_default())
                })
                .collect();
            let help = problem
                .help
                .as_ref()
                .map(|help| format!(" ({help})"))
                .unwrap_or_default();
            let text = format!("{}: {problem}{elsewhere}{help}", self.shown.place(at));
            crate::base::fault::one_line(&text)
        })
    }
}

impl Problem {
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

    /// The second of two at `span`, where one can be; the other is at `first`.
    pub(crate) fn twice(span: Range<usize>, first: Range<usize>, message: impl Into<String>) -> Self {
        Self::at(span, message)
            .label("the second one")
            .also(first, "the first one")
    }

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

    pub(crate) fn offset(&self) -> usize {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn invalid(texts: &[&str], problems: Vec<Problem>) -> Invalid {
        let names = ["/c.ron", "/d.ron"].map(Path::new);
        let files: Vec<_> = names.into_iter().zip(texts.iter().copied()).collect();
        Invalid::new(&Files::new(&files), problems)
    }

    #[test]
    fn lines_for_logs() {
        let problems = vec![
            Problem::at(4..5, "b is wrong"),
            Problem::at(0..1, "a is\nwrong").help("mend it"),
            Problem::at(4..5, "b is wrong"),
        ];
        let invalid = invalid(&["ä\nxyz"], problems);
        assert_eq!(
            invalid.lines().collect::<Vec<_>>(),
            ["/c.ron:1:1: a is wrong (mend it)", "/c.ron:2:2: b is wrong"]
        );
        assert_eq!(invalid.to_string(), "the configuration /c.ron has 2 errors");
    }

    #[test]
    fn problems_of_two_files() {
        let problem = Problem::at(4..5, "twice")
            .also(2..3, "here, too")
            .also(0..1, "the first one")
            .help("remove it");
        assert_eq!(
            invalid(&["a\n\n", "b\nc"], vec![problem])
                .lines()
                .collect::<Vec<_>>(),
            ["/d.ron:2:1: twice; the first one: /c.ron:1:1 (remove it)"]
        );
    }

    #[test]
    fn floods_are_counted() {
        let problems = (0..1000).map(|n| Problem::at(n..n, "wrong")).collect();
        let invalid = invalid(&[&" ".repeat(1000)], problems);
        assert_eq!(invalid.problems().len(), MAX_PROBLEMS);
        assert!(invalid.to_string().contains("1000 errors"), "{invalid}");
    }
}
