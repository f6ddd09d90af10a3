//! What is alive: everything that roots lead to.
//!
//! Invariant: an object that was met has been followed to its end, so that whatever stays has all it refers to,
//! as far as it is there. gix fetches nothing when the tip exists, without a look at what the tip needs.

use gix::{
    ObjectId,
    hashtable::HashSet,
    objs::{FindHeader as _, Kind, commit::ref_iter::Token},
};
use gix_pack::Find as _;

use super::Error;

/// Objects that are met: each takes 70 bytes, and as many again while what is alive is written.
const MAX_OBJECTS: usize = 1_800_000;

pub(super) struct Reach<'a> {
    db: &'a gix::odb::HandleArc,
    met: HashSet,
    /// The objects that were met since [`Self::begin_again`].
    fresh: Vec<ObjectId>,
    /// Commits whose parents do not count.
    shallow: HashSet,
    /// Whether trees count, and all in them.
    with_trees: bool,
    limit: usize,
}

/// What a root is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// All it leads to has to be there: otherwise nothing is touched.
    Needed,
    /// Something may be missing already.
    Kept,
}

impl<'a> Reach<'a> {
    pub(super) fn new(db: &'a gix::odb::HandleArc, shallow: HashSet) -> Self {
        Self {
            db,
            met: HashSet::default(),
            fresh: Vec::new(),
            shallow,
            with_trees: true,
            limit: MAX_OBJECTS,
        }
    }

    /// The reach of commits and tags alone.
    pub(super) fn of_history(db: &'a gix::odb::HandleArc, shallow: HashSet) -> Self {
        Self {
            with_trees: false,
            ..Self::new(db, shallow)
        }
    }

    pub(super) fn has(&self, id: &ObjectId) -> bool {
        self.met.contains(id)
    }

    /// Time has passed, and the boundary may be another one. What is met from now on is [`Self::fresh`]. Whether
    /// the boundary has only grown: what was cut off before is not followed now.
    pub(super) fn begin_again(&mut self, shallow: HashSet) -> bool {
        let has_grown = self.shallow.iter().all(|id| shallow.contains(id));
        self.shallow = shallow;
        self.fresh.clear();
        has_grown
    }

    pub(super) fn fresh(&self) -> &[ObjectId] {
        &self.fresh
    }

    /// Meet `root` and everything it leads to.
    pub(super) fn follow(&mut self, root: ObjectId, worth: Worth) -> Result<(), Error> {
        let mut stack = Vec::new();
        self.meet(root, &mut stack);
        let mut buf = Vec::new();
        while let Some(id) = stack.pop() {
            let is_there = self.expand(&id, &mut buf, &mut stack)?;
            let limit = self.limit;
            if self.met.len() > limit {
                return Err(Error::TooMany { limit });
            }
            if !is_there {
                // It may come with a later fetch, and has to be followed then.
                self.met.remove(&id);
                if worth == Worth::Needed {
                    return Err(Error::Missing { id });
                }
            }
        }
        Ok(())
    }

    fn meet(&mut self, id: ObjectId, stack: &mut Vec<ObjectId>) {
        if self.add(id) {
            stack.push(id);
        }
    }

    fn add(&mut self, id: ObjectId) -> bool {
        let is_new = self.met.insert(id);
        if is_new {
            self.fresh.push(id);
        }
        is_new
    }

    /// Meet what `id` refers to; whether it is there.
    fn expand(&mut self, id: &ObjectId, buf: &mut Vec<u8>, stack: &mut Vec<ObjectId>) -> Result<bool, Error> {
        let failed = |source: gix::Error| Error::object(id, &source);
        // The kind alone spares inflating blobs that are roots.
        match self.db.try_header(id).map_err(failed)? {
            None => return Ok(false),
            Some(header) if header.kind == Kind::Blob => return Ok(true),
            Some(_) => {}
        }
        let Some((data, _)) = self.db.try_find(id, buf).map_err(failed)? else {
            return Ok(false);
        };
        match data.kind {
            Kind::Blob => {}
            Kind::Tree if !self.with_trees => {}
            Kind::Tree => {
                for entry in gix::objs::TreeRefIter::from_bytes(data.data, id.kind()) {
                    let entry = entry.map_err(failed)?;
                    let target = entry.oid.to_owned();
                    if entry.mode.is_tree() {
                        self.meet(target, stack);
                    } else if !entry.mode.is_commit() {
                        self.add(target);
                    }
                }
            }
            Kind::Commit => {
                let is_cut = self.shallow.contains(id);
                for token in gix::objs::CommitRefIter::from_bytes(data.data, id.kind()) {
                    match token.map_err(failed)? {
                        Token::Tree { id } if self.with_trees => self.meet(id, stack),
                        Token::Parent { id } if !is_cut => self.meet(id, stack),
                        Token::Tree { .. } | Token::Parent { .. } => {}
                        _ => break,
                    }
                }
            }
            Kind::Tag => {
                let target = gix::objs::TagRefIter::from_bytes(data.data, id.kind());
                self.meet(target.target_id().map_err(failed)?, stack);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn too_many_objects() {
        let dir = crate::machine::tempdir().unwrap();
        let repo = gix::init_bare(dir.path()).unwrap();
        let mut tree = gix::objs::Tree::empty();
        for name in 0..10 {
            tree.entries.push(gix::objs::tree::Entry {
                mode: gix::objs::tree::EntryKind::Blob.into(),
                filename: name.to_string().into(),
                oid: repo.write_blob(name.to_string()).unwrap().detach(),
            });
        }
        let root = repo.write_object(&tree).unwrap().detach();
        let db = repo.objects.clone().into_inner();
        for (limit, fits) in [(10, false), (11, true)] {
            let mut reach = Reach::new(&db, HashSet::default());
            reach.limit = limit;
            let followed = reach.follow(root, Worth::Needed);
            assert_eq!(followed.is_ok(), fits, "{followed:?}");
        }
    }
}
