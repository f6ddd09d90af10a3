//! Why there is no configuration.

use std::{
    io,
    path::{Path, PathBuf},
    string::FromUtf8Error,
};

use super::{Invalid, SearchPath, files::position};
use crate::base::fault::{Blame, Kind};

/// A configuration could not be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("cannot read the configuration {path}: {source}")]
    #[diagnostic(help("{}", remedy(source, search_path)))]
    Read {
        path: PathBuf,
        source: io::Error,
        /// Where it is looked for if none is named.
        search_path: &'static SearchPath,
    },
    #[error("the configuration {path} is a directory, not a file")]
    #[diagnostic(help("name the file in it: {}", path.join(search_path.local).display()))]
    Directory {
        path: PathBuf,
        /// Where it is looked for if none is named.
        search_path: &'static SearchPath,
    },
    #[error("the configuration {path} is larger than 1 MiB")]
    #[diagnostic(help("is this the right file? Name another one with -c"))]
    TooLarge { path: PathBuf },
    #[error(
        "the configuration {path} is not UTF-8 text: there is a wrong byte in line {line}, column {column}"
    )]
    #[diagnostic(help("is this the right file? If it is, save it as UTF-8"))]
    NotUtf8 {
        path: PathBuf,
        /// The line of the first wrong byte, from 1.
        line: usize,
        /// Its column in characters, from 1.
        column: usize,
    },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Invalid(Box<Invalid>),
}

impl Error {
    pub(super) fn not_utf8(path: &Path, err: &FromUtf8Error) -> Self {
        let valid = &err.as_bytes()[..err.utf8_error().valid_up_to()];
        let (line, column) = position(&String::from_utf8_lossy(valid), valid.len());
        Self::NotUtf8 {
            path: path.into(),
            line,
            column,
        }
    }
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        Kind::Config
    }
}

fn remedy(error: &io::Error, search_path: &SearchPath) -> String {
    let SearchPath {
        variable,
        local,
        system,
    } = search_path;
    match error.kind() {
        io::ErrorKind::PermissionDenied => "the user that gitsocket runs as must be able to read it".into(),
        _ => {
            let mut places = format!("./{local}");
            for (at, place) in system.iter().enumerate() {
                let is_last = at + 1 == system.len();
                places += if is_last { " and " } else { ", " };
                places += place;
            }
            format!("name another one with -c, or set {variable}; without these, {places} are looked for")
        }
    }
}
