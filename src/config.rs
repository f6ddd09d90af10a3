//! The configuration: RON as written (`form`) becomes [`Config`] as used (`check`), or a list of labelled errors.
//!
//! A [`Config`] that exists is right: every name is valid, every path absolute, every combination allowed.
//! It never holds a secret, only the names of files that do.
//!
//! Each field is declared once, in `check`; `docs/configuration.md` is made from that ([`reference()`]).

mod allow;
mod check;
mod error;
mod form;
mod hook;
mod releases;
pub mod reload;
mod site;
mod used;

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::{Zeroize as _, Zeroizing};

pub use crate::git::{
    origin::{
        Auth, ClientCertificate, DEFAULT_FETCH_TIMEOUT, DEFAULT_MAX_BLOB, DEFAULT_MAX_PACK, DEFAULT_RETRIES,
        Revision, Roots, Ssh, Tls,
    },
    worktree::Clean,
};
pub use allow::{Account, Allow};
pub use error::Error;
pub use form::{Invalid, Problem};
pub use hook::{At, DEFAULT_HOOK_TIMEOUT, Hook, When};
pub use releases::{Check, Health, Live, OnFailure, Releases, Shared};
pub use site::Site;
pub use used::{
    Config, DEFAULT_KEEP_ALIVE, DEFAULT_RUN_TIMEOUT, HookPlace, Listener, SAME_PATH, Sandbox, SandboxMode,
    Target, unknown_trigger,
};

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

/// The reference: all fields, as Markdown.
pub fn reference() -> String {
    check::reference()
}

/// A configuration longer than that, in bytes, is a mistake.
const MAX_BYTES: u64 = 1024 * 1024;

impl Config {
    /// Read and check the file `path`, reporting all that is wrong with it at once.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Read {
            path: path.into(),
            source,
        };
        let file = std::path::absolute(path).map_err(failed)?;
        let opened = File::open(&file).map_err(failed)?;
        if opened.metadata().map_err(failed)?.is_dir() {
            return Err(Error::Directory { path: path.into() });
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
        Self::parse(&Source { file, text })
    }

    /// Check `source`, with the variables of this process's environment.
    pub fn parse(source: &Source) -> Result<Self, Error> {
        Self::parse_with(source, &|name| std::env::var_os(name))
    }

    /// Check `source`; `env` looks variables up.
    pub fn parse_with(source: &Source, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        // ron wants a line's end after a comment.
        let mut text = Zeroizing::new(String::with_capacity(source.text.len() + 1));
        text.push_str(source.text.trim_end_matches('\n'));
        text.push('\n');
        let base = source.file.parent().unwrap_or(Path::new("/"));
        let mut config = check::config(&text, base, env)
            .map_err(|problems| Error::Invalid(Box::new(Invalid::new(&source.file, &text, problems))))?;
        for target in config.triggers.values_mut() {
            Arc::make_mut(target).file = Some(source.file.clone());
        }
        Ok(config)
    }
}
