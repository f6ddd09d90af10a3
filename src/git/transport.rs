//! A target's URL becomes something that git's protocol can be spoken over.
//!
//! Every transport owns its socket and gives up at a [`Deadline`]; none starts a program.
//! What is said over a transport is the business of `fetch`.

pub use gix_transport::client::blocking_io::Transport;

mod bounded;
mod deadline;
mod error;
pub mod git;
pub mod http;
mod local;
mod needs;
mod offer;
mod old;
mod options;
mod pool;
pub mod resolve;
pub mod ssh;
mod stamp;
pub mod tcp;
mod trial;

#[cfg(test)]
mod tests;

pub use self::{
    deadline::{Deadline, Socket, Timed},
    error::Error,
    needs::Needs,
    offer::{Offer, Offers},
    options::{Connections, Options},
    pool::MAX_KEEP_ALIVE,
    trial::{Unusable, secret as unusable_secret, unusable},
};
use crate::base::name::{RepoUrl, Scheme};

/// Connect to `url`.
///
/// Some transports first speak in gix's handshake, so their errors come wrapped in gix's: see [`cause`].
pub fn connect(url: &RepoUrl, options: &Options<'_>) -> Result<Box<dyn Transport + Send>, Error> {
    if let Some(path) = url.local_path() {
        return Ok(local::connect(
            path,
            options.deadline,
            options.scratch,
            &options.connections.local,
        )?);
    }
    Ok(match url.scheme() {
        Scheme::Git => Box::new(git::connect(url, options.deadline)?),
        Scheme::Http | Scheme::Https => Box::new(http::connect(url, options, http::Proxies::from_env())?),
        // A local one has a path, and never gets here.
        Scheme::Ssh | Scheme::Local => Box::new(ssh::connect(url, options, &ssh::Surroundings::from_env())?),
    })
}

/// The error of a transport that is behind `err`, which gix returned: it says more than gix can know.
pub fn cause(err: &gix::Error) -> Option<&Error> {
    err.downcast_any_ref()
}
