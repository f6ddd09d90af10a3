//! How much of a pack has come, whatever becomes of it.

use std::io::{self, BufRead, Read};

/// What `from` brings, and how many bytes of it were used.
pub(super) struct Counted<'a> {
    pub(super) from: &'a mut dyn BufRead,
    pub(super) bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buf)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

impl BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.bytes += amount as u64;
        self.from.consume(amount);
    }
}
