//! The configuration: RON as written (`form`) becomes [`Config`] as used (`check`), or a list of labelled errors.
//!
//! A [`Config`] that exists is right: every name is valid, every path absolute, every combination allowed.
//! It never holds a secret, only the names of files that do.
//!
//! Each field is declared once, in `check`; `docs/configuration.md` is made from that ([`reference()`]).

mod allow;
mod check;
pub(crate) mod form;
mod hook;
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
pub use form::{Error, Invalid, Places, Problem, Source};
pub use hook::{At, DEFAULT_HOOK_TIMEOUT, Hook, When};
pub use releases::{Check, Health, Live, OnFailure, Releases, Shared};
pub use site::Site;
pub use used::{
    Config, DEFAULT_KEEP_ALIVE, DEFAULT_RUN_TIMEOUT, HookPlace, Listener, SAME_PATH, Sandbox, SandboxMode,
    Target, unknown_trigger,
};

/// Where the configuration is looked for.
pub const PLACES: &Places = &Places {
    variable: "GITSOCKET_CONFIG",
    local: "config.ron",
    system: "/etc/gitsocket/config.ron",
};

/// The reference: all fields, as Markdown.
pub fn reference() -> String {
    check::reference()
}

impl Config {
    /// Read and check the file `path`, reporting all that is wrong with it at once.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(&Source::read(path, PLACES)?)
    }

    /// Check `source`, with the variables of this process's environment.
    pub fn parse(source: &Source) -> Result<Self, Error> {
        Self::parse_with(source, &|name| std::env::var_os(name))
    }

    /// Check `source`; `env` looks variables up.
    pub fn parse_with(source: &Source, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let mut config = source.check(env, check::config)?;
        for target in config.triggers.values_mut() {
            Arc::make_mut(target).file = Some(source.file.clone());
        }
        Ok(config)
    }
}
