//! The way back: to a commit that was good, by hand or as the newest one turned out not to be; and what becomes of the one that
//! was left.
//!
//! It is held before the way back begins. A run that is killed in between leaves that to the next one, which finds the newest
//! commit held, and something else live than what is to be live instead.

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

/// Go back as an operator wants it: to the commit `to`, or to the last good one before what is live.
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
    // What was live may have been removed.
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

/// The run of `fetched` failed by `err` once that was live: if the trigger says so, and there is a good commit, go back.
/// What the run failed by then.
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
    // Hooks that were killed with this process say nothing of a commit.
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
        // It was good, and something else is wrong by now.
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

/// What was `fetched` is live and good: what was held of the same branch is not needed any more.
pub(super) fn forget(under_way: &UnderWay<'_>, fetched: &fetch::Outcome) -> Result<(), Error> {
    let target = under_way.target;
    let Some(holds) = Holds::read(under_way.git_dir()) else {
        return Ok(());
    };
    let tip = refs::holding_ref(&target.origin.remote, &fetched.tip);
    Ok(holds.forget(under_way.git_dir(), &tip, target.site.fsync)?)
}

/// `commit` is live and good. `before` this run, that was known of another one.
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
    // The version before did not write it down, or a run was killed before it could.
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

/// Say that it could not be `written` that `commit` is good: the deploy is none the worse.
fn told(under_way: &UnderWay<'_>, commit: ObjectId, written: Result<(), refs::Error>) {
    if let Err(err) = written {
        under_way.context.events.warn(format!(
            "cannot record that {} is good, so a later rollback to it is not possible: {err}",
            short(commit)
        ));
    }
}

/// Let `left` be held, as `live` is to be live instead.
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

/// From `left` to `commit`: the tree, what says so, and hooks.
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
    // Even where both have the same files: hooks have seen the other one.
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

/// As any deploy in place, from what the clone has.
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

/// What a run fails by that went back to `live`, as what it deployed was not good; or tried to.
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
            // No hook is pending: what failed is not live.
            under_way.leaves_no_hooks_pending();
            String::new()
        }
        Err(err) if reached.new == Some(live) => {
            format!("; and then {}: {}", err.kind().as_str(), message(&err))
        }
        // It is as before, or half of both.
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

/// What the trigger names, as far as that is known without asking the remote.
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

/// What is wrong, without where the worktree is: that changes.
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

/// Tell an operator who has named no commit that the last good one is newer than what is live.
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
