//! A release after its files are written: hooks at Build, the switch, and the end.

use std::{io, os::fd::AsFd as _};

use super::{
    Context, Error, NO_MARK, Reached, UnderWay,
    adopt::Claim,
    hooks::{self, Occasion},
    update_options,
};
use crate::{
    base::{descent, event::Event},
    deploy::{release, stage::Stage},
    git::{fetch, worktree},
};

/// Run the hooks at Build in the new tree, and record the files that they have changed.
pub(super) fn build(
    (repo, fetched): (&gix::Repository, &fetch::Outcome),
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
    claim: &mut Claim,
    reached: &Reached,
) -> Result<(), Error> {
    if stage.release().is_none() {
        tell_unshared(stage, under_way.context);
        return Ok(());
    }
    let located = stage.located();
    let occasion = Occasion {
        repo,
        under_way,
        tip: &fetched.tip,
        old: claim
            .state
            .hooks(under_way.target)
            .succeeded_for()
            .or(reached.old),
        new: fetched.commit,
        located: located.as_ref(),
    };
    if !hooks::build(occasion, claim)? {
        return Ok(());
    }
    stage.check_place()?;
    let options = update_options(under_way, stage, NO_MARK);
    let altered = worktree::altered(repo, fetched.commit, &options)?;
    let path = options.root.as_path().to_owned();
    let bytes = match options.apart {
        Some(apart) => descent::size(apart.dir.as_fd()).map_err(release::Error::io("look through", &path))?,
        None => 0,
    };
    Ok(stage.built(&altered, bytes, under_way.target.site.fsync)?)
}

/// Warn about paths that the configuration shares, but the live release does not, since it was made before.
fn tell_unshared(stage: &Stage<'_>, context: &Context) {
    let live = stage.trees().and_then(|trees| Some((trees, trees.live()?)));
    let Some((trees, live)) = live else { return };
    for path in trees.unshared() {
        context.events.warn(format!(
            "{path:?} is not shared in {}, which was made before `shared` named it: it is in the next release",
            live.id
        ));
    }
}

/// Make the new tree live. Gives whether there was one.
pub(super) fn switch(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
) -> Result<bool, Error> {
    if stage.release().is_some() {
        // From here on the hooks are pending.
        let marked = under_way.changes();
        marked.map_err(|source: io::Error| {
            release::Error::io("mark the run in", under_way.git_dir())(source)
        })?;
    }
    let has_switched = stage.switch(repo)?;
    if has_switched {
        tell_live(stage, under_way.context);
    }
    Ok(has_switched)
}

pub(super) fn tell_live(stage: &Stage<'_>, context: &Context) {
    if let Some(live) = stage.trees().and_then(|trees| trees.live()) {
        context.events.emit(Event::Live {
            release: live.id.to_string(),
            commit: live.commit.clone(),
        });
    }
}

/// Record that the live release is good, and remove surplus ones.
pub(super) fn good(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
) -> Result<(), Error> {
    for message in stage.judge(repo, true)? {
        under_way.context.events.warn(message);
    }
    Ok(())
}
