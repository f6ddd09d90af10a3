//! Rollbacks to a commit that was good: by an operator, or after the newest commit turned out to be bad.
//!
//! The replaced commit is held before the rollback begins. After a kill, the next run finds the newest commit held and another
//! commit live than the recorded one, and goes on with the rollback.

use gix::ObjectId;

use super::{
    Error, Reached, UnderWay,
    adopt::Claim,
    build,
    older::{self, Wanted},
    publish,
    room::with_room,
    run_hooks, update_options, writer,
};
use crate::{
    base::{
        event::{Event, Held, Step, Why, now},
        fault::{Blame as _, Failure, Kind},
        name::{Earlier, RefName},
    },
    config::{OnFailure, Revision, Target},
    deploy::{held::Holds, stage::Stage},
    git::{
        begin::Begin,
        dropped, fetch, heal,
        refs::{self, Good, Tip},
        repository, worktree,
    },
};

mod at_held;
mod earlier;
mod error;

pub(super) use at_held::stop_at_held;
use earlier::named;
pub(super) use error::Error as Refused;

/// Roll back for an operator: to the commit `to`, or to the last good one before the live one.
pub(super) fn by_hand(
    under_way: &UnderWay<'_>,
    to: Option<&Earlier>,
    reached: &mut Reached,
) -> Result<(), Error> {
    let UnderWay { target, context, .. } = *under_way;
    let mut stage = under_way.stage()?;
    let repo = repository::open(under_way.git_dir())?;
    reached.old = stage.deployed(refs::head(&repo));
    let claim = Claim::of(under_way.git_dir());
    if !claim.state.is_ours() || (reached.old.is_none() && stage.is_in_place()) {
        return Err(not_deployed(target).into());
    }
    let good = Good::of(&repo);
    let commit = match to {
        to if !stage.is_in_place() => {
            let holds = Holds::read(under_way.git_dir()).unwrap_or_default();
            let wanted = to.map_or(Wanted::Good(&holds), |to| Wanted::Named(to.as_str()));
            let found = older::find(&repo, (under_way, &mut stage), wanted)?;
            found.ok_or_else(|| Refused::nothing_older(target))?
        }
        Some(to) => named(&repo, to, (reached.old, &good), under_way)?,
        None => {
            let left = reached.old.ok_or_else(|| not_deployed(target))?;
            let holds = Holds::read(under_way.git_dir()).unwrap_or_default();
            let mut before = good.before(left);
            before
                .find(|commit| holds.find(*commit).is_none() && repo.has_object(*commit))
                .ok_or_else(|| Refused::NothingEarlier {
                    at: short(left),
                    path: target.site.path.to_string(),
                    trigger: target.trigger.to_string(),
                })?
        }
    };
    // The live release may have been removed.
    let left = reached.old.unwrap_or(commit);
    if to.is_none() {
        warn_forward(&repo, (left, commit), under_way);
    }
    if commit != left {
        let by_hand = (Why::ByHand, context.peer.to_string());
        with_room((under_way, &mut stage), |_| {
            hold(&repo, under_way, (left, commit), by_hand.clone())
        })?;
    }
    go(&repo, (under_way, &mut stage), (left, commit), reached)
}

/// The run failed with `err` after `fetched` was live: roll back, if the trigger says so and there is a good commit. Gives the
/// error of the run.
pub(super) fn after_failure(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
    (fetched, err): (&fetch::Outcome, Error),
    reached: &mut Reached,
) -> Error {
    let UnderWay { target, context, .. } = *under_way;
    let why = match err.kind() {
        Kind::Hook => Why::Hook,
        Kind::Unhealthy => Why::Unhealthy,
        _ => return err,
    };
    // If the hooks were killed with this process, their failure says nothing about the commit.
    if target.on_failure != OnFailure::Rollback || context.groups.are_killed() {
        return err;
    }
    let sick = fetched.commit;
    let good = Good::of(repo);
    let known = Claim::of(under_way.git_dir()).state.hooks(target).succeeded_for();
    let was_good = match stage.live_release() {
        Some(live) => live.is_good,
        None => good.commits().next() == Some(sick),
    };
    if known == Some(sick) || was_good {
        // The commit was good before, so it is not the reason.
        return err;
    }
    let holds = Holds::read(under_way.git_dir()).unwrap_or_default();
    let message = message(&err);
    let last = if stage.is_in_place() {
        let mut candidates = good.commits().chain(known);
        candidates.find(|commit| *commit != sick && holds.find(*commit).is_none() && repo.has_object(*commit))
    } else {
        match older::find(repo, (under_way, stage), Wanted::Good(&holds)) {
            Ok(last) => last,
            Err(source) => {
                return Error::Stranded {
                    why: format!("{}: {message}", err.kind().as_str()),
                    at: "an older release".into(),
                    source: Box::new(source),
                };
            }
        }
    };
    let Some(last) = last else { return err };
    let held = with_room((under_way, stage), |_| {
        hold(repo, under_way, (sick, last), (why, message.clone()))
    });
    let went = held.and_then(|()| go(repo, (under_way, stage), (sick, last), reached));
    ended(under_way, (last, err.kind(), message), went, reached)
}

/// What was `fetched` is live and good: no earlier commit of the same branch is held any longer.
pub(super) fn forget(under_way: &UnderWay<'_>, fetched: &fetch::Outcome) -> Result<(), Error> {
    let target = under_way.target;
    let Some(holds) = Holds::read(under_way.git_dir()) else {
        return Ok(());
    };
    let tip = refs::holding_ref(&target.origin.remote, &fetched.tip);
    Ok(holds.forget(under_way.git_dir(), &tip, target.site.fsync)?)
}

/// Record that `commit` is live and good; `before` is the commit that hooks had succeeded for before this run.
pub(super) fn remember(
    repo: &gix::Repository,
    under_way: &UnderWay<'_>,
    (before, commit): (Option<ObjectId>, ObjectId),
    reached: &Reached,
) {
    if before == Some(commit) {
        return;
    }
    let writer = writer(under_way.target);
    let mut good = Good::of(repo);
    // The version before did not record it, or a run was killed before it could.
    let was_live = before.filter(|before| reached.old == Some(*before) && repo.has_object(*before));
    let written = match was_live {
        Some(before) if good.commits().all(|good| good != before) => good.push(before, &writer),
        _ => Ok(()),
    };
    told(
        under_way,
        commit,
        written.and_then(|()| good.push(commit, &writer)),
    );
}

/// Warn if it could not be recorded that `commit` is good; the deploy still counts.
fn told(under_way: &UnderWay<'_>, commit: ObjectId, written: Result<(), refs::Error>) {
    if let Err(err) = written {
        under_way.context.events.warn(format!(
            "cannot record that {} is good, so a later rollback to it is not possible: {err}",
            short(commit)
        ));
    }
}

/// Hold `left`, with `live` as the commit that replaces it.
fn hold(
    repo: &gix::Repository,
    under_way: &UnderWay<'_>,
    (left, live): (ObjectId, ObjectId),
    (kind, message): (Why, String),
) -> Result<(), Error> {
    let target = under_way.target;
    // From here on, the next run has something to finish.
    under_way.settles()?;
    let held = Held {
        commit: left.to_string(),
        since: now(),
        kind,
        message,
    };
    let tip = refs::holding_ref(&target.origin.remote, &tip(repo, target));
    let holds = Holds::read(under_way.git_dir()).unwrap_or_default();
    Ok(holds.hold(under_way.git_dir(), held, (&tip, live), target.site.fsync)?)
}

/// Replace `left` by `commit`: files, refs and hooks.
fn go(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
    (left, commit): (ObjectId, ObjectId),
    reached: &mut Reached,
) -> Result<(), Error> {
    let UnderWay { target, context, .. } = *under_way;
    context.watch.enter(Step::Worktree)?;
    let tip = tip(repo, target);
    let updated = if stage.is_in_place() {
        bring(repo, (under_way, stage), (left, commit, &tip))?
    } else {
        if let Tip::Branch(branch) = &tip {
            under_way.moves(&[branch.as_str()])?;
        }
        reached.has_switched |= with_room((under_way, stage), |stage| {
            older::restore(repo, (under_way, stage), commit)
        })?;
        worktree::Outcome::default()
    };
    reached.new = Some(commit);
    reached.changed += updated.written + updated.deleted + updated.cleaned;
    // Even if both have the same files, since hooks have run for the other one.
    reached.finished_another |= updated.finished_another || left != commit;
    reached.left = Some(left).filter(|left| *left != commit);
    publish(repo, (under_way, stage), (&tip, commit), updated)?;
    if left != commit {
        context.events.emit(Event::RolledBack {
            old: left.to_string(),
            new: commit.to_string(),
        });
    }
    let live = fetch::Outcome {
        commit,
        tip,
        keep: None,
    };
    run_hooks(
        repo,
        (under_way, stage),
        &live,
        Claim::of(under_way.git_dir()),
        reached,
    )?;
    if stage.is_in_place() {
        let returned = Good::of(repo).return_to(commit, left, &writer(target));
        told(under_way, commit, returned);
    } else {
        build::good(repo, (under_way, stage))?
    }
    heal::finish(repo.git_dir());
    Ok(())
}

/// Update the worktree in place, without a fetch.
fn bring(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &Stage<'_>),
    (left, commit, tip): (ObjectId, ObjectId, &Tip),
) -> Result<worktree::Outcome, Error> {
    let begin = || under_way.changes();
    if left != commit {
        under_way.settles()?;
        begin().map_err(|source| refs::Error::Sync {
            path: repo.git_dir().into(),
            source,
        })?;
        if let Tip::Branch(branch) = tip {
            under_way.moves(&[branch.as_str()])?;
        }
    }
    let options = update_options(under_way, stage, Begin(&begin));
    Ok(worktree::update(repo, commit, &options)?)
}

/// The error of a run that has rolled back to `live`, or tried to, since the commit that it deployed was bad.
fn ended(
    under_way: &UnderWay<'_>,
    (live, kind, why): (ObjectId, Kind, String),
    went: Result<(), Error>,
    reached: &mut Reached,
) -> Error {
    let target = under_way.target;
    let (at, trigger) = (short(live), target.trigger.to_string());
    let also = match went {
        Ok(()) => {
            // No hook is pending, since the commit that failed is not live.
            under_way.leaves_no_hooks_pending();
            String::new()
        }
        Err(err) if reached.new == Some(live) => {
            format!("; and then {}: {}", err.kind().as_str(), message(&err))
        }
        // Either the bad commit is still live, or the files are mixed.
        Err(err) => {
            return Error::Stranded {
                why: format!("{}: {why}", kind.as_str()),
                at,
                source: Box::new(err),
            };
        }
    };
    reached.is_rolled_back = true;
    Error::RolledBack {
        at,
        kind,
        why: format!("{}: {why}{also}", kind.as_str()),
        trigger,
    }
}

/// The ref that the trigger follows, as far as it is known without the remote.
fn tip(repo: &gix::Repository, target: &Target) -> Tip {
    match &target.origin.revision {
        Revision::Branch(branch) => Tip::Branch(branch.clone()),
        Revision::Tag(tag) => {
            let found = repo.try_find_reference(tag.as_str()).ok().flatten();
            let object = found.and_then(|tag| tag.target().try_id().map(ToOwned::to_owned));
            object.map_or(Tip::Detached, |object| Tip::Tag(tag.clone(), object))
        }
        Revision::RemoteHead => {
            let head = repo.head_name().ok().flatten();
            let branch = head.and_then(|name| RefName::branch(&name.as_bstr().to_string()).ok());
            branch.map_or(Tip::Detached, Tip::Branch)
        }
        Revision::Commit(_) => Tip::Detached,
    }
}

/// The message of `err` without the commit that is deployed, since the rollback changes that.
fn message(err: &Error) -> String {
    match err {
        Error::Hook { source, .. } => Failure::of(source).message,
        Error::Unwell { source, .. } => Failure::of(source).message,
        err => Failure::of(err).message,
    }
}

pub(super) fn not_deployed(target: &Target) -> Refused {
    Refused::NotDeployed {
        path: target.site.path.to_string(),
        trigger: target.trigger.to_string(),
    }
}

fn short(commit: ObjectId) -> String {
    commit.to_hex_with_len(7).to_string()
}

/// Warn an operator who has named no commit, if the last good one is newer than the live one.
fn warn_forward(repo: &gix::Repository, (left, commit): (ObjectId, ObjectId), under_way: &UnderWay<'_>) {
    let missing = dropped::dropped(repo, &[left], &[commit], under_way.context.watch.over());
    if commit != left && missing.commits.is_empty() && !missing.is_cut {
        let name = &under_way.target.trigger;
        under_way.context.events.warn(format!(
            "{1}, the last good commit, is newer than {0}, which is live, so this goes forward; to go further back, name a \
             commit: gitsocket log {name} lists them",
            short(left),
            short(commit)
        ));
    }
}
