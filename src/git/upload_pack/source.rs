//! What is served: a repository, and until when the client wants it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Error, objects::Objects};
use crate::git::large::Scratch;

/// Objects that are looked through for one fetch, the parents of commits included: as many as a fetch takes in. Each
/// takes some 200 bytes.
const MAX_OBJECTS: usize = 4_000_000;
/// How many bytes of unpacked objects are kept.
const PACK_CACHE_BYTES: usize = 64 << 20;

pub(super) struct Source<'a> {
    pub(super) repo: gix::Repository,
    pub(super) objects: Objects,
    pub(super) scratch: Scratch,
    pub(super) stop: &'a AtomicBool,
    pub(super) max_objects: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        mut repo: gix::Repository,
        scratch: Scratch,
        stop: &'a AtomicBool,
    ) -> Result<Self, Error> {
        // Packs that `git gc` deletes are needed until the last byte is sent.
        repo.objects.prevent_pack_unload();
        // Trees are long chains of deltas, and all of them are read for a clone: this makes it twice as fast.
        repo.objects
            .set_pack_cache(|| Box::new(gix_pack::cache::lru::MemoryCappedHashmap::new(PACK_CACHE_BYTES)));
        let objects = Objects::new(repo.objects.clone().into_inner(), repo.object_hash());
        Ok(Self {
            repo,
            objects,
            scratch,
            stop,
            max_objects: MAX_OBJECTS,
        })
    }

    /// The same, without the packs in memory: while the client looks through its pack it has nothing to ask.
    pub(super) fn again(self) -> Result<Self, Error> {
        let repo = crate::git::repository::open_source(self.repo.git_dir());
        let repo = repo.map_err(|source| Error::Repository {
            what: "its configuration",
            source,
        })?;
        Self::new(repo, self.scratch, self.stop)
    }

    /// Fail if the client is gone.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) {
            Err(Error::Stopped)
        } else {
            Ok(())
        }
    }

    /// Fail if the client is gone, or if `count` objects are too many.
    pub(super) fn check_count(&self, count: usize) -> Result<(), Error> {
        let limit = self.max_objects;
        if count > limit {
            Err(Error::TooMany { limit })
        } else {
            self.check()
        }
    }

    pub(super) fn matches(&self, theirs: gix::hash::Kind) -> Result<(), Error> {
        let ours = self.repo.object_hash();
        if ours == theirs {
            Ok(())
        } else {
            Err(Error::ObjectFormat { ours, theirs })
        }
    }
}
