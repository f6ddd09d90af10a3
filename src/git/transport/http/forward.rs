//! Requests in absolute form (RFC 9112, section 3.2.2), which a proxy for plain http wants and ureq cannot say:
//! it would tunnel them, and proxies rarely let anything but port 443 be tunnelled to.
//!
//! ureq is asked for `/MARK:http://host/path` at the proxy's address; on the way out, the mark is taken off.

use std::mem;

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};
use ureq::{
    Error,
    http::{
        Uri,
        uri::{InvalidUri, PathAndQuery},
    },
};

use super::last_words::Connections;

const MARK: &str = "/by-proxy:";

/// The path to ask a proxy for when `uri` is wanted.
pub(super) fn path_for(uri: &Uri) -> Result<PathAndQuery, InvalidUri> {
    format!("{MARK}{uri}").parse()
}

/// Connections as usual, except those to a proxy that is to pass requests on.
#[derive(Debug, Default)]
pub(super) struct Forward(Connections);

impl Connector for Forward {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        let to_proxy = details.uri.path().starts_with(MARK);
        let inner = self.0.connect(details, chained)?;
        Ok(inner.map(|inner| {
            if to_proxy {
                Box::new(Unmark {
                    inner,
                    at_start: true,
                })
            } else {
                inner
            }
        }))
    }
}

/// A connection to a proxy.
#[derive(Debug)]
struct Unmark {
    inner: Box<dyn Transport>,
    /// Whether what is sent next begins a request: nothing has been sent since something was received.
    at_start: bool,
}

impl Transport for Unmark {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, mut amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if mem::take(&mut self.at_start) {
            amount = unmark(self.inner.buffers().output(), amount);
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.at_start = true;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Take the mark off the request that is in `output[..amount]`, and return what is left of it.
fn unmark(output: &mut [u8], amount: usize) -> usize {
    let Some(target) = output[..amount].iter().position(|&byte| byte == b' ') else {
        return amount;
    };
    let (start, end) = (target + 1, target + 1 + MARK.len());
    if output[..amount].get(start..end) != Some(MARK.as_bytes()) {
        return amount;
    }
    output.copy_within(end..amount, start);
    amount - MARK.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_taken_off() {
        let after = |text: &str| {
            let mut bytes = [text.as_bytes(), b"rest"].concat();
            let left = unmark(&mut bytes, text.len());
            String::from_utf8(bytes[..left].to_vec()).unwrap()
        };
        let path = path_for(&"http://h:1/x?y=/by-proxy:".parse().unwrap()).unwrap();
        assert_eq!(
            after(&format!("GET {path} HTTP/1.1\r\n")),
            "GET http://h:1/x?y=/by-proxy: HTTP/1.1\r\n"
        );
        for other in ["GET /x HTTP/1.1\r\n", "POST", "GET /by", ""] {
            assert_eq!(after(other), other);
        }
    }
}
