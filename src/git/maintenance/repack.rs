//! Puts objects of several packs into one, with its index: the reading and writing, out of the way of runs.
//!
//! What is packed is copied as it is, deltas included wherever their base is written before them; fetched packs
//! hold few, so some are made. Everything that was written is read again: the index comes of the ids that the
//! content has.

use std::{ops::Range, path::Path, time::SystemTime};

use gix::ObjectId;
use gix_pack::{
    data::{self, entry::Header},
    index,
};

use super::{
    Error,
    output::{MAX_DELTA_BYTES, MAX_DEPTH, Merged, Output},
    packs::{Pack, open_index},
    similar,
};

/// Write what `wanted` picks from `packs`, the oldest first, and the objects `loose`, into `dir`. `None`: that is
/// nothing.
pub(super) fn repack(
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
    // As old as the youngest in it, so that garbage does not become young again.
    let modified = packs.iter().map(|pack| pack.modified).max();
    out.finish(dir, modified.unwrap_or_else(SystemTime::now))
        .map(Some)
}

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

    fn copy_one(&self, id: ObjectId, at: u32, range: Range<u64>, out: &mut Output<'_>) -> Result<(), Error> {
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
                return if size <= MAX_DELTA_BYTES && out.delta(&id, compressed.len())? {
                    Ok(())
                } else {
                    out.put(id, header, size, compressed, 0)
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
