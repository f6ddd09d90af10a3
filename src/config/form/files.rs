//! The files of a configuration, one after the other in one text: a range of its bytes is a place in one of them.
//!
//! So one check reads them all, and whatever it says of two places, these may be in two files.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};
use zeroize::Zeroize as _;

use super::mask::mask;

/// The files, the main one first. Like that of each, their text is overwritten when it is dropped.
pub(crate) struct Files {
    text: String,
    parts: Vec<Part>,
}

/// A file, and where it is in the text.
#[derive(Clone)]
struct Part {
    file: PathBuf,
    at: Range<usize>,
}

impl Files {
    pub(super) fn new<'s>(files: &[(&'s Path, &'s str)]) -> Self {
        // A text that grows would leave copies behind.
        let length = files.iter().map(|(_, text)| text.len() + 1).sum();
        let mut text = String::with_capacity(length);
        let mut parts = Vec::with_capacity(files.len());
        for (file, written) in files {
            let start = text.len();
            // ron wants a line's end after a comment.
            text.push_str(written.trim_end_matches('\n'));
            text.push('\n');
            parts.push(Part {
                file: file.into(),
                at: start..text.len(),
            });
        }
        Self { text, parts }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Where the file with this number is in the text; 0 is the main one.
    pub(super) fn span(&self, number: usize) -> Range<usize> {
        self.parts
            .get(number)
            .map(|part| part.at.clone())
            .unwrap_or_default()
    }

    pub(crate) fn file(&self, number: usize) -> &Path {
        let part = self.parts.get(number);
        part.map_or(Path::new("/"), |part| &part.file)
    }

    /// What paths are relative to that stand at `offset`: the directory of their file.
    pub(super) fn base(&self, offset: usize) -> &Path {
        let dir = self.part(offset).and_then(|part| part.file.parent());
        dir.unwrap_or(Path::new("/"))
    }

    /// Whether both places are in one file.
    pub(super) fn are_together(&self, a: usize, b: usize) -> bool {
        self.number(a) == self.number(b)
    }

    /// The place at `offset` as compilers write it: `FILE:LINE:COLUMN`, the last two from 1.
    pub(super) fn place(&self, offset: usize) -> String {
        let Some(part) = self.part(offset) else {
            return String::new();
        };
        let text = self.text.get(part.at.clone()).unwrap_or_default();
        let (line, column) = position(text, offset.saturating_sub(part.at.start));
        format!("{}:{line}:{column}", part.file.display())
    }

    /// The files as they may be shown: as long, their secrets masked.
    pub(super) fn masked(&self) -> Self {
        let parts = self
            .parts
            .iter()
            .filter_map(|part| self.text.get(part.at.clone()));
        Self {
            text: parts.map(mask).collect(),
            parts: self.parts.clone(),
        }
    }

    fn number(&self, offset: usize) -> usize {
        let after = self.parts.partition_point(|part| part.at.start <= offset);
        after.saturating_sub(1)
    }

    fn part(&self, offset: usize) -> Option<&Part> {
        self.parts.get(self.number(offset))
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.parts.iter().map(|part| &part.file))
            .finish()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

/// Each place is shown with its file's name and line. A span over the end of a file is none: what is shown around two
/// places then falls apart into one piece a file.
impl SourceCode for Files {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let part = self.part(span.offset()).ok_or(MietteError::OutOfBounds)?;
        if span.offset() + span.len() > part.at.end {
            return Err(MietteError::OutOfBounds);
        }
        let text = self.text.get(part.at.clone()).unwrap_or_default();
        let within = SourceSpan::new((span.offset() - part.at.start).into(), span.len());
        let found = text.read_span(&within, before, after)?;
        let at = (found.span().offset() + part.at.start, found.span().len()).into();
        let (line, column, count) = (found.line(), found.column(), found.line_count());
        let name = part.file.display().to_string();
        let contents = MietteSpanContents::new_named(name, found.data(), at, line, column, count);
        Ok(Box::new(contents))
    }
}

/// Line and column of the byte at `offset`, both from 1; the column in characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    (
        before.matches('\n').count() + 1,
        before[start..].chars().count() + 1,
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_their_files() {
        let files = Files::new(&[
            (Path::new("/a/main"), "ä\nxy\n\n\n"),
            (Path::new("/b/empty"), ""),
            (Path::new("/c/last"), "p\nq"),
        ]);
        assert_eq!(files.text(), "ä\nxy\n\np\nq\n");
        for (offset, place, base) in [
            (0, "/a/main:1:1", "/a"),
            (2, "/a/main:1:2", "/a"),
            (4, "/a/main:2:2", "/a"),
            (6, "/b/empty:1:1", "/b"),
            (7, "/c/last:1:1", "/c"),
            (9, "/c/last:2:1", "/c"),
            (99, "/c/last:3:1", "/c"),
        ] {
            assert_eq!(files.place(offset), place, "{offset}");
            assert_eq!(files.base(offset), Path::new(base), "{offset}");
        }
        assert!(files.are_together(0, 5) && !files.are_together(5, 6));
        let shown = files.read_span(&(9, 1).into(), 1, 1).unwrap();
        assert_eq!(shown.data(), b"p\nq\n");
        assert_eq!((shown.name(), shown.span()), (Some("/c/last"), &(7, 4).into()));
        assert!(files.read_span(&(4, 4).into(), 1, 1).is_err());
    }
}
