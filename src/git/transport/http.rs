//! `http://` and `https://`: git's smart HTTP protocol, with TLS, proxies, redirects and credentials.
//!
//! Credentials are sent to the origin that the configuration names and nowhere else, and end up in no error.
//! Every request ends at the deadline. What git says inside the requests is gix's business.
//! See gitprotocol-http(5).

mod agent;
mod answer;
mod ask;
mod auth;
mod caller;
mod certificate;
mod client;
mod error;
mod exchange;
mod forward;
mod last_words;
mod location;
mod proxy;
mod tls;

#[cfg(test)]
mod tests;

use gix_transport::{Protocol, client::blocking_io::http};

pub(super) use self::{
    agent::Agents,
    tls::{try_client, try_roots},
};
pub use self::{
    ask::{Question, Unanswered},
    client::Client,
    error::Error,
    proxy::Proxies,
};
use super::{Options, bounded::Bounded};
use crate::base::name::RepoUrl;

/// Prepare to speak with the server of `url`; nothing is sent yet, but secrets and certificates are read.
pub fn connect(
    url: &RepoUrl,
    options: &Options<'_>,
    proxies: Proxies,
) -> Result<Bounded<http::Transport<Client>>, Error> {
    // gix gets the URL without credentials: it must neither send them, nor show them.
    let base = location::base(url);
    let client = Client::new(url, &base.to_bstring().to_string(), options, proxies)?;
    let transport = http::Transport::new_http(client, base, Protocol::V2, false);
    Ok(Bounded::new(url.to_string(), transport))
}
