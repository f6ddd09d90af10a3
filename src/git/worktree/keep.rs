//! What to write as `keep` so that an update no longer tries to remove what it may not: another user's files, as a rule.

use std::fmt::Write as _;

use gix::bstr::{BStr, BString, ByteSlice};

use super::{
    context::{Context, Options},
    dirs::{self, Kind},
    stored::{self, Stored, Tracked},
};
use crate::base::report::Named;

/// Patterns of what could not be removed.
#[derive(Default)]
pub(super) struct Keep {
    /// Directories end with a slash.
    paths: Vec<BString>,
}

impl Keep {
    /// `path`, which is not tracked, may not be removed.
    pub(super) fn note(&mut self, cx: &mut Context<'_>, old: &Stored, path: &BStr) {
        let is_known = |known: &BString| match known.strip_suffix(b"/") {
            Some(dir) => dirs::is_in(path, dir.as_bstr()),
            None => known == path,
        };
        if path.len() > dirs::MAX_PATH || self.paths.len() == Named::MAX || self.paths.iter().any(is_known) {
            return;
        }
        let mut above: Vec<&BStr> = dirs::chain(path).filter(|dir| !dir.is_empty()).collect();
        above.reverse();
        let we = rustix::process::geteuid().as_raw();
        let mut is_others = |path: &&BStr| {
            let (dir, name) = dirs::split(path);
            let dir = cx.dirs.get(dir).ok().flatten();
            let meta = dir.and_then(|dir| dirs::meta(dir, name).ok().flatten());
            meta.filter(|meta| meta.kind == Kind::Dir && meta.uid != we)
                .is_some()
        };
        // What is below it is that user's, too, or soon will be.
        let others = above.iter().copied().find(|path| is_others(path));
        let is_untracked = |path: &&BStr| stored::tracked(&old.index, path) == Tracked::No;
        let chosen = others.or_else(|| above.into_iter().find(is_untracked));
        let chosen = chosen.unwrap_or(path);
        let mut pattern = chosen.to_owned();
        if chosen != path || others.is_some() {
            pattern.push(b'/');
        }
        self.paths.push(pattern);
    }

    /// What to do; nothing if no pattern can be written.
    pub(super) fn advice(&self, options: &Options<'_>) -> Option<String> {
        let patterns = self.paths.iter().map(|path| pattern(path.as_bstr()));
        let mut patterns = patterns.collect::<Option<Vec<_>>>()?;
        if patterns.is_empty() {
            return None;
        }
        patterns.sort();
        let all: Vec<String> = options
            .keep
            .iter()
            .chain(&patterns)
            .map(|text| quoted(text))
            .collect();
        Some(format!(
            "if that is to stay, write keep: [{}] into the trigger; if it is to go, let the user that gitsocket runs as write in \
             its directory, by chown or chmod, and the next run removes it",
            all.join(", ")
        ))
    }
}

/// The gitignore pattern for exactly `path`.
fn pattern(path: &BStr) -> Option<String> {
    let path = path
        .to_str()
        .ok()
        .filter(|path| !path.chars().any(char::is_control))?;
    let mut pattern = String::from("/");
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\' | ' ') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    Some(pattern)
}

/// A string as the configuration has it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(out, "\\{c}").ok(),
            c => write!(out, "{c}").ok(),
        };
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (path, expected) in [
            ("uploads/", Some("/uploads/")),
            ("a b/*", Some("/a\\ b/\\*")),
            ("a\nb", None),
        ] {
            assert_eq!(pattern(path.into()).as_deref(), expected, "{path}");
        }
        assert_eq!(quoted("/a\\ \"b\""), r#""/a\\ \"b\"""#);
    }
}
