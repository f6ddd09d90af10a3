//! The configuration: RON as written (`form`), with the files that it includes (`include`), becomes [`Config`] as used
//! (`check`), or a list of labelled errors.
//!
//! A [`Config`] that exists is right: every name is valid, every path absolute, every combination allowed.
//! It never holds a secret, only the names of files that do.
//!
//! Each field is declared once, in `check`; `docs/configuration.md` is made from that ([`reference()`]).

mod allow;
mod check;
pub(crate) mod form;
mod hook;
mod include;
mod releases;
pub mod reload;
mod site;
mod used;

use std::{ffi::OsString, path::Path, sync::Arc};

pub use crate::git::{
    origin::{
        Auth, ClientCertificate, DEFAULT_FETCH_TIMEOUT, DEFAULT_MAX_BLOB, DEFAULT_MAX_PACK, DEFAULT_RETRIES,
        Revision, Roots, Ssh, Tls,
    },
    worktree::Clean,
};
pub use allow::{Account, Allow};
pub use form::{Error, Invalid, Problem, SearchPath, Source};
pub use hook::{At, DEFAULT_HOOK_TIMEOUT, Hook, When};
#[cfg(any(test, fuzzing))]
pub(crate) use include::Disk;
pub use releases::{Check, Health, Live, OnFailure, Releases, Shared};
pub use site::Site;
pub use used::{
    Config, DEFAULT_KEEP_ALIVE, DEFAULT_RUN_TIMEOUT, HookSide, Included, Listener, SAME_PATH, Sandbox,
    SandboxMode, Target, unknown_trigger,
};

/// Where the configuration is looked for.
pub const SEARCH_PATH: &SearchPath = &SearchPath {
    variable: "GITSOCKET_CONFIG",
    local: "config.ron",
    system: &["/etc/gitsocket/config.ron"],
};

/// The reference: all fields, as Markdown.
pub fn reference() -> String {
    check::reference()
}

impl Config {
    /// Read and check the file `path`, reporting all that is wrong with it at once.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(&Source::read(path, SEARCH_PATH)?)
    }

    /// Where the daemon of the file `path` listens first, if that can be read: clients need nothing else, may not read what it
    /// includes, and find the daemon when something in it is wrong by now.
    pub fn first_listener(path: &Path) -> Result<Option<Listener>, Error> {
        let source = Source::read(path, SEARCH_PATH)?;
        let env = |name: &str| std::env::var_os(name);
        let found = form::check(&source.with(&[]), &env, check::listeners)?;
        Ok(found.into_iter().next())
    }

    /// Check `source`, with the variables of this process's environment.
    pub fn parse(source: &Source) -> Result<Self, Error> {
        Self::parse_with(source, &|name| std::env::var_os(name))
    }

    /// Check `source`, and what it includes; `env` looks variables up.
    pub fn parse_with(source: &Source, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        Self::parse_among(source, &include::Own(SEARCH_PATH), env)
    }

    /// The same, where included files are read from `disk`.
    pub(crate) fn parse_among(
        source: &Source,
        disk: &dyn include::Disk,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Error> {
        let mut found = include::find(source, disk);
        let files = source.with(&std::mem::take(&mut found.sources));
        let mut config = form::check(&files, env, |around| check::config(around, found))?;
        for target in config.triggers.values_mut() {
            Arc::make_mut(target).file = Some(source.file.clone());
        }
        Ok(config)
    }
}
