//! Whether everything that a commit leads to is here: a ref may hold it only then.
//!
//! A pack that holds all that its objects name ([`Whole`]) needs no more. Otherwise
//! commits are walked from the new ones back to those that are known to be complete, or to where history is cut; of each,
//! the tree is compared with its parent's, and only what differs is looked at. Trees are read once, blobs are looked up:
//! their content was hashed when their pack was indexed. Nothing recurses, and memory grows with the number of objects.

use std::sync::atomic::AtomicBool;

use gix::{ObjectId, hashtable::HashSet, objs::Kind};

use crate::git::{intake::Whole, repository};

mod commits;
mod objects;
mod trees;
pub use objects::Missing;
use objects::{Objects, Root};
use trees::Trees;

/// Bytes of unpacked trees that each thread keeps: most are changes of one that was read a moment ago.
const CACHE_BYTES: usize = 32 << 20;

/// Whether `tip` and all that it leads to is in the pack that came.
pub fn is_in(repo: &gix::Repository, tip: ObjectId, pack: &Whole) -> bool {
    pack.has(&tip)
        && (pack.cut().is_empty() || {
            let cut = cut(repo);
            pack.cut().iter().all(|id| cut.contains(id))
        })
}

/// Commits whose parents are not to be here.
fn cut(repo: &gix::Repository) -> HashSet {
    repository::cut(repo).unwrap_or_default()
}

/// Whether all that `tips` lead to is here, as far as `known` do not lead there already. Ends early, with an error, once
/// `over` is set.
pub fn check(
    repo: &gix::Repository,
    tips: &[ObjectId],
    known: &[ObjectId],
    over: &AtomicBool,
) -> Result<(), Box<Missing>> {
    let mut objects = repo.objects.clone();
    objects.set_pack_cache(|| Box::new(gix_pack::cache::lru::MemoryCappedHashmap::new(CACHE_BYTES)));
    let objects = Objects(objects.into_inner());
    let (mut wanted, mut roots) = (Vec::new(), Vec::new());
    for tip in tips {
        match objects.peel(*tip)? {
            (id, Kind::Commit) => wanted.push((id, *tip)),
            (id, Kind::Tree) => roots.push(Root {
                of: *tip,
                tree: id,
                base: None,
            }),
            _ => {}
        }
    }
    roots.extend(commits::new(&objects, &cut(repo), &wanted, known, over)?);
    Trees::new(&roots, over).check(&objects).map_err(|mut missing| {
        missing.path = missing.of.and_then(|of| objects.path(of, missing.id));
        missing
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
