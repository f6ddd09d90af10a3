//! The clone of the first run: the repository is built in a temporary directory, and appears whole.

use super::{Error, NO_MARK, Reached, hold, under_way::UnderWay, update_options, whole};
use crate::{
    deploy::existing,
    git::{fetch, origin::Revision, refs::Tip, worktree},
};

/// The repository of a new clone, with everything fetched and no files yet.
pub(super) fn clone(under_way: &UnderWay<'_>) -> Result<(gix::Repository, fetch::Outcome), Error> {
    let target = under_way.target;
    let (building, fetched) = build_clone(under_way)?;
    hold(building.repo(), target, &fetched)?;
    let branch = match &fetched.tip {
        Tip::Branch(branch) => Some(branch),
        Tip::Tag(..) | Tip::Detached => None,
    };
    let repo = building.finish(branch)?;
    Ok((repo, fetched))
}

/// Report what a clone would write. What was fetched for that is removed again.
pub(super) fn rehearse_clone(under_way: &UnderWay<'_>, reached: &mut Reached) -> Result<(), Error> {
    let (building, fetched) = build_clone(under_way)?;
    let mut stage = under_way.stage()?;
    stage.begin(fetched.commit, Some(&building.repo().git_dir().join("hooks")))?;
    let options = update_options(under_way, &stage, NO_MARK);
    let updated = worktree::update(building.repo(), fetched.commit, &options)?;
    reached.new = Some(fetched.commit);
    reached.changed = updated.written;
    Ok(())
}

/// Fetch into a new git directory, with the hash that the remote turns out to use.
fn build_clone<'a>(under_way: &UnderWay<'a>) -> Result<(existing::Building<'a>, fetch::Outcome), Error> {
    let UnderWay { target, context, .. } = *under_way;
    let hash = match target.origin.revision {
        Revision::Commit(id) => id.kind(),
        _ => gix::hash::Kind::Sha1,
    };
    under_way.settles()?;
    let onto = whole::Onto::nothing(target.origin.depth);
    let fetch =
        |building: &existing::Building<'_>| whole::fetch(building.repo(), target, context, onto, NO_MARK);
    let building = existing::build(target, hash)?;
    let theirs = match fetch(&building) {
        Err(fetch::Error::ObjectFormat { theirs, .. }) => theirs,
        fetched => return Ok((building, fetched?)),
    };
    // First, since dropping it removes the directory in which the second one is built.
    drop(building);
    let building = existing::build(target, theirs)?;
    let fetched = fetch(&building)?;
    Ok((building, fetched))
}
