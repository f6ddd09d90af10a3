//! The index of a pack (gitformat-pack(5), "Version 2 pack-*.idx files").

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
};

use super::table::Table;

/// Offsets from here on are in a table of their own.
const FAR: u64 = 1 << 31;

/// Write the index of the pack that `table` tells of.
pub(super) fn write(table: &Table, file: &mut File) -> io::Result<()> {
    let length = table.hash.len_in_bytes();
    let id = |at: &u32| &table.ids[*at as usize * length..][..length];
    let mut order: Vec<u32> = (0..).take(table.offsets.len()).collect();
    order.sort_unstable_by(|a, b| id(a).cmp(id(b)));
    let mut out = gix::hash::io::Write::new(BufWriter::with_capacity(1 << 16, file), table.hash);
    out.write_all(b"\xfftOc\0\0\0\x02")?;
    let mut first = 0;
    for byte in 0..=u8::MAX {
        first += order[first..].partition_point(|at| id(at)[0] == byte);
        out.write_all(&u32::try_from(first).map_err(io::Error::other)?.to_be_bytes())?;
    }
    for at in &order {
        out.write_all(id(at))?;
    }
    for at in &order {
        out.write_all(&table.crcs[*at as usize].to_be_bytes())?;
    }
    let mut far = Vec::new();
    for at in &order {
        let offset = table.offsets[*at as usize];
        let near = match u32::try_from(offset) {
            Ok(near) if offset < FAR => near,
            _ => {
                far.push(offset);
                u32::try_from(far.len() - 1).map_err(io::Error::other)? | 1 << 31
            }
        };
        out.write_all(&near.to_be_bytes())?;
    }
    for offset in far {
        out.write_all(&offset.to_be_bytes())?;
    }
    out.write_all(table.checksum.as_slice())?;
    let digest = out.hash.try_finalize().map_err(io::Error::other)?;
    out.inner.write_all(digest.as_slice())?;
    out.inner.flush()
}
