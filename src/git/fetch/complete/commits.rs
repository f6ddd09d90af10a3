//! Which commits are new: those that tips lead to, and what is known to be complete does not.

use std::sync::atomic::{AtomicBool, Ordering};

use gix::{ObjectId, hashtable::HashSet, objs::Kind};

use super::objects::{Missing, Objects, Root};
use crate::git::revwalk::RevWalk;

/// Parents of all commits that are met: more would be no history, but a trap. Each takes 33 bytes.
const MAX_PARENTS: usize = 8_000_000;

/// The trees of the commits that are new, the newest first. One that is found too many, as clocks were wrong, only costs time.
/// Each of `wanted` is a commit, and what leads there. What is `known` may not be here at all. Ends
/// early, with an error, once `over` is set.
pub(super) fn new(
    objects: &Objects,
    cut: &HashSet,
    wanted: &[(ObjectId, ObjectId)],
    known: &[ObjectId],
    over: &AtomicBool,
) -> Result<Vec<Root>, Box<Missing>> {
    let (mut parents, mut buf) = (0, Vec::new());
    // The tree of the first commit that is known: one without parents may be like it.
    let mut usual = None;
    let mut walk = RevWalk::new(|id: ObjectId, of: Option<ObjectId>| {
        if over.load(Ordering::Relaxed) {
            return Err(Missing::late(id, Kind::Commit));
        }
        let read = objects.commit(&id, &mut buf).and_then(|mut commit| {
            if cut.contains(&id) {
                commit.parents.clear();
            }
            parents += commit.parents.len();
            if parents <= MAX_PARENTS {
                return Ok(commit);
            }
            Err(Box::new(Missing {
                id,
                kind: Kind::Commit,
                of: None,
                path: None,
                reason: Some(format!("its history has more than {MAX_PARENTS} parents")),
            }))
        });
        match (read, of) {
            (Ok(commit), Some(_)) => Ok(Some(commit)),
            (Ok(commit), None) => {
                usual.get_or_insert(commit.tree);
                Ok(Some(commit))
            }
            (Err(mut missing), Some(of)) => {
                missing.of = Some(of).filter(|of| *of != id);
                Err(missing)
            }
            (Err(_), None) => Ok(None),
        }
    });
    for id in known {
        if let Ok((id, Kind::Commit)) = objects.peel(*id) {
            walk.hold(id)?;
        }
    }
    for (id, of) in wanted {
        walk.meet(*id, *of)?;
    }
    let commits = walk.run(0, |_| Ok(true))?;
    let nodes = walk.nodes;
    let root = |id: ObjectId| {
        let node = nodes.get(&id)?;
        // Without anything known, each tree is read once for itself, which is cheaper than by comparing.
        let base = usual.map(|usual| {
            let parent = node.parents.first().and_then(|parent| nodes.get(parent));
            parent.map_or(usual, |parent| parent.tree)
        });
        Some(Root {
            of: id,
            tree: node.tree,
            base,
        })
    };
    Ok(commits.into_iter().filter_map(root).collect())
}
