//! The entries of a pack while they arrive: written, measured, and hashed where they are whole objects.

use std::{
    fs::File,
    io::{self, BufRead, BufWriter, Read, Seek as _, Write as _},
};

use gix::{
    ObjectId,
    hash::Hasher,
    objs::{Kind, encode::loose_header},
    zlib::{Decompress, FlushDecompress, Status},
};
use gix_pack::data::{self, Entry, entry::Header};

use super::{
    error::{Error, Fail, MAX_OBJECTS},
    names,
    store::{BETWEEN_LOOKS, IN_MEMORY, Progress, Store},
    table::{NONE, Table},
};
use crate::git::large::{Content, LARGE};

/// What is inflated at once, in bytes.
const PIECE: usize = 64 << 10;
/// The beginning of a delta, with the sizes of base and result, in bytes.
const HEAD: usize = 20;
/// Read a pack from `from` into `file`.
pub(super) fn read(
    from: &mut dyn BufRead,
    file: &mut dyn io::Write,
    store: &Store<'_>,
    progress: Option<Progress<'_>>,
) -> Result<Table, Fail> {
    let hash = store.hash;
    let mut incoming = Incoming {
        from,
        file: BufWriter::with_capacity(PIECE, file),
        store,
        hasher: gix::hash::hasher(hash),
        crc: crc32fast::Hasher::new(),
        at: 0,
        look: BETWEEN_LOOKS.min(store.limits.max_pack),
        fail: None,
        state: Decompress::new(),
        piece: vec![0; PIECE],
    };
    let mut header = [0; data::header::SIZE];
    incoming.fill(&mut header)?;
    let (_, count) = data::header::decode(&header).map_err(|err| damaged(&err.to_string()))?;
    if count > MAX_OBJECTS {
        return Err(Error::Objects { count }.into());
    }
    if count as usize > names::MAX_NAMES {
        store.names.give_up();
    }
    let mut table = Table::new(hash);
    for done in 0..count as usize {
        incoming.entry(&mut table)?;
        if let Some(progress) = &progress
            && (done % 64 == 0 || done + 1 == count as usize)
        {
            progress.tell(done + 1, count as usize);
        }
    }
    table.end = incoming.at;
    table.checksum = incoming.trailer(hash)?;
    incoming.file.flush().map_err(|err| store.failed(err))?;
    Ok(table)
}

struct Incoming<'a> {
    from: &'a mut dyn BufRead,
    file: BufWriter<&'a mut dyn io::Write>,
    store: &'a Store<'a>,
    /// The hash of the whole pack.
    hasher: Hasher,
    /// The checksum of the entry at hand.
    crc: crc32fast::Hasher,
    at: u64,
    /// Where limits are looked at next.
    look: u64,
    /// What a read came to, which can only say that it failed.
    fail: Option<Fail>,
    state: Decompress,
    piece: Vec<u8>,
}

impl Incoming<'_> {
    fn take(&mut self, count: usize) -> Result<(), Fail> {
        let bytes = self.from.fill_buf().map_err(Fail::Connection)?;
        let bytes = bytes.get(..count).unwrap_or_default();
        self.hasher.update(bytes);
        self.crc.update(bytes);
        self.file.write_all(bytes).map_err(|err| self.store.failed(err))?;
        self.from.consume(count);
        self.at += count as u64;
        if self.at > self.look { self.look() } else { Ok(()) }
    }

    #[cold]
    fn look(&mut self) -> Result<(), Fail> {
        let limit = self.store.limits.max_pack;
        if self.at > limit {
            return Err(Error::Pack { limit }.into());
        }
        self.look = self.at.saturating_add(BETWEEN_LOOKS).min(limit);
        self.store.look_at_time()?;
        Ok(self.store.look_at_space(0)?)
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), Fail> {
        self.read_exact(buf)
            .map_err(|err| self.fail.take().unwrap_or(Fail::Connection(err)))
    }

    /// Read one entry, and add what it is to `table`.
    fn entry(&mut self, table: &mut Table) -> Result<(), Fail> {
        let offset = self.at;
        self.crc = crc32fast::Hasher::new();
        let entry = Entry::from_read(self, offset, table.hash.len_in_bytes());
        let entry = entry.map_err(|err| self.fail.take().unwrap_or_else(|| unread(err)))?;
        let index = u32::try_from(table.offsets.len()).unwrap_or(NONE);
        let (mut whole, mut parent) = (None, NONE);
        match entry.header {
            Header::OfsDelta { base_distance } => {
                let base = entry.checked_base_pack_offset(base_distance);
                let base = base.and_then(|base| table.offsets.binary_search(&base).ok());
                let base = base.ok_or_else(|| damaged("a delta's base is no object"))?;
                parent = u32::try_from(base).unwrap_or(NONE);
                self.delta(entry.decompressed_size)?;
            }
            Header::RefDelta { base_id } => {
                table.refs.push((base_id, index));
                self.delta(entry.decompressed_size)?;
            }
            header => {
                let kind = header.as_kind().ok_or_else(|| damaged("an object of no kind"))?;
                whole = Some((kind, self.object(kind, entry.decompressed_size, table.hash)?));
            }
        }
        let crc = self.crc.clone().finalize();
        table.push(offset, crc, whole, parent);
        Ok(())
    }

    fn object(&mut self, kind: Kind, size: u64, hash: gix::hash::Kind) -> Result<ObjectId, Fail> {
        check(kind, size)?;
        let mut hasher = gix::hash::hasher(hash);
        hasher.update(&loose_header(kind, size));
        let names = &self.store.names;
        let mut content = (size <= IN_MEMORY && names.want(kind)).then(Vec::new);
        self.inflate(size, |bytes| {
            hasher.update(bytes);
            if let Some(content) = &mut content {
                content.extend_from_slice(bytes);
            }
        })?;
        let id = hasher.try_finalize().map_err(|err| damaged(&err.to_string()))?;
        names.note(kind, &id, content.as_deref(), None);
        Ok(id)
    }

    /// Read a delta, and refuse one that comes to too much.
    fn delta(&mut self, size: u64) -> Result<(), Fail> {
        let mut head = Vec::with_capacity(HEAD);
        self.inflate(size, |bytes| {
            let most = bytes.len().min(HEAD - head.len());
            head.extend_from_slice(&bytes[..most]);
        })?;
        let mut head = head.as_slice();
        let limit = self.store.limits.max_blob.max(LARGE);
        for _ in ["base", "result"] {
            let size = crate::git::large::number(&mut head).map_err(|err| damaged(&err.to_string()))?;
            if size > limit {
                return Err(Error::Delta { size, limit }.into());
            }
        }
        Ok(())
    }

    /// Read a zlib stream that must come to `size` bytes.
    fn inflate(&mut self, size: u64, mut each: impl FnMut(&[u8])) -> Result<(), Fail> {
        self.state.reset();
        loop {
            let input = self.from.fill_buf().map_err(Fail::Connection)?;
            if input.is_empty() {
                return Err(Fail::Connection(io::ErrorKind::UnexpectedEof.into()));
            }
            let (used, made) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(input, &mut self.piece, FlushDecompress::None)
                .map_err(|_| damaged("an object cannot be inflated"))?;
            let used = usize::try_from(self.state.total_in() - used).unwrap_or_default();
            let made = usize::try_from(self.state.total_out() - made).unwrap_or_default();
            self.take(used)?;
            each(&self.piece[..made]);
            let total = self.state.total_out();
            match status {
                Status::StreamEnd if total == size => return Ok(()),
                Status::StreamEnd => return Err(damaged("an object has another size than it says").into()),
                _ if total > size => return Err(damaged("an object is larger than it says").into()),
                _ if used == 0 && made == 0 => return Err(damaged("an object does not end").into()),
                _ => {}
            }
        }
    }

    /// The hash at the pack's end, which must be that of all before it.
    fn trailer(&mut self, hash: gix::hash::Kind) -> Result<ObjectId, Fail> {
        let hasher = std::mem::replace(&mut self.hasher, gix::hash::hasher(hash));
        let found = hasher.try_finalize().map_err(|err| damaged(&err.to_string()))?;
        let mut said = hash.null();
        self.fill(said.as_mut_slice())?;
        if said == found {
            Ok(found)
        } else {
            Err(damaged("its checksum is wrong").into())
        }
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.from.fill_buf()?;
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        match self.take(count) {
            Ok(()) => Ok(count),
            Err(fail) => {
                self.fail = Some(fail);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}

/// An error for an object that must not be as large as it is.
pub(super) fn check(kind: Kind, size: u64) -> Result<(), Error> {
    match kind {
        Kind::Blob => Ok(()),
        kind if size > LARGE => Err(Error::Object { kind, size }),
        _ => Ok(()),
    }
}

fn unread(err: io::Error) -> Fail {
    match err.kind() {
        io::ErrorKind::Other | io::ErrorKind::InvalidData => damaged(&err.to_string()).into(),
        _ => Fail::Connection(err),
    }
}

pub(super) fn damaged(reason: &str) -> Error {
    Error::Damaged {
        reason: reason.into(),
    }
}

/// Complete a thin pack: write the object `content`, which is here already, behind the others. Gives where it is.
pub(super) fn append(
    table: &mut Table,
    file: &mut File,
    kind: Kind,
    id: ObjectId,
    content: &Content,
) -> io::Result<usize> {
    let offset = table.end;
    file.set_len(offset)?;
    file.seek(io::SeekFrom::Start(offset))?;
    let mut out = Crc {
        inner: BufWriter::with_capacity(PIECE, file),
        crc: crc32fast::Hasher::new(),
        count: 0,
    };
    let header = match kind {
        Kind::Tree => Header::Tree,
        Kind::Blob => Header::Blob,
        Kind::Commit => Header::Commit,
        Kind::Tag => Header::Tag,
    };
    header.write_to(content.size(), &mut out)?;
    let mut deflated = gix::zlib::stream::deflate::Write::new(&mut out, gix::zlib::Compression::BEST_SPEED);
    content.copy(0, content.size(), &mut deflated)?;
    deflated.flush()?;
    drop(deflated);
    out.inner.flush()?;
    table.end += out.count;
    let crc = out.crc.finalize();
    table.push(offset, crc, Some((kind, id)), NONE);
    Ok(table.offsets.len() - 1)
}

/// Number and hash a pack to which objects were added, and end it with its hash.
pub(super) fn seal(table: &mut Table, file: &mut File) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let count = u32::try_from(table.offsets.len()).map_err(io::Error::other)?;
    file.write_all_at(&data::header::encode(data::Version::V2, count), 0)?;
    file.rewind()?;
    let mut hasher = gix::hash::io::Write::new(io::sink(), table.hash);
    crate::git::large::copied(&mut *file, &mut hasher, table.end)?;
    table.checksum = hasher.hash.try_finalize().map_err(io::Error::other)?;
    file.write_all_at(table.checksum.as_slice(), table.end)?;
    file.set_len(table.end + table.checksum.as_slice().len() as u64)
}

/// Counts and sums up what is written.
struct Crc<W> {
    inner: W,
    crc: crc32fast::Hasher,
    count: u64,
}

impl<W: io::Write> io::Write for Crc<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.crc.update(&bytes[..count]);
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
