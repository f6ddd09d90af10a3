//! Which commits the client lacks: those that the wanted ones lead to, less those that its own lead to.
//!
//! The newest are looked at first, and the walk ends once nothing wanted is left to look at. Where clocks
//! were wrong it may find too many commits to send, but never too few: only ancestors of what
//! the client has are ever hidden.

use std::collections::BinaryHeap;

use gix::{
    ObjectId,
    hashtable::{HashMap, HashSet},
};

use super::{Error, source::Source};

/// How many commits older than the oldest wanted one are looked at, in case clocks were wrong.
const SLOP: usize = 16;

/// What the client lacks.
pub(super) struct Selection {
    /// The commits to send, the oldest first.
    pub(super) commits: Vec<ObjectId>,
    nodes: HashMap<ObjectId, Node>,
}

/// A commit, as far as a selection is concerned.
pub(super) struct Node {
    pub(super) tree: ObjectId,
    /// Empty where history is cut.
    pub(super) parents: Vec<ObjectId>,
    /// The client has it.
    pub(super) hidden: bool,
    /// Its parents have been met.
    expanded: bool,
}

impl Selection {
    pub(super) fn node(&self, id: &ObjectId) -> Option<&Node> {
        self.nodes.get(id)
    }
}

/// The commits that `wants` lead to, but `haves` do not; the parents of those in `cut` do not count.
pub(super) fn select(
    source: &Source<'_>,
    wants: &[ObjectId],
    haves: &[ObjectId],
    cut: &HashSet,
) -> Result<Selection, Error> {
    let mut walk = RevWalk {
        source,
        cut,
        nodes: HashMap::default(),
        queue: BinaryHeap::new(),
        waiting: 0,
        links: 0,
    };
    for id in haves {
        walk.hide(*id)?;
    }
    for id in wants {
        walk.meet(*id)?;
    }
    let mut commits = walk.run()?;
    commits.retain(|id| walk.nodes.get(id).is_some_and(|node| !node.hidden));
    commits.reverse();
    Ok(Selection {
        commits,
        nodes: walk.nodes,
    })
}

struct RevWalk<'a> {
    source: &'a Source<'a>,
    cut: &'a HashSet,
    nodes: HashMap<ObjectId, Node>,
    /// The commits whose parents have not been met yet, by time.
    queue: BinaryHeap<(i64, ObjectId)>,
    /// How many of them are not hidden.
    waiting: usize,
    /// Commits that were met, and parents of theirs.
    links: usize,
}

impl RevWalk<'_> {
    /// The commits that were not hidden when their turn came.
    fn run(&mut self) -> Result<Vec<ObjectId>, Error> {
        let (mut commits, mut oldest, mut slop) = (Vec::new(), i64::MAX, SLOP);
        while let Some((time, id)) = self.queue.pop() {
            self.source.check()?;
            let Some(node) = self.nodes.get_mut(&id) else {
                continue;
            };
            node.expanded = true;
            let (hidden, parents) = (node.hidden, node.parents.clone());
            if !hidden {
                self.waiting -= 1;
                oldest = oldest.min(time);
                commits.push(id);
            }
            for parent in parents {
                if hidden {
                    self.hide(parent)?
                } else {
                    self.meet(parent)?
                }
            }
            match self.waiting {
                0 if commits.is_empty() => break,
                0 if time < oldest => slop -= 1,
                _ => slop = SLOP,
            }
            if slop == 0 {
                break;
            }
        }
        Ok(commits)
    }

    /// Look at a commit that is wanted.
    fn meet(&mut self, id: ObjectId) -> Result<(), Error> {
        if !self.nodes.contains_key(&id) {
            if self.load(id, false)? {
                self.waiting += 1
            } else {
                return Err(Error::Missing { id });
            }
        }
        Ok(())
    }

    /// Hide a commit that the client has, and all of its ancestors that were met already.
    /// Some may be missing here, if another push brought the client on: they hide nothing.
    fn hide(&mut self, id: ObjectId) -> Result<(), Error> {
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            match self.nodes.get_mut(&id) {
                Some(node) if node.hidden => {}
                Some(node) => {
                    node.hidden = true;
                    if node.expanded {
                        stack.extend_from_slice(&node.parents)
                    } else {
                        self.waiting -= 1
                    }
                }
                None => {
                    self.load(id, true)?;
                }
            }
        }
        Ok(())
    }

    /// Read a commit and queue it; whether it is there.
    fn load(&mut self, id: ObjectId, hidden: bool) -> Result<bool, Error> {
        let commit = match self.source.objects.commit(&id) {
            Ok(Some(commit)) => commit,
            Ok(None) => return Ok(false),
            Err(_) if hidden => return Ok(false),
            Err(err) => return Err(err),
        };
        let parents = if self.cut.contains(&id) {
            Vec::new()
        } else {
            commit.parents
        };
        self.links += 1 + parents.len();
        self.source.check_count(self.links)?;
        self.queue.push((commit.time, id));
        let node = Node {
            tree: commit.tree,
            parents,
            hidden,
            expanded: false,
        };
        self.nodes.insert(id, node);
        Ok(true)
    }
}
