//! How a connection ended, and the error of having lost it.

use std::io;

use tokio::sync::watch;

use super::{Error, remote::Remote};
use crate::git::transport::tcp;

#[derive(Debug, Clone)]
pub(super) enum Ended {
    /// The host said goodbye, with these words.
    Said(String),
    Lost(String),
}

pub(super) type Sender = watch::Sender<Option<Ended>>;
pub(super) type Receiver = watch::Receiver<Option<Ended>>;

/// The two halves for a connection that has not ended.
pub(super) fn channel() -> (Sender, Receiver) {
    watch::channel(None)
}

/// How a connection ended; waits for that.
pub(super) async fn ended(end: &mut Receiver) -> Ended {
    let known = end.wait_for(Option::is_some).await.ok();
    known
        .and_then(|end| end.clone())
        .unwrap_or_else(|| Ended::Lost("the host closed it".into()))
}

/// The error of having lost the connection to `remote`.
pub(super) fn lost(remote: &Remote, why: &str) -> Error {
    tcp::Error::Lost {
        peer: Box::new(remote.peer.clone()),
        source: io::Error::new(io::ErrorKind::ConnectionAborted, why.to_owned()),
    }
    .into()
}
