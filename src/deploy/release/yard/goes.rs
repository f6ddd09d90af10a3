//! Trees go: those that are too many, and those that cannot be brought to a commit.

use super::{
    super::{Error, trees::Sorted},
    Yard,
};

impl Yard<'_> {
    /// The tree that was begun cannot be brought to its commit. Says whether another one may do: not if it was made for this.
    pub fn is_stuck(&mut self) -> Result<bool, Error> {
        let begun = self.of_spare.take();
        match begun.and_then(|id| self.record.tree_mut(&id)) {
            Some(tree) => tree.is_stuck = true,
            None => return Ok(false),
        }
        self.write()?;
        Ok(true)
    }

    /// Remove trees that are too many. What cannot be removed is named, and is tried again.
    pub fn prune(&mut self, repo: &gix::Repository, has_switched: bool) -> Result<Vec<String>, Error> {
        let Sorted { surplus, .. } = self.sorted();
        let mut stays = Vec::new();
        if !surplus.is_empty() {
            for tree in self
                .record
                .trees
                .iter_mut()
                .filter(|tree| surplus.contains(&tree.id))
            {
                tree.is_whole = false;
            }
            self.write()?;
            for id in &surplus {
                match self.ground()?.remove(id) {
                    Ok(()) => self.record.trees.retain(|tree| tree.id != *id),
                    Err(err) => stays.push(err.to_string()),
                }
            }
            self.write()?;
            self.sweep();
        }
        if has_switched || !surplus.is_empty() {
            self.unpin(repo)?;
        }
        Ok(stays)
    }
}
