//! A pack while it is written, and its index, which comes of what can be read from it.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use gix::{
    ObjectId,
    hashtable::HashMap,
    zlib::{Compression, stream::deflate},
};
use gix_pack::{
    Find as _,
    data::{
        self, Version,
        entry::Header,
        output::{self, Count, count::PackLocation},
    },
};

use super::{Error, delta, packs::open_index};
use crate::git::{
    intake,
    large::{self, Scratch},
};

/// No longer chains of deltas are made: each has to be undone to read the last of them (as git's `--depth`).
pub(super) const MAX_DEPTH: u32 = 50;

/// For larger objects no deltas are made: both would be in memory, and they are seldom text.
pub(super) const MAX_DELTA_BYTES: u64 = 1 << 20;

/// A pack under its temporary name, complete and on disk.
pub(super) struct Merged {
    pub(super) pack: PathBuf,
    pub(super) index: PathBuf,
    /// `pack-HASH.pack`.
    pub(super) name: String,
    pub(super) bytes: u64,
}

pub(super) struct Written {
    pub(super) at: u64,
    pub(super) depth: u32,
}

pub(super) struct Output<'a> {
    db: &'a gix::odb::HandleArc,
    hash: gix::hash::Kind,
    path: PathBuf,
    file: BufWriter<File>,
    pub(super) at: u64,
    pub(super) written: HashMap<ObjectId, Written>,
    /// What an object may be stored as a change of.
    pub(super) predecessors: HashMap<ObjectId, ObjectId>,
    /// The buffer for objects that are deflated again.
    buf: Vec<u8>,
}

impl<'a> Output<'a> {
    pub(super) fn new(
        db: &'a gix::odb::HandleArc,
        hash: gix::hash::Kind,
        path: PathBuf,
    ) -> Result<Self, Error> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o444)
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

    pub(super) fn put(
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
    pub(super) fn delta(&mut self, id: &ObjectId, whole: usize) -> Result<bool, Error> {
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
        let compressed = deflated(&delta).map_err(|err| Error::io("deflate for", &self.path, err))?;
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

    pub(super) fn whole(&mut self, id: &ObjectId) -> Result<(), Error> {
        let failed = |err: gix::Error| Error::object(id, &err);
        let count = Count {
            id: *id,
            entry_pack_location: PackLocation::NotLookedUp,
        };
        let mut buf = std::mem::take(&mut self.buf);
        let found = match self.db.try_find(id, &mut buf) {
            Ok(found) => found,
            Err(err) => return self.large(id).map_err(|_| failed(err)),
        };
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

    /// Write an object in full that memory does not hold.
    fn large(&mut self, id: &ObjectId) -> std::io::Result<()> {
        let at = self.at;
        let scratch = Scratch::new(self.path.parent().unwrap_or(&self.path));
        let file = &mut self.file;
        let mut deflated = large::blob(self.db.store_ref(), &scratch, id, |size| {
            Header::Blob.write_to(size, &mut *file)?;
            Ok(deflate::Write::new(file, Compression::DEFAULT))
        })?;
        deflated.flush()?;
        drop(deflated);
        self.at = self.file.stream_position()?;
        self.written.insert(*id, Written { at, depth: 0 });
        Ok(())
    }

    /// Number and hash the pack, write its index from what is in it, and bring both to disk.
    pub(super) fn finish(mut self, dir: &Path, modified: SystemTime) -> Result<Merged, Error> {
        let count = u32::try_from(self.written.len()).map_err(|_| Error::TooMany {
            limit: u32::MAX as usize,
        })?;
        let header = data::header::encode(Version::V2, count);
        let failed = |err| Error::io("write", &self.path, err);
        self.file.flush().map_err(failed)?;
        let mut file = self.file.into_inner().map_err(|err| failed(err.into_error()))?;
        std::os::unix::fs::FileExt::write_all_at(&file, &header, 0).map_err(failed)?;
        let digest = digest(&self.path, self.hash)?;
        file.write_all(digest.as_slice()).map_err(failed)?;
        let index = dir.join("new.idx");
        // Of ids computed from the content of its objects.
        let indexed = intake::index(&self.path, &index, self.hash);
        let indexed = indexed.map_err(|err| Error::io("index", &self.path, err))?;
        verify(&index, self.hash, indexed, digest, &self.written)?;
        for path in [&self.path, &index] {
            let failed = |err| Error::io("write", path, err);
            let file = File::open(path).map_err(failed)?;
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

fn deflated(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = deflate::Write::new(Vec::new(), Compression::DEFAULT);
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

/// Whether what is in the pack is what was to be put there.
fn verify(
    path: &Path,
    hash: gix::hash::Kind,
    indexed: (ObjectId, usize),
    digest: ObjectId,
    written: &HashMap<ObjectId, Written>,
) -> Result<(), Error> {
    let index = open_index(path, hash)?;
    let is_complete = indexed == (digest, written.len())
        && index.pack_checksum() == digest
        && written.keys().all(|id| index.lookup(id).is_some());
    if is_complete {
        Ok(())
    } else {
        Err(Error::Unequal { path: path.into() })
    }
}
