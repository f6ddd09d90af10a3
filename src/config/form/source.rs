//! A file's text: read whole, within bounds.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use zeroize::{Zeroize as _, Zeroizing};

use super::{Error, Files, SearchPath};
use crate::base::bounded;

/// A configuration file's text, with the name it is called by in errors. A user may have written a password into a
/// URL: the text is not shown, and overwritten when it is dropped.
#[derive(Clone)]
pub struct Source {
    /// The file, absolute; relative paths in it are relative to its directory.
    pub file: PathBuf,
    pub text: String,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

/// A configuration longer than that, in bytes, is a mistake.
const MAX_BYTES: u64 = 1024 * 1024;

impl Source {
    /// Read the file `path`, of a kind that is looked for in `search_path`.
    pub fn read(path: &Path, search_path: &'static SearchPath) -> Result<Self, Error> {
        let failed = |source| Error::Read {
            path: path.into(),
            source,
            search_path,
        };
        let file = std::path::absolute(path).map_err(failed)?;
        let opened = File::open(&file).map_err(failed)?;
        if opened.metadata().map_err(failed)?.is_dir() {
            return Err(Error::Directory {
                path: path.into(),
                search_path,
            });
        }
        // A pipe has no length before it is read.
        let text = text(opened, MAX_BYTES, failed, path)?;
        Ok(Self { file, text })
    }

    /// Read the regular file `file`, absolute, which a file of a kind that is looked for in `search_path` includes.
    pub(crate) fn included(file: PathBuf, search_path: &'static SearchPath) -> Result<Self, Error> {
        let failed = |source| Error::Read {
            path: file.clone(),
            source,
            search_path,
        };
        let opened = bounded::open(&file).map_err(failed)?;
        let length = opened.metadata().map_err(failed)?.len();
        let text = text(opened, length.min(MAX_BYTES), failed, &file)?;
        Ok(Self { file, text })
    }

    /// This file, and those that it includes.
    pub(crate) fn with(&self, included: &[Self]) -> Files {
        let all = std::iter::once(self).chain(included);
        let all = all.map(|source| (source.file.as_path(), source.text.as_str()));
        Files::new(&all.collect::<Vec<_>>())
    }
}

/// What `opened`, which is called `path`, holds: about `length` bytes. A vector that grows would leave copies behind.
fn text(
    opened: File,
    length: u64,
    failed: impl Fn(io::Error) -> Error,
    path: &Path,
) -> Result<String, Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(length as usize + 1));
    opened
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::TooLarge { path: path.into() });
    }
    String::from_utf8(std::mem::take(&mut *bytes)).map_err(|err| {
        let error = Error::not_utf8(path, &err);
        err.into_bytes().zeroize();
        error
    })
}
