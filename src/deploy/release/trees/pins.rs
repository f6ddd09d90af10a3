//! Refs that keep the commits of releases, so that damaged files can be written again.

use gix::ObjectId;

use super::{
    super::{Error, id::Id, record::Tree, retention::Sorted},
    Trees,
};
use crate::git::refs;

impl Trees<'_> {
    /// Delete the refs of trees that are neither live, nor kept, nor were live until now.
    pub(super) fn unpin(&self, repo: &gix::Repository) -> Result<(), Error> {
        let Sorted { kept, spare, .. } = self.sorted();
        let needs = |tree: &&Tree| {
            let is_kept = kept.contains(&tree.id) || self.live.as_ref() == Some(&tree.id);
            tree.is_whole && (is_kept || Some(&tree.id) != spare.as_ref())
        };
        let needed: Vec<String> = self
            .record
            .trees
            .iter()
            .filter(needs)
            .map(|tree| pin_of(&tree.id))
            .collect();
        for name in refs::below(repo, PINS) {
            if !needed.contains(&name) {
                refs::delete(repo, &name).map_err(unpinned)?;
            }
        }
        Ok(())
    }
}

const PINS: &str = "refs/gitsocket/releases/";

fn pin_of(id: &Id) -> String {
    format!("{PINS}{id}")
}

pub(super) fn pin(repo: &gix::Repository, id: &Id, commit: ObjectId) -> Result<(), Error> {
    refs::hold(repo, &pin_of(id), commit).map_err(unpinned)
}

fn unpinned(err: refs::Error) -> Error {
    Error::Ref(Box::new(err))
}
