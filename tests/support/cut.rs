//! A way to a server that breaks after so many bytes of its answers.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// How it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The connection is closed, properly.
    Closed,
    /// Nothing comes any more.
    Silent,
}

struct Shared {
    to: u16,
    end: End,
    /// The bytes that may still pass, over all connections.
    left: Mutex<usize>,
    /// Connections that are only kept open.
    held: Mutex<Vec<TcpStream>>,
}

/// A way to the port `to`, which breaks after `bytes`; gives its own port. It is there until the test's process ends.
pub fn cut(to: u16, bytes: usize, end: End) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let shared = Arc::new(Shared {
        to,
        end,
        left: bytes.into(),
        held: Mutex::default(),
    });
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let shared = shared.clone();
            // Whatever an end of a connection does: the other is told by its closing.
            thread::spawn(move || shared.pass(client).ok());
        }
    });
    port
}

impl Shared {
    fn pass(&self, client: TcpStream) -> std::io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.to))?;
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            std::io::copy(&mut from, &mut to).ok();
            to.shutdown(Shutdown::Write).ok();
        });
        let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = from.read(&mut buffer)?;
            let allowed = {
                let mut left = self.left.lock().unwrap();
                let allowed = count.min(*left);
                *left -= allowed;
                allowed
            };
            to.write_all(&buffer[..allowed])?;
            if allowed < count && self.end == End::Silent {
                self.held.lock().unwrap().extend([client, server]);
                return Ok(());
            }
            if allowed < count || count == 0 {
                server.shutdown(Shutdown::Both).ok();
                return client.shutdown(Shutdown::Both);
            }
        }
    }
}
