//! ureq's connections, but what was sent is not kept, and a peer that hung up while we spoke is heard out first.
//!
//! What it said last is why.
//! A server that wants a certificate says so in TLS and closes the connection, maybe while the request is on its way;
//! the error would be "broken pipe", and the alert would lie unread in the socket.

use std::io::ErrorKind as E;

use ureq::{
    Error,
    unversioned::transport::{
        Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector,
        TcpConnector, Transport,
    },
};
use zeroize::Zeroize as _;

/// As ureq's `DefaultConnector`: through a proxy where there is one, over TCP, with TLS where the URL asks for it.
#[derive(Debug, Default)]
pub(super) struct Connections {
    tunnel: ConnectProxyConnector,
    tcp: TcpConnector,
    tls: RustlsConnector,
}

impl Connector for Connections {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        let tunnel = self.tunnel.connect(details, chained)?;
        let socket = self.tcp.connect(details, tunnel)?;
        let heard = socket.map(|inner| Around {
            inner,
            transmit: heard_out,
        });
        let secure = self.tls.connect(details, heard)?;
        Ok(secure.map(|inner| {
            Box::new(Around {
                inner,
                transmit: wiped,
            }) as Box<dyn Transport>
        }))
    }
}

/// A connection that transmits in a way of its own.
#[derive(Debug)]
struct Around<T> {
    inner: T,
    transmit: fn(&mut T, usize, NextTimeout) -> Result<(), Error>,
}

impl<T: Transport> Transport for Around<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        (self.transmit)(&mut self.inner, amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// A request holds credentials, and a connection's buffer lives for as long as the connection is kept.
fn wiped(inner: &mut impl Transport, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
    let result = inner.transmit_output(amount, timeout);
    inner.buffers().output()[..amount].zeroize();
    result
}

/// What cannot be sent any more counts as sent: reading, which follows, finds last words, or that there are none.
fn heard_out(inner: &mut impl Transport, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
    match inner.transmit_output(amount, timeout) {
        Err(Error::Io(err)) if matches!(err.kind(), E::BrokenPipe | E::ConnectionReset) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ureq::unversioned::transport::{LazyBuffers, time};

    use super::*;

    /// Sends nowhere.
    #[derive(Debug)]
    struct Sink(LazyBuffers);

    impl Transport for Sink {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.0
        }

        fn transmit_output(&mut self, amount: usize, _timeout: NextTimeout) -> Result<(), Error> {
            assert_eq!(&self.0.output()[..amount], b"hunter2");
            Ok(())
        }

        fn await_input(&mut self, _timeout: NextTimeout) -> Result<bool, Error> {
            Ok(false)
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    #[test]
    fn nothing_is_left_of_what_was_sent() {
        let mut sent = Around {
            inner: Sink(LazyBuffers::new(64, 64)),
            transmit: wiped,
        };
        sent.buffers().output()[..7].copy_from_slice(b"hunter2");
        let timeout = NextTimeout {
            after: time::Duration::Exact(Duration::from_secs(1)),
            reason: ureq::Timeout::Global,
            per_read: None,
            per_write: None,
        };
        sent.transmit_output(7, timeout).unwrap();
        assert!(sent.buffers().output().iter().all(|byte| *byte == 0));
    }
}
