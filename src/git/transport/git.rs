//! `git://`: the protocol of `git daemon`, unauthenticated and in the clear.

use std::io::{BufReader, BufWriter};

use gix_transport::{
    Protocol,
    client::git::{ConnectMode, blocking_io::Connection},
};

use super::{
    Deadline,
    bounded::{Bounded, Opening},
    tcp::{self, Peer, Stream},
};
use crate::base::name::RepoUrl;

const PORT: u16 = 9418;

/// A conversation with the daemon.
pub type Conversation = Bounded<Connection<BufReader<Opening<Stream>>, BufWriter<Stream>>>;

/// Connect to the daemon at `url`. Nothing is said yet.
pub fn connect(url: &RepoUrl, deadline: Deadline) -> Result<Conversation, tcp::Error> {
    let gix::Url { port, ref path, .. } = *url.with_secrets();
    let host = url.with_secrets().host().unwrap_or_default();
    let peer = Peer {
        host: port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
        url: url.to_string(),
    };
    let stream = tcp::connect(host, port.unwrap_or(PORT), peer, deadline)?;
    Ok(Bounded::over(url.to_string(), stream.clone(), |reader| {
        Connection::new(
            BufReader::with_capacity(64 * 1024, reader),
            BufWriter::new(stream),
            Protocol::V2,
            path.clone(),
            Some((host, port)),
            ConnectMode::Daemon,
            false,
        )
        .custom_url(Some(url.without_secrets().to_bstring()))
    }))
}
