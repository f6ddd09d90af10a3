//! Accepts connections; each gets its own task, and may be evicted until it is authenticated.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_std::{
    future::timeout,
    io::WriteExt as _,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
    task,
};
use futures_lite::{FutureExt as _, future::poll_once};

use super::{
    admission::{Admission, MAX_UNAUTHENTICATED},
    connection::Connection,
    listen::Socket,
    route::Front,
    shutdown::Shutdown,
    tls::Tls,
};
use crate::{
    base::evicting::{EvictablePermit, EvictingSemaphore},
    web::client::Client,
};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Accept connections on `socket` until the process is to stop, and then those that are already in its backlog.
pub(super) async fn accept(
    socket: Socket,
    unauthenticated: Arc<EvictingSemaphore>,
    front: Arc<Front>,
    admission: Arc<Admission>,
    shutdown: Shutdown,
) {
    let accepting = Accepting {
        address: socket.address(),
        last: AtomicUsize::new(MAX_UNAUTHENTICATED),
        unauthenticated,
        front,
        admission,
        shutdown,
    };
    match socket {
        Socket::Unix(listener, _, _file) => {
            let listener = UnixListener::from(listener);
            while let Some((stream, _)) = accepting.next(|| listener.accept()).await {
                let permit = accepting.unauthenticated.acquire_evicting().await;
                let connection = accepting.connection(None, false);
                task::spawn(connection.talk(stream.clone(), stream, permit));
            }
        }
        Socket::Tcp(listener, tls) => {
            let listener = TcpListener::from(listener);
            while let Some((stream, addr)) = accepting.next(|| listener.accept()).await {
                // This fails only if the connection is lost already.
                stream.set_nodelay(true).ok();
                let permit = accepting.unauthenticated.acquire_evicting().await;
                let connection = accepting.connection(Some(addr.ip().to_canonical()), tls.is_some());
                match &tls {
                    Some(tls) => drop(task::spawn(talk_tls(tls.clone(), connection, stream, permit))),
                    None => drop(task::spawn(connection.talk(stream.clone(), stream, permit))),
                }
            }
        }
    }
}

/// What the connections of a listener share.
struct Accepting {
    address: String,
    /// How many connections of the backlog may still be accepted when the process is to stop.
    last: AtomicUsize,
    unauthenticated: Arc<EvictingSemaphore>,
    front: Arc<Front>,
    admission: Arc<Admission>,
    shutdown: Shutdown,
}

impl Accepting {
    fn connection(&self, addr: Option<IpAddr>, tls: bool) -> Connection {
        let client = Client::new(addr, tls, self.admission.authenticated.clone());
        Connection::new(
            client,
            self.front.clone(),
            self.admission.clone(),
            self.shutdown.clone(),
        )
    }

    /// The next connection; `None` once the process is to stop and the backlog is empty.
    async fn next<T, F: Future<Output = io::Result<T>>>(&self, accept: impl Fn() -> F) -> Option<T> {
        while !self.shutdown.is_said() {
            let stopped = async {
                self.shutdown.said().await;
                None
            };
            match async { Some(accept().await) }.or(stopped).await {
                Some(Ok(accepted)) => return Some(accepted),
                Some(Err(err)) => {
                    tracing::warn!(address = self.address, "cannot accept a connection: {err}");
                    // Out of descriptors, most likely: one is free when a connection ends.
                    let left = self
                        .admission
                        .authenticated
                        .released()
                        .or(self.unauthenticated.released());
                    timeout(Duration::from_secs(1), left).await.ok();
                }
                None => {}
            }
        }
        // For the client, a connection in the backlog is established, and the request may have been sent.
        let left = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        self.last.store(left, Ordering::Relaxed);
        poll_once(accept()).await?.ok()
    }
}

/// Do the TLS handshake within its time limit, unless this connection is evicted for a newer one.
async fn talk_tls(tls: Arc<Tls>, connection: Connection, mut stream: TcpStream, mut permit: EvictablePermit) {
    let raw = stream.clone();
    let shaken = async {
        let mut first = [0];
        let peeked = stream.peek(&mut first).await;
        if peeked.is_ok_and(|peeked| peeked > 0) && first[0].is_ascii_alphabetic() {
            stream.write_all(PLAIN).await.ok();
            return None;
        }
        tls.acceptor().accept(stream).await.ok()
    };
    let shaken = permit.unless_evicted(timeout(HANDSHAKE, shaken)).await;
    if let Some(Ok(Some(stream))) = shaken {
        connection.talk(stream, raw, permit).await;
    }
}

/// The answer to a client that does not use TLS: a TLS record never begins with a letter.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 35\r\n\r\nThis port speaks TLS: use https://\n";
