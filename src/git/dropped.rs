//! Commits that a branch no longer leads to once it has moved: what a forced push has thrown away, and what was never pushed.
//!
//! Where clocks were wrong, it may name too many, never too few.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, Ordering},
};

use gix::ObjectId;

use super::revwalk::{Commit, RevWalk, SLOP};
use crate::{base::report::Named, git::repository};

/// How many commits are looked at. A second's work; what is further back counts as dropped.
const MAX_COMMITS: usize = 200_000;

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
    let cut = repository::cut(repo).unwrap_or_default();
    let mut is_cut = false;
    let read = |id: ObjectId, _| -> Result<_, Infallible> {
        let found = repo.find_commit(id).ok();
        // What nobody but git can read may be lost all the same.
        let mut found = found.map(|commit| Commit::parse_some(&commit.data, id.kind()));
        if found.is_none() || cut.contains(&id) {
            is_cut = true;
        }
        if let Some(commit) = found.as_mut().filter(|_| cut.contains(&id)) {
            commit.parents.clear();
        }
        Ok(found)
    };
    let mut walk = RevWalk::new(read);
    for id in held {
        let Ok(()) = walk.hold(*id);
    }
    for id in tips {
        let Ok(()) = walk.meet(*id, *id);
    }
    let goes_on = |count| Ok(count <= MAX_COMMITS && !over.load(Ordering::Relaxed));
    let Ok(commits) = walk.run(SLOP, goes_on);
    let nodes = walk.nodes;
    let is_here = |id: &ObjectId| nodes.contains_key(id);
    let ends = commits.iter().any(|id| {
        cut.contains(id)
            || nodes
                .get(id)
                .is_some_and(|node| !node.parents.iter().all(is_here))
    });
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
        is_cut,
        ends,
    }
}
