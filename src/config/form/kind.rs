//! Kinds of values: how each is written, read, and shown where it is a default.

use std::{ops::Range, time::Duration};

use super::{
    Around, Form, Problem, Value,
    value::{duration, filled, mode, size, user},
};
use crate::base::name::AbsPath;

/// Reads a value; what is wrong with it goes on the list.
pub(crate) type Read<T> = fn(&mut Form<'_>, Value<'_>) -> Option<T>;

/// What was read, and where it stands in the file.
pub(crate) type Spanned<T> = (T, Range<usize>);

/// How values of a kind are written and read.
pub(crate) struct Kind<T> {
    syntax: Syntax,
    reader: Reader<T>,
    pub(super) show: fn(&T) -> String,
    /// Whether it is the name of a file that holds a secret.
    pub(super) is_secret: bool,
    /// Whether variables of the environment are replaced in it.
    pub(super) has_variables: bool,
}

enum Syntax {
    Text(&'static str),
    Made(fn() -> String),
}

enum Reader<T> {
    /// Finds one problem at most.
    One(fn(Value<'_>, Around<'_>) -> Result<T, Problem>),
    Many(Read<T>),
}

impl<T> Kind<T> {
    /// The kind that is written as `syntax` says, in which there may be one problem.
    pub(crate) const fn new(
        syntax: &'static str,
        read: fn(Value<'_>, Around<'_>) -> Result<T, Problem>,
    ) -> Self {
        Self::made(Syntax::Text(syntax), Reader::One(read))
    }

    /// The same for what may have many problems.
    pub(crate) const fn many(syntax: &'static str, read: Read<T>) -> Self {
        Self::made(Syntax::Text(syntax), Reader::Many(read))
    }

    /// The same for a syntax that is put together.
    pub(super) const fn composed(
        syntax: fn() -> String,
        read: fn(Value<'_>, Around<'_>) -> Result<T, Problem>,
    ) -> Self {
        Self::made(Syntax::Made(syntax), Reader::One(read))
    }

    const fn made(syntax: Syntax, reader: Reader<T>) -> Self {
        Self {
            syntax,
            reader,
            show: |_| String::new(),
            is_secret: false,
            has_variables: false,
        }
    }

    /// The same, where variables of the environment are replaced in the value.
    pub(crate) const fn with_variables(self) -> Self {
        Self {
            has_variables: true,
            ..self
        }
    }

    pub(crate) const fn shown(self, show: fn(&T) -> String) -> Self {
        Self { show, ..self }
    }

    pub(super) fn read(&self, form: &mut Form<'_>, value: Value<'_>) -> Option<T> {
        match self.reader {
            Reader::One(read) => form.keep(read(value, form.around)),
            Reader::Many(read) => read(form, value),
        }
    }

    pub(super) fn syntax(&self) -> String {
        match self.syntax {
            Syntax::Text(text) => text.into(),
            Syntax::Made(make) => make(),
        }
    }
}

impl Kind<()> {
    /// A value that cannot be understood by itself: others read what was written.
    pub(crate) const fn later(syntax: &'static str) -> Self {
        Self::new(syntax, |_, _| Ok(()))
    }
}

pub(crate) const TEXT: Kind<String> = Kind::new("text in quotes", |value, _| filled(value));

pub(crate) const PATH: Kind<AbsPath> = Kind::new("path", |value, around| around.path(value));

/// A file that may be named by a variable of the environment.
pub(crate) const FILE: Kind<AbsPath> =
    Kind::new("path", |value, around| around.secret_path(value)).with_variables();

/// A file that holds a secret.
pub(crate) const SECRET: Kind<AbsPath> = Kind {
    is_secret: true,
    ..FILE
};

pub(crate) const USER: Kind<String> = Kind::new("name", |value, _| user(value));

pub(crate) const BOOL: Kind<bool> =
    Kind::new("`true` or `false`", |value, _| value.bool()).shown(|is| code(is));

pub(crate) const DURATION: Kind<Duration> = Kind::new(
    r#"duration such as `"90s"` or `"1h 30m"`, at most a week"#,
    |value, _| duration(value),
)
.shown(show_duration);

pub(crate) const SIZE: Kind<u64> =
    Kind::new(r#"size such as `"512KiB"` or `"20GiB"`"#, |value, _| size(value))
        .shown(|bytes| show_size(*bytes));

pub(crate) const MODE: Kind<u32> =
    Kind::new(r#"octal digits in quotes, `"0000"` to `"0777"`"#, |value, _| {
        mode(value)
    })
    .shown(|mode| quoted(format_args!("{mode:04o}")));

pub(crate) fn show_duration(duration: &Duration) -> String {
    quoted(humantime::format_duration(*duration))
}

pub(crate) fn show_size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(bits, _)| bytes.trailing_zeros() >= *bits);
    match unit {
        Some((bits, unit)) => quoted(format_args!("{}{unit}", bytes >> bits)),
        None => quoted(format_args!("{bytes}B")),
    }
}

/// `text` as RON that stands in a sentence.
pub(crate) fn code(text: impl std::fmt::Display) -> String {
    format!("`{text}`")
}

pub(crate) fn quoted(text: impl std::fmt::Display) -> String {
    format!("`\"{text}\"`")
}
