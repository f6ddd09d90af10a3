//! Whether the disk has room for an update, as far as that can be known: one that does not fit is refused before anything
//! changes, and does not leave a half of each.
//!
//! What files will take is added up, what makes way for them is taken off. A file is written beside the one that it
//! replaces, a file system has blocks of its own and may compress: so what seems to fit may fail all the same, see `left`.

use bytesize::ByteSize;

use super::{
    Context, Error,
    dirs::{Kind, Meta},
    plan::Plan,
    stored::Stored,
};
use crate::base::durable::{self, FreeSpace};

/// What an update does to the disk, in bytes.
#[derive(Default)]
pub(super) struct Needed {
    comes: u64,
    goes: u64,
}

impl Needed {
    /// A file of `size` bytes comes to where `there` is now.
    pub(super) fn add(&mut self, size: u64, there: Option<&Meta>) {
        let goes = there.filter(|there| there.kind == Kind::File && there.links == 1);
        self.comes = self.comes.saturating_add(size);
        self.goes = self.goes.saturating_add(goes.map_or(0, |there| there.size));
    }

    /// An error if the disk has no room for it.
    pub(super) fn check(mut self, cx: &Context<'_>, plan: &Plan<'_>, old: &Stored) -> Result<(), Error> {
        if self.comes <= self.goes {
            return Ok(());
        }
        for gone in &plan.delete {
            if let Some(entry) = old.index.entry_by_path(gone.path.as_ref()) {
                self.goes = self.goes.saturating_add(entry.stat.size.into());
            }
        }
        let root = cx.options.root.as_path();
        let needed = self.comes.saturating_sub(self.goes);
        // A file system that does not say how full it is tells when it is.
        match durable::free_space(root) {
            Ok(Some(FreeSpace { left, .. })) if left < needed => Err(Error::Space {
                path: root.into(),
                needed: ByteSize(needed),
                left: ByteSize(left),
            }),
            _ => Ok(()),
        }
    }
}
