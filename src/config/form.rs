//! Forms: files of RON with fields, read so that all that is wrong is found, underlined and explained.
//!
//! The module knows no field's name, so that it serves every file that gitsocket reads like that: a file says by
//! `fields!` which fields it has, and from these declarations come their values, what is said of unknown ones,
//! and the reference.

mod address;
mod choice;
mod error;
mod field;
mod files;
mod group;
mod kind;
mod mask;
mod raw;
mod reference;
mod report;
mod search_path;
mod source;
mod syntax;
mod value;

use std::{ffi::OsString, path::Path};

pub(crate) use address::{ADDRESS, SOCKET, listeners};
pub(crate) use choice::{Choice, choice, variant, word_of};
pub use error::Error;
pub(crate) use field::{Absent, Field, Fields, Given, Written, fields};
pub(crate) use files::Files;
pub(crate) use group::{Declared, Entry, Group};
pub(crate) use kind::{
    BOOL, DURATION, FILE, Kind, MODE, PATH, Read, SECRET, SIZE, Spanned, TEXT, USER, code, quoted,
    show_duration, show_size,
};
pub(crate) use mask::{mask, redact};
pub(crate) use raw::{Shape, Value};
pub(crate) use reference::reference;
pub use report::{Invalid, Problem};
pub use search_path::SearchPath;
pub use source::Source;
pub(crate) use value::{
    argument, duration, filled, has_name, invalid, literal, mode, size, span_of_time, unusable_duration,
};

/// What `check` makes of `files`, or all that is wrong with them; `env` looks variables up.
pub(crate) fn check<T>(
    files: &Files,
    env: Environment<'_>,
    check: impl FnOnce(Around<'_>) -> Result<T, Vec<Problem>>,
) -> Result<T, Error> {
    let name = None;
    check(Around { files, env, name })
        .map_err(|problems| Error::Invalid(Box::new(Invalid::new(files, problems))))
}

/// A file that is read, and what was found wrong with it. Reading never stops at a problem: it is put on the list,
/// the value counts as absent, and reading goes on.
pub(crate) struct Form<'a> {
    /// What the text does not say.
    pub(crate) around: Around<'a>,
    pub(crate) problems: Vec<Problem>,
    /// All groups of fields that such a file has.
    groups: &'static [&'static Group],
}

/// Looks a variable of the environment up.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What the text of a file does not say.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    /// The file, and those that it includes.
    pub(crate) files: &'a Files,
    pub(crate) env: Environment<'a>,
    /// What `{name}` in paths stands for, if for anything.
    pub(crate) name: Option<&'a str>,
}

impl<'a> Around<'a> {
    /// What the path `value` is relative to, if it is relative: the directory of the file that it stands in.
    pub(crate) fn base(self, value: Value<'_>) -> &'a Path {
        self.files.base(value.span().start)
    }
}

impl<'a> Form<'a> {
    /// A file with these groups of fields, of which nothing has been read.
    pub(crate) fn new(around: Around<'a>, groups: &'static [&'static Group]) -> Self {
        Self {
            around,
            problems: Vec::new(),
            groups,
        }
    }

    /// A form in which nothing is wrong yet, for what belongs to `name`.
    pub(crate) fn of<'b>(&'b self, name: &'b str) -> Form<'b> {
        let name = Some(name);
        Form::new(Around { name, ..self.around }, self.groups)
    }

    /// The value that is the whole of the file with this number, 0 being the main one: `what` in ( ), which has at least
    /// what the `example` shows, and among its fields those that are `known`.
    pub(crate) fn whole(
        &mut self,
        number: usize,
        (what, known): (&str, &str),
        example: &str,
    ) -> Option<Value<'a>> {
        let files = self.around.files;
        let least = format!("({example})");
        let whole = self.keep(Value::whole(files.text(), files.span(number), &least))?;
        if matches!(whole.shape(), Shape::Fields | Shape::Named(_)) {
            return Some(whole);
        }
        let problem = whole.unexpected(&format!("{what} in ( )"));
        let help = format!("the file is one ( … ) with {known}");
        self.problems.push(problem.help(help));
        None
    }

    /// The value, if there was no problem with it.
    pub(crate) fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    /// What `value` is, one of those that are `known`, each of which has fields of its own or none.
    pub(crate) fn one_of<T>(
        &mut self,
        value: Value<'_>,
        what: &str,
        known: &[(&'static str, bool, Read<T>)],
    ) -> Option<T> {
        let read = self.keep(variant(value, what, known))?;
        read(self, value)
    }
}
