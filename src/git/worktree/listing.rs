//! What is in a directory: listed once, then asked for name by name, until what was not asked for is left.
//!
//! It only reads, and knows nothing but names.

use std::{io, ops::Range, os::fd::BorrowedFd};

use gix::bstr::{BStr, ByteSlice};
use rustix::fs::{FileType, RawDir};

/// The names in one directory, and which of them have been asked for. To be used for one after the other.
#[derive(Default)]
pub(super) struct Listing {
    buffer: Vec<u8>,
    text: Vec<u8>,
    /// Sorted by name.
    names: Vec<Name>,
    /// What is asked for next, as a rule.
    next: usize,
}

struct Name {
    at: Range<usize>,
    kind: Listed,
    is_seen: bool,
}

/// What a listing tells of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    Dir,
    Other,
    /// Not every file system says.
    Unknown,
}

impl Listed {
    pub(super) fn may_be_dir(self) -> bool {
        self != Self::Other
    }
}

impl Listing {
    pub(super) fn read(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.text.clear();
        self.names.clear();
        self.next = 0;
        self.buffer.reserve(LISTING_BYTES);
        let mut dir = RawDir::new(fd, self.buffer.spare_capacity_mut());
        while let Some(entry) = dir.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let start = self.text.len();
            self.text.extend_from_slice(name);
            self.names.push(Name {
                at: start..self.text.len(),
                kind: match entry.file_type() {
                    FileType::Directory => Listed::Dir,
                    FileType::Unknown => Listed::Unknown,
                    _ => Listed::Other,
                },
                is_seen: false,
            });
        }
        let text = &self.text;
        self.names
            .sort_unstable_by(|a, b| text[a.at.clone()].cmp(&text[b.at.clone()]));
        Ok(())
    }

    pub(super) fn see(&mut self, name: &BStr) -> Option<Listed> {
        let text = &self.text;
        let is_next = |next: &Name| text[next.at.clone()] == **name;
        let at = if self.names.get(self.next).is_some_and(is_next) {
            self.next
        } else {
            let found = self
                .names
                .binary_search_by(|probe| text[probe.at.clone()].cmp(name));
            found.ok()?
        };
        self.next = at + 1;
        let name = self.names.get_mut(at)?;
        name.is_seen = true;
        Some(name.kind)
    }

    /// The names that were not asked for.
    pub(super) fn unseen(&self) -> impl Iterator<Item = &BStr> {
        let unseen = self.names.iter().filter(|name| !name.is_seen);
        unseen.map(|name| self.text[name.at.clone()].as_bstr())
    }
}

/// What glibc and git read of a directory at a time.
const LISTING_BYTES: usize = 32 * 1024;
