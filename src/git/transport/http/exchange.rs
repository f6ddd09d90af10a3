//! A request that gix writes piece by piece, and its answer: one thing in three roles, as gix asks for it.
//!
//! The request is collected, and sent with its length when the answer is first read: small servers and
//! proxies do not understand `Transfer-Encoding: chunked`, and a fetch's requests are small.

use std::{
    io::{self, BufRead, BufReader, Cursor, Read, Write},
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

use ureq::{
    Body, BodyReader,
    http::{HeaderMap, Method, Uri},
};

use super::{Error, answer::content_type, caller::Caller, location};
use crate::{
    base::mutex,
    git::transport::{
        bounded::Budget,
        offer::{Listener, Offer, Offers},
    },
};

/// An answer that is git's.
pub(super) struct Answer {
    pub(super) caller: Arc<Caller>,
    pub(super) uri: Uri,
    pub(super) body: Body,
}

/// A request and its answer. Clones are the same one.
#[derive(Clone)]
pub struct Exchange(Arc<Inner>);

struct Inner {
    // First: an answer that is read to its end gives its connection back before the caller does.
    state: Mutex<State>,
    uri: Uri,
    caller: Arc<Caller>,
}

enum State {
    Asked {
        headers: HeaderMap,
        body: Vec<u8>,
    },
    Answered(Tail),
    /// The answer is known.
    Known(Cursor<Arc<[u8]>>),
    /// There was an error, which gix has been told.
    Failed,
}

impl Exchange {
    pub(super) fn asked(caller: Arc<Caller>, uri: Uri, headers: HeaderMap) -> Self {
        let body = Vec::new();
        Self::new(caller, uri, State::Asked { headers, body })
    }

    /// All of the answer is capabilities and refs. If it is an offer, it is left with `offers`.
    pub(super) fn answered(Answer { caller, uri, body }: Answer, offers: Option<&Offers>) -> Self {
        let url = location::shown(&uri);
        let mut tail = Tail::new(body, Some(Budget::new(&url)));
        tail.listener = offers.map(Offers::listen);
        Self::new(caller, uri, State::Answered(tail))
    }

    /// What an earlier answer was.
    pub(super) fn known(caller: Arc<Caller>, uri: Uri, offer: Offer) -> Self {
        caller.expect(offer.asks);
        Self::new(caller, uri, State::Known(Cursor::new(offer.words)))
    }

    fn new(caller: Arc<Caller>, uri: Uri, state: State) -> Self {
        let state = Mutex::new(state);
        Self(Arc::new(Inner { caller, uri, state }))
    }

    pub(super) fn buffered(self) -> BufReader<Self> {
        BufReader::with_capacity(64 * 1024, self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        mutex::lock(&self.0.state)
    }

    /// Send the request, if that has not been done.
    fn answer(&self, state: &mut State) -> io::Result<()> {
        let State::Asked { headers, body } = state else {
            return Ok(());
        };
        let (headers, body) = (mem::take(headers), mem::take(body));
        *state = State::Failed;
        let Inner { caller, uri, .. } = &*self.0;
        let answer = caller
            .send(Method::POST, uri, &headers, Some(&body))
            .and_then(|response| caller.accept(uri, response, "result"))
            .map_err(failed)?;
        *state = State::Answered(Tail::new(answer, None));
        Ok(())
    }
}

/// An answer's body, and its last bytes so far.
struct Tail {
    body: BodyReader<'static>,
    last: [u8; 4],
    /// What may come, if the answer cannot be a pack.
    budget: Option<Budget>,
    listener: Option<Listener>,
}

impl Tail {
    fn new(body: Body, budget: Option<Budget>) -> Self {
        Self {
            // ureq limits bodies unless told otherwise; a pack may be as large as the disk.
            body: body.into_with_config().limit(u64::MAX).reader(),
            last: [0; 4],
            budget,
            listener: None,
        }
    }
}

impl Read for Tail {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.body.read(buf)?;
        for &byte in &buf[length.saturating_sub(4)..length] {
            self.last.rotate_left(1);
            self.last[3] = byte;
        }
        Ok(length)
    }
}

impl Drop for Tail {
    /// git's last packet is a flush, and gix reads no further. Only once the end of the answer has been read, too,
    /// can the connection be used again.
    fn drop(&mut self) {
        if self.last == *b"0000" {
            let _end = self.body.read(&mut [0; 4]);
        }
    }
}

/// An error as gix takes it from readers; `cause` finds it again.
fn failed(err: Error) -> io::Error {
    io::Error::other(crate::git::transport::Error::from(err))
}

impl Write for Exchange {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut *self.state() {
            State::Asked { body, .. } => body.write(buf),
            State::Answered(_) | State::Known(_) | State::Failed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Exchange {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        self.answer(&mut state)?;
        match &mut *state {
            State::Answered(tail) => {
                let length = tail
                    .read(buf)
                    .map_err(|err| failed(self.0.caller.explain_read(err, &self.0.uri)))?;
                if let Some(budget) = &tail.budget {
                    budget.spend(length)?;
                }
                if let Some(mut listener) = tail.listener.take() {
                    if length == 0 {
                        listener.end(self.0.caller.asks());
                    } else if listener.hear(&buf[..length]) {
                        tail.listener = Some(listener);
                    }
                }
                Ok(length)
            }
            State::Known(words) => words.read(buf),
            State::Asked { .. } | State::Failed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// The answer's headers, of which gix only wants to see the type, which has been checked by then.
pub struct Head {
    of: Option<Exchange>,
    line: Cursor<String>,
}

impl Head {
    pub(super) fn new(of: &Exchange, kind: &str) -> Self {
        Self {
            of: Some(of.clone()),
            line: Cursor::new(format!("Content-Type: {}\n", content_type(kind))),
        }
    }
}

impl BufRead for Head {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(exchange) = self.of.take() {
            exchange.answer(&mut exchange.state())?;
        }
        self.line.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.line.consume(amount);
    }
}

impl Read for Head {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}
