//! Objects that are too large for memory: read piece by piece, whatever they are stored as.
//!
//! Everything else in this program holds an object in memory, and refuses one above [`LARGE`] (gitoxide's allocation
//! limit is set to it). Blobs alone may be larger: they come through here. A delta is undone between files, of which
//! none has a name, so that a crash leaves nothing behind.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use gix::{ObjectId, objs::Kind, zlib::Decompress};
use gix_pack::data::{Entry, entry::Header};
use rustix::fs::{Mode, OFlags};

use crate::base::bounded;

mod delta;
pub use delta::{apply, number, sizes};

/// The largest object that is held in memory, in bytes: a directory of 400,000 files. gitoxide needs three times as
/// much to undo a delta, in each of two threads.
pub const LARGE: u64 = 16 << 20;
/// Deltas on deltas that lead to one object: git makes 4,095 at most.
const MAX_CHAIN: usize = 1 << 16;
/// What is read or written at once, in bytes.
const PIECE: usize = 64 << 10;

/// Where files without a name are made.
#[derive(Debug, Clone)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// In the directory `dir`.
    pub fn new(dir: &Path) -> Self {
        Self(dir.into())
    }

    /// A file without a name.
    pub fn file(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        if let Ok(fd) = rustix::fs::open(&self.0, flags, Mode::RUSR | Mode::WUSR) {
            return Ok(fd.into());
        }
        // Some file systems cannot: as gitoxide names its temporary files, for recovery to find.
        loop {
            let path = self.0.join(format!(".tmp{:016x}", fastrand::u64(..)));
            match File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
            {
                Ok(file) => return std::fs::remove_file(path).map(|()| file),
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                Err(err) => return Err(err),
            }
        }
    }

    /// `size` bytes that `fill` writes: in memory up to `limit`, in a file above it.
    pub fn content(
        &self,
        size: u64,
        limit: u64,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Content> {
        if size <= limit {
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
            fill(&mut bytes)?;
            return Ok(Content::Memory(bytes));
        }
        let mut out = io::BufWriter::with_capacity(PIECE, self.file()?);
        fill(&mut out)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Content::File { file, size })
    }
}

/// An object's bytes.
#[derive(Debug)]
pub enum Content {
    /// A few.
    Memory(Vec<u8>),
    /// Many.
    File {
        /// Where they are.
        file: File,
        /// How many there are.
        size: u64,
    },
}

impl Content {
    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }

    /// All of them, if they are in memory.
    pub fn memory(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(bytes) => Some(bytes),
            Self::File { .. } => None,
        }
    }

    /// How many of them are in memory.
    pub fn held(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { .. } => 0,
        }
    }

    /// Write `len` of the bytes to `out`, from `at` on.
    pub fn copy(&self, at: u64, len: u64, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let end = at.checked_add(len).filter(|end| *end <= self.size());
        let end = end.ok_or_else(|| corrupt("a delta copies from beyond its base"))?;
        match self {
            Self::Memory(bytes) => {
                let range = usize::try_from(at).unwrap_or_default()..usize::try_from(end).unwrap_or_default();
                out.write_all(&bytes[range])
            }
            Self::File { file, .. } => copied(&mut Section::new(file, at, end), out, len),
        }
    }
}

/// A part of a file, read without moving its position.
#[derive(Debug)]
pub struct Section<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl<'f> Section<'f> {
    /// The bytes of `file` from `at` to `end`.
    pub fn new(file: &'f File, at: u64, end: u64) -> Self {
        Self { file, at, end }
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = most.min(buf.len());
        let count = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The bytes that a zlib stream stands for.
pub struct Inflated<R> {
    inner: R,
    state: Decompress,
}

impl<R: BufRead> Inflated<R> {
    /// Those of the stream that `inner` is at.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            state: Decompress::new(),
        }
    }
}

impl<R: BufRead> Read for Inflated<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        gix::zlib::stream::inflate::read(&mut self.inner, &mut self.state, buf)
    }
}

/// Write what is behind `from` to `out`: exactly `size` bytes.
pub fn copied(from: &mut (impl Read + ?Sized), out: &mut (impl Write + ?Sized), size: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        match from.read(&mut piece[..most])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                out.write_all(&piece[..count])?;
                left -= count as u64;
            }
        }
    }
    Ok(())
}

/// An error for what is not as it must be.
pub fn corrupt(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// Write the blob `id` to `out`, which is told its size before.
pub fn blob<W: Write>(
    store: &gix::odb::Store,
    scratch: &Scratch,
    id: &ObjectId,
    open: impl FnOnce(u64) -> io::Result<W>,
) -> io::Result<W> {
    let mut dirs = vec![store.path().to_owned()];
    dirs.extend(store.alternate_db_paths().map_err(io::Error::other)?);
    for dir in &dirs {
        if let Some(pack) = Packed::find(&dir.join("pack"), id)? {
            return pack.write(scratch, open);
        }
    }
    for dir in &dirs {
        let hex = id.to_string();
        match bounded::open(&dir.join(&hex[..2]).join(&hex[2..])) {
            Ok(file) => return loose(file, open),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// The pack that holds `id`, if it is in one and no delta, and its entry there.
pub fn packed(store: &gix::odb::Store, id: &ObjectId) -> io::Result<Option<(File, Entry)>> {
    let mut dirs = vec![store.path().to_owned()];
    dirs.extend(store.alternate_db_paths().map_err(io::Error::other)?);
    for dir in &dirs {
        if let Some(packed) = Packed::find(&dir.join("pack"), id)? {
            let entry = packed.entry(packed.at)?;
            return Ok((!entry.header.is_delta()).then_some((packed.pack, entry)));
        }
    }
    Ok(None)
}

fn loose<W: Write>(file: File, open: impl FnOnce(u64) -> io::Result<W>) -> io::Result<W> {
    let mut content = BufReader::with_capacity(PIECE, Inflated::new(BufReader::with_capacity(PIECE, file)));
    let mut header = Vec::new();
    // `blob`, a space, the size in decimal, and the end.
    (&mut content).take(32).read_until(0, &mut header)?;
    let (kind, size, _) =
        gix::objs::decode::loose_header(&header).map_err(|_| corrupt("a loose object has no header"))?;
    is_blob(kind)?;
    let mut out = open(size)?;
    copied(&mut content, &mut out, size)?;
    Ok(out)
}

fn is_blob(kind: Kind) -> io::Result<()> {
    match kind {
        Kind::Blob => Ok(()),
        kind => Err(corrupt(&format!("it is a {kind}, not a blob"))),
    }
}

/// An object in a pack.
struct Packed {
    pack: File,
    index: gix_pack::index::File,
    at: u64,
}

impl Packed {
    /// Where `id` is, if it is in one of the packs in `dir`.
    fn find(dir: &Path, id: &ObjectId) -> io::Result<Option<Self>> {
        let names = match std::fs::read_dir(dir) {
            Ok(names) => names,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err),
        };
        for name in names {
            let path = name?.path();
            if path.extension().is_none_or(|extension| extension != "idx") {
                continue;
            }
            let Ok(index) = gix_pack::index::File::at(&path, id.kind()) else {
                continue;
            };
            let Some(at) = index.lookup(id) else { continue };
            let at = index.pack_offset_at_index(at);
            let pack = bounded::open(&path.with_extension("pack"))?;
            return Ok(Some(Self { pack, index, at }));
        }
        Ok(None)
    }

    fn entry(&self, at: u64) -> io::Result<Entry> {
        let mut bytes = BufReader::with_capacity(64, Section::new(&self.pack, at, u64::MAX));
        Entry::from_read(&mut bytes, at, self.index.object_hash().len_in_bytes())
    }

    fn inflated(&self, entry: &Entry) -> impl BufRead {
        let bytes = Section::new(&self.pack, entry.data_offset, u64::MAX);
        let bytes = Inflated::new(BufReader::with_capacity(PIECE, bytes));
        BufReader::with_capacity(PIECE, bytes)
    }

    /// The object's deltas, the last one first, and what they begin with.
    fn chain(&self) -> io::Result<(Vec<Entry>, Entry)> {
        let mut chain = Vec::new();
        let mut entry = self.entry(self.at)?;
        while entry.header.is_delta() {
            let base = match entry.header {
                Header::OfsDelta { base_distance } => entry.checked_base_pack_offset(base_distance),
                Header::RefDelta { base_id } => {
                    let at = self.index.lookup(base_id);
                    at.map(|at| self.index.pack_offset_at_index(at))
                }
                _ => None,
            };
            let base = base.ok_or_else(|| corrupt("a delta has no base"))?;
            let base = self.entry(base)?;
            chain.push(std::mem::replace(&mut entry, base));
            if chain.len() > MAX_CHAIN {
                return Err(corrupt("it is a delta on a delta without end"));
            }
        }
        Ok((chain, entry))
    }

    fn write<W: Write>(&self, scratch: &Scratch, open: impl FnOnce(u64) -> io::Result<W>) -> io::Result<W> {
        let (chain, first) = self.chain()?;
        is_blob(first.header.as_kind().unwrap_or(Kind::Tree))?;
        let size = first.decompressed_size;
        let mut whole = self.inflated(&first);
        let Some((last, before)) = chain.split_first() else {
            let mut out = open(size)?;
            copied(&mut whole, &mut out, size)?;
            return Ok(out);
        };
        let mut base = scratch.content(size, LARGE, |out| copied(&mut whole, out, size))?;
        for entry in before.iter().rev() {
            let mut delta = self.inflated(entry);
            let size = sizes(&mut delta, &base)?;
            base = scratch.content(size, LARGE, |out| apply(&base, &mut delta, size, out))?;
        }
        let mut delta = self.inflated(last);
        let size = sizes(&mut delta, &base)?;
        let mut out = open(size)?;
        apply(&base, &mut delta, size, &mut out)?;
        Ok(out)
    }
}
