//! Removal of trees: those that are too many, and those that cannot be brought to a commit.

use std::fs;

use super::{
    super::{DIR, Error, id::Id, retention::Sorted},
    Trees,
};
use crate::base::words::typed;

/// With so many trees that can be neither removed nor brought to a commit, no other is made: each may be as large as a release.
const MAX_STUCK: usize = 4;

impl Trees<'_> {
    /// Mark the tree that was begun as stuck: it cannot be brought to its commit. True if another tree may do better, since this one
    /// was made of the spare.
    pub fn is_stuck(&mut self) -> Result<bool, Error> {
        let begun = self.of_spare.take();
        match begun.and_then(|id| self.record.tree_mut(&id)) {
            Some(tree) => tree.is_stuck = true,
            None => return Ok(false),
        }
        self.write()?;
        Ok(true)
    }

    /// Remove trees that are stuck. An error if too many cannot be removed.
    pub(super) fn clear_stuck(&mut self) -> Result<(), Error> {
        let stuck = self.record.trees.iter().filter(|tree| tree.is_stuck);
        let stuck: Vec<Id> = stuck.map(|tree| tree.id.clone()).collect();
        let mut left = self.remove(&stuck)?;
        match (left.pop(), left.len() + 1) {
            (Some((id, err)), count) if count >= MAX_STUCK => {
                let others = left.into_iter().map(|(id, _)| id);
                Err(Error::Stuck {
                    path: self.site.path.as_path().join(DIR).display().to_string(),
                    source: Box::new(err),
                    command: self.command(others.chain([id])),
                    count,
                })
            }
            _ => Ok(()),
        }
    }

    /// Remove trees that are too many. Gives warnings about those that cannot be removed; the next run tries again.
    pub fn prune(&mut self, repo: &gix::Repository, has_switched: bool) -> Result<Vec<String>, Error> {
        let Sorted { surplus, .. } = self.sorted();
        let stays = self.remove(&surplus)?;
        if has_switched || !surplus.is_empty() {
            self.unpin(repo)?;
        }
        let said = |(id, err)| format!("{err} (as root, type: {})", self.command([id]));
        Ok(stays.into_iter().map(said).collect())
    }

    /// Remove the spare tree, and those that are too many, to free space. True if one was removed.
    pub fn give_up_spare(&mut self) -> bool {
        let Sorted { spare, surplus, .. } = self.sorted();
        let ids: Vec<Id> = spare.into_iter().chain(surplus).collect();
        for id in &ids {
            // Frees some space for the record, which is written before a tree is removed.
            fs::remove_file(self.index(id)).ok();
        }
        self.remove(&ids).is_ok_and(|left| left.len() < ids.len())
    }

    /// Remove the trees `ids`. Gives those that could not be removed, and why.
    fn remove(&mut self, ids: &[Id]) -> Result<Vec<(Id, Error)>, Error> {
        let mut left = Vec::new();
        if ids.is_empty() {
            return Ok(left);
        }
        for tree in &mut self.record.trees {
            tree.is_whole &= !ids.contains(&tree.id);
        }
        self.write()?;
        for id in ids {
            match self.layout()?.remove(id) {
                Ok(()) => self.record.trees.retain(|tree| tree.id != *id),
                Err(err) => left.push((id.clone(), err)),
            }
        }
        self.write()?;
        self.sweep();
        Ok(left)
    }

    /// The command that removes the trees `ids`.
    fn command(&self, ids: impl IntoIterator<Item = Id>) -> String {
        let paths = ids.into_iter().map(|id| self.path(&id).display().to_string());
        typed(["rm".to_owned(), "-rf".into()].into_iter().chain(paths))
    }
}
