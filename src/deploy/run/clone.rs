//! The first run of a target: its repository is built apart, and appears whole.

use super::{Context, Error, NO_MARK, Reached, hold, update_options, whole};
use crate::{
    config::Target,
    deploy::{place, state},
    git::{
        fetch,
        origin::Revision,
        refs::{self, Tip},
        worktree,
    },
};

/// The repository of a new clone, with everything fetched and no files yet.
pub(super) fn clone(target: &Target, context: &Context) -> Result<(gix::Repository, fetch::Outcome), Error> {
    let (building, fetched) = build_clone(target, context)?;
    hold(building.repo(), target, &fetched)?;
    if target.origin.depth.is_some() {
        refs::bound(building.repo(), fetched.commit)?;
    }
    let branch = match &fetched.tip {
        Tip::Branch(branch) => Some(branch),
        Tip::Tag(..) | Tip::Detached => None,
    };
    let repo = building.finish(branch)?;
    Ok((repo, fetched))
}

/// Say what a clone would write. What was fetched for that is removed again.
pub(super) fn rehearse_clone(target: &Target, context: &Context, reached: &mut Reached) -> Result<(), Error> {
    let (building, fetched) = build_clone(target, context)?;
    let options = update_options(target, context, NO_MARK);
    let updated = worktree::update(building.repo(), fetched.commit, &options)?;
    reached.new = Some(fetched.commit);
    reached.changed = updated.written;
    Ok(())
}

/// Fetch into a new git directory, with the hash that the remote turns out to use.
fn build_clone<'a>(
    target: &'a Target,
    context: &Context,
) -> Result<(place::Building<'a>, fetch::Outcome), Error> {
    let hash = match target.origin.revision {
        Revision::Commit(id) => id.kind(),
        _ => gix::hash::Kind::Sha1,
    };
    let build = |hash| -> Result<place::Building<'a>, Error> {
        let building = place::build(target, hash)?;
        let git_dir = building.repo().git_dir();
        let mark = state::Run::new(git_dir, target, &context.run, &context.peer, context.dry_run);
        mark.settle()?;
        Ok(building)
    };
    let onto = whole::Onto::nothing(target.origin.depth);
    let fetch =
        |building: &place::Building<'_>| whole::fetch(building.repo(), target, context, onto, NO_MARK);
    let building = build(hash)?;
    let theirs = match fetch(&building) {
        Err(fetch::Error::ObjectFormat { theirs, .. }) => theirs,
        fetched => return Ok((building, fetched?)),
    };
    // The first removes its directory as it goes, and the second is built in the same place.
    drop(building);
    let building = build(theirs)?;
    let fetched = fetch(&building)?;
    Ok((building, fetched))
}
