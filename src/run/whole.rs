//! Fetching and updating; where objects are missing or damaged, they are fetched again, and the work is done once more.

use std::{io, num::NonZeroU32, path::Path};

use gix::ObjectId;

use super::{Context, Error, Reached, retry::Backoff, update_options};
use crate::{
    changes, config::Target, fault::Blame as _, fetch, heal, place, publish, repository, transport::Deadline,
    worktree,
};

/// The repository at `git_dir`, and what was fetched into it; a ref holds that.
pub(super) fn fetch_into(
    git_dir: &Path,
    target: &Target,
    context: &Context,
    reached: &mut Reached,
) -> Result<(gix::Repository, fetch::Outcome), Error> {
    if let Ok(repo) = repository::open(git_dir) {
        reached.old = publish::head(&repo);
        if !heal::is_begun(git_dir) {
            let onto = Onto {
                deployed: reached.old,
                // An adopted repository keeps its whole history; a shallow one is kept at the depth asked for.
                depth: target
                    .depth
                    .filter(|_| reached.old.is_none() || repo.is_shallow().unwrap_or(false)),
            };
            match fetch(&repo, target, context, onto) {
                Err(fetch::Error::Unsound { .. }) => {}
                fetched => {
                    let fetched = fetched?;
                    publish::fetched(&repo, target, &fetched)?;
                    return Ok((repo, fetched));
                }
            }
        }
    }
    heal(git_dir, target, context)
}

/// Bring the worktree to what was fetched; that may be something newer afterwards.
pub(super) fn update(
    repo: gix::Repository,
    fetched: fetch::Outcome,
    target: &Target,
    context: &Context,
) -> Result<(gix::Repository, fetch::Outcome, worktree::Outcome), Error> {
    let options = update_options(target, context);
    match worktree::update(&repo, fetched.commit, &options) {
        Err(worktree::Error::Object { .. }) => {}
        updated => return Ok((repo, fetched, updated?)),
    }
    drop(repo);
    let (repo, fetched) = heal(&place::git_dir(target), target, context)?;
    let updated = worktree::update(&repo, fetched.commit, &options)?;
    Ok((repo, fetched, updated))
}

/// List the files that have changed, for hooks.
pub(super) fn list_changes(
    repo: &gix::Repository,
    (old, new): (Option<ObjectId>, ObjectId),
    file: &Path,
    target: &Target,
    context: &Context,
) -> io::Result<()> {
    match changes::write(repo, old, new, file) {
        // Not the system's: an object.
        Err(err) if err.kind() == io::ErrorKind::Other => match heal(repo.git_dir(), target, context) {
            Ok((repo, _)) => changes::write(&repo, old, new, file),
            Err(_) => Err(err),
        },
        written => written,
    }
}

fn heal(
    git_dir: &Path,
    target: &Target,
    context: &Context,
) -> Result<(gix::Repository, fetch::Outcome), Error> {
    let (repo, fetched) = heal::heal(git_dir, target, &context.report, |scratch, depth| {
        fetch(scratch, target, context, Onto::nothing(depth))
    })?;
    publish::fetched(&repo, target, &fetched)?;
    Ok((repo, fetched))
}

/// What is fetched onto.
#[derive(Debug, Clone, Copy)]
pub(super) struct Onto {
    /// The commit that was deployed last.
    deployed: Option<ObjectId>,
    /// How much history is fetched.
    depth: Option<NonZeroU32>,
}

impl Onto {
    /// Nothing.
    pub(super) fn nothing(depth: Option<NonZeroU32>) -> Self {
        Self {
            deployed: None,
            depth,
        }
    }
}

/// Fetch; after a fault that passes again, up to the number of times that the target allows.
pub(super) fn fetch(
    repo: &gix::Repository,
    target: &Target,
    context: &Context,
    onto: Onto,
) -> Result<fetch::Outcome, fetch::Error> {
    let mut backoff = Backoff::new();
    for attempt in 1..=target.retries {
        let err = match fetch_once(repo, target, context, onto) {
            Err(err) if err.kind().passes() => err,
            other => return other,
        };
        let wait = backoff.wait();
        if wait >= context.watch.left() {
            return Err(err);
        }
        context.report.warn(format!(
            "{err}; trying again in {} ({attempt} of {})",
            humantime::format_duration(wait),
            target.retries
        ));
        if context.watch.pause(wait).is_err() {
            return Err(err);
        }
    }
    fetch_once(repo, target, context, onto)
}

fn fetch_once(
    repo: &gix::Repository,
    target: &Target,
    context: &Context,
    onto: Onto,
) -> Result<fetch::Outcome, fetch::Error> {
    let options = fetch::Options {
        target,
        deployed: onto.deployed,
        deadline: Deadline::new(target.timeout.min(context.watch.left())),
        depth: onto.depth,
        report: &context.report,
        connections: &context.connections,
        over: context.watch.over(),
    };
    fetch::fetch(repo, &options).map_err(|err| match is_ours(repo, &err) {
        true => fetch::Error::Unsound {
            source: Box::new(err),
        },
        false => err,
    })
}

/// Whether a fetch failed as something was missing or damaged here, before it began.
fn is_ours(repo: &gix::Repository, err: &fetch::Error) -> bool {
    match err {
        // The remote was not asked.
        fetch::Error::Incomplete { received: false, .. } => true,
        err => err.may_be_ours() && !heal::is_sound(repo.git_dir()),
    }
}
