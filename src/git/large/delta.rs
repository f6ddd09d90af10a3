//! What a delta makes of its base (gitformat-pack(5), "Deltified representation").

use std::io::{self, BufRead, Write};

use super::content::{Content, copied, corrupt};

/// The length of a copy that gives none.
const DEFAULT_COPY: u64 = 0x10000;

/// Read the beginning of a delta: the size that it comes to. Its base must be `base`.
pub fn sizes(delta: &mut impl BufRead, base: &Content) -> io::Result<u64> {
    let of_base = number(delta)?;
    let of_result = number(delta)?;
    if of_base == base.size() {
        Ok(of_result)
    } else {
        Err(corrupt("a delta was made for another base"))
    }
}

/// Write what the rest of `delta` makes of `base` to `out`: exactly `size` bytes.
pub fn apply(
    base: &Content,
    delta: &mut impl BufRead,
    size: u64,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    let mut left = size;
    while let Some(command) = next(delta)? {
        let (count, from) = match command {
            0 => return Err(corrupt("a delta has an unknown instruction")),
            command if command & 0x80 != 0 => {
                let (at, count) = copy(command, delta)?;
                (count, Some(at))
            }
            command => (command.into(), None),
        };
        left = left
            .checked_sub(count)
            .ok_or_else(|| corrupt("a delta comes to more than it says"))?;
        match from {
            Some(at) => base.copy(at, count, out)?,
            None => insert(delta, count, out)?,
        }
    }
    match left {
        0 => Ok(()),
        _ => Err(corrupt("a delta comes to less than it says")),
    }
}

/// Where a copy begins in the base, and its length.
fn copy(command: u8, delta: &mut impl BufRead) -> io::Result<(u64, u64)> {
    let mut fields = [0_u64; 2];
    for bit in 0..7 {
        if command & (1 << bit) != 0 {
            let (field, shift) = (usize::from(bit >= 4), 8 * (bit % 4));
            fields[field] |= u64::from(must(delta)?) << shift;
        }
    }
    let [at, count] = fields;
    Ok((at, if count == 0 { DEFAULT_COPY } else { count }))
}

fn insert(delta: &mut impl BufRead, count: u64, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let there = delta.fill_buf()?;
    let most = usize::try_from(count).unwrap_or_default();
    match there.get(..most) {
        Some(bytes) => {
            out.write_all(bytes)?;
            delta.consume(most);
            Ok(())
        }
        None => copied(delta, out, count),
    }
}

/// A size, seven bits a byte, the lowest first.
pub fn number(delta: &mut impl BufRead) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let byte = must(delta)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(corrupt("a delta gives a size that does not end"))
}

fn must(delta: &mut impl BufRead) -> io::Result<u8> {
    next(delta)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn next(delta: &mut impl BufRead) -> io::Result<Option<u8>> {
    let byte = delta.fill_buf()?.first().copied();
    if byte.is_some() {
        delta.consume(1);
    }
    Ok(byte)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::git::large::Scratch;

    #[test]
    fn deltas_are_undone_or_refused() {
        let dir = crate::machine::tempdir().unwrap();
        let scratch = Scratch::new(dir.path());
        // Sizes of base and result, then: copy 2 from 1, insert `xy`.
        let good = [4, 4, 0x91, 1, 2, 2, b'x', b'y'];
        for limit in [4, 0] {
            let base = scratch.content(4, limit, |out| out.write_all(b"abcd")).unwrap();
            let undo = |delta: &[u8]| {
                let mut delta = delta;
                let size = sizes(&mut delta, &base)?;
                let mut out = Vec::new();
                apply(&base, &mut delta, size, &mut out).map(|()| out)
            };
            assert_eq!(undo(&good).unwrap(), b"bcxy");
            let bad: [&[u8]; 8] = [
                &[5, 4, 0x91, 1, 2, 2, b'x', b'y'],
                &[4, 3, 0x91, 1, 2, 2, b'x', b'y'],
                &[4, 5, 0x91, 1, 2, 2, b'x', b'y'],
                &[4, 4, 0x91, 3, 2, 2, b'x', b'y'],
                &[4, 4, 0x91, 1, 2, 3, b'x', b'y'],
                &[4, 4, 0, 1, 2, 2],
                &[4, 4, 0x91, 1],
                &[0xff; 12],
            ];
            for bad in bad {
                assert!(undo(bad).is_err(), "{bad:?}");
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
