//! A transport whose pack is taken in by us: gitoxide gets an empty one in its place.

use std::{
    any::Any,
    borrow::Cow,
    io::{self, BufRead, Cursor, Read},
    sync::Arc,
};

use gix::bstr::BStr;
use gix_pack::data::{Version, header};
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

use super::Intake;

/// A transport whose packs `intake` takes in.
pub struct Receiving<T> {
    inner: T,
    intake: Arc<Intake>,
}

impl<T> Receiving<T> {
    pub fn new(inner: T, intake: Arc<Intake>) -> Self {
        Self { inner, intake }
    }
}

impl<T: Transport> Transport for Receiving<T> {
    fn handshake<'a>(
        &mut self,
        service: Service,
        extra_parameters: &'a [(&'a str, Option<&'a str>)],
    ) -> Result<SetServiceResponse<'_>, Error> {
        self.inner.handshake(service, extra_parameters)
    }

    fn request(
        &mut self,
        write_mode: WriteMode,
        on_into_read: MessageKind,
        trace: bool,
    ) -> Result<RequestWriter<'_>, Error> {
        let request = self.inner.request(write_mode, on_into_read, trace)?;
        let (writer, inner) = request.into_parts();
        let answer = Answer {
            inner,
            intake: self.intake.clone(),
            pack: None,
        };
        Ok(RequestWriter::new_from_bufread(
            writer,
            Box::new(answer),
            write_mode,
            on_into_read,
            trace,
        ))
    }
}

impl<T: TransportWithoutIO> TransportWithoutIO for Receiving<T> {
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

/// An answer of lines, and a pack: what is read as bytes.
struct Answer<'a> {
    inner: Box<dyn ExtendedBufRead<'a> + Unpin + 'a>,
    intake: Arc<Intake>,
    /// What gitoxide gets, once the pack has come.
    pack: Option<Cursor<[u8; header::SIZE]>>,
}

impl Answer<'_> {
    fn pack(&mut self) -> io::Result<&mut Cursor<[u8; header::SIZE]>> {
        if self.pack.is_none() {
            self.intake.take(&mut self.inner)?;
        }
        Ok(self
            .pack
            .get_or_insert_with(|| Cursor::new(header::encode(Version::V2, 0))))
    }
}

impl Read for Answer<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.pack()?.read(buf)? {
            0 => self.inner.read(buf),
            count => Ok(count),
        }
    }
}

impl BufRead for Answer<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.pack()?.fill_buf()?.is_empty() {
            return self.inner.fill_buf();
        }
        self.pack()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        match &mut self.pack {
            Some(pack) if pack.position() < header::SIZE as u64 => pack.consume(amount),
            _ => self.inner.consume(amount),
        }
    }
}

impl ReadlineBufRead for Answer<'_> {
    fn readline(&mut self) -> Option<io::Result<gix::error::Result<PacketLineRef<'_>>>> {
        self.inner.readline()
    }

    fn readline_str(&mut self, line: &mut String) -> io::Result<usize> {
        self.inner.readline_str(line)
    }
}

impl<'a> ExtendedBufRead<'a> for Answer<'a> {
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
