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

/// The objects met so far.
pub(super) struct Reach<'a> {
    db: &'a gix::odb::HandleArc,
    met: HashSet,
    /// Of these, those met since [`Self::begin_again`].
    fresh: Vec<ObjectId>,
    /// Commits whose parents do not count.
    shallow: HashSet,
    /// A commit without parents that is needed.
    beginning: Option<ObjectId>,
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
            beginning: None,
        }
    }

    /// A commit without parents, if one was met that is needed.
    pub(super) fn beginning(&self) -> Option<ObjectId> {
        self.beginning
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

    /// What was met since then.
    pub(super) fn fresh(&self) -> &[ObjectId] {
        &self.fresh
    }

    /// Meet `root` and everything it leads to.
    pub(super) fn follow(&mut self, root: ObjectId, worth: Worth) -> Result<(), Error> {
        let mut stack = Vec::new();
        self.meet(root, &mut stack);
        let mut buf = Vec::new();
        while let Some(id) = stack.pop() {
            if !self.expand(&id, worth, &mut buf, &mut stack)? {
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
    fn expand(
        &mut self,
        id: &ObjectId,
        worth: Worth,
        buf: &mut Vec<u8>,
        stack: &mut Vec<ObjectId>,
    ) -> Result<bool, Error> {
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
                let mut has_parents = false;
                for token in gix::objs::CommitRefIter::from_bytes(data.data, id.kind()) {
                    match token.map_err(failed)? {
                        Token::Tree { id } => self.meet(id, stack),
                        Token::Parent { id } => {
                            has_parents = true;
                            if !is_cut {
                                self.meet(id, stack);
                            }
                        }
                        _ => break,
                    }
                }
                if !has_parents && worth == Worth::Needed {
                    self.beginning = Some(*id);
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
