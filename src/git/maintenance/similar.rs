//! Which objects are worth a delta: those that were at the same path one commit earlier.

use gix::{
    ObjectId,
    bstr::BString,
    hashtable::HashMap,
    objs::{CommitRefIter, Kind, TreeRefIter},
};
use gix_pack::Find as _;

use super::Error;

/// For objects that `commits` have changed, what was in their place in the first parent.
pub(super) fn predecessors(
    db: &gix::odb::HandleArc,
    commits: impl Iterator<Item = ObjectId>,
) -> Result<HashMap<ObjectId, ObjectId>, Error> {
    let mut pairs = HashMap::default();
    for id in commits {
        let Some((tree, Some(parent))) = commit(db, &id)? else {
            continue;
        };
        if let Some((before, _)) = commit(db, &parent)? {
            pair(db, tree, before, &mut pairs)?;
        }
    }
    Ok(pairs)
}

/// The tree and the first parent of a commit, if it is there.
fn commit(db: &gix::odb::HandleArc, id: &ObjectId) -> Result<Option<(ObjectId, Option<ObjectId>)>, Error> {
    let failed = |err: gix::Error| Error::object(id, &err);
    let mut buf = Vec::new();
    let Some((data, _)) = db.try_find(id, &mut buf).map_err(failed)? else {
        return Ok(None);
    };
    if data.kind != Kind::Commit {
        return Ok(None);
    }
    let mut commit = CommitRefIter::from_bytes(data.data, id.kind());
    let tree = commit.tree_id().map_err(failed)?;
    Ok(Some((tree, commit.parent_ids().next())))
}

/// Pair the tree `new` and what is in it with the tree `old` and what is in that.
fn pair(
    db: &gix::odb::HandleArc,
    new: ObjectId,
    old: ObjectId,
    pairs: &mut HashMap<ObjectId, ObjectId>,
) -> Result<(), Error> {
    let mut stack = vec![(new, old)];
    while let Some((new, old)) = stack.pop() {
        if new == old || pairs.contains_key(&new) {
            continue;
        }
        pairs.insert(new, old);
        let old: std::collections::HashMap<_, _> = entries(db, &old)?
            .into_iter()
            .map(|(name, id, is_tree)| (name, (id, is_tree)))
            .collect();
        for (name, id, is_tree) in entries(db, &new)? {
            match old.get(&name) {
                Some((before, true)) if is_tree => stack.push((id, *before)),
                Some((before, false)) if !is_tree && id != *before => {
                    pairs.entry(id).or_insert(*before);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Names and ids of what a tree holds, except submodules, and whether it is a tree. None if it is not there.
fn entries(db: &gix::odb::HandleArc, id: &ObjectId) -> Result<Vec<(BString, ObjectId, bool)>, Error> {
    let failed = |err: gix::Error| Error::object(id, &err);
    let mut buf = Vec::new();
    let Some((data, _)) = db.try_find(id, &mut buf).map_err(failed)? else {
        return Ok(Vec::new());
    };
    TreeRefIter::from_bytes(data.data, id.kind())
        .filter(|entry| entry.as_ref().is_ok_and(|entry| !entry.mode.is_commit()))
        .map(|entry| {
            let entry = entry.map_err(failed)?;
            Ok((
                entry.filename.to_owned(),
                entry.oid.to_owned(),
                entry.mode.is_tree(),
            ))
        })
        .collect()
}
