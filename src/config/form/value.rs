//! Single values: paths, durations, modes, names.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroize as _;

use super::{Around, Problem, Value};
use crate::base::name::{AbsPath, Invalid};

/// Longer than any fetch or hook; a `Duration` that can be added to any `Instant`.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub(crate) const NO_NUL: &str = "remove it; the system cannot pass it on";

/// That `value` is not a valid `what`.
pub(crate) fn invalid(value: Value<'_>, what: &str, err: &Invalid) -> Problem {
    Problem::at(
        value.head(),
        format!("{} is not a valid {what}: {err}", value.shown()),
    )
}

/// A string that is not empty.
pub(crate) fn filled(value: Value<'_>) -> Result<String, Problem> {
    let text = value.string()?;
    let problem = |message| Err(Problem::at(value.head(), message));
    match text.as_str() {
        "" => {
            problem("this is empty").map_err(|problem| problem.help("write something, or remove the field"))
        }
        text if text.contains('\0') => {
            problem("this contains a NUL character").map_err(|problem| problem.help(NO_NUL))
        }
        _ => Ok(text),
    }
}

/// A string, which may be empty.
pub(crate) fn argument(value: Value<'_>) -> Result<String, Problem> {
    let text = value.string()?;
    if text.contains('\0') {
        Err(Problem::at(value.head(), "this contains a NUL character").help(NO_NUL))
    } else {
        Ok(text)
    }
}

/// RFC 7617: a user's name holds neither a colon nor control characters.
pub(crate) fn user(value: Value<'_>) -> Result<String, Problem> {
    let text = filled(value)?;
    if text.contains(|c: char| c == ':' || c.is_control()) {
        Err(Problem::at(
            value.head(),
            "a user's name holds no `:` and no control characters",
        )
        .help("write the name alone; the password is in `password_file`"))
    } else {
        Ok(text)
    }
}

/// A duration as people write it, which is not zero.
pub(crate) fn duration(value: Value<'_>) -> Result<Duration, Problem> {
    let duration = span_of_time(value)?;
    if duration.is_zero() {
        let problem = unusable_duration(value, "nothing would ever be in time");
        return Err(problem.help("write a longer one, or remove the field"));
    }
    if duration > MAX_DURATION {
        let problem = unusable_duration(value, "it is longer than a week");
        return Err(problem.help("write a shorter one, or remove the field"));
    }
    Ok(duration)
}

pub(crate) fn span_of_time(value: Value<'_>) -> Result<Duration, Problem> {
    const HELP: &str = r#"write a number and a unit, in quotes: "90s", "5m", "1h 30m""#;
    let text = value.string().map_err(|problem| problem.help(HELP))?;
    humantime::parse_duration(&text).map_err(|err| unusable_duration(value, &err.to_string()).help(HELP))
}

pub(crate) fn unusable_duration(value: Value<'_>, why: &str) -> Problem {
    Problem::at(
        value.head(),
        format!("{} is not a usable duration: {why}", value.shown()),
    )
}

/// A number of bytes as people write it, which is not zero.
pub(crate) fn size(value: Value<'_>) -> Result<u64, Problem> {
    const HELP: &str = r#"write a number and a unit, in quotes: "512KiB", "256MiB", "20GiB""#;
    let text = value.string().map_err(|problem| problem.help(HELP))?;
    let unusable = |why: &str| {
        let message = format!("{} is not a valid size: {why}", value.shown());
        Problem::at(value.head(), message).help(HELP)
    };
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.as_u64() > 0 => Ok(size.as_u64()),
        Ok(_) => Err(unusable("nothing would ever fit")),
        Err(_) => Err(unusable("it is not a number of bytes")),
    }
}

pub(crate) fn mode(value: Value<'_>) -> Result<u32, Problem> {
    const HELP: &str = r#"write octal digits in quotes: "0660""#;
    let text = value.string().map_err(|problem| problem.help(HELP))?;
    let digits = text.strip_prefix("0o").unwrap_or(&text);
    let mode = u32::from_str_radix(digits, 8)
        .ok()
        .filter(|_| !digits.starts_with('+'));
    mode.filter(|mode| *mode <= 0o777).ok_or_else(|| {
        Problem::at(
            value.head(),
            format!("{} is not a mode from 0000 to 0777", value.shown()),
        )
        .help(HELP)
    })
}

impl Around<'_> {
    /// A path, relative to the file that it stands in.
    pub(crate) fn path(self, value: Value<'_>) -> Result<AbsPath, Problem> {
        let text = self.named(filled(value)?);
        literal(value, &text)?;
        AbsPath::resolve(self.base(value), Path::new(&text)).map_err(|err| invalid(value, "path", &err))
    }

    /// The path of a secret or a certificate: `$NAME` and `${NAME}` in it stand for the environment's.
    pub(crate) fn secret_path(self, value: Value<'_>) -> Result<AbsPath, Problem> {
        let text = self.named(filled(value)?);
        if text.starts_with('~') {
            literal(value, &text)?;
        }
        let path = PathBuf::from(self.expand(value, &text)?);
        AbsPath::resolve(self.base(value), &path).map_err(|err| invalid(value, "path", &err))
    }

    /// `text` with what `{name}` in it stands for.
    pub(crate) fn named(self, mut text: String) -> String {
        if let Some(name) = self.name
            && has_name(&text)
        {
            let named = split_at_names(&text).collect::<Vec<_>>().join(name);
            // It may hold a password.
            text.zeroize();
            return named;
        }
        text
    }

    fn expand(self, value: Value<'_>, text: &str) -> Result<OsString, Problem> {
        let mut out = OsString::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push(before);
            let (name, after) = variable(after).ok_or_else(|| {
                Problem::at(
                    value.head(),
                    "a `$` in this path is not followed by a variable's name",
                )
                .help("write $NAME or ${NAME}")
            })?;
            let found = (self.env)(name).filter(|found| !found.is_empty());
            out.push(found.ok_or_else(|| unset(value, name))?);
            rest = after;
        }
        out.push(rest);
        Ok(out)
    }
}

pub(crate) fn has_name(text: &str) -> bool {
    split_at_names(text).nth(1).is_some()
}

/// What is between all `{name}` in `text`. `${name}` is a variable's.
fn split_at_names(text: &str) -> impl Iterator<Item = &str> {
    const NAME: &str = "{name}";
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let whole = rest.take()?;
        let is_one = |at: &usize| !whole[..*at].ends_with('$');
        let at = whole.match_indices(NAME).map(|(at, _)| at).find(is_one);
        let Some(at) = at else {
            return Some(whole);
        };
        rest = Some(&whole[at + NAME.len()..]);
        Some(&whole[..at])
    })
}

/// The variable's name that `text` begins with, bare or in braces, and what follows it.
fn variable(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = match text.strip_prefix('{') {
        Some(braced) => braced.split_once('}')?,
        None => {
            let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            text.split_at(end.unwrap_or(text.len()))
        }
    };
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    valid.then_some((name, rest))
}

fn unset(value: Value<'_>, name: &str) -> Problem {
    let problem = Problem::at(
        value.head(),
        format!("the environment variable `{name}` is not set, or empty"),
    );
    problem.help(match name {
        "CREDENTIALS_DIRECTORY" => {
            "systemd sets it for units with LoadCredential=; without systemd, set it or write the path in full".into()
        }
        _ => format!("set {name} for the process that reads this file, or write the path in full"),
    })
}

/// Refuse what a shell would expand: it would silently become a directory of that name.
pub(crate) fn literal(value: Value<'_>, text: &str) -> Result<(), Problem> {
    let problem = match text.chars().next() {
        Some('~') => "`~` is not expanded here",
        Some('$') => "variables are only expanded in the paths of secrets and certificates",
        _ if text.trim() != text => {
            let problem = Problem::at(value.head(), "this begins or ends with white space");
            return Err(problem.help("remove the white space"));
        }
        _ => return Ok(()),
    };
    Err(Problem::at(value.head(), problem)
        .help("write the path in full; or put ./ before it if it is really called that"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths() {
        for (text, pieces) in [
            ("", &[""] as &[_]),
            ("{name}", &["", ""]),
            ("/srv/{name}", &["/srv/", ""]),
            ("{name}/a{name}b", &["", "/a", "b"]),
            ("{name}{name}", &["", "", ""]),
            ("{{name}}", &["{", "}"]),
            ("{Name} {names} {} {name", &["{Name} {names} {} {name"]),
            ("${name}", &["${name}"]),
            ("$a/${name}/{name}.key", &["$a/${name}/", ".key"]),
        ] {
            assert_eq!(split_at_names(text).collect::<Vec<_>>(), pieces, "{text}");
            assert_eq!(has_name(text), pieces.len() > 1, "{text}");
        }
    }
}
