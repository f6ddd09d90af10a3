//! A file's text: read whole, within bounds, and checked.

use std::{
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use zeroize::{Zeroize as _, Zeroizing};

use super::{Around, Environment, Error, Invalid, Places, Problem};

/// A configuration file's text, with the name it is called by in errors. Somebody may have written a password into a
/// URL: the text is not shown, and overwritten when it is dropped.
#[derive(Clone)]
pub struct Source {
    /// The file, absolute; relative paths in it are relative to its directory.
    pub file: PathBuf,
    /// Its text.
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
    /// Read the file `path`, of a kind that is looked for in `places`.
    pub fn read(path: &Path, places: &'static Places) -> Result<Self, Error> {
        let failed = |source| Error::Read {
            path: path.into(),
            source,
            places,
        };
        let file = std::path::absolute(path).map_err(failed)?;
        let opened = File::open(&file).map_err(failed)?;
        if opened.metadata().map_err(failed)?.is_dir() {
            return Err(Error::Directory {
                path: path.into(),
                places,
            });
        }
        // A pipe has no length before it is read; and a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize + 1));
        opened
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::TooLarge { path: path.into() });
        }
        let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|err| {
            let error = Error::not_utf8(path, &err);
            err.into_bytes().zeroize();
            error
        })?;
        Ok(Self { file, text })
    }

    /// What `check` makes of the text; `env` looks variables up.
    pub(crate) fn check<T>(
        &self,
        env: Environment<'_>,
        check: impl FnOnce(&str, Around<'_>) -> Result<T, Vec<Problem>>,
    ) -> Result<T, Error> {
        // ron wants a line's end after a comment.
        let mut text = Zeroizing::new(String::with_capacity(self.text.len() + 1));
        text.push_str(self.text.trim_end_matches('\n'));
        text.push('\n');
        let base = self.file.parent().unwrap_or(Path::new("/"));
        check(&text, Around { base, env })
            .map_err(|problems| Error::Invalid(Box::new(Invalid::new(&self.file, &text, problems))))
    }
}
