//! A stream that scans what is read for ambiguous requests, and fails if the client stops reading.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use async_std::{
    io::{Read, Write},
    task,
};
use event_listener::Event as Bell;
use futures_lite::Future;

use super::head::Heads;

/// How long a client may take no bytes of an answer.
const STALLED: Duration = Duration::from_secs(30);

/// The results of the scan.
#[derive(Debug, Default)]
pub(super) struct Seen {
    twofold: AtomicBool,
    blind: AtomicBool,
    begun: AtomicBool,
    bell: Bell,
}

impl Seen {
    /// Whether a request gave its body's length in two ways.
    pub(super) fn is_twofold(&self) -> bool {
        self.twofold.load(Ordering::Acquire)
    }

    /// Ends once the first bytes have been read.
    pub(super) async fn begun(&self) {
        loop {
            let begun = self.bell.listen();
            if self.begun.load(Ordering::Acquire) {
                return;
            }
            begun.await;
        }
    }

    /// Whether the connection must end with this request.
    pub(super) fn is_blind(&self) -> bool {
        self.blind.load(Ordering::Acquire)
    }
}

pub(super) struct Watched<S> {
    stream: S,
    heads: Heads,
    seen: Arc<Seen>,
    stalled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, seen: Arc<Seen>) -> Self {
        Self {
            stream,
            heads: Heads::default(),
            seen,
            stalled: None,
        }
    }

    /// `polled`; or an error once it has been pending for too long.
    fn unless_stalled<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(task::sleep(STALLED)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Read + Unpin> Read for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if self.heads.look(&buffer[..read]) {
            self.seen.twofold.store(true, Ordering::Release);
        }
        self.seen.blind.store(self.heads.is_blind(), Ordering::Release);
        if read > 0 && !self.seen.begun.swap(true, Ordering::AcqRel) {
            self.seen.bell.notify(usize::MAX);
        }
        Poll::Ready(Ok(read))
    }
}

impl<S: Write + Unpin> Write for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.unless_stalled(polled, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.unless_stalled(polled, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
