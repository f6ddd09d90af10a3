//! Which commits are new: those that tips lead to, and what is known to be complete does not.

use std::collections::BinaryHeap;

use gix::{
    ObjectId,
    hashtable::{HashMap, HashSet},
    objs::Kind,
};

use super::objects::{Missing, Objects, Root};

/// Parents of all commits that are met: more would be no history, but a trap. Each takes 33 bytes.
const MAX_PARENTS: usize = 8_000_000;

/// Finds the commits that are new, the newest first. One that is found too many, as clocks were wrong, only costs time.
pub(super) struct RevWalk<'a> {
    objects: &'a Objects,
    cut: HashSet,
    met: HashMap<ObjectId, Node>,
    /// Commits whose parents have not been met yet, by time.
    queue: BinaryHeap<(i64, ObjectId)>,
    /// How many of these are new.
    waiting: usize,
    /// The tree of the first commit that is known: one without parents may be like it.
    usual: Option<ObjectId>,
    /// How many parents all commits have that were met.
    parents: usize,
    buf: Vec<u8>,
}

struct Node {
    tree: ObjectId,
    parents: Vec<ObjectId>,
    is_known: bool,
    /// Its parents have been met.
    is_expanded: bool,
}

impl<'a> RevWalk<'a> {
    pub(super) fn new(objects: &'a Objects, cut: HashSet) -> Self {
        Self {
            objects,
            cut,
            met: HashMap::default(),
            queue: BinaryHeap::new(),
            waiting: 0,
            usual: None,
            parents: 0,
            buf: Vec::new(),
        }
    }

    /// `id` leads to nothing new. It may not be here at all.
    pub(super) fn know(&mut self, id: ObjectId) {
        if let Some(node) = self.met.get_mut(&id) {
            if !node.is_known && !node.is_expanded {
                node.is_known = true;
                self.waiting -= 1;
            }
            return;
        }
        let Ok((id, Kind::Commit)) = self.objects.peel(id) else {
            return;
        };
        if !self.met.contains_key(&id) && self.load(id, true).is_ok() && self.usual.is_none() {
            self.usual = self.met.get(&id).map(|node| node.tree);
        }
    }

    pub(super) fn meet(&mut self, id: ObjectId, of: ObjectId) -> Result<(), Box<Missing>> {
        if !self.met.contains_key(&id) {
            self.load(id, false).map_err(|mut missing| {
                missing.of = Some(of).filter(|of| *of != id);
                missing
            })?;
            self.waiting += 1;
        }
        Ok(())
    }

    fn load(&mut self, id: ObjectId, is_known: bool) -> Result<(), Box<Missing>> {
        let commit = self.objects.commit(&id, &mut self.buf)?;
        let parents = if self.cut.contains(&id) {
            Vec::new()
        } else {
            commit.parents
        };
        self.parents += parents.len();
        if self.parents > MAX_PARENTS {
            return Err(Box::new(Missing {
                id,
                kind: Kind::Commit,
                of: None,
                path: None,
                reason: Some(format!("its history has more than {MAX_PARENTS} parents")),
            }));
        }
        self.queue.push((commit.time, id));
        self.met.insert(
            id,
            Node {
                tree: commit.tree,
                parents,
                is_known,
                is_expanded: false,
            },
        );
        Ok(())
    }

    pub(super) fn run(mut self) -> Result<Vec<Root>, Box<Missing>> {
        let mut new = Vec::new();
        while self.waiting > 0
            && let Some((_, id)) = self.queue.pop()
        {
            let Some(node) = self.met.get_mut(&id) else {
                continue;
            };
            node.is_expanded = true;
            let parents = node.parents.clone();
            if node.is_known {
                parents.into_iter().for_each(|id| self.know(id));
                continue;
            }
            self.waiting -= 1;
            new.push(id);
            for parent in parents {
                self.meet(parent, id)?;
            }
        }
        Ok(new.into_iter().filter_map(|id| self.root(id)).collect())
    }

    fn root(&self, id: ObjectId) -> Option<Root> {
        let node = self.met.get(&id)?;
        // Without anything known, each tree is read once for itself, which is cheaper than by comparing.
        let base = match self.usual {
            Some(usual) => {
                let parent = node.parents.first().and_then(|parent| self.met.get(parent));
                Some(parent.map_or(usual, |parent| parent.tree))
            }
            None => None,
        };
        Some(Root {
            of: id,
            tree: node.tree,
            base,
        })
    }
}
