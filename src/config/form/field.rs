//! Fields: each is declared once, by `fields!`; its declaration reads it, and says what there is to say about it.

use std::{collections::BTreeMap, ops::Range};

use super::{
    Form, Kind, Problem, Shape, Value,
    group::{Declared, Entry, Group, not_known, was_meant},
    raw::Name,
};

/// A field of values that are read as `T`.
pub(crate) struct Field<T: 'static> {
    pub(crate) entry: Entry,
    pub(crate) kind: Kind<T>,
    pub(crate) absent: Absent<T>,
}

/// What holds where a field is not there.
pub(crate) enum Absent<T> {
    /// The field must be there; this is how it may be written.
    Required(&'static str),
    Without(&'static str),
    Or(fn() -> T),
}

impl<T> Declared for Field<T> {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn is_secret(&self) -> bool {
        self.kind.is_secret
    }

    fn has_variables(&self) -> bool {
        self.kind.has_variables
    }

    fn syntax(&self) -> String {
        self.kind.syntax()
    }

    fn default(&self) -> String {
        match self.absent {
            Absent::Required(_) => "required".into(),
            Absent::Without(text) => text.into(),
            Absent::Or(value) => (self.kind.show)(&value()),
        }
    }
}

/// The values of a group's fields; made by `fields!`.
pub(crate) trait Fields<'v>: Sized {
    const GROUP: &'static Group;

    fn read(form: &mut Form<'_>, written: &Written<'v>) -> Self;
}

/// A field as it stands in the file.
pub(crate) struct Given<'v, T> {
    /// What was read, or else the default.
    pub(crate) value: Option<T>,
    /// Whether there was no problem with the value.
    pub(crate) is_right: bool,
    /// Whether it is missing because something unknown was meant to be it: then one error is enough.
    pub(crate) is_misspelt: bool,
    /// Its value as written, unless that is `None`.
    pub(crate) raw: Option<Value<'v>>,
    /// Where its name stands, or where it should.
    pub(crate) name_at: Range<usize>,
    /// Where to point if something is missing in its group.
    pub(crate) missing_at: Range<usize>,
}

impl<T> Given<'_, T> {
    /// Whether it was written, with another value than `None`.
    pub(crate) fn is_there(&self) -> bool {
        self.raw.is_some()
    }

    pub(crate) fn at(&self) -> Range<usize> {
        self.raw.map(Value::head).unwrap_or_default()
    }
}

/// What stands in the file for a group.
pub(crate) struct Written<'v> {
    group: &'static Group,
    /// Where to point if something is missing.
    missing_at: Range<usize>,
    /// Whether what is missing may stand elsewhere.
    is_part: bool,
    fields: BTreeMap<&'v str, (Name<'v>, Option<Value<'v>>)>,
}

impl Form<'_> {
    pub(crate) fn fields<'v, F: Fields<'v>>(&mut self, value: Value<'v>) -> Option<F> {
        let open = value.text().find('(').map_or(1, |at| at + 1);
        let start = value.span().start;
        self.fields_at(value, start..start + open)
    }

    /// The fields of `value`. What is missing is shown at `missing_at`.
    pub(crate) fn fields_at<'v, F: Fields<'v>>(
        &mut self,
        value: Value<'v>,
        missing_at: Range<usize>,
    ) -> Option<F> {
        let written = self.written(value, F::GROUP, missing_at)?;
        Some(F::read(self, &written))
    }

    /// What stands in `value`: the values of known fields, none of which is read; others are put on the list.
    pub(crate) fn written<'v>(
        &mut self,
        value: Value<'v>,
        group: &'static Group,
        missing_at: Range<usize>,
    ) -> Option<Written<'v>> {
        debug_assert!(self.groups.iter().any(|known| known.what == group.what));
        let what = group.what;
        let pairs = value.fields(what).map_err(|problem| match group.names().next() {
            Some(first) if value.shape() != Shape::Fields => {
                problem.help(format!("{what} is written in ( ): ({first}: …, …)"))
            }
            _ => problem,
        });
        let mut fields = BTreeMap::<_, (Name<'v>, _)>::new();
        for (name, value) in self.keep(pairs)? {
            let known = group.name_of(name.text);
            let key = known.unwrap_or(name.text);
            if let Some((first, _)) = fields.get(key) {
                self.problems.push(twice(*first, name));
                continue;
            }
            let value = if known.is_some() {
                self.keep(value.given()).flatten()
            } else {
                self.problems.push(not_known(name, group, self.groups));
                // Its value is of no interest, but a second one is.
                None
            };
            fields.insert(key, (name, value));
        }
        Some(Written {
            group,
            missing_at,
            is_part: false,
            fields,
        })
    }

    pub(crate) fn field<'v, T>(&mut self, written: &Written<'v>, field: &Field<T>) -> Given<'v, T> {
        let name = field.entry.name;
        let found = written.fields.get(name);
        let raw = found.and_then(|(_, value)| *value);
        let is_misspelt = raw.is_none() && written.misspells(name);
        if let (None, false, Absent::Required(example)) = (raw, is_misspelt || written.is_part, &field.absent)
        {
            let message = format!("{} needs `{name}`", written.group.what);
            self.problems.push(
                Problem::at(written.missing_at.clone(), message).help(format!("add {name}: {example}")),
            );
        }
        let before = self.problems.len();
        let value = raw.and_then(|raw| field.kind.read(self, raw));
        Given {
            is_right: self.problems.len() == before,
            value: match field.absent {
                Absent::Or(default) => value.or_else(|| Some(default())),
                _ => value,
            },
            is_misspelt,
            raw,
            name_at: found.map_or_else(|| written.missing_at.clone(), |(name, _)| name.span()),
            missing_at: written.missing_at.clone(),
        }
    }
}

/// That a field is there as `first`, and again as `second`.
fn twice(first: Name<'_>, second: Name<'_>) -> Problem {
    let message = if first.text == second.text {
        format!("the field `{}` is given twice", first.text)
    } else {
        format!(
            "`{}` and `{}` are one field, which is given twice",
            first.text, second.text
        )
    };
    Problem::at(second.span(), message)
        .label("the second time")
        .also(first.span(), "the first time")
        .help("remove one of them")
}

impl<'v> Written<'v> {
    /// The same with the `defaults` of fields that are not there. One that is there as `None` has no default; nor have all of
    /// `one`, if there is one of these: only one of them holds.
    pub(crate) fn or(mut self, defaults: &Written<'v>, one: &[&str]) -> Self {
        let is_given = |name: &&str| matches!(self.fields.get(name), Some((_, Some(_))));
        let is_chosen = one.iter().any(is_given);
        for (name, written) in &defaults.fields {
            if !(is_chosen && one.contains(name)) {
                self.fields.entry(name).or_insert(*written);
            }
        }
        self
    }

    /// The same, where required fields may stand elsewhere.
    pub(crate) fn part(self) -> Self {
        Self {
            is_part: true,
            ..self
        }
    }

    fn misspells(&self, name: &str) -> bool {
        let mut unknown = self.fields.keys().filter(|given| !self.group.has(given));
        unknown.any(|given| was_meant(given, self.group) == Some(name))
    }
}

/// Declares a group of fields. What is declared is a struct with a [`Given`] for each of them, so that the compiler
/// warns of a field that nothing uses:
///
/// ```text
/// fields! {
///     /// What the group is for.
///     struct Name: "what it is in a sentence" {
///         /// What the field is for.
///         name ["another name that it answers to"] ("what other programs call it"): Type = KIND, or DEFAULT;
///     }
/// }
/// ```
///
/// Instead of `or DEFAULT` there may be `required EXAMPLE` and `without SENTENCE`.
macro_rules! fields {
    ($(#[doc = $group_about:literal])+ $vis:vis struct $Group:ident: $what:literal {
        $($(#[doc = $about:literal])+
        $name:ident $([$($alias:literal),+])? $(($($word:literal),+))?: $T:ty = $kind:expr, $absent:ident $value:expr;)+
    }) => {
        $(#[doc = $group_about])+
        $vis struct $Group<'v> {
            $($(#[doc = $about])+ $vis $name: $crate::config::form::Given<'v, $T>,)+
        }

        impl<'v> $crate::config::form::Fields<'v> for $Group<'v> {
            const GROUP: &'static $crate::config::form::Group = &$crate::config::form::Group {
                what: $what,
                about: concat!($($group_about),+),
                fields: &[$($crate::config::form::fields!(
                    @field $name [$($($alias),+)?] [$($($word),+)?] $T, $kind, $absent $value, concat!($($about),+)
                )),+],
            };

            fn read(
                form: &mut $crate::config::form::Form<'_>,
                written: &$crate::config::form::Written<'v>,
            ) -> Self {
                Self {$(
                    $name: form.field(written, $crate::config::form::fields!(
                        @field $name [$($($alias),+)?] [$($($word),+)?] $T, $kind, $absent $value, concat!($($about),+)
                    )),
                )+}
            }
        }
    };
    (@field $name:ident [$($alias:literal),*] [$($word:literal),*] $T:ty, $kind:expr, $absent:ident $value:expr, $about:expr) => {
        const { &$crate::config::form::Field::<$T> {
            entry: $crate::config::form::Entry {
                name: stringify!($name),
                aliases: &[$($alias),*],
                other_words: &[$($word),*],
                about: $about,
            },
            kind: $kind,
            absent: $crate::config::form::fields!(@$absent $value),
        } }
    };
    (@required $example:expr) => { $crate::config::form::Absent::Required($example) };
    (@without $sentence:expr) => { $crate::config::form::Absent::Without($sentence) };
    (@or $value:expr) => { $crate::config::form::Absent::Or(|| $value) };
}

pub(crate) use fields;
