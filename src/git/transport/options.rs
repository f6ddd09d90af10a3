//! What a connection needs to know besides the URL, and what is left of earlier ones.

use std::{path::Path, time::Duration};

use super::{Deadline, Offers, http, local, ssh};
use crate::{
    base::report::Reporter,
    git::origin::{Auth, Tls},
};

/// What a connection needs to know besides the URL.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    pub deadline: Deadline,
    pub auth: &'a Auth,
    pub tls: &'a Tls,
    /// Takes the lines that the remote sends for people.
    pub report: &'a Reporter,
    pub connections: &'a Connections,
    /// Where to find, or to leave, what an HTTP server offers; only for a caller that is ready to ask again if that is out of date.
    pub offers: Option<&'a Offers>,
    /// Where a local repository's large objects are put together.
    pub scratch: &'a Path,
}

/// Connections that are kept alive between fetches, and threads that outlived theirs. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections {
    pub(super) http: http::Agents,
    pub(super) ssh: ssh::Sessions,
    pub(super) local: local::Threads,
}

impl Connections {
    /// Keep what a fetch leaves alive for `keep_alive`; nothing if that is zero.
    pub fn new(keep_alive: Duration) -> Self {
        Self {
            http: http::Agents::new(keep_alive),
            ssh: ssh::Sessions::new(keep_alive),
            local: local::Threads::default(),
        }
    }
}
