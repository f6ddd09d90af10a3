//! Accepts connections; each gets a seat in the lobby, and its own task.

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
    connection::Connection,
    door::{Door, MAX_STRANGERS},
    listen::Socket,
    route::Front,
    shutdown::Shutdown,
    tls::Tls,
};
use crate::{
    base::lobby::{Lobby, Seat},
    web::client::Client,
};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Accept connections on `socket` until the process is to stop, and then those that are already in its backlog.
pub(super) async fn accept(
    socket: Socket,
    lobby: Arc<Lobby>,
    front: Arc<Front>,
    door: Arc<Door>,
    shutdown: Shutdown,
) {
    let guests = Guests {
        address: socket.address(),
        last: AtomicUsize::new(MAX_STRANGERS),
        lobby,
        front,
        door,
        shutdown,
    };
    match socket {
        Socket::Unix(listener, _, _file) => {
            let listener = UnixListener::from(listener);
            while let Some((stream, _)) = guests.next(|| listener.accept()).await {
                let seat = guests.lobby.enter().await;
                let connection = guests.connection(None, false);
                task::spawn(connection.talk(stream.clone(), stream, seat));
            }
        }
        Socket::Tcp(listener, tls) => {
            let listener = TcpListener::from(listener);
            while let Some((stream, addr)) = guests.next(|| listener.accept()).await {
                // This fails only if the connection is lost already.
                stream.set_nodelay(true).ok();
                let seat = guests.lobby.enter().await;
                let connection = guests.connection(Some(addr.ip().to_canonical()), tls.is_some());
                match &tls {
                    Some(tls) => drop(task::spawn(talk_tls(tls.clone(), connection, stream, seat))),
                    None => drop(task::spawn(connection.talk(stream.clone(), stream, seat))),
                }
            }
        }
    }
}

/// What the connections of a listener share.
struct Guests {
    address: String,
    /// How many connections of the backlog may still be accepted when the process is to stop.
    last: AtomicUsize,
    lobby: Arc<Lobby>,
    front: Arc<Front>,
    door: Arc<Door>,
    shutdown: Shutdown,
}

impl Guests {
    fn connection(&self, addr: Option<IpAddr>, tls: bool) -> Connection {
        let client = Client::new(addr, tls, self.door.inside.clone());
        Connection::new(
            client,
            self.front.clone(),
            self.door.clone(),
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
                    let left = self.door.inside.released().or(self.lobby.left());
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

/// Do the TLS handshake within its time limit, unless the seat is needed for a newer connection.
async fn talk_tls(tls: Arc<Tls>, connection: Connection, mut stream: TcpStream, mut seat: Seat) {
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
    let shaken = seat.unless_called(timeout(HANDSHAKE, shaken)).await;
    if let Some(Ok(Some(stream))) = shaken {
        connection.talk(stream, raw, seat).await;
    }
}

/// The answer to a client that does not use TLS: a TLS record never begins with a letter.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 35\r\n\r\nThis port speaks TLS: use https://\n";
