//! ureq's connections, but a peer that hung up while we spoke is heard out first: what it said last is why.
//!
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
        let heard = socket.map(|inner| LastWords {
            inner: Box::new(inner),
        });
        let secure = self.tls.connect(details, heard)?;
        Ok(secure.map(|transport| Box::new(transport) as Box<dyn Transport>))
    }
}

#[derive(Debug)]
struct LastWords {
    inner: Box<dyn Transport>,
}

impl Transport for LastWords {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    /// What cannot be sent any more counts as sent: reading, which follows, finds last words, or that there are none.
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        match self.inner.transmit_output(amount, timeout) {
            Err(Error::Io(err)) if matches!(err.kind(), E::BrokenPipe | E::ConnectionReset) => Ok(()),
            result => result,
        }
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
