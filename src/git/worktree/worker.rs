//! What one thread writes files with: compares what is there with what should be, and puts that in its place.

use std::{io, os::fd::BorrowedFd};

use gix::{
    bstr::BStr,
    index::entry::{Mode, Stat},
};

use super::{
    Error,
    content::{Bytes, Content},
    context::Options,
    dirs::{self, Dirs, Kind, Meta},
    file,
    notice::Notices,
};

/// What one thread has for itself.
pub(super) struct Worker<'w> {
    pub(super) options: &'w Options<'w>,
    pub(super) repo: &'w gix::Repository,
    pub(super) dirs: Dirs,
    pub(super) content: Content<'w>,
}

/// An entry of the new index, and what is in its place.
pub(super) struct TrackedFile<'a> {
    pub(super) id: gix::ObjectId,
    pub(super) mode: Mode,
    pub(super) path: &'a BStr,
    pub(super) there: Option<&'a Meta>,
}

impl Worker<'_> {
    /// What `file` should hold, unless it does.
    pub(super) fn difference(
        &mut self,
        file: &TrackedFile<'_>,
        notices: &mut Notices,
    ) -> Result<Option<Bytes>, Error> {
        let bytes = self.content.of(file.id, file.mode, file.path, notices)?;
        let is_right = file.there.is_some_and(|there| self.is_right(file, there, &bytes));
        Ok((!is_right).then_some(bytes))
    }

    /// Whether what is there could not be told from what would be written, except for its age.
    fn is_right(&mut self, file: &TrackedFile<'_>, there: &Meta, bytes: &[u8]) -> bool {
        self.is_alike(file, there, bytes.len() as u64) && self.read(file).is_some_and(|now| now == bytes)
    }

    /// As far as that can be told without reading it.
    pub(super) fn is_alike(&self, file: &TrackedFile<'_>, there: &Meta, size: u64) -> bool {
        let is_alike = match there.kind {
            Kind::Symlink => file.mode == Mode::SYMLINK,
            Kind::File => {
                file.mode != Mode::SYMLINK
                    && there.permissions == file::permissions(file.mode, self.options.rights)
                    && there.links == 1
            }
            Kind::Dir | Kind::Other => false,
        };
        is_alike
            && there.uid == rustix::process::geteuid().as_raw()
            && self.options.rights.has_group(there.stat.gid)
            && there.size == size
    }

    pub(super) fn read(&mut self, file: &TrackedFile<'_>) -> Option<Vec<u8>> {
        let (dir, name) = dirs::split(file.path);
        file::read(self.dirs.get(dir).ok()??, name, file.there?)
    }

    pub(super) fn replace(&mut self, file: &TrackedFile<'_>, bytes: &[u8]) -> io::Result<Stat> {
        let rights = self.options.rights;
        let (dir, name) = self.place(file)?;
        file::write(dir, name, file.mode, rights, bytes)
    }

    /// The directory and the name of `file`, where there is no directory of that name any more.
    pub(super) fn place<'s>(&'s mut self, file: &TrackedFile<'s>) -> io::Result<(BorrowedFd<'s>, &'s BStr)> {
        let (dir, name) = dirs::split(file.path);
        let dir = self.dirs.make(dir)?;
        // `scan` made sure that nothing in it is to be kept. It may have gone with the last file in it.
        if file.there.is_some_and(|there| there.kind == Kind::Dir)
            && dirs::meta(dir, name)?.is_some_and(|there| there.kind == Kind::Dir)
        {
            dirs::remove_tree(dir, name)?;
        }
        Ok((dir, name))
    }
}
