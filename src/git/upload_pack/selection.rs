//! Which commits the client lacks: those that the wanted ones lead to, less those that its own lead to.

use gix::{
    ObjectId,
    hashtable::{HashMap, HashSet},
};

use super::{Error, source::Source};
use crate::git::revwalk::{Node, RevWalk, SLOP};

/// What the client lacks.
pub(super) struct Selection {
    /// The commits to send, the oldest first.
    pub(super) commits: Vec<ObjectId>,
    nodes: HashMap<ObjectId, Node>,
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
    // Commits that were met, and parents of theirs.
    let mut links = 0;
    // Some that the client has may be missing here, if another push brought it on.
    let mut walk = RevWalk::new(|id: ObjectId, of: Option<ObjectId>| {
        let mut commit = match (source.objects.commit(&id), of) {
            (Ok(Some(commit)), _) => commit,
            (Ok(None), Some(_)) => return Err(Error::Missing { id }),
            (Err(err), Some(_)) => return Err(err),
            (_, None) => return Ok(None),
        };
        if cut.contains(&id) {
            commit.parents.clear();
        }
        links += 1 + commit.parents.len();
        source.check_count(links)?;
        Ok(Some(commit))
    });
    for id in haves {
        walk.hold(*id)?;
    }
    for id in wants {
        walk.meet(*id, *id)?;
    }
    let mut commits = walk.run(SLOP, |_| source.check().map(|()| true))?;
    commits.reverse();
    Ok(Selection {
        commits,
        nodes: walk.nodes,
    })
}
