//! Makes ron's syntax errors friendly: what stands there, which bracket was never closed, which quote is missing.
//!
//! Only texts that ron has refused come here; nothing is accepted or refused by this module.

use std::ops::Range;

use ron::error::{Error as Code, Position, SpannedError};

use super::{mask::mask, report::Problem};

/// What `error`, which ron found in a file's `text`, means for the person who wrote it; `skipped` is before that. A file
/// without anything is told what there must be at `least`.
pub(crate) fn explain(skipped: usize, text: &str, least: &str, error: &SpannedError) -> Problem {
    if holds_nothing(text) {
        return Problem::at(skipped..skipped, "the configuration is empty")
            .help(format!("it needs at least: {least}"));
    }
    let at = match error.code {
        Code::UnclosedBlockComment => Outline::of(text).open_comment,
        Code::ExpectedStringEnd => offset(text, error.span.end).checked_sub(1),
        Code::ExpectedAttribute => text.find('#'),
        Code::ExpectedChar => text[..offset(text, error.span.end)].rfind('\''),
        _ => None,
    };
    let at = at.unwrap_or_else(|| offset(text, error.span.end));
    let here = token(text, at);
    let outline = Outline::of(&text[..here.end]);
    let shift = |range: Range<usize>| range.start + skipped..range.end + skipped;
    // What is named in a message must not be part of a secret either.
    let shown = mask(text);
    let found = match &shown[here.clone()] {
        "" if text[at..].trim().is_empty() => "the end of the file".to_owned(),
        "" => "white space".to_owned(),
        found => format!("`{found}`"),
    };
    if let Some(number) = number_with_unit(text, &here) {
        let problem = Problem::at(
            shift(number..here.end),
            format!("unexpected {found} after a number"),
        );
        let quoted = &text[number..here.end];
        return problem.help(format!("a duration or a size needs quotes: write {quoted:?}"));
    }
    let (message, help) = describe(&error.code, text[here.clone()].chars().next(), &found);
    let mut problem = Problem::at(shift(here.clone()), message);
    if !help.is_empty() {
        problem = problem.help(help);
    }
    // The cause often lies above the place where ron stumbles.
    if let Some(string) = outline.long_string.filter(|string| string.end <= at + 1) {
        let message = "a string goes over the end of its line: its closing quote may be missing";
        return Problem::at(shift(string.start..string.start + 1), message)
            .label("it begins here")
            .also(shift(here), "here its end was found, and makes no sense")
            .help("write a double quote at its end");
    }
    let open = outline_before(text, at).filter(|_| found_end(&text[here.clone()]));
    let Some(open) = open else {
        return problem;
    };
    let close = closing(&text[open..]);
    if text[here.clone()].starts_with(close) {
        problem
    } else {
        Problem::at(shift(here), format!("a `{close}` is missing before {found}"))
            .also(shift(open..open + 1), "this bracket is still open")
            .help(format!("close it with `{close}`"))
    }
}

/// Where the number begins that stands directly in front of `here`, where that is a unit, as in `10m` or `1h30m`.
fn number_with_unit(text: &str, here: &Range<usize>) -> Option<usize> {
    let before = &text[..here.start];
    let number = before.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let words = text[here.clone()].split(|c: char| c.is_ascii_digit());
    let is_unit = |word: &str| UNITS.iter().any(|unit| word.eq_ignore_ascii_case(unit));
    let mut words = words.filter(|word| !word.is_empty()).peekable();
    let is_number = before[number.len()..].starts_with(|c: char| c.is_ascii_digit())
        && !number.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    (is_number && words.peek().is_some() && words.all(is_unit)).then_some(number.len())
}

/// Units of durations and sizes.
const UNITS: [&str; 28] = [
    "ns", "us", "ms", "s", "sec", "secs", "m", "min", "mins", "h", "hr", "hrs", "hour", "hours", "d", "day",
    "days", "w", "b", "k", "kb", "kib", "mb", "mib", "g", "gb", "gib", "tib",
];

/// Whether `found` is a closing bracket, or the end of the file.
fn found_end(found: &str) -> bool {
    found.is_empty() || found.starts_with([')', ']', '}'])
}

/// The innermost bracket that is open at `at`.
fn outline_before(text: &str, at: usize) -> Option<usize> {
    Outline::of(&text[..at]).open.last().copied()
}

/// Whether `text` is all white space and comments.
fn holds_nothing(text: &str) -> bool {
    ron::from_str::<()>(&format!("{text}\n()")).is_ok()
}

/// Message and remedy for `code`, where `shown` stands, which begins with `first`.
fn describe(code: &Code, first: Option<char>, shown: &str) -> (String, &'static str) {
    let fixed = |message: &str, help| (message.to_owned(), help);
    match (code, first) {
        (Code::ExpectedStringEnd, _) => fixed("this string never ends", "close it with a double quote"),
        (Code::UnclosedBlockComment, _) => fixed("this comment never ends", "close it with */"),
        (Code::ExceededRecursionLimit, _) => fixed(
            "too many brackets inside each other",
            "no configuration needs that many: remove some",
        ),
        (Code::InvalidEscape(_), _) => fixed(
            "this escape is not known in a string",
            r#"write \\ for a backslash, or r"…" for a string without escapes"#,
        ),
        (Code::NoSuchExtension(name), _) => (format!("ron has no extension `{name}`"), "remove it"),
        (Code::TrailingCharacters, _) => (
            format!("expected the end of the file, found {shown}"),
            "the whole configuration is in one ( … ): remove what follows it",
        ),
        (_, Some('#')) => fixed("`#` begins no comment here", "comments begin with //"),
        (_, Some('=')) => fixed("expected `:`, found `=`", "write name: value"),
        (_, Some('\'')) => fixed(
            "text is written in double quotes, not in single quotes",
            r#"write "…""#,
        ),
        (_, Some(';')) => fixed("expected `,`, found `;`", "write a comma"),
        (Code::SuggestRawIdentifier(name), _) => (
            format!("`{name}` is not a name"),
            "names of fields consist of letters, digits and `_`; text is written in double quotes",
        ),
        (Code::ExpectedComma, Some('-')) => fixed(
            "unexpected `-`",
            "names of fields consist of letters, digits and `_`; text is written in double quotes",
        ),
        (Code::ExpectedComma, Some(':')) => fixed(
            "unexpected `:`",
            r#"in ( ) write name: value, the name without quotes; in { } write "name": value"#,
        ),
        (Code::ExpectedComma, Some(_)) => (
            format!("a comma is missing before {shown}"),
            "write a comma after the value before it",
        ),
        (Code::ExpectedMapColon, _) => (format!("expected `:`, found {shown}"), "write name: value"),
        (Code::ExpectedIdentifier, Some('"')) => (
            format!("expected a field's name, found {shown}"),
            "in ( ) names stand without quotes",
        ),
        (Code::UnexpectedChar(_) | Code::Eof, _) => (
            format!("unexpected {shown}"),
            "compare with the example in the README; is there a quote or comma too much?",
        ),
        (code, _) => {
            let reason = code.to_string();
            let mut letters = reason.chars();
            let first = letters.next().map(|c| c.to_ascii_lowercase()).unwrap_or_default();
            (
                format!("{first}{}, found {shown}", letters.as_str()),
                "compare with the example in the README",
            )
        }
    }
}

/// The byte that a position of ron's, counted in lines and characters, means.
fn offset(text: &str, position: Position) -> usize {
    let line = text
        .split_inclusive('\n')
        .take(position.line.saturating_sub(1))
        .map(str::len)
        .sum();
    let rest = text.get(line..).unwrap_or_default();
    let at = line
        + rest
            .char_indices()
            .nth(position.col.saturating_sub(1))
            .map_or(rest.len(), |(at, _)| at);
    // At the end there is nothing to see but the line's end.
    at.min(text.trim_end().len())
}

/// The word, string or sign at `at`.
fn token(text: &str, at: usize) -> Range<usize> {
    let rest = &text[at..];
    let word = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let length = match rest.chars().next() {
        Some('"') => {
            let line = rest.lines().next().unwrap_or_default();
            line[1..].find('"').map_or(line.len(), |end| end + 2).min(40)
        }
        Some(c) if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
        Some(c) if !c.is_whitespace() => c.len_utf8(),
        _ => 0,
    };
    at..text.floor_char_boundary(at + length)
}

fn closing(open: &str) -> char {
    match open.as_bytes().first() {
        Some(b'(') => ')',
        Some(b'[') => ']',
        _ => '}',
    }
}

/// Which brackets are open at the end of a text, as far as one can tell while something is wrong with it.
#[derive(Default)]
struct Outline {
    open: Vec<usize>,
    /// The last plain string that goes over the end of a line: mostly one whose closing quote is missing.
    long_string: Option<Range<usize>>,
    open_comment: Option<usize>,
}

impl Outline {
    fn of(text: &str) -> Self {
        let mut out = Self::default();
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let rest = &text[at..];
            let length = match c {
                '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
                '/' if rest.starts_with("/*") => comment(rest).unwrap_or_else(|| {
                    out.open_comment = Some(at);
                    rest.len()
                }),
                '"' => {
                    let length = string(rest);
                    if rest[..length].contains('\n') {
                        out.long_string = Some(at..at + length);
                    }
                    length
                }
                '(' | '[' | '{' => {
                    out.open.push(at);
                    1
                }
                ')' | ']' | '}' => {
                    out.open.pop();
                    1
                }
                c => c.len_utf8(),
            };
            at += length;
        }
        out
    }
}

/// The length of the string that `rest` begins with, both quotes included.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// The length of the block comment that `rest` begins with; they nest.
fn comment(rest: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let pair = rest.as_bytes().get(at..at + 2)?;
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}
