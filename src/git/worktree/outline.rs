//! What an index file consists of, see gitformat-index(5): looked over before gitoxide decodes it.
//!
//! Its decoder recurses into the cached tree and the untracked cache as deep as they are, makes room for as many entries
//! as a table claims, and goes where that table says. What could hurt is left out here, or the index counts as none.
//! This module knows bytes only, and decodes nothing.

use std::ops::Range;

use gix::bstr::ByteSlice;

use super::dirs::MAX_PATH;

/// The largest index that is read, in bytes: about 2.5 million files. A sparse file of any size costs its owner nothing.
pub(super) const MAX_BYTES: u64 = 256 << 20;
/// All paths of an index that keeps only what is new in each, in bytes: a few of its bytes can stand for many.
const MAX_PATHS: usize = 256 << 20;
/// The deepest cached tree that is read, kept or written, in directories: gitoxide does all that by recursion, on a stack
/// of 2 MiB, of which each takes a kilobyte without optimization. Of a deeper tree, every run reads the objects again.
pub(super) const MAX_DEPTH: usize = 512;
/// The largest cached tree, in directories; each takes about 100 bytes of memory.
const MAX_TREES: usize = 1_000_000;

/// Where the parts of an index are.
pub(super) struct Outline {
    entries: usize,
    /// The extensions, from signature to end, and whether each does no harm.
    extensions: Vec<(Range<usize>, bool)>,
}

impl Outline {
    /// Of the index in `bytes`, with checksums of `hash` bytes. Nothing if it is no index.
    pub(super) fn of(bytes: &[u8], hash: usize) -> Option<Self> {
        let end = bytes.len().checked_sub(hash)?;
        let body = &bytes[..end];
        let entries = entries(body, hash)?;
        let mut extensions = Vec::new();
        let mut at = entries;
        while at < end {
            let size = u32_at(body, at + 4)? as usize;
            let data = body.get(at + 8..)?.get(..size)?;
            let is_harmless = match &body[at..at + 4] {
                b"TREE" => is_flat(data, hash),
                b"EOIE" => at + 8 + size == end && u32_at(data, 0)? as usize == entries,
                // Those that must be understood.
                [first, ..] => first.is_ascii_lowercase(),
                [] => false,
            };
            extensions.push((at..at + 8 + size, is_harmless));
            at += 8 + size;
        }
        Some(Self { entries, extensions })
    }

    /// Whether gitoxide may decode it as it is.
    pub(super) fn is_harmless(&self) -> bool {
        self.extensions.iter().all(|(_, is_harmless)| *is_harmless)
    }

    /// Take out of `bytes` what does harm. The checksum is right no more.
    pub(super) fn defuse(&self, bytes: &mut Vec<u8>) {
        let end = self.extensions.last().map_or(self.entries, |(last, _)| last.end);
        let mut rest = bytes.split_off(self.entries);
        for (range, _) in self.extensions.iter().filter(|(_, is_harmless)| *is_harmless) {
            // It says where the others end.
            if !rest[range.start - self.entries..].starts_with(b"EOIE") {
                bytes.extend_from_slice(&rest[range.start - self.entries..range.end - self.entries]);
            }
        }
        bytes.append(&mut rest.split_off(end - self.entries));
    }
}

/// Where the entries end. As gitoxide reads them.
fn entries(body: &[u8], hash: usize) -> Option<usize> {
    let version = u32_at(body, 4)?;
    if !body.starts_with(b"DIRC") || !(2..=4).contains(&version) {
        return None;
    }
    let mut at = 12;
    let (mut path, mut paths) = (0, 0);
    for _ in 0..u32_at(body, 8)? {
        let start = at;
        // Ten numbers and the object's name are before the flags.
        at += 40 + hash;
        let flags = u16_at(body, at)?;
        at += if flags & EXTENDED == 0 { 2 } else { 4 };
        if version == 4 {
            let stripped = number(body, &mut at)?;
            let new = terminated(body, at)?;
            path = if start == 12 { 0 } else { path };
            path = usize::checked_sub(path, stripped)?.checked_add(new)?;
            paths += path;
            at += new + 1;
            if path > MAX_PATH || paths > MAX_PATHS {
                return None;
            }
        } else if flags & PATH_LEN == PATH_LEN {
            at += terminated(body, at)? + 1;
        } else {
            at += usize::from(flags & PATH_LEN);
            // From one to eight NULs fill it up.
            at = start + ((at - start + 8) & !7);
        }
    }
    (at <= body.len()).then_some(at)
}

/// There are two bytes more of flags.
const EXTENDED: u16 = 0x4000;
/// How long the path is, or this if it is longer.
const PATH_LEN: u16 = 0x0fff;

/// Whether a cached tree is whole, and within the bounds.
fn is_flat(data: &[u8], hash: usize) -> bool {
    trees(data, hash).is_some()
}

fn trees(data: &[u8], hash: usize) -> Option<()> {
    // How many directories are still to come in each that is above.
    let mut above = vec![1_u32];
    let mut at = 0;
    let mut count = 0;
    while let Some(rest) = above.last_mut() {
        let Some(less) = rest.checked_sub(1) else {
            above.pop();
            continue;
        };
        *rest = less;
        at += terminated(data, at)? + 1;
        let line = data.get(at..)?;
        let len = line.iter().take(MAX_NUMBERS).position(|byte| *byte == b'\n')?;
        let (entries, below) = std::str::from_utf8(&line[..len]).ok()?.split_once(' ')?;
        at += len + 1;
        if entries.parse::<i32>().ok()? >= 0 {
            at += hash;
        }
        count += 1;
        above.push(below.parse().ok()?);
        if count > MAX_TREES || above.len() > MAX_DEPTH + 1 {
            return None;
        }
    }
    (at == data.len()).then_some(())
}

/// The longest line with the two numbers of a directory, in bytes.
const MAX_NUMBERS: usize = 32;

/// A number of few digits in base 128, as in packs.
fn number(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0;
    // More than any path is long.
    for digit in 0..3 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value = (value << 7) + usize::from(byte & 0x7f) + if digit == 0 { 0 } else { 1 << 7 };
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// How many bytes there are before the next NUL.
fn terminated(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.find_byte(0)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?;
    two.try_into().ok().map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    four.try_into().ok().map(u32::from_be_bytes)
}
