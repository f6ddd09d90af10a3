//! The client's bytes become a [`Request`]: no repository, no answer, and limits on everything.
//!
//! The grammar is that of gitprotocol-v2, "Command Request", "ls-refs" and "fetch".

use std::{
    io::{self, Read},
    num::NonZeroU32,
};

use gix::{ObjectId, bstr::BString, hash};
use gix_transport::packetline::{PacketLineRef, blocking_io::StreamingPeekableIter};

/// One request: a command and the kind of ids it speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub object_format: hash::Kind,
    pub command: Command,
}

/// What a client can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    LsRefs(LsRefs),
    Fetch(Fetch),
}

/// The command `ls-refs`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LsRefs {
    /// Say what symbolic refs point to.
    pub symrefs: bool,
    /// Say what annotated tags point to.
    pub peel: bool,
    /// Say what an unborn HEAD points to.
    pub unborn: bool,
    /// Only refs that begin with one of these; all if there is none.
    pub prefixes: Vec<BString>,
}

/// The command `fetch`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetch {
    /// The objects that the client asks for.
    pub wants: Vec<ObjectId>,
    /// The objects that the client has, with all that they refer to.
    pub haves: Vec<ObjectId>,
    /// The commits at which its history is cut.
    pub shallow: Vec<ObjectId>,
    /// How much history it asks for; default: all, down to where its own is cut.
    pub depth: Option<Depth>,
    /// The client will send no more haves, and expects the pack.
    pub done: bool,
    /// Add annotated tags that point to what is sent.
    pub include_tag: bool,
    pub no_progress: bool,
}

/// How much history is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// How many commits from each wanted one.
    FromTip(NonZeroU32),
    /// How many more commits than the client has.
    FromBoundary(NonZeroU32),
}

impl Depth {
    /// git's infinity (`INFINITE_DEPTH`): remove the boundary.
    pub const INFINITE: u32 = 0x7fff_ffff;
}

/// Lines of one request; a client that has or wants more than a million objects is not one of ours.
const MAX_LINES: usize = 1 << 20;
/// Beyond so many prefixes git lists all refs, too.
const MAX_PREFIXES: usize = 1 << 16;
const MAX_PREFIX_BYTES: usize = 1 << 22;

/// A request is not one.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("cannot read the client's request")]
    Read(#[source] io::Error),
    /// Not a packet line (gitprotocol-common, "pkt-line Format").
    #[error("the request is not made of packet lines: {0}")]
    Packet(String),
    #[error("unexpected line in the request: {0:?}")]
    Line(BString),
    #[error("{0} is not supported by this server")]
    Unsupported(&'static str),
    #[error("the request has more than {MAX_LINES} lines or {MAX_PREFIX_BYTES} bytes of prefixes")]
    TooLong,
}

/// Read one request, or find that the client has no more.
pub fn parse_request(read: &mut impl Read) -> Result<Option<Request>, Error> {
    let mut lines = Lines::new(read);
    let command = match lines.first()? {
        Some(Line::Data(line)) => line,
        Some(Line::Delimiter) => return Err(Error::Packet("it begins with a delimiter".into())),
        Some(Line::Flush) | None => return Ok(None),
    };
    let mut command = match command.as_slice() {
        b"command=ls-refs" => Command::LsRefs(LsRefs::default()),
        b"command=fetch" => Command::Fetch(Fetch::default()),
        _ => return Err(Error::Line(command)),
    };
    let (object_format, more) = capabilities(&mut lines)?;
    if more {
        arguments(&mut lines, object_format, &mut command)?;
    }
    Ok(Some(Request {
        object_format,
        command,
    }))
}

/// The capabilities, and whether arguments follow.
fn capabilities(lines: &mut Lines<impl Read>) -> Result<(hash::Kind, bool), Error> {
    let mut object_format = hash::Kind::Sha1;
    loop {
        match lines.next()? {
            Line::Data(line) => match line.as_slice() {
                b"object-format=sha1" => object_format = hash::Kind::Sha1,
                b"object-format=sha256" => object_format = hash::Kind::Sha256,
                known if known.starts_with(b"agent=") || known.starts_with(b"session-id=") => {}
                _ => return Err(Error::Line(line)),
            },
            Line::Delimiter => return Ok((object_format, true)),
            Line::Flush => return Ok((object_format, false)),
        }
    }
}

fn arguments(lines: &mut Lines<impl Read>, format: hash::Kind, command: &mut Command) -> Result<(), Error> {
    let mut relative = false;
    let mut prefix_bytes = 0;
    loop {
        let line = match lines.next()? {
            Line::Data(line) => line,
            Line::Delimiter => return Err(Error::Packet("it has two delimiters".into())),
            Line::Flush => break,
        };
        match command {
            Command::LsRefs(request) => request.argument(line, &mut prefix_bytes)?,
            Command::Fetch(request) => request.argument(line, format, &mut relative)?,
        }
    }
    match command {
        Command::LsRefs(request) if request.prefixes.len() > MAX_PREFIXES => request.prefixes.clear(),
        Command::Fetch(request) if relative => request.depth_is_relative(),
        _ => {}
    }
    Ok(())
}

impl LsRefs {
    fn argument(&mut self, line: BString, prefix_bytes: &mut usize) -> Result<(), Error> {
        match line.as_slice() {
            b"symrefs" => self.symrefs = true,
            b"peel" => self.peel = true,
            b"unborn" => self.unborn = true,
            _ => match line.strip_prefix(b"ref-prefix ") {
                Some(prefix) => {
                    *prefix_bytes += prefix.len();
                    if *prefix_bytes > MAX_PREFIX_BYTES {
                        return Err(Error::TooLong);
                    }
                    self.prefixes.push(prefix.into());
                }
                None => return Err(Error::Line(line)),
            },
        }
        Ok(())
    }
}

impl Fetch {
    fn argument(&mut self, line: BString, format: hash::Kind, relative: &mut bool) -> Result<(), Error> {
        let (word, value) = match line.iter().position(|byte| *byte == b' ') {
            Some(at) => (&line[..at], Some(&line[at + 1..])),
            None => (&line[..], None),
        };
        let wrong = || Error::Line(line.clone());
        let id = || id(value, format).ok_or_else(wrong);
        match (word, value) {
            (b"want", _) => self.wants.push(id()?),
            (b"have", _) => self.haves.push(id()?),
            (b"shallow", _) => self.shallow.push(id()?),
            (b"deepen", _) => self.depth = Some(Depth::FromTip(number(value).ok_or_else(wrong)?)),
            (b"deepen-relative", None) => *relative = true,
            (b"done", None) => self.done = true,
            (b"include-tag", None) => self.include_tag = true,
            (b"no-progress", None) => self.no_progress = true,
            // Allowances that this server makes no use of, or always makes use of.
            (b"thin-pack" | b"ofs-delta", None) => {}
            (b"deepen-since", _) => return Err(Error::Unsupported("deepen-since")),
            (b"deepen-not", _) => return Err(Error::Unsupported("deepen-not")),
            (b"filter", _) => return Err(Error::Unsupported("filter")),
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn depth_is_relative(&mut self) {
        if let Some(Depth::FromTip(depth)) = self.depth {
            self.depth = Some(Depth::FromBoundary(depth));
        }
    }
}

fn id(hex: Option<&[u8]>, format: hash::Kind) -> Option<ObjectId> {
    ObjectId::from_hex(hex?).ok().filter(|id| id.kind() == format)
}

fn number(digits: Option<&[u8]>) -> Option<NonZeroU32> {
    std::str::from_utf8(digits?).ok()?.parse().ok()
}

enum Line {
    Data(BString),
    Delimiter,
    Flush,
}

/// The packet lines of one request.
struct Lines<R> {
    packets: StreamingPeekableIter<R>,
    count: usize,
}

impl<R: Read> Lines<R> {
    fn new(read: R) -> Self {
        Self {
            packets: StreamingPeekableIter::new(read, &[], false),
            count: 0,
        }
    }

    fn first(&mut self) -> Result<Option<Line>, Error> {
        match self.next() {
            Err(Error::Read(err)) if err.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            line => line.map(Some),
        }
    }

    fn next(&mut self) -> Result<Line, Error> {
        self.count += 1;
        if self.count > MAX_LINES {
            return Err(Error::TooLong);
        }
        let packet = match self.packets.read_line() {
            Some(packet) => packet
                .map_err(Error::Read)?
                .map_err(|err| Error::Packet(err.to_string()))?,
            None => return Err(Error::Read(io::ErrorKind::UnexpectedEof.into())),
        };
        match packet {
            PacketLineRef::Data(data) => Ok(Line::Data(data.strip_suffix(b"\n").unwrap_or(data).into())),
            PacketLineRef::Delimiter => Ok(Line::Delimiter),
            PacketLineRef::Flush => Ok(Line::Flush),
            PacketLineRef::ResponseEnd => Err(Error::Packet("a response-end in a request".into())),
        }
    }
}
