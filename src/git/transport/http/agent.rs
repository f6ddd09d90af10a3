//! Connections to one origin, with whom to trust: what is kept between fetches.

use std::time::Duration;

use ureq::unversioned::{
    resolver::{ResolvedSocketAddrs, Resolver},
    transport::NextTimeout,
};
use ureq::{Agent, http::Uri};

use super::{
    Error,
    forward::Forward,
    location::Origin,
    tls::{self, Setup},
};
use crate::git::{
    origin::Tls,
    transport::{
        Deadline,
        pool::{Loan, Pool},
        resolve::resolve,
        stamp::Stamps,
    },
};

/// Some servers know a git client by this beginning.
const USER_AGENT: &str = concat!("git/gitsocket-", env!("CARGO_PKG_VERSION"));
/// How long a connection may be idle within a fetch.
const WITHIN_A_FETCH: Duration = Duration::from_secs(15);

/// What makes two connections the same: then the second need not be opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    origin: Origin,
    tls: Tls,
    files: Stamps,
}

/// An agent of ureq's with its connections, and how it speaks TLS.
pub(super) struct Warm {
    pub(super) agent: Agent,
    pub(super) tls: Setup,
}

#[derive(Debug, Clone)]
pub(in crate::git::transport) struct Agents {
    keep: Duration,
    pool: Pool<Key, Warm>,
}

impl Agents {
    pub(in crate::git::transport) fn new(keep: Duration) -> Self {
        Self {
            keep,
            pool: Pool::new(keep),
        }
    }

    /// An agent that may have connections left.
    pub(super) fn kept(&self, origin: &Origin, tls: &Tls) -> Option<Loan<Key, Warm>> {
        self.pool.borrow(&key(origin, tls))
    }

    /// An agent without connections. The files that `tls` names are read now.
    pub(super) fn fresh(&self, origin: &Origin, tls: &Tls) -> Result<Loan<Key, Warm>, Error> {
        let key = key(origin, tls);
        let tls = tls::setup(tls)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_age(self.keep.max(WITHIN_A_FETCH))
            .proxy(None)
            .tls_config(tls.config.clone())
            .user_agent(USER_AGENT)
            // One write then fits into the socket's buffer at once, so that none can outlast the deadline by much.
            .output_buffer_size(16 * 1024)
            .build();
        let agent = Agent::with_parts(config, Forward::default(), Names::default());
        Ok(self.pool.lend(key, Warm { agent, tls }))
    }
}

fn key(origin: &Origin, tls: &Tls) -> Key {
    Key {
        origin: origin.clone(),
        tls: tls.clone(),
        files: Stamps::of(tls.files()),
    }
}

/// Names are resolved as everywhere else here, until the request's time is over.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Where each URL leads, instead of where it says.
    at: Option<Origin>,
}

impl Names {
    pub(super) fn at(origin: Origin) -> Self {
        Self { at: Some(origin) }
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let origin = self.at.clone().or_else(|| Origin::of(uri));
        let origin = origin.ok_or(ureq::Error::HostNotFound)?;
        let found = resolve(&origin.host, origin.port, Deadline::new(*timeout.after))
            .map_err(|err| ureq::Error::Other(Box::new(err)))?;
        let mut addresses = self.empty();
        // As many as ureq has room for.
        for address in found.into_iter().take(16) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}
