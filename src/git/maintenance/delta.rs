//! What turns one object into another, as packs store it (gitformat-pack(5), "Deltified representation").
//!
//! Pure. Finds what is equal by blocks of the base, as git's diff-delta does.

use std::collections::HashMap;

/// The shortest equal run that is looked for, in bytes.
const BLOCK: usize = 16;
/// The longest run that one instruction copies.
const MAX_COPY: usize = 0x1_0000;
/// The longest text that one instruction inserts.
const MAX_INSERT: usize = 0x7f;

/// The instructions that make `target` of `base`. `None`: they would be longer than `target`.
pub(super) fn encode(base: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    // Copies name places in the base in 32 bits.
    u32::try_from(base.len()).ok()?;
    let blocks: HashMap<u128, usize> = base
        .chunks_exact(BLOCK)
        .enumerate()
        .rev()
        .filter_map(|(n, block)| Some((key(block)?, n * BLOCK)))
        .collect();
    let mut out = Vec::new();
    size(base.len(), &mut out);
    size(target.len(), &mut out);
    let (mut at, mut inserted) = (0, 0);
    while let Some(window) = target.get(at..at + BLOCK) {
        let Some(&found) = key(window).and_then(|key| blocks.get(&key)) else {
            at += 1;
            continue;
        };
        let before = common(base[..found].iter().rev(), target[inserted..at].iter().rev());
        let after = common(base[found..].iter(), target[at..].iter());
        insert(&target[inserted..at - before], &mut out);
        copy(found - before, before + after, &mut out);
        at += after;
        inserted = at;
        if out.len() >= target.len() {
            return None;
        }
    }
    insert(&target[inserted..], &mut out);
    (out.len() < target.len()).then_some(out)
}

fn key(block: &[u8]) -> Option<u128> {
    block.try_into().ok().map(u128::from_ne_bytes)
}

/// How many bytes are equal in both.
fn common<'a>(a: impl Iterator<Item = &'a u8>, b: impl Iterator<Item = &'a u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

/// Seven bits a byte, the lowest first.
fn size(mut size: usize, out: &mut Vec<u8>) {
    while size > 0x7f {
        out.push(0x80 | (size & 0x7f) as u8);
        size >>= 7;
    }
    out.push(size as u8);
}

fn insert(text: &[u8], out: &mut Vec<u8>) {
    for part in text.chunks(MAX_INSERT) {
        out.push(part.len() as u8);
        out.extend_from_slice(part);
    }
}

/// A bit for each byte that follows: four of the offset, three of the size, the lowest first, zeros left out.
fn copy(mut offset: usize, mut length: usize, out: &mut Vec<u8>) {
    while length > 0 {
        let now = length.min(MAX_COPY);
        let first = out.len();
        out.push(0x80);
        // A size of none stands for the longest.
        let sizes = if now == MAX_COPY { 0 } else { now };
        let bytes = (0..4)
            .map(|n| (n, offset >> (8 * n)))
            .chain((0..3).map(|n| (4 + n, sizes >> (8 * n))));
        for (bit, byte) in bytes {
            if byte & 0xff != 0 {
                out[first] |= 1 << bit;
                out.push(byte as u8);
            }
        }
        offset += now;
        length -= now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the specification says it, for the test alone.
    fn apply(base: &[u8], delta: &[u8]) -> Vec<u8> {
        let mut bytes = delta.iter().copied();
        let mut size = || {
            let (mut size, mut shift) = (0usize, 0);
            loop {
                let byte = bytes.next().unwrap();
                size |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    return size;
                }
            }
        };
        let (from, to) = (size(), size());
        assert_eq!(from, base.len());
        let mut out = Vec::new();
        while let Some(op) = bytes.next() {
            if op & 0x80 == 0 {
                assert_ne!(op, 0);
                out.extend(bytes.by_ref().take(usize::from(op)));
                continue;
            }
            let mut field = |bits: std::ops::Range<u32>| {
                bits.clone()
                    .filter(|bit| op & (1 << bit) != 0)
                    .map(|bit| usize::from(bytes.next().unwrap()) << (8 * (bit - bits.start)))
                    .sum::<usize>()
            };
            let (offset, size) = (field(0..4), field(4..7));
            let size = if size == 0 { 0x1_0000 } else { size };
            out.extend_from_slice(&base[offset..offset + size]);
        }
        assert_eq!(out.len(), to);
        out
    }

    #[test]
    fn what_was_made_can_be_undone() {
        let mut rng = fastrand::Rng::with_seed(crate::machine::seed());
        let mut made = 0;
        for _ in 0..300 {
            let length = *[0, 5, 40, 2_000, 200_000]
                .map(|most| rng.usize(0..=most))
                .iter()
                .max()
                .unwrap();
            let letters = rng.u8(1..=255);
            let base: Vec<u8> = std::iter::repeat_with(|| rng.u8(0..letters))
                .take(length)
                .collect();
            let mut target = base.clone();
            for _ in 0..rng.usize(0..6) {
                let at = rng.usize(0..=target.len());
                let to = rng.usize(at..=target.len().min(at + 300));
                let length = rng.usize(0..200);
                let new: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
                target.splice(at..to, new);
                if rng.bool() {
                    let at = rng.usize(0..=target.len());
                    target.rotate_left(at);
                }
            }
            if let Some(delta) = encode(&base, &target) {
                made += 1;
                assert!(delta.len() < target.len());
                assert!(apply(&base, &delta) == target);
            }
        }
        assert!(made > 100, "{made}");
    }

    #[test]
    fn a_change_in_the_middle_costs_little() {
        let base: Vec<u8> = (0..4000u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
            .collect();
        let mut target = base.clone();
        target[8000..8020].fill(7);
        assert!(encode(&base, &target).unwrap().len() < 100);
        assert_eq!(encode(b"", b"something else"), None);
        assert_eq!(encode(&base, b""), None);
    }
}
