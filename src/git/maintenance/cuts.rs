//! Forgets cuts of history that nothing leads to any more: with `depth` each update makes one, and every fetch tells the
//! remote of all of them.
//!
//! The commits themselves stay until garbage is collected. Refs, HEADs and reflogs do not lead to them, and what git finds
//! beside these may lack its parents. A git that is at work writes its cut before its ref: so only those are forgotten that
//! were there when the cuts were last looked at, which `gitsocket/cuts` has.

use std::path::Path;

use gix::hashtable::HashSet;

use super::{
    Error, Outcome,
    checkpoint::{Checkpoint, seconds},
    install,
    packs::Inventory,
    reach::{Reach, Worth},
    reflog::Policy,
    roots::Roots,
    task,
    task::Maintenance,
};
use crate::base::durable::{Access, Flush, Replace};

/// What was there when the cuts were last looked at.
const SEEN: &str = "gitsocket/cuts";

impl Maintenance<'_> {
    /// Forget cuts that nothing leads to, and lines of reflogs that do.
    pub(super) fn uncut(&self, repo: &gix::Repository, inventory: &Inventory) -> Result<Outcome, Error> {
        let db = repo.objects.clone().into_inner();
        let policy = Policy::of(repo, self.now, self.options.depth.is_bounded());
        let git_dir = self.options.git_dir;
        let mut reach = Reach::of_history(&db, install::shallow(git_dir)?);
        self.follow_history(repo, policy, &mut reach)?;

        let _lock = self.lock()?;
        let _mark = self.mark()?;
        // What has come meanwhile.
        if !reach.begin_again(install::shallow(git_dir)?) {
            return Ok(Outcome::Overtaken);
        }
        self.follow_history(repo, policy, &mut reach)?;
        let seen = install::cuts(&git_dir.join(SEEN)).unwrap_or_default();
        if !self.expire_reflogs(policy, &reach)? {
            return Ok(Outcome::Overtaken);
        }
        install::prune_shallow(git_dir, &|id| reach.has(id) || !seen.contains(id))?;
        let left = install::shallow(git_dir)?;
        remember(git_dir, &left)?;
        let checkpoint = Checkpoint {
            cuts: left.iter().filter(|id| reach.has(id)).count() as u64,
            looked: seconds(self.now),
            depth: task::bound(self.options.depth).or(self.checkpoint.depth),
            ..self.checkpoint.clone()
        };
        checkpoint.write(git_dir)?;
        Ok(Outcome::Uncut(inventory.cuts.saturating_sub(left.len() as u64)))
    }

    /// Follow all that leads to commits, as it is now.
    fn follow_history(
        &self,
        repo: &gix::Repository,
        policy: Policy,
        reach: &mut Reach<'_>,
    ) -> Result<(), Error> {
        Roots::of_history(repo, policy)?.follow(reach)?;
        for id in (self.options.pinned)() {
            reach.follow(id, Worth::Kept)?;
        }
        Ok(())
    }
}

fn remember(git_dir: &Path, cuts: &HashSet) -> Result<(), Error> {
    let path = git_dir.join(SEEN);
    let text: String = cuts.iter().map(|id| format!("{id}\n")).collect();
    Replace::by(&path.with_extension("tmp"), Access::Usual, Flush::Nothing)
        .write(&path, text.as_bytes())
        .map_err(|err| Error::io("write", &path, err))
}
