//! Commits that a branch no longer leads to once it has moved: what a forced push has thrown away, and what was never pushed.
//!
//! The newest are looked at first, and the walk ends once nothing is left that may be one of them. Where clocks were wrong
//! it may name too many, never too few.

use std::{
    collections::BinaryHeap,
    sync::atomic::{AtomicBool, Ordering},
};

use gix::{
    ObjectId,
    hashtable::{HashMap, HashSet},
};

use crate::base::report::Named;

/// How many commits are looked at. A second's work; what is further back counts as dropped.
const MAX_COMMITS: usize = 200_000;
/// How many commits older than the oldest that may be dropped are looked at, in case clocks were wrong.
const SLOP: usize = 16;

/// Commits that history leads to no longer.
#[derive(Debug, Default)]
pub struct Dropped {
    /// The commits, the newest first: abbreviated ids, each with its subject.
    pub commits: Named,
    /// History ends in between, as in a shallow clone: they may be in what replaces them all the same.
    pub is_cut: bool,
    /// History ends at one of them.
    ends: bool,
}

/// The commits that `tips` lead to and `new` does not. Where history is cut, that is known only of those that `pushed` do not
/// lead to either, which the remote had before: they are the ones that were never pushed.
pub fn replaced(
    repo: &gix::Repository,
    tips: &[ObjectId],
    (pushed, new): (impl Iterator<Item = ObjectId>, ObjectId),
    over: &AtomicBool,
) -> Named {
    let found = dropped(repo, tips, &[new], over);
    if !found.is_cut {
        return found.commits;
    }
    let held: Vec<ObjectId> = pushed.chain([new]).collect();
    let found = dropped(repo, tips, &held, over);
    if found.ends {
        Named::default()
    } else {
        found.commits
    }
}

/// The commits that `tips` lead to and `held` do not.
pub fn dropped(repo: &gix::Repository, tips: &[ObjectId], held: &[ObjectId], over: &AtomicBool) -> Dropped {
    if tips.iter().all(|tip| held.contains(tip)) {
        return Dropped::default();
    }
    let cut = repo.shallow_commits().ok().flatten();
    let mut walk = RevWalk {
        repo,
        cut: cut.iter().flat_map(|cut| cut.iter().copied()).collect(),
        nodes: HashMap::default(),
        queue: BinaryHeap::new(),
        waiting: 0,
        is_cut: false,
    };
    held.iter().for_each(|id| walk.hold(*id));
    for id in tips {
        walk.meet(*id);
    }
    let mut commits = walk.run(over);
    commits.retain(|id| walk.nodes.get(id).is_some_and(|node| !node.is_held));
    let ends = |id| walk.nodes.get(id).is_some_and(|node: &Node| node.is_end);
    let ends = commits.iter().any(ends);
    let mut named = Named::default();
    for id in commits {
        let subject = repo.find_commit(id).ok().and_then(|commit| {
            let message = commit.message().ok()?;
            Some(message.summary().to_string())
        });
        named.note(format!(
            "{} {}",
            id.to_hex_with_len(7),
            subject.unwrap_or_default()
        ));
    }
    Dropped {
        commits: named,
        is_cut: walk.is_cut,
        ends,
    }
}

struct RevWalk<'r> {
    repo: &'r gix::Repository,
    cut: HashSet,
    nodes: HashMap<ObjectId, Node>,
    /// The commits whose parents have not been met yet, by time.
    queue: BinaryHeap<(i64, ObjectId)>,
    /// How many of them may be dropped.
    waiting: usize,
    /// History ends at one that was met.
    is_cut: bool,
}

struct Node {
    parents: Vec<ObjectId>,
    is_held: bool,
    /// Its parents have been met.
    is_expanded: bool,
    /// Not all of its parents are here.
    is_end: bool,
}

impl RevWalk<'_> {
    /// The commits that were not held when their turn came.
    fn run(&mut self, over: &AtomicBool) -> Vec<ObjectId> {
        let (mut commits, mut oldest, mut slop) = (Vec::new(), i64::MAX, SLOP);
        while let Some((time, id)) = self.queue.pop() {
            let Some(node) = self.nodes.get_mut(&id) else {
                continue;
            };
            node.is_expanded = true;
            let (is_held, parents) = (node.is_held, node.parents.clone());
            if !is_held {
                self.waiting -= 1;
                oldest = oldest.min(time);
                commits.push(id);
            }
            for parent in parents {
                let is_here = if is_held {
                    self.hold(parent);
                    true
                } else {
                    self.meet(parent)
                };
                if !is_here && let Some(node) = self.nodes.get_mut(&id) {
                    node.is_end = true;
                }
            }
            match self.waiting {
                0 if commits.is_empty() => break,
                0 if time < oldest => slop -= 1,
                _ => slop = SLOP,
            }
            if slop == 0 || self.nodes.len() > MAX_COMMITS || over.load(Ordering::Relaxed) {
                break;
            }
        }
        commits
    }

    /// Meet the commit `id`. Says whether it is there.
    fn meet(&mut self, id: ObjectId) -> bool {
        if self.nodes.contains_key(&id) {
            return true;
        }
        let is_here = self.load(id, false);
        self.waiting += usize::from(is_here);
        is_here
    }

    /// `id` is held, and all that it leads to.
    fn hold(&mut self, id: ObjectId) {
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            match self.nodes.get_mut(&id) {
                Some(node) if node.is_held => {}
                Some(node) => {
                    node.is_held = true;
                    if node.is_expanded {
                        stack.extend_from_slice(&node.parents)
                    } else {
                        self.waiting -= 1
                    }
                }
                None => {
                    self.load(id, true);
                }
            }
        }
    }

    /// Read a commit and queue it. Says whether it is there.
    fn load(&mut self, id: ObjectId, is_held: bool) -> bool {
        let Ok(commit) = self.repo.find_commit(id) else {
            self.is_cut = true;
            return false;
        };
        let is_cut = self.cut.contains(&id);
        self.is_cut |= is_cut;
        let parents = if is_cut {
            Vec::new()
        } else {
            commit.parent_ids().map(gix::Id::detach).collect()
        };
        let time = commit.time().map_or(0, |time| time.seconds);
        self.queue.push((time, id));
        self.nodes.insert(
            id,
            Node {
                parents,
                is_held,
                is_expanded: false,
                is_end: is_cut,
            },
        );
        true
    }
}
