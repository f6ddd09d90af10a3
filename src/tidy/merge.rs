//! Puts objects of several packs into one, with its index: the reading and writing, out of the way of runs.
//!
//! What is packed is copied as it is, deltas included wherever their base is written before them; fetched packs
//! hold few, so some are made. Everything that was written is read again: the index comes of the ids that the
//! content has.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::SystemTime,
};

use gix::{ObjectId, hashtable::HashMap, zlib::Compression};
use gix_pack::{
    Find as _,
    data::{
        self, Version,
        entry::Header,
        input,
        output::{self, Count, count::PackLocation},
    },
    index,
};

use super::{Error, delta, similar, stock::Pack};

/// No longer chains of deltas are made: each has to be undone to read the last of them (as git's `--depth`).
const MAX_DEPTH: u32 = 50;

/// For larger objects no deltas are made: both would be in memory, and they are seldom text.
const MAX_DELTA_BYTES: u64 = 1 << 20;

/// A pack under its temporary name, complete and on disk.
pub(super) struct Merged {
    pub(super) pack: PathBuf,
    pub(super) index: PathBuf,
    /// `pack-HASH.pack`.
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// Where an object was written.
struct Written {
    at: u64,
    depth: u32,
}

/// Write what `wanted` picks from `packs`, the oldest first, and the objects `loose`, into `dir`. `None`: that is
/// nothing.
pub(super) fn merge(
    db: &gix::odb::HandleArc,
    hash: gix::hash::Kind,
    packs: &[Pack],
    loose: &[ObjectId],
    wanted: &dyn Fn(&ObjectId) -> bool,
    makes_deltas: bool,
    dir: &Path,
) -> Result<Option<Merged>, Error> {
    let mut out = Output::new(db, hash, dir.join("new.pack"))?;
    let mut sources = packs
        .iter()
        .map(|pack| Source::open(pack, hash))
        .collect::<Result<Vec<_>, _>>()?;
    if makes_deltas {
        out.predecessors = similar::predecessors(db, sources.iter().flat_map(Source::commits))?;
    }
    for source in sources.drain(..) {
        source.copy(wanted, &mut out)?;
    }
    for id in loose {
        if !out.written.contains_key(id) {
            out.whole(id)?;
        }
    }
    if out.written.is_empty() {
        return Ok(None);
    }
    // As old as the youngest in it, so that garbage does not become young again; and read by whom they were.
    let modified = packs.iter().map(|pack| pack.modified).max();
    let mode = packs
        .iter()
        .map(|pack| pack.mode)
        .fold(0o444, |all, mode| all & mode);
    out.finish(dir, modified.unwrap_or_else(SystemTime::now), mode | 0o400)
        .map(Some)
}

/// Open the index of a pack.
pub(super) fn open_index(path: &Path, hash: gix::hash::Kind) -> Result<index::File, Error> {
    index::File::at(path, hash).map_err(|err| Error::pack(path, &err))
}

/// A pack to copy from.
struct Source {
    data: data::File,
    index: index::File,
    /// Offset and position in the index, by offset.
    entries: Vec<(u64, u32)>,
}

impl Source {
    fn open(pack: &Pack, hash: gix::hash::Kind) -> Result<Self, Error> {
        let failed = |err: gix::Error| Error::pack(&pack.path, &err);
        let index = open_index(&pack.path.with_extension("idx"), hash)?;
        let mut entries: Vec<_> = (0..index.num_objects())
            .map(|at| (index.pack_offset_at_index(at), at))
            .collect();
        entries.sort_unstable();
        Ok(Self {
            data: data::File::at(&pack.path, hash).map_err(failed)?,
            index,
            entries,
        })
    }

    /// The commits in it, except those stored as deltas.
    fn commits(&self) -> impl Iterator<Item = ObjectId> {
        let is_commit =
            |offset| matches!(self.data.entry(offset), Ok(entry) if entry.header == Header::Commit);
        self.entries
            .iter()
            .filter(move |(offset, _)| is_commit(*offset))
            .map(|(_, at)| self.index.oid_at_index(*at).to_owned())
    }

    fn copy(&self, wanted: &dyn Fn(&ObjectId) -> bool, out: &mut Output<'_>) -> Result<(), Error> {
        for (n, (offset, at)) in self.entries.iter().enumerate() {
            let id = self.index.oid_at_index(*at).to_owned();
            if !wanted(&id) || out.written.contains_key(&id) {
                continue;
            }
            let end = self
                .entries
                .get(n + 1)
                .map_or(self.data.pack_end() as u64, |next| next.0);
            self.copy_one(id, *at, *offset..end, out)?;
        }
        Ok(())
    }

    fn copy_one(
        &self,
        id: ObjectId,
        at: u32,
        range: std::ops::Range<u64>,
        out: &mut Output<'_>,
    ) -> Result<(), Error> {
        let corrupt = || Error::Corrupt {
            path: self.data.path().into(),
            id,
        };
        let offset = range.start;
        let bytes = self.data.entry_slice(range).ok_or_else(corrupt)?;
        // Damage is not to be copied, to be found only once the original is gone.
        if let Some(crc) = self.index.crc32_at_index(at)
            && crc != self.data.entry_crc32(offset, bytes.len())
        {
            return Err(corrupt());
        }
        let entry = self.data.entry(offset).map_err(|_| corrupt())?;
        let compressed = bytes.get(entry.header_size()..).ok_or_else(corrupt)?;
        let base = match entry.header {
            Header::OfsDelta { base_distance } => {
                let base = entry
                    .checked_base_pack_offset(base_distance)
                    .ok_or_else(corrupt)?;
                let found = self.entries.binary_search_by_key(&base, |entry| entry.0);
                let found = self.entries[found.map_err(|_| corrupt())?];
                self.index.oid_at_index(found.1).to_owned()
            }
            Header::RefDelta { base_id } => base_id,
            header => {
                let size = entry.decompressed_size;
                return match size <= MAX_DELTA_BYTES && out.delta(&id, compressed.len())? {
                    true => Ok(()),
                    false => out.put(id, header, size, compressed, 0),
                };
            }
        };
        match out.written.get(&base) {
            Some(base) if base.depth < MAX_DEPTH => {
                let header = Header::OfsDelta {
                    base_distance: out.at - base.at,
                };
                let depth = base.depth + 1;
                out.put(id, header, entry.decompressed_size, compressed, depth)
            }
            _ => out.whole(&id),
        }
    }
}

/// The pack that is written.
struct Output<'a> {
    db: &'a gix::odb::HandleArc,
    hash: gix::hash::Kind,
    path: PathBuf,
    file: BufWriter<File>,
    at: u64,
    written: HashMap<ObjectId, Written>,
    /// What an object may be stored as a change of.
    predecessors: HashMap<ObjectId, ObjectId>,
    /// For objects that are deflated anew.
    buf: Vec<u8>,
}

impl<'a> Output<'a> {
    fn new(db: &'a gix::odb::HandleArc, hash: gix::hash::Kind, path: PathBuf) -> Result<Self, Error> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|err| Error::io("create", &path, err))?;
        let mut out = Self {
            db,
            hash,
            path,
            file: BufWriter::with_capacity(1 << 16, file),
            at: 0,
            written: HashMap::default(),
            predecessors: HashMap::default(),
            buf: Vec::new(),
        };
        // How many there are is known at the end.
        out.write(&data::header::encode(Version::V2, 0))?;
        Ok(out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(|err| Error::io("write", &self.path, err))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Write an entry.
    fn put(
        &mut self,
        id: ObjectId,
        header: Header,
        size: u64,
        compressed: &[u8],
        depth: u32,
    ) -> Result<(), Error> {
        let written = Written { at: self.at, depth };
        let mut head = Vec::with_capacity(32);
        header
            .write_to(size, &mut head)
            .map_err(|err| Error::io("write", &self.path, err))?;
        self.write(&head)?;
        self.write(compressed)?;
        self.written.insert(id, written);
        Ok(())
    }

    /// Write an object as a change of its predecessor, if that is smaller than `whole` bytes; whether it is.
    fn delta(&mut self, id: &ObjectId, whole: usize) -> Result<bool, Error> {
        let Some(predecessor) = self.predecessors.get(id).copied() else {
            return Ok(false);
        };
        let Some((base, depth)) = self.written.get(&predecessor).map(|base| (base.at, base.depth)) else {
            return Ok(false);
        };
        let Some(delta) = (depth < MAX_DEPTH)
            .then(|| self.difference(&predecessor, id))
            .transpose()?
            .flatten()
        else {
            return Ok(false);
        };
        let compressed = deflate(&delta).map_err(|err| Error::io("deflate for", &self.path, err))?;
        // It has to be undone each time it is read.
        if compressed.len() + compressed.len() / 8 >= whole {
            return Ok(false);
        }
        let header = Header::OfsDelta {
            base_distance: self.at - base,
        };
        self.put(*id, header, delta.len() as u64, &compressed, depth + 1)
            .map(|()| true)
    }

    fn difference(&self, base: &ObjectId, target: &ObjectId) -> Result<Option<Vec<u8>>, Error> {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let find = |id: &ObjectId, buf: &mut Vec<u8>| {
            let found = self.db.try_find(id, buf).map_err(|err| Error::object(id, &err))?;
            Ok::<_, Error>(found.map(|(object, _)| object.kind))
        };
        let kinds = (find(base, &mut old)?, find(target, &mut new)?);
        let fits = kinds.0.is_some() && kinds.0 == kinds.1 && old.len() as u64 <= MAX_DELTA_BYTES;
        Ok(fits.then(|| delta::encode(&old, &new)).flatten())
    }

    /// Write an object in full.
    fn whole(&mut self, id: &ObjectId) -> Result<(), Error> {
        let failed = |err: gix::Error| Error::object(id, &err);
        let count = Count {
            id: *id,
            entry_pack_location: PackLocation::NotLookedUp,
        };
        let mut buf = std::mem::take(&mut self.buf);
        let found = self.db.try_find(id, &mut buf).map_err(failed)?;
        let (object, _) = found.ok_or(Error::Missing { id: *id })?;
        let entry = output::Entry::from_data(&count, &object, Compression::DEFAULT).map_err(failed)?;
        let header = entry.to_entry_header(Version::V2, |_| 0);
        self.put(
            *id,
            header,
            entry.decompressed_size as u64,
            &entry.compressed_data,
            0,
        )?;
        self.buf = buf;
        Ok(())
    }

    /// Number and hash the pack, write its index from what is in it, and bring both to disk.
    fn finish(mut self, dir: &Path, modified: SystemTime, mode: u32) -> Result<Merged, Error> {
        let count = u32::try_from(self.written.len()).map_err(|_| Error::TooMany)?;
        let header = data::header::encode(Version::V2, count);
        let failed = |err| Error::io("write", &self.path, err);
        self.file.flush().map_err(failed)?;
        let mut file = self.file.into_inner().map_err(|err| failed(err.into_error()))?;
        std::os::unix::fs::FileExt::write_all_at(&file, &header, 0).map_err(failed)?;
        let digest = digest(&self.path, self.hash)?;
        file.write_all(digest.as_slice()).map_err(failed)?;
        let index = dir.join("new.idx");
        let indexed = write_index(&self.path, &index, self.hash)?;
        verify(&index, self.hash, &indexed, digest, &self.written)?;
        for path in [&self.path, &index] {
            let failed = |err| Error::io("write", path, err);
            let file = File::open(path).map_err(failed)?;
            file.set_permissions(fs::Permissions::from_mode(mode))
                .map_err(failed)?;
            file.set_modified(modified).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        Ok(Merged {
            bytes: self.at + digest.as_slice().len() as u64,
            name: format!("pack-{digest}.pack"),
            pack: self.path,
            index,
        })
    }
}

fn deflate(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = gix::zlib::stream::deflate::Write::new(Vec::new(), Compression::DEFAULT);
    out.write_all(bytes)?;
    out.flush()?;
    Ok(out.into_inner())
}

/// The hash of a file's content.
fn digest(path: &Path, hash: gix::hash::Kind) -> Result<ObjectId, Error> {
    let failed = |err| Error::io("read", path, err);
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(failed)?);
    let mut hasher = gix::hash::io::Write::new(std::io::sink(), hash);
    std::io::copy(&mut file, &mut hasher).map_err(failed)?;
    hasher.hash.try_finalize().map_err(|err| Error::pack(path, &err))
}

/// Write the index of the pack, of ids computed from the content of its objects.
fn write_index(pack: &Path, index: &Path, hash: gix::hash::Kind) -> Result<index::write::Outcome, Error> {
    let failed = |err: gix::Error| Error::pack(pack, &err);
    let file = File::open(pack).map_err(|err| Error::io("open", pack, err))?;
    let mut entries = input::BytesToEntriesIter::new_from_header(
        BufReader::with_capacity(1 << 16, file),
        input::Mode::Verify,
        input::EntryDataMode::Crc32,
        hash,
    )
    .map_err(failed)?;
    let mut out = File::create_new(index).map_err(|err| Error::io("create", index, err))?;
    let data = data::File::at(pack, hash).map_err(failed)?;
    index::write_data_iter_to_stream(
        index::Version::default(),
        move || Ok((entry_in, data)),
        &mut entries,
        // The machine has other things to do.
        Some(1),
        &mut gix::progress::Discard,
        &mut out,
        &AtomicBool::new(false),
        hash,
        None,
        Version::V2,
    )
    .map_err(failed)
}

fn entry_in(range: data::EntryRange, data: &data::File) -> Option<&[u8]> {
    data.entry_slice(range)
}

/// Whether what is in the pack is what was to be put there.
fn verify(
    path: &Path,
    hash: gix::hash::Kind,
    indexed: &index::write::Outcome,
    digest: ObjectId,
    written: &HashMap<ObjectId, Written>,
) -> Result<(), Error> {
    let index = open_index(path, hash)?;
    let is_complete = indexed.data_hash == digest
        && indexed.num_objects as usize == written.len()
        && index.pack_checksum() == digest
        && written.keys().all(|id| index.lookup(id).is_some());
    match is_complete {
        true => Ok(()),
        false => Err(Error::Unequal { path: path.into() }),
    }
}
