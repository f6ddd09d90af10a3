//! Fetch and update: a fetch is repeated after a temporary fault; both are repeated after missing or damaged objects were healed.

use std::{io, path::Path};

use gix::ObjectId;

use super::{Context, Error, NO_MARK, Reached, UnderWay, adopt::Claim, retry::Backoff, update_options};
use crate::{
    base::{
        fault::{Blame as _, Kind},
        report::Lost,
    },
    config::Target,
    deploy::{changes, stage::Stage},
    git::{
        begin::Begin,
        fetch, heal,
        origin::Depth,
        refs::{self, Tip},
        repository,
        transport::Deadline,
        worktree,
    },
};

/// The repository of the run, and what was fetched into it; a ref keeps that.
pub(super) fn fetch_into(
    under_way: &UnderWay<'_>,
    claim: &mut Claim,
    reached: &mut Reached,
) -> Result<(gix::Repository, fetch::Outcome), Error> {
    let UnderWay { target, context, .. } = *under_way;
    let git_dir = under_way.git_dir();
    let Ok(repo) = repository::open(git_dir) else {
        return heal(under_way, claim);
    };
    reached.old = refs::head(&repo);
    if heal::is_begun(git_dir) {
        return heal(under_way, claim);
    }
    // The depth of the history changes only in a real run on a repository that is ours.
    let is_settled = claim.is_settled(under_way);
    let depth = match reached.old {
        Some(_) if context.dry_run || !is_settled => Depth::Same,
        _ => target.origin.depth,
    };
    let mut fetched = fetch_onto(&repo, under_way, claim, (reached.old, depth))?;
    if fetched.is_some() && !is_settled && !context.dry_run {
        fetched = fetch_onto(&repo, under_way, claim, (reached.old, target.origin.depth))?;
    }
    match fetched {
        Some(fetched) => Ok((repo, fetched)),
        None => heal(under_way, claim),
    }
}

/// Fetch into a repository with a deployed commit, and let a ref keep the result; `None` if the repository must be healed first.
fn fetch_onto(
    repo: &gix::Repository,
    under_way: &UnderWay<'_>,
    claim: &mut Claim,
    (deployed, depth): (Option<ObjectId>, Depth),
) -> Result<Option<fetch::Outcome>, Error> {
    let UnderWay { target, context, .. } = *under_way;
    let onto = Onto { deployed, depth };
    let fetched = match fetch(repo, target, context, onto, Begin(&|| under_way.fetches())) {
        Err(fetch::Error::Unsound { .. }) => return Ok(None),
        fetched => fetched?,
    };
    match hold(repo, under_way, claim, &fetched) {
        // The fault is not one ref, but the directory or file of all refs.
        Err(Error::Refs(refs::Error::Ref { .. })) if !heal::is_sound(under_way.git_dir()) => Ok(None),
        held => held.map(|()| Some(fetched)),
    }
}

/// Let a ref keep what was fetched, once the worktree is ours.
fn hold(
    repo: &gix::Repository,
    under_way: &UnderWay<'_>,
    claim: &mut Claim,
    fetched: &fetch::Outcome,
) -> Result<(), Error> {
    if !claim.admit(repo, fetched, under_way)? {
        return Ok(());
    }
    under_way.moves(&[&refs::holding_ref(&under_way.target.origin.remote, &fetched.tip)])?;
    let old = super::hold(repo, under_way.target, fetched)?;
    claim.before = claim.before.or(old);
    Ok(())
}

/// Bring the worktree to what was fetched. After healing, that may be a newer commit, so it is returned.
pub(super) fn update(
    repo: gix::Repository,
    fetched: fetch::Outcome,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
    claim: &mut Claim,
    reached: &Reached,
) -> Result<(gix::Repository, fetch::Outcome, worktree::Outcome), Error> {
    match update_once(&repo, &fetched, (under_way, stage), reached) {
        Err(Error::Worktree(worktree::Error::Object { .. })) => {}
        updated => return Ok((repo, fetched, updated?)),
    }
    drop(repo);
    let (repo, fetched) = heal(under_way, claim)?;
    let updated = update_once(&repo, &fetched, (under_way, stage), reached)?;
    Ok((repo, fetched, updated))
}

fn update_once(
    repo: &gix::Repository,
    fetched: &fetch::Outcome,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
    reached: &Reached,
) -> Result<worktree::Outcome, Error> {
    let UnderWay { context, .. } = *under_way;
    if stage.is_done(fetched.commit) {
        return Ok(worktree::Outcome::default());
    }
    if !stage.is_in_place() {
        return make(repo, fetched, (under_way, stage));
    }
    let begin = || under_way.changes();
    if reached.old != Some(fetched.commit) && !context.dry_run {
        begin().map_err(unmarked(repo.git_dir()))?;
        if let Tip::Branch(branch) = &fetched.tip {
            under_way.moves(&[branch.as_str()])?;
        }
    }
    let options = update_options(under_way, stage, Begin(&begin));
    Ok(worktree::update(repo, fetched.commit, &options)?)
}

/// Make a release. The live release does not change by that, so no hook becomes pending.
fn make(
    repo: &gix::Repository,
    fetched: &fetch::Outcome,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
) -> Result<worktree::Outcome, Error> {
    let dry_run = under_way.context.dry_run;
    if !dry_run {
        under_way.settles()?;
        if let Tip::Branch(branch) = &fetched.tip {
            under_way.moves(&[branch.as_str()])?;
        }
    }
    if stage.live_release().is_some() {
        under_way.tell_foreign(stage);
    }
    let empty = repo.common_dir().join("hooks");
    let bring = |stage: &mut Stage<'_>| -> Result<worktree::Outcome, Error> {
        stage.begin(fetched.commit, dry_run.then_some(empty.as_path()))?;
        let options = update_options(under_way, stage, NO_MARK);
        Ok(worktree::update(repo, fetched.commit, &options)?)
    };
    let updated = loop {
        match bring(stage) {
            // A program may have left files there that this user can neither read nor remove.
            Err(err) if err.kind() == Kind::Path && stage.is_stuck()? => {
                let message = format!("{err}; the release is made in another directory instead");
                under_way.context.events.warn(message);
            }
            updated => break updated?,
        }
    };
    if !dry_run {
        stage.written(updated.bytes)?;
    }
    // Files of an older release that are replaced are not a loss for any user.
    Ok(worktree::Outcome {
        lost: Lost::default(),
        ..updated
    })
}

/// List the files that have changed, for hooks.
pub(super) fn list_changes(
    repo: &gix::Repository,
    (old, new): (Option<ObjectId>, ObjectId),
    file: &Path,
    (under_way, claim): (&UnderWay<'_>, &mut Claim),
) -> io::Result<()> {
    match changes::write(repo, old, new, file) {
        // The error is about an object, not about a system call.
        Err(err) if err.kind() == io::ErrorKind::Other => match heal(under_way, claim) {
            Ok((repo, _)) => changes::write(&repo, old, new, file),
            Err(_) => Err(err),
        },
        written => written,
    }
}

/// The run could not be marked.
fn unmarked(git_dir: &Path) -> impl FnOnce(io::Error) -> refs::Error {
    |source| refs::Error::Sync {
        path: git_dir.into(),
        source,
    }
}

fn heal(under_way: &UnderWay<'_>, claim: &mut Claim) -> Result<(gix::Repository, fetch::Outcome), Error> {
    let UnderWay { target, context, .. } = *under_way;
    claim.may_mend(under_way)?;
    let git_dir = under_way.git_dir();
    under_way.fetches().map_err(unmarked(git_dir))?;
    let (repo, fetched) = heal::heal(
        git_dir,
        (&target.origin, target.site.fsync),
        context.events.reporter(),
        |scratch| {
            fetch(
                scratch,
                target,
                context,
                Onto::nothing(target.origin.depth),
                NO_MARK,
            )
        },
    )?;
    hold(&repo, under_way, claim, &fetched)?;
    Ok((repo, fetched))
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Onto {
    /// The commit that was deployed last.
    deployed: Option<ObjectId>,
    /// How much history there is to be.
    depth: Depth,
}

impl Onto {
    pub(super) fn nothing(depth: Depth) -> Self {
        Self {
            deployed: None,
            depth,
        }
    }
}

/// Fetch; repeat it after a temporary fault, as many times as the target allows.
pub(super) fn fetch(
    repo: &gix::Repository,
    target: &Target,
    context: &Context,
    onto: Onto,
    begin: Begin<'_>,
) -> Result<fetch::Outcome, fetch::Error> {
    let mut backoff = Backoff::new();
    for attempt in 1..=target.origin.retries {
        let err = match fetch_once(repo, target, context, onto, begin) {
            Err(err) if err.kind().passes() => err,
            other => return other,
        };
        let wait = backoff.wait();
        if wait >= context.watch.left() {
            return Err(err);
        }
        context.events.warn(format!(
            "{err}; trying again in {} ({attempt} of {})",
            humantime::format_duration(wait),
            target.origin.retries
        ));
        if context.watch.pause(wait).is_err() {
            return Err(err);
        }
    }
    fetch_once(repo, target, context, onto, begin)
}

fn fetch_once(
    repo: &gix::Repository,
    target: &Target,
    context: &Context,
    onto: Onto,
    begin: Begin<'_>,
) -> Result<fetch::Outcome, fetch::Error> {
    let options = fetch::Options {
        origin: &target.origin,
        deployed: onto.deployed,
        deadline: Deadline::new(target.origin.timeout.min(context.watch.left())),
        depth: onto.depth,
        report: context.events.reporter(),
        connections: &context.connections,
        over: context.watch.over(),
        begin,
    };
    fetch::fetch(repo, &options).map_err(|err| {
        if is_ours(repo, &err) {
            fetch::Error::Unsound {
                source: Box::new(err),
            }
        } else {
            err
        }
    })
}

/// Whether a fetch failed because objects were missing or damaged here before it began.
fn is_ours(repo: &gix::Repository, err: &fetch::Error) -> bool {
    match err {
        // Nothing was received, so the missing objects are ours.
        fetch::Error::Incomplete { received: false, .. } => true,
        err => err.may_be_ours() && !heal::is_sound(repo.git_dir()),
    }
}
