//! A configuration as written: RON values, each with its place in the files.
//!
//! ron has no spanned values, and serde stops at the first error. But ron hands out pieces of the text it
//! reads ([`RawValue`]), and a piece knows where it lies. So a value is taken apart one level at a time, by
//! ron itself, and everything that is wrong can be found and underlined. This module knows no field's name.

use std::{fmt, ops::Range};

use ron::value::RawValue;
use serde::{
    Deserialize,
    de::{self, Deserializer, MapAccess, Visitor},
};

use super::{mask::mask, report::Problem, syntax};

/// A value, without the white space and comments around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a> {
    files: &'a str,
    text: &'a str,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a> {
    files: &'a str,
    pub(crate) text: &'a str,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape<'a> {
    /// `"…"`, `r"…"`.
    String,
    /// `b"…"`, `'…'`: nothing here is written like that.
    Other,
    /// `1`, `-1`, `0.5`, also `inf`.
    Number,
    /// `[…]`.
    List,
    /// `{…}`.
    Map,
    /// `(…)`.
    Fields,
    /// `Name(…)`.
    Named(&'a str),
    /// `Name`, `true`.
    Word(&'a str),
}

impl<'a> Value<'a> {
    /// The value that is the whole of a file, which is `at` in the text of `files`; or the first error in its syntax.
    /// `least` is the least there can be.
    pub(crate) fn whole(files: &'a str, at: Range<usize>, least: &str) -> Result<Self, Problem> {
        let file = files.get(at).unwrap_or_default();
        let text = file.strip_prefix('\u{feff}').unwrap_or(file);
        let raw: &RawValue = match ron::from_str(text) {
            Ok(raw) => raw,
            Err(err) => return Err(syntax::explain(span(files, text).start, text, least, &err)),
        };
        Ok(Self::of(files, raw))
    }

    fn of(files: &'a str, raw: &'a RawValue) -> Self {
        Self {
            files,
            text: raw.trim().get_ron(),
        }
    }

    pub(crate) fn span(self) -> Range<usize> {
        span(self.files, self.text)
    }

    /// Where its first line stands, or its name, if it has one: enough to underline.
    pub(crate) fn head(self) -> Range<usize> {
        let text = match self.shape() {
            Shape::Named(name) => {
                &self.text[..name.len() + self.text.len() - self.text.trim_start_matches("r#").len()]
            }
            _ => self.text.lines().next().unwrap_or_default().trim_end(),
        };
        span(self.files, text)
    }

    pub(crate) fn text(self) -> &'a str {
        self.text
    }

    pub(crate) fn shown(self) -> String {
        mask(self.text)
    }

    pub(crate) fn shape(self) -> Shape<'a> {
        let text = self.text;
        let is_string = |text: &str| text.trim_start_matches('#').starts_with('"');
        match text.chars().next() {
            Some('"') => Shape::String,
            Some('r') if is_string(&text[1..]) => Shape::String,
            Some('\'') => Shape::Other,
            Some('b') if text[1..].starts_with('\'') || is_string(text[1..].trim_start_matches('r')) => {
                Shape::Other
            }
            Some('[') => Shape::List,
            Some('{') => Shape::Map,
            Some('(') => Shape::Fields,
            Some('0'..='9' | '+' | '-' | '.') => Shape::Number,
            _ => match self.split_name() {
                ("inf" | "NaN", "") => Shape::Number,
                (name, "") => Shape::Word(name),
                (name, _) => Shape::Named(name),
            },
        }
    }

    /// `Name` and the rest of `Name(…)`.
    fn split_name(self) -> (&'a str, &'a str) {
        let bare = self.text.strip_prefix("r#").unwrap_or(self.text);
        let end = bare.find(|c: char| !(c.is_alphanumeric() || "_.+-".contains(c)));
        bare.split_at(end.unwrap_or(bare.len()))
    }

    /// The value inside `Some(…)`, nothing for `None`, and every other value itself.
    pub(crate) fn given(self) -> Result<Option<Self>, Problem> {
        match self.shape() {
            Shape::Word("None") => Ok(None),
            Shape::Named("Some") => {
                let raw: Option<&RawValue> = self.read(ron::from_str(self.text))?;
                raw.map_or(Ok(None), |raw| Self::of(self.files, raw).given())
            }
            _ => Ok(Some(self)),
        }
    }

    /// The fields of `(name: value, …)` or `Name(name: value, …)`, which are those of `what`.
    pub(crate) fn fields(self, what: &str) -> Result<Vec<(Name<'a>, Self)>, Problem> {
        let body = match self.shape() {
            Shape::Named(_) => self.split_name().1,
            Shape::Fields => self.text,
            _ => return Err(self.unexpected(&format!("{what} in ( )"))),
        };
        let read = ron::from_str::<Fields<'a>>(body).map_err(|_| {
            Problem::at(
                self.head(),
                "expected fields in these parentheses, found values without names",
            )
            .help("write (name: value, …); a list is written in [ ]")
        });
        let name = |key: Key<'a>| Name {
            files: self.files,
            text: key.0,
        };
        Ok(read?
            .0
            .into_iter()
            .map(|(key, raw)| (name(key), Self::of(self.files, raw)))
            .collect())
    }

    /// The one value in `Name(value)`.
    pub(crate) fn argument(self) -> Result<Self, Problem> {
        let one = ron::from_str::<(&RawValue,)>(self.split_name().1);
        one.map(|(raw,)| Self::of(self.files, raw))
            .map_err(|_| Problem::at(self.head(), "expected one value in these parentheses"))
    }

    /// The entries of `{key: value, …}`.
    pub(crate) fn map(self) -> Result<Vec<(Self, Self)>, Problem> {
        if self.shape() != Shape::Map {
            return Err(self.unexpected("a map").help(r#"write { "name": …, }"#));
        }
        let Map(pairs) = self.read(ron::from_str(self.text))?;
        let of = |raw| Self::of(self.files, raw);
        Ok(pairs
            .into_iter()
            .map(|(key, value)| (of(key), of(value)))
            .collect())
    }

    pub(crate) fn list(self) -> Result<Vec<Self>, Problem> {
        if self.shape() != Shape::List {
            return Err(self
                .unexpected("a list")
                .help("write [ ] around it, with commas between its elements"));
        }
        let list: Vec<&RawValue> = self.read(ron::from_str(self.text))?;
        Ok(list.into_iter().map(|raw| Self::of(self.files, raw)).collect())
    }

    pub(crate) fn string(self) -> Result<String, Problem> {
        match self.shape() {
            Shape::String => self.read(ron::from_str(self.text)),
            Shape::Number | Shape::Word(_) => {
                Err(self.unexpected("a string").help("write it in double quotes"))
            }
            _ => Err(self.unexpected("a string").help(r#"write one string: "…""#)),
        }
    }

    pub(crate) fn bool(self) -> Result<bool, Problem> {
        match self.shape() {
            Shape::Word("true") => Ok(true),
            Shape::Word("false") => Ok(false),
            _ => Err(self
                .unexpected("true or false")
                .help("write true or false, without quotes")),
        }
    }

    pub(crate) fn number(self, range: std::ops::RangeInclusive<u32>) -> Result<u32, Problem> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        ron::from_str(self.text)
            .ok()
            .filter(|number| self.shape() == Shape::Number && range.contains(number))
            .ok_or_else(|| match self.shape() {
                Shape::String => self.unexpected(&expected).help("write the number without quotes"),
                Shape::Number => {
                    Problem::at(self.head(), format!("expected {expected}, found {}", self.text))
                }
                _ => self.unexpected(&expected),
            })
    }

    pub(crate) fn unexpected(self, expected: &str) -> Problem {
        Problem::at(
            self.head(),
            format!("expected {expected}, found {}", self.shape().describe()),
        )
    }

    /// An error that ron finds in a value whose syntax it has accepted before.
    fn read<T>(self, result: ron::error::SpannedResult<T>) -> Result<T, Problem> {
        result.map_err(|err| Problem::at(self.head(), err.code.to_string()))
    }
}

impl Name<'_> {
    pub(crate) fn span(self) -> Range<usize> {
        span(self.files, self.text)
    }
}

impl Shape<'_> {
    /// Without its text, which may be a secret.
    fn describe(self) -> String {
        match self {
            Self::String => "a string".into(),
            Self::Other => "bytes or a character".into(),
            Self::Number => "a number".into(),
            Self::List => "a list [ ]".into(),
            Self::Map => "a map { }".into(),
            Self::Fields => "fields in ( )".into(),
            Self::Named(name) => format!("`{name}(…)`"),
            Self::Word(_) => "a word without quotes".into(),
        }
    }
}

/// Where `piece` lies in `files`, of which it is a part.
fn span(files: &str, piece: &str) -> Range<usize> {
    let start = (piece.as_ptr() as usize).saturating_sub(files.as_ptr() as usize);
    debug_assert_eq!(files.get(start..start + piece.len()), Some(piece));
    start..start + piece.len()
}

struct Key<'a>(&'a str);
struct Fields<'a>(Vec<(Key<'a>, &'a RawValue)>);
struct Map<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(text))
            }
        }
        deserializer.deserialize_identifier(Borrow)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_struct("", &[], Pairs(std::marker::PhantomData))
            .map(Self)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Map<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(Pairs(std::marker::PhantomData))
            .map(Self)
    }
}

/// Collects all pairs, equal keys too.
struct Pairs<K>(std::marker::PhantomData<K>);

impl<'de, K: Deserialize<'de>> Visitor<'de> for Pairs<K> {
    type Value = Vec<(K, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pairs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        std::iter::from_fn(|| map.next_entry().transpose()).collect()
    }
}

#[cfg(test)]
#[path = "raw/tests.rs"]
mod tests;
