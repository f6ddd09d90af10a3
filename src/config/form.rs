//! Forms: files of RON with fields, read so that all that is wrong is found, underlined and explained.
//!
//! The room knows no field's name, so that it serves every file that gitsocket reads like that: a file says by
//! `fields!` which fields it has, and from these declarations come their values, what is said of unknown ones,
//! and the reference.

mod address;
mod choice;
mod error;
mod field;
mod group;
mod kind;
mod mask;
mod places;
mod raw;
mod reference;
mod report;
mod source;
mod syntax;
mod value;

use std::{ffi::OsString, path::Path};

pub(crate) use address::{ADDRESS, SOCKET};
pub(crate) use choice::{Choice, choice, variant, word_of};
pub use error::Error;
pub(crate) use field::{Absent, Field, Fields, Given, Written, fields};
pub(crate) use group::{Declared, Entry, Group};
pub(crate) use kind::{
    BOOL, DURATION, FILE, Kind, MODE, PATH, Read, SECRET, SIZE, TEXT, USER, code, quoted, show_duration,
    show_size,
};
pub(crate) use mask::{mask, redact};
pub use places::Places;
pub(crate) use raw::{Shape, Value};
pub(crate) use reference::reference;
pub(crate) use report::position;
pub use report::{Invalid, Problem};
pub use source::Source;
pub(crate) use value::{
    argument, duration, filled, invalid, literal, mode, size, span_of_time, unusable_duration,
};

/// A file that is read, and what was found wrong with it. Reading never stops at a problem: it is put on the list,
/// the value counts as absent, and reading goes on.
pub(crate) struct Form<'a> {
    /// What the text does not say.
    pub(crate) around: Around<'a>,
    /// What is wrong.
    pub(crate) problems: Vec<Problem>,
    /// All groups of fields that such a file has.
    groups: &'static [&'static Group],
}

/// Looks a variable of the environment up.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What the text of a file does not say.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    /// What relative paths are relative to.
    pub(crate) base: &'a Path,
    /// The variables of the environment.
    pub(crate) env: Environment<'a>,
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
