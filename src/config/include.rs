//! What `include` names: patterns lead to files, and these are read, before anything of a configuration is checked.
//!
//! What cannot be found or read is a problem of the pattern that leads there. All is bounded, and nothing but regular
//! files is read: a directory of others' may hold anything.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use gix::{bstr::ByteSlice as _, glob::wildmatch};

use super::form::{Error, Files, Problem, SearchPath, Source, Value, filled, invalid, literal};
use crate::base::name::AbsPath;

/// More files than that are a mistake, such as a pattern for another directory.
const MAX_FILES: usize = 1000;
/// The most that a configuration has with all that it includes, in bytes: thousands of triggers. All is in memory at once.
const MAX_BYTES: usize = 16 << 20;
const EXAMPLE: &str = r#"write include: ["conf.d/*.ron"]"#;

/// Where directories and files are read.
pub(crate) trait Disk {
    fn names(&self, dir: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<OsString>>>>;
    fn read(&self, file: PathBuf) -> Result<Source, Error>;
}

pub(super) struct Own(pub(super) &'static SearchPath);

impl Disk for Own {
    fn names(&self, dir: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<OsString>>>> {
        let entries = std::fs::read_dir(dir)?;
        Ok(Box::new(
            entries.map(|entry| entry.map(|entry| entry.file_name())),
        ))
    }

    fn read(&self, file: PathBuf) -> Result<Source, Error> {
        Source::included(file, self.0)
    }
}

#[derive(Default)]
pub(super) struct Found {
    /// The files, in the order of the patterns, then of their names.
    pub(super) sources: Vec<Source>,
    pub(super) problems: Vec<Problem>,
    /// Each pattern as it is written, and how many of the files it has led to.
    pub(super) patterns: Vec<(String, usize)>,
}

/// An entry of `include`: a directory, and what names in it look like.
pub(super) struct Pattern {
    dir: PathBuf,
    name: OsString,
    is_many: bool,
}

/// What `main` includes. What is wrong with the syntax, its own or that of its patterns, is not on the list: it is found
/// when all is checked.
pub(super) fn find(main: &Source, disk: &dyn Disk) -> Found {
    let mut search = Search {
        disk,
        main: &main.file,
        seen: BTreeSet::new(),
        bytes: main.text.len(),
        found: Found::default(),
    };
    let files = main.with(&[]);
    for value in entries(&files).unwrap_or_default() {
        let Ok(pattern) = pattern(value, &main.file) else {
            continue;
        };
        let before = search.found.sources.len();
        if let Err(problem) = search.add(value, &pattern) {
            search.found.problems.push(problem);
        }
        let found = &mut search.found;
        if search.seen.len() > MAX_FILES || search.bytes > MAX_BYTES {
            // It is refused anyway, and checking all that is so far would take long.
            found.sources.clear();
            found.patterns.clear();
            break;
        }
        let count = found.sources.len() - before;
        found.patterns.push((value.string().unwrap_or_default(), count));
    }
    search.found
}

/// The entries of the field, if there is one.
fn entries(files: &Files) -> Option<Vec<Value<'_>>> {
    let whole = Value::whole(files.text(), 0..files.text().len(), "").ok()?;
    let fields = whole.fields("").ok()?;
    let (_, value) = fields.into_iter().find(|(name, _)| name.text == "include")?;
    list(value.given().ok()??).ok()
}

/// The entries of `include`, the value of that field.
pub(super) fn list(value: Value<'_>) -> Result<Vec<Value<'_>>, Problem> {
    value.list().map_err(|problem| problem.help(EXAMPLE))
}

/// The pattern `value`, which stands in the file `main`.
pub(super) fn pattern(value: Value<'_>, main: &Path) -> Result<Pattern, Problem> {
    let text = filled(value).map_err(|problem| problem.help(EXAMPLE))?;
    literal(value, &text)?;
    let wrong = |why: &str, help: &str| {
        let message = format!("{} cannot be included: {why}", value.shown());
        Err(Problem::at(value.head(), message).help(help.to_owned()))
    };
    let last = text.rsplit('/').next().unwrap_or_default();
    if last.is_empty() || last == "." || last == ".." {
        let dir = text.trim_end_matches(['/', '.']);
        return wrong(
            "it is a directory",
            &format!(r#"name the files in it: "{dir}/*.ron""#),
        );
    }
    if text[..text.len() - last.len()].contains('*') {
        return wrong(
            "a `*` is only possible in the last part of a path",
            "write an entry for each directory",
        );
    }
    let is_many = last.contains('*');
    if is_many && (last.contains("**") || last.contains(['?', '[', ']', '{', '}', '\\'])) {
        return wrong(
            "`*` is the only wildcard here, and it matches names in one directory",
            EXAMPLE,
        );
    }
    let base = main.parent().unwrap_or(Path::new("/"));
    let path = AbsPath::resolve(base, Path::new(&text)).map_err(|err| invalid(value, "path", &err))?;
    match (path.as_path().parent(), path.as_path().file_name()) {
        (Some(dir), Some(name)) => Ok(Pattern {
            dir: dir.into(),
            name: name.into(),
            is_many,
        }),
        _ => wrong("it is a directory", EXAMPLE),
    }
}

/// A search for files, which goes on where one of them cannot be read.
struct Search<'a> {
    disk: &'a dyn Disk,
    main: &'a Path,
    /// A file that two patterns lead to is read once.
    seen: BTreeSet<PathBuf>,
    bytes: usize,
    found: Found,
}

impl Search<'_> {
    /// Read what `pattern` leads to, which is written as `value`.
    fn add(&mut self, value: Value<'_>, pattern: &Pattern) -> Result<(), Problem> {
        for name in self.names(value, pattern)? {
            let file = pattern.dir.join(name);
            if file == self.main {
                return Err(itself(value));
            }
            if !self.seen.insert(file.clone()) {
                continue;
            }
            if self.seen.len() > MAX_FILES {
                return Err(too_much(
                    value,
                    format!("more than {MAX_FILES} files would be included"),
                ));
            }
            match self.disk.read(file) {
                Ok(source) => {
                    self.bytes += source.text.len();
                    if self.bytes > MAX_BYTES {
                        let file = source.file.display();
                        let message = format!("with {file}, the configuration is larger than 16 MiB");
                        return Err(too_much(value, message));
                    }
                    self.found.sources.push(source);
                }
                Err(err) => self.found.problems.push(unread(value, pattern, &err)),
            }
        }
        Ok(())
    }

    /// The names of the files, in their order. Hidden ones and what editors leave are not meant by a `*`, as in a shell.
    fn names(&self, value: Value<'_>, pattern: &Pattern) -> Result<BTreeSet<OsString>, Problem> {
        let mut out = BTreeSet::new();
        if !pattern.is_many {
            out.insert(pattern.name.clone());
            return Ok(out);
        }
        let entries = match self.disk.names(&pattern.dir) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(out),
            Err(err) => return Err(unlisted(value, pattern, &err)),
        };
        for entry in entries {
            let name = entry.map_err(|err| unlisted(value, pattern, &err))?;
            if matches(&pattern.name, &name) {
                out.insert(name);
            }
            if out.len() > MAX_FILES {
                let message = format!("{} means more than {MAX_FILES} files", value.shown());
                return Err(too_much(value, message));
            }
        }
        Ok(out)
    }
}

fn matches(pattern: &OsStr, name: &OsStr) -> bool {
    let (pattern, name) = (pattern.as_bytes().as_bstr(), name.as_bytes().as_bstr());
    let is_hidden = name.starts_with(b".") && !pattern.starts_with(b".");
    let is_left = name.ends_with(b"~") && !pattern.ends_with(b"~");
    !is_hidden && !is_left && wildmatch(pattern, name, wildmatch::Mode::empty())
}

fn itself(value: Value<'_>) -> Problem {
    let message = format!("{} means this file, too", value.shown());
    Problem::at(value.head(), message)
        .help(r#"put the files that are included into a directory of their own: include: ["conf.d/*.ron"]"#)
}

fn too_much(value: Value<'_>, message: String) -> Problem {
    Problem::at(value.head(), message)
        .help("are these the right files? Name the right ones, or write less into them")
}

fn unlisted(value: Value<'_>, pattern: &Pattern, err: &io::Error) -> Problem {
    let message = format!("cannot list the directory {}: {err}", pattern.dir.display());
    Problem::at(value.head(), message)
        .help("the user that gitsocket runs as must be able to read the directory")
}

/// That a file could not be read. Its own text cannot be shown.
fn unread(value: Value<'_>, pattern: &Pattern, err: &Error) -> Problem {
    let help = match err {
        Error::Read { source, .. } => match source.kind() {
            io::ErrorKind::NotFound if pattern.is_many => {
                "it is a link that leads nowhere: repair or remove it"
            }
            io::ErrorKind::NotFound => {
                r#"make it, or take it out; a pattern such as "conf.d/*.ron" may mean no file at all"#
            }
            io::ErrorKind::IsADirectory => r#"name the files in it: "conf.d/*.ron""#,
            io::ErrorKind::PermissionDenied => "the user that gitsocket runs as must be able to read it",
            _ => "a regular file can be included, or a link to one",
        },
        Error::TooLarge { .. } => "is this the right file? Divide it into several",
        _ => "is this the right file? If it is, save it as UTF-8",
    };
    Problem::at(value.head(), err.to_string()).help(help)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (pattern, name, is_meant) in [
            ("*.ron", "a.ron", true),
            ("*.ron", ".ron", false),
            ("*.ron", ".a.ron", false),
            (".*.ron", ".a.ron", true),
            ("*.ron", "a.ron~", false),
            ("*", "a", true),
            ("*", "a~", false),
            ("*~", "a~", true),
            ("*", ".a", false),
            ("a*-*b", "a1-2b", true),
            ("a*-*b", "a12b", false),
            ("*.ron", "A.RON", false),
        ] {
            assert_eq!(
                matches(OsStr::new(pattern), OsStr::new(name)),
                is_meant,
                "{pattern} {name}"
            );
        }
        assert!(matches(OsStr::new("a*"), OsStr::from_bytes(b"a\xff")));
    }

    #[test]
    fn patterns() {
        let read = |text: &str| {
            let text = format!("{text:?}");
            let value = Value::whole(&text, 0..text.len(), "").unwrap();
            let read = pattern(value, Path::new("/etc/g/config.ron"));
            read.map(|read| (read.dir.join(read.name), read.is_many))
                .map_err(|problem| problem.to_string())
        };
        for (text, path, is_many) in [
            ("conf.d/*.ron", "/etc/g/conf.d/*.ron", true),
            ("more.ron", "/etc/g/more.ron", false),
            ("../x/*", "/etc/x/*", true),
            ("/srv/a[1]/b{}?.ron", "/srv/a[1]/b{}?.ron", false),
            ("*", "/etc/g/*", true),
        ] {
            assert_eq!(read(text).unwrap(), (path.into(), is_many), "{text}");
        }
        for (text, part) in [
            ("", "empty"),
            ("conf.d/", "it is a directory"),
            ("/", "it is a directory"),
            (".", "it is a directory"),
            ("conf.d/..", "it is a directory"),
            ("*/a.ron", "last part"),
            ("**/a.ron", "last part"),
            ("**.ron", "names in one directory"),
            ("[ab]*.ron", "the only wildcard"),
            ("{a,b}*.ron", "the only wildcard"),
            ("~/a.ron", "`~` is not expanded"),
            ("$HOME/a.ron", "variables are only"),
        ] {
            assert!(read(text).unwrap_err().contains(part), "{text}: {:?}", read(text));
        }
    }
}
