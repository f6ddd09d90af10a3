//! The commits that some lead to and others do not.
//!
//! The newest are looked at first, and the walk ends once nothing is left that may be one of them. Where clocks were wrong
//! it may find too many, never too few: only what those that are held lead to is left out.

use std::collections::BinaryHeap;

use gix::{
    ObjectId,
    hashtable::HashMap,
    objs::{CommitRefIter, commit::ref_iter::Token},
};

/// How many commits older than the oldest that was found are looked at, in case clocks were wrong and one too many counts.
pub(super) const SLOP: usize = 16;

pub(super) struct Commit {
    /// Null where there is none.
    pub(super) tree: ObjectId,
    pub(super) parents: Vec<ObjectId>,
    /// Seconds since the epoch, as its committer said.
    pub(super) time: i64,
}

impl Commit {
    pub(super) fn parse(data: &[u8], format: gix::hash::Kind) -> Result<Self, gix::Error> {
        let mut commit = Self::empty(format);
        commit.read(data, format)?;
        Ok(commit)
    }

    /// The commit as far as `data` makes sense: git reads one whose author has no mail address.
    pub(super) fn parse_some(data: &[u8], format: gix::hash::Kind) -> Self {
        let mut commit = Self::empty(format);
        commit.read(data, format).ok();
        commit
    }

    fn empty(format: gix::hash::Kind) -> Self {
        Self {
            tree: format.null(),
            parents: Vec::new(),
            time: 0,
        }
    }

    fn read(&mut self, data: &[u8], format: gix::hash::Kind) -> Result<(), gix::Error> {
        for token in CommitRefIter::from_bytes(data, format) {
            match token? {
                Token::Tree { id } => self.tree = id,
                Token::Parent { id } => self.parents.push(id),
                Token::Committer { signature } => {
                    self.time = signature.seconds();
                    break;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A commit that was met.
pub(super) struct Node {
    pub(super) tree: ObjectId,
    pub(super) parents: Vec<ObjectId>,
    pub(super) is_held: bool,
    /// Its parents have been met.
    is_expanded: bool,
}

/// A walk over the commits that `read` gives, where they are there; to each that is not held, it is told what led there.
pub(super) struct RevWalk<R> {
    read: R,
    pub(super) nodes: HashMap<ObjectId, Node>,
    /// The commits whose parents have not been met yet, by time.
    queue: BinaryHeap<(i64, ObjectId)>,
    /// How many of them are not held.
    waiting: usize,
}

impl<R, E> RevWalk<R>
where
    R: FnMut(ObjectId, Option<ObjectId>) -> Result<Option<Commit>, E>,
{
    pub(super) fn new(read: R) -> Self {
        Self {
            read,
            nodes: HashMap::default(),
            queue: BinaryHeap::new(),
            waiting: 0,
        }
    }

    /// `id` is not to be found, nor is what it leads to. It may not be here at all: then it holds nothing.
    pub(super) fn hold(&mut self, id: ObjectId) -> Result<(), E> {
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
                None => drop(self.load(id, None)?),
            }
        }
        Ok(())
    }

    /// `id` is to be found, as `of` leads there.
    pub(super) fn meet(&mut self, id: ObjectId, of: ObjectId) -> Result<(), E> {
        if !self.nodes.contains_key(&id) && self.load(id, Some(of))? {
            self.waiting += 1;
        }
        Ok(())
    }

    /// Read a commit and queue it; whether it is there.
    fn load(&mut self, id: ObjectId, of: Option<ObjectId>) -> Result<bool, E> {
        let Some(Commit { tree, parents, time }) = (self.read)(id, of)? else {
            return Ok(false);
        };
        self.queue.push((time, id));
        let node = Node {
            tree,
            parents,
            is_held: of.is_none(),
            is_expanded: false,
        };
        self.nodes.insert(id, node);
        Ok(true)
    }

    /// The commits that are not held, the newest first. Where `slop` is 0, clocks are trusted. The walk goes on while `goes_on`,
    /// which is told how many commits were met.
    pub(super) fn run(
        &mut self,
        slop: usize,
        mut goes_on: impl FnMut(usize) -> Result<bool, E>,
    ) -> Result<Vec<ObjectId>, E> {
        let (mut commits, mut oldest, mut left) = (Vec::new(), i64::MAX, slop);
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
                if is_held {
                    self.hold(parent)?
                } else {
                    self.meet(parent, id)?
                }
            }
            left = match self.waiting {
                0 if time < oldest => left.saturating_sub(1),
                _ => slop,
            };
            let is_over = self.waiting == 0 && (commits.is_empty() || left == 0);
            if is_over || !goes_on(self.nodes.len())? {
                break;
            }
        }
        commits.retain(|id| self.nodes.get(id).is_some_and(|node| !node.is_held));
        Ok(commits)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        convert::Infallible,
    };

    use super::*;
    use crate::machine;

    type Ids = BTreeSet<ObjectId>;

    /// Each commit, with its parents and its time.
    type History = BTreeMap<ObjectId, (Vec<ObjectId>, i64)>;

    fn id(number: usize) -> ObjectId {
        ObjectId::from_hex(format!("{number:040x}").as_bytes()).unwrap()
    }

    fn history(rng: &mut fastrand::Rng, count: usize, skew: i64) -> History {
        let mut history = History::new();
        for number in 0..count {
            // Mostly a recent one; and one may stand there twice.
            let count = rng.usize(..4);
            let parents = (0..count).filter(|_| number > 0).map(|_| {
                let recent = if rng.bool() { number.min(5) } else { number };
                id(number - 1 - rng.usize(..recent))
            });
            let parents = parents.collect();
            history.insert(id(number), (parents, 60 * number as i64 + rng.i64(-skew..=skew)));
        }
        history
    }

    fn led_to(history: &History, from: &[ObjectId]) -> Ids {
        let (mut found, mut stack) = (Ids::new(), from.to_vec());
        while let Some(id) = stack.pop() {
            if let Some((parents, _)) = history.get(&id)
                && found.insert(id)
            {
                stack.extend_from_slice(parents);
            }
        }
        found
    }

    fn found(history: &History, (wanted, held): (&[ObjectId], &[ObjectId]), slop: usize) -> Vec<ObjectId> {
        let mut walk = RevWalk::new(|id: ObjectId, _| {
            let commit = history.get(&id).map(|(parents, time)| Commit {
                tree: id,
                parents: parents.clone(),
                time: *time,
            });
            Ok::<_, Infallible>(commit)
        });
        for id in held {
            let Ok(()) = walk.hold(*id);
        }
        for id in wanted {
            let Ok(()) = walk.meet(*id, *id);
        }
        let Ok(found) = walk.run(slop, |_| Ok(true));
        assert_eq!(walk.waiting, 0);
        found
    }

    /// What `wanted` lead to and `held` do not is found, each once; where no clock was wrong, nothing else is.
    #[test]
    fn never_too_few() {
        let mut rng = fastrand::Rng::with_seed(machine::seed());
        let mut too_many = 0;
        for round in 0..machine::rounds(1_000) {
            let skew = [0, 0, 100, 100_000][round % 4];
            let count = rng.usize(1..60);
            let history = history(&mut rng, count, skew);
            // Some are not there.
            let some = |rng: &mut fastrand::Rng, most| -> Vec<ObjectId> {
                (0..rng.usize(..most))
                    .map(|_| id(rng.usize(..count + 1)))
                    .collect()
            };
            let (wanted, held) = (some(&mut rng, 4), some(&mut rng, 5));
            let all = led_to(&history, &wanted);
            let expected = &all - &led_to(&history, &held);
            for slop in [0, SLOP, usize::MAX] {
                let list = found(&history, (&wanted, &held), slop);
                let found: Ids = list.iter().copied().collect();
                let what = format!("round {round}, {slop}: {wanted:?} without {held:?} in {history:?}");
                assert_eq!(found.len(), list.len(), "{what}");
                assert!(found.is_superset(&expected) && found.is_subset(&all), "{what}");
                too_many += found.len() - expected.len();
                if skew == 0 || slop == usize::MAX {
                    assert_eq!(found, expected, "{what}");
                }
            }
        }
        assert!(too_many > 0, "no clock was wrong enough");
    }
}
