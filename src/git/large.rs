//! Objects that are too large for memory: read piece by piece, whatever they are stored as.
//!
//! Everything else in this program holds an object in memory, and refuses one above [`LARGE`] (gitoxide's allocation
//! limit is set to it). Blobs alone may be larger: they come through here. A delta is undone between files, of which
//! none has a name, so that a crash leaves nothing behind.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use gix::{ObjectId, objs::Kind};
use gix_pack::data::{Entry, entry::Header};

use crate::base::{bounded, fault::if_there};

mod content;
mod delta;
use content::PIECE;
pub use content::{Content, Inflated, Scratch, Section, copied, corrupt};
pub use delta::{apply, number, sizes};

/// The largest object that is held in memory, in bytes: a directory of 400,000 files. gitoxide needs three times as
/// much to undo a delta, in each of two threads.
pub const LARGE: u64 = 16 << 20;
/// Deltas on deltas that lead to one object: git makes 4,095 at most.
const MAX_CHAIN: usize = 1 << 16;

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
        if let Some(file) = if_there(bounded::open(&loose_path(dir, id)))? {
            return loose(file, open);
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

/// Where the loose object `id` is in the object directory `dir`.
pub(super) fn loose_path(dir: &Path, id: &ObjectId) -> PathBuf {
    let hex = id.to_string();
    dir.join(&hex[..2]).join(&hex[2..])
}

struct Packed {
    pack: File,
    index: gix_pack::index::File,
    at: u64,
}

impl Packed {
    /// Where `id` is, if it is in one of the packs in `dir`.
    fn find(dir: &Path, id: &ObjectId) -> io::Result<Option<Self>> {
        for name in if_there(std::fs::read_dir(dir))?.into_iter().flatten() {
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
