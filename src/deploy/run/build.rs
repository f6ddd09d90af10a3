//! A release from its files to its being live, and good.

use gix::ObjectId;

use super::{Error, NO_MARK, UnderWay, update_options};
use crate::{deploy::stage::Stage, git::worktree};

/// Run the hooks at Build in the tree that is being made, and remember what they leave.
pub(super) fn build(
    repo: &gix::Repository,
    commit: ObjectId,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
) -> Result<(), Error> {
    if stage.release().is_none() {
        return Ok(());
    }
    // core: hooks at Build.
    let has_built = false;
    if has_built {
        let options = update_options(under_way, stage, NO_MARK);
        let altered = worktree::altered(repo, commit, &options)?;
        stage.built(&altered, 0, under_way.target.site.fsync)?;
    }
    Ok(())
}

/// Let the tree be live. Says whether it is another one than before.
pub(super) fn switch(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
) -> Result<bool, Error> {
    if stage.release().is_some() {
        // From here on the hooks are owed.
        under_way.changes().map_err(|source| {
            crate::deploy::release::Error::io("mark the run in", under_way.git_dir())(source)
        })?;
    }
    Ok(stage.switch(repo)?)
}

/// What is live is good.
pub(super) fn good(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
) -> Result<(), Error> {
    for message in stage.judge(repo, true)? {
        under_way.context.events.warn(message);
    }
    Ok(())
}
