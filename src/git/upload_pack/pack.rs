//! Writes a pack into the side bands of a fetch (gitformat-pack, gitprotocol-v2 "packfile").
//!
//! What is packed already is copied as it is, deltas included where their base is sent, too; everything else is
//! deflated whole. One object at a time is held in memory, and none that is large.

use std::{
    io::{self, Write},
    ops::Range,
};

use gix::{
    ObjectId,
    objs::FindHeader as _,
    zlib::{Compression, stream::deflate},
};
use gix_pack::{
    Find,
    data::{
        Version,
        entry::{Header, Location},
        output::{Count, Entry, count::PackLocation},
    },
};
use gix_transport::packetline::{Channel, blocking_io::encode};

use super::{Error, objects::unreadable, source::Source};
use crate::git::large;

/// The largest packet (gitprotocol-common, "pkt-line Format").
pub(super) const PACKET_BYTES: usize = 65520;
/// Packed objects of more bytes are copied piece by piece.
const IN_MEMORY: usize = 4 << 20;
/// What of it is data, after the length and the number of the band.
const DATA_BYTES: usize = PACKET_BYTES - 5;

/// Write a pack of the objects `ids`, each of which is there once.
pub(super) fn write<W: Write>(
    source: &Source<'_>,
    ids: Vec<ObjectId>,
    bands: &mut Bands<'_, W>,
) -> Result<(), Error> {
    let total = u32::try_from(ids.len()).map_err(|_| Error::TooMany {
        limit: source.max_objects,
    })?;
    let counts = locate(source, ids)?;
    let mut pack = gix::hash::io::Write::new(&mut *bands, source.objects.format);
    let header = gix_pack::data::header::encode(Version::V2, total);
    pack.write_all(&header).map_err(Error::Gone)?;

    let mut at = header.len() as u64;
    let mut offsets = Vec::with_capacity(counts.len());
    let mut copied = 0;
    for (range, index) in by_pack(&counts) {
        source.check()?;
        let count = &counts[index];
        offsets.push(at);
        let entry = match copy(source, &counts, range, index)? {
            Some(entry) => {
                copied += 1;
                entry
            }
            None => match deflated(source, count) {
                Ok(entry) => entry,
                Err(wrong) => {
                    at += stream(source, count, wrong, &mut pack)?;
                    continue;
                }
            },
        };
        // A base comes earlier in the pack it is in, hence earlier in `counts`.
        let header = entry.to_entry_header(Version::V2, |base| at - offsets[base]);
        at += header
            .write_to(entry.decompressed_size as u64, &mut pack)
            .map_err(Error::Gone)? as u64;
        pack.write_all(&entry.compressed_data).map_err(Error::Gone)?;
        at += entry.compressed_data.len() as u64;
    }
    let hash = std::mem::replace(&mut pack.hash, gix::hash::hasher(source.objects.format));
    let digest = hash.try_finalize().map_err(|source| Error::Repository {
        what: "the pack's hash",
        source,
    })?;
    bands.write_all(digest.as_slice()).map_err(Error::Gone)?;
    bands.progress(&format!("Total {total} (reused {copied})\n"))
}

/// Where each object is packed, if it is; in the order of packs and offsets, which is that of the pack to be written.
fn locate(source: &Source<'_>, mut ids: Vec<ObjectId>) -> Result<Vec<Count>, Error> {
    ids.sort_unstable();
    let failed = |source| Error::Repository {
        what: "the packs",
        source,
    };
    // Asking for a location inflates the object to learn its size in the pack. If a good part of a pack
    // is sent, it is cheaper to learn all sizes from its index.
    let many = ids.len() as u64 * 8 >= source.objects.db.packed_object_count().map_err(failed)?;
    let mut counts: Vec<_> = ids
        .into_iter()
        .map(|id| Count {
            id,
            entry_pack_location: PackLocation::NotLookedUp,
        })
        .collect();
    let mut packs = std::collections::HashSet::new();
    let mut buf = Vec::new();
    for index in 0..counts.len() {
        source.check()?;
        if counts[index].entry_pack_location != PackLocation::NotLookedUp {
            continue;
        }
        let id = counts[index].id;
        // gitoxide does not say where an object is that memory does not hold.
        let location = source.objects.db.location_by_oid(&id, &mut buf).unwrap_or(None);
        let pack = location.as_ref().map(|location| location.pack_id);
        counts[index].entry_pack_location = PackLocation::LookedUp(location);
        if let Some(pack) = pack.filter(|pack| many && packs.insert(*pack)) {
            locate_all(source, pack, &mut counts).map_err(failed)?;
        }
    }
    counts.sort_by_key(|count| place(count).map(|at| (at.pack_id, at.pack_offset)));
    Ok(counts)
}

/// Locate all objects of the pack `pack_id`, except the last in it: where that ends, the index does not tell.
fn locate_all(source: &Source<'_>, pack_id: u32, counts: &mut [Count]) -> gix::Result<()> {
    let Some(mut entries) = source.objects.db.pack_offsets_and_oid(pack_id)? else {
        return Ok(());
    };
    entries.sort_unstable();
    for pair in entries.windows(2) {
        let ((pack_offset, id), (end, _)) = (pair[0], pair[1]);
        if let Ok(index) = counts.binary_search_by(|count| count.id.cmp(&id))
            && counts[index].entry_pack_location == PackLocation::NotLookedUp
        {
            counts[index].entry_pack_location = PackLocation::LookedUp(Some(Location {
                pack_id,
                pack_offset,
                entry_size: usize::try_from(end - pack_offset).unwrap_or(usize::MAX),
            }));
        }
    }
    Ok(())
}

fn place(count: &Count) -> Option<&Location> {
    match &count.entry_pack_location {
        PackLocation::LookedUp(location) => location.as_ref(),
        PackLocation::NotLookedUp => None,
    }
}

/// Each object's index, with the range of those from the same pack.
fn by_pack(counts: &[Count]) -> impl Iterator<Item = (Range<usize>, usize)> {
    let mut start = 0;
    counts
        .chunk_by(|a, b| place(a).map(|at| at.pack_id) == place(b).map(|at| at.pack_id))
        .flat_map(move |chunk| {
            let range = start..start + chunk.len();
            start = range.end;
            range.clone().map(move |index| (range.clone(), index))
        })
}

/// The object as it is in its pack, unless it is not packed, or its base is not sent.
fn copy(
    source: &Source<'_>,
    counts: &[Count],
    pack: Range<usize>,
    index: usize,
) -> Result<Option<Entry>, Error> {
    let count = &counts[index];
    if place(count).is_some_and(|at| at.entry_size > IN_MEMORY) {
        return Ok(None);
    }
    let Some(entry) = place(count).and_then(|at| source.objects.db.entry_by_location(at)) else {
        return Ok(None);
    };
    // No thin packs: a delta against what is not sent would need a base that the client may lack.
    let base = None::<fn(u32, u64) -> gix::Result<Option<ObjectId>>>;
    let start = pack.start;
    Entry::from_pack_entry(entry, count, &counts[pack], start, base, Version::V2)
        .transpose()
        .map_err(unreadable(&count.id))
}

/// The object in full. Fast rather than small: it crosses a socket within this machine.
fn deflated(source: &Source<'_>, count: &Count) -> Result<Entry, Error> {
    let mut buf = Vec::new();
    let found = source
        .objects
        .db
        .try_find(&count.id, &mut buf)
        .map_err(unreadable(&count.id))?;
    let (data, _) = found.ok_or(Error::Missing { id: count.id })?;
    Entry::from_data(count, &data, Compression::BEST_SPEED).map_err(unreadable(&count.id))
}

/// Write an object piece by piece, if all that is `wrong` with it is that memory does not hold it. Says how much was
/// written.
fn stream(source: &Source<'_>, count: &Count, wrong: Error, pack: &mut impl Write) -> Result<u64, Error> {
    let header = source
        .objects
        .db
        .try_header(&count.id)
        .map_err(unreadable(&count.id))?;
    if header.is_none_or(|header| header.kind != gix::objs::Kind::Blob) {
        return Err(wrong);
    }
    let mut out = Counted {
        inner: pack,
        count: 0,
        failed: None,
    };
    let store = source.objects.db.store_ref();
    let sent = copied(store, count, &mut out).and_then(|is_copied| {
        if is_copied {
            Ok(())
        } else {
            let deflated = large::blob(store, &source.scratch, &count.id, |size| {
                Header::Blob.write_to(size, &mut out)?;
                Ok(deflate::Write::new(&mut out, Compression::BEST_SPEED))
            });
            deflated.and_then(|mut deflated| deflated.flush())
        }
    });
    match (sent, out.failed) {
        (Ok(()), _) => Ok(out.count),
        (Err(_), Some(gone)) => Err(Error::Gone(gone)),
        (Err(_), None) => Err(wrong),
    }
}

/// Copy an object as it is in its pack, if it is in one and no delta; whether it is.
fn copied(store: &gix::odb::Store, count: &Count, out: &mut impl Write) -> io::Result<bool> {
    let Some(at) = place(count) else {
        return Ok(false);
    };
    let Some((pack, entry)) = large::packed(store, &count.id)? else {
        return Ok(false);
    };
    // It may be in several packs.
    let length = at.entry_size as u64;
    if entry.pack_offset() != at.pack_offset || entry.header != Header::Blob {
        return Ok(false);
    }
    Header::Blob.write_to(entry.decompressed_size, &mut *out)?;
    let end = at.pack_offset.saturating_add(length);
    let mut bytes = large::Section::new(&pack, entry.data_offset, end);
    large::copied(&mut bytes, out, end.saturating_sub(entry.data_offset))?;
    Ok(true)
}

/// Counts what is written, and remembers that the client is gone.
struct Counted<W> {
    inner: W,
    count: u64,
    failed: Option<io::Error>,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.inner.write(bytes) {
            Ok(count) => {
                self.count += count as u64;
                Ok(count)
            }
            Err(err) => {
                let kind = err.kind();
                self.failed = Some(err);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The side bands: the pack on one, progress on another.
pub(super) struct Bands<'w, W> {
    write: &'w mut W,
    data: Vec<u8>,
    quiet: bool,
}

impl<'w, W: Write> Bands<'w, W> {
    pub(super) fn new(write: &'w mut W, quiet: bool) -> Self {
        Self {
            write,
            data: Vec::with_capacity(DATA_BYTES),
            quiet,
        }
    }

    /// Say something to the user of the client. It is flushed: this is also how a client's end is noticed.
    pub(super) fn progress(&mut self, text: &str) -> Result<(), Error> {
        if self.quiet {
            return Ok(());
        }
        encode::band_to_write(Channel::Progress, text.as_bytes(), &mut *self.write)
            .and_then(|_| self.write.flush())
            .map_err(Error::Gone)
    }

    /// Say that the pack ends here, though it is not complete.
    pub(super) fn fail(mut self, text: &str) {
        // It does not matter whether the client hears it: it sees that the pack is short.
        let _ = self.packet().and_then(|()| {
            encode::band_to_write(Channel::Error, text.as_bytes(), &mut *self.write).map(|_| ())
        });
    }

    /// Write what is left, and end the answer.
    pub(super) fn end(mut self) -> Result<(), Error> {
        self.packet()
            .and_then(|()| encode::flush_to_write(&mut *self.write))
            .and_then(|_| self.write.flush())
            .map_err(Error::Gone)
    }

    fn packet(&mut self) -> std::io::Result<()> {
        if !self.data.is_empty() {
            encode::band_to_write(Channel::Data, &self.data, &mut *self.write)?;
            self.data.clear();
        }
        Ok(())
    }
}

impl<W: Write> Write for Bands<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let fits = bytes.len().min(DATA_BYTES - self.data.len());
        self.data.extend_from_slice(&bytes[..fits]);
        if self.data.len() == DATA_BYTES {
            self.packet()?;
        }
        Ok(fits)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.packet()?;
        self.write.flush()
    }
}
