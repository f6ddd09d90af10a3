//! No more lines from a server than anybody needs: gix collects capabilities, refs and acknowledgements in memory, and
//! a hostile server would send them without end. Packs go to the disk, and are not bounded here.
//!
//! Invariant: an answer's bytes are counted until gix reads its pack, or until there is nothing left to count.

use std::{
    any::Any,
    borrow::Cow,
    io::{self, BufRead, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gix::bstr::BStr;
use gix_transport::{
    Protocol, Service,
    client::{
        Error, MessageKind, TransportWithoutIO, WriteMode,
        blocking_io::{
            ExtendedBufRead, HandleProgress, ReadlineBufRead, RequestWriter, SetServiceResponse, Transport,
        },
    },
    packetline::PacketLineRef,
};

use super::old;

/// All lines of an answer before its pack, in bytes: some 450,000 refs. A server of protocol v2 is asked only for
/// the one that is wanted.
const MAX_LINES: u64 = 32 * 1024 * 1024;
/// A packet line's length, before its content.
const LENGTH: usize = 4;

/// What one answer may still bring. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Arc<AtomicU64>,
    url: Arc<str>,
}

impl Budget {
    pub(super) fn new(url: &str) -> Self {
        Self {
            left: Arc::new(MAX_LINES.into()),
            url: url.into(),
        }
    }

    pub(super) fn spend(&self, bytes: usize) -> io::Result<()> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let take = |left: u64| left.checked_sub(bytes);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other(super::Error::TooLong {
                url: self.url.to_string(),
                limit: MAX_LINES / 1024 / 1024,
            })),
        }
    }
}

/// A connection whose first answer is counted by its bytes, as gix reads all capabilities before it returns.
pub struct Opening<R> {
    inner: R,
    budget: Budget,
    over: Arc<AtomicBool>,
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buf)?;
        if !self.over.load(Ordering::Relaxed) {
            self.budget.spend(length)?;
        }
        Ok(length)
    }
}

/// A transport whose answers are bounded, and whose server offers nothing that gix would misuse.
pub struct Bounded<T> {
    inner: T,
    url: String,
    /// The first request ends the opening: before it come capabilities and, from servers before v2, all refs.
    opened: Arc<AtomicBool>,
}

impl<T> Bounded<T> {
    /// Speak to `url` over `reader`, as `connect` makes it.
    pub(super) fn over<R>(url: String, reader: R, connect: impl FnOnce(Opening<R>) -> T) -> Self {
        let opened = Arc::<AtomicBool>::default();
        let opening = Opening {
            inner: reader,
            budget: Budget::new(&url),
            over: opened.clone(),
        };
        Self {
            inner: connect(opening),
            url,
            opened,
        }
    }

    /// `inner` counts the opening itself.
    pub(super) fn new(url: String, inner: T) -> Self {
        Self::over(url, io::empty(), |_| inner)
    }
}

impl<T: Transport> Transport for Bounded<T> {
    fn handshake<'a>(
        &mut self,
        service: Service,
        extra_parameters: &'a [(&'a str, Option<&'a str>)],
    ) -> Result<SetServiceResponse<'_>, Error> {
        let mut offer = self.inner.handshake(service, extra_parameters)?;
        if matches!(offer.actual_protocol, Protocol::V0 | Protocol::V1) {
            offer.capabilities = old::without_relative(offer.capabilities);
        }
        Ok(offer)
    }

    fn request(
        &mut self,
        write_mode: WriteMode,
        on_into_read: MessageKind,
        trace: bool,
    ) -> Result<RequestWriter<'_>, Error> {
        self.opened.store(true, Ordering::Relaxed);
        let request = self.inner.request(write_mode, on_into_read, trace)?;
        let (writer, inner) = request.into_parts();
        let lines = Lines {
            inner,
            budget: Budget::new(&self.url),
        };
        Ok(RequestWriter::new_from_bufread(
            writer,
            Box::new(lines),
            write_mode,
            on_into_read,
            trace,
        ))
    }
}

impl<T: TransportWithoutIO> TransportWithoutIO for Bounded<T> {
    fn to_url(&self) -> Cow<'_, BStr> {
        self.inner.to_url()
    }

    fn connection_persists_across_multiple_requests(&self) -> bool {
        self.inner.connection_persists_across_multiple_requests()
    }

    fn configure(&mut self, config: &dyn Any) -> gix::error::Result {
        self.inner.configure(config)
    }
}

/// An answer whose lines are counted. What is read as bytes is a pack.
struct Lines<'a> {
    inner: Box<dyn ExtendedBufRead<'a> + Unpin + 'a>,
    budget: Budget,
}

impl Read for Lines<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf)
    }
}

impl BufRead for Lines<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
    }
}

impl ReadlineBufRead for Lines<'_> {
    fn readline(&mut self) -> Option<io::Result<gix::error::Result<PacketLineRef<'_>>>> {
        let line = self.inner.readline();
        if let Some(Ok(Ok(line))) = &line {
            let length = line.as_slice().map_or(0, <[u8]>::len);
            if let Err(err) = self.budget.spend(LENGTH + length) {
                return Some(Err(err));
            }
        }
        line
    }

    fn readline_str(&mut self, line: &mut String) -> io::Result<usize> {
        let length = self.inner.readline_str(line)?;
        self.budget.spend(LENGTH + length)?;
        Ok(length)
    }
}

impl<'a> ExtendedBufRead<'a> for Lines<'a> {
    fn set_progress_handler(&mut self, handle_progress: Option<HandleProgress<'a>>) {
        self.inner.set_progress_handler(handle_progress);
    }

    fn peek_data_line(&mut self) -> Option<io::Result<Result<&[u8], Error>>> {
        self.inner.peek_data_line()
    }

    fn reset(&mut self, version: Protocol) {
        self.inner.reset(version);
    }

    fn stopped_at(&self) -> Option<MessageKind> {
        self.inner.stopped_at()
    }
}
