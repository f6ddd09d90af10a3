//! What is known of a pack's objects while it comes in.

use gix::{ObjectId, objs::Kind};

/// No parent.
pub(super) const NONE: u32 = u32::MAX;

/// What is known of a pack's objects, in their order.
pub(super) struct Table {
    pub(super) hash: gix::hash::Kind,
    pub(super) offsets: Vec<u64>,
    pub(super) crcs: Vec<u32>,
    /// The ids, one after the other, with nothing between them.
    pub(super) ids: Vec<u8>,
    /// `None` for a delta that is not undone yet.
    pub(super) kinds: Vec<Option<Kind>>,
    /// Which object a delta is based on, if that is given by its place.
    pub(super) parents: Vec<u32>,
    /// Deltas whose base is given by its id.
    pub(super) refs: Vec<(ObjectId, u32)>,
    pub(super) end: u64,
    pub(super) checksum: ObjectId,
}

impl Table {
    pub(super) fn new(hash: gix::hash::Kind) -> Self {
        Self {
            hash,
            offsets: Vec::new(),
            crcs: Vec::new(),
            ids: Vec::new(),
            kinds: Vec::new(),
            parents: Vec::new(),
            refs: Vec::new(),
            end: 0,
            checksum: hash.null(),
        }
    }

    pub(super) fn push(&mut self, offset: u64, crc: u32, whole: Option<(Kind, ObjectId)>, parent: u32) {
        self.offsets.push(offset);
        self.crcs.push(crc);
        let id = whole.map_or(self.hash.null(), |(_, id)| id);
        self.ids.extend_from_slice(id.as_slice());
        self.kinds.push(whole.map(|(kind, _)| kind));
        self.parents.push(parent);
    }

    /// Where the entry of the object `at` is.
    pub(super) fn range(&self, at: usize) -> std::ops::Range<u64> {
        self.offsets[at]..self.offsets.get(at + 1).copied().unwrap_or(self.end)
    }

    /// The objects that are deltas of another one whose place they give: by it, and the one that most is based on first.
    pub(super) fn children(&self) -> Vec<u32> {
        let mut weights = vec![1_u32; self.parents.len()];
        let mut children = Vec::new();
        for (at, parent) in self.parents.iter().enumerate().rev() {
            if *parent != NONE {
                weights[*parent as usize] = weights[*parent as usize].saturating_add(weights[at]);
                children.push(u32::try_from(at).unwrap_or(NONE));
            }
        }
        let key = |at: &u32| (self.parents[*at as usize], u32::MAX - weights[*at as usize]);
        children.sort_unstable_by_key(key);
        children
    }
}
