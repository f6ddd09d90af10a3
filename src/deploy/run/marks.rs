//! What a run writes into the repository: refs, reflogs, and the configuration of the remote.

use gix::ObjectId;

use super::UnderWay;
use crate::{
    base::event::{Event, Step},
    config::Target,
    deploy::stage::Stage,
    git::{
        fetch,
        refs::{self, Tip},
        repository::{Sharing, Upstream},
        worktree,
    },
};

/// Let a ref keep what was fetched.
pub(super) fn hold(
    repo: &gix::Repository,
    target: &Target,
    fetched: &fetch::Outcome,
) -> Result<Option<ObjectId>, refs::Error> {
    let keep = fetched.keep.as_deref();
    refs::fetched(
        repo,
        (&fetched.tip, fetched.commit),
        keep,
        refs_options(target, &writer(target)),
    )
}

/// Write the refs after the files of `commit`, and then tell how the files were `updated`.
pub(super) fn publish(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &Stage<'_>),
    (tip, commit): (&Tip, ObjectId),
    updated: worktree::Outcome,
) -> Result<(), refs::Error> {
    let UnderWay { target, context, .. } = *under_way;
    context.watch.enter(Step::Publish).ok();
    refs::deployed(repo, tip, commit, refs_options(target, &writer(target)))?;
    record(repo, (under_way, stage), tip);
    context.events.emit(Event::Updated {
        written: updated.written,
        deleted: updated.deleted,
        cleaned: updated.cleaned,
        edited: updated.lost.edited,
        untracked: updated.lost.untracked,
    });
    Ok(())
}

/// Write the remote and its branch into the repository's configuration, and give the index the permissions of a shared repository.
fn record(repo: &gix::Repository, (under_way, stage): (&UnderWay<'_>, &Stage<'_>), tip: &Tip) {
    let UnderWay { target, index, .. } = under_way;
    Sharing::of(repo).path(stage.index().unwrap_or(index));
    let upstream = Upstream {
        remote: &target.origin.remote,
        repo: &target.origin.repo,
        branch: match tip {
            Tip::Branch(branch) => Some(branch),
            Tip::Tag(..) | Tip::Detached => None,
        },
    };
    if let Err(err) = upstream.record(repo) {
        // Only users who run git there need it, so the deploy still counts.
        under_way.context.events.warn(format!(
            "cannot write the remote and its branch into {}: {err}; the next run tries again",
            repo.common_dir().join("config").display()
        ));
    }
}

/// Flush the deployed files and refs, before the hooks start.
pub(super) fn settle(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &Stage<'_>),
    fetched: &fetch::Outcome,
) -> Result<(), refs::Error> {
    let UnderWay { target, index, .. } = under_way;
    refs::settle(
        repo,
        &fetched.tip,
        stage.index().unwrap_or(index),
        refs_options(target, &writer(target)),
    )
}

/// The name in reflogs.
pub(super) fn writer(target: &Target) -> String {
    format!("gitsocket {}", target.trigger)
}

fn refs_options<'a>(target: &'a Target, writer: &'a str) -> refs::Options<'a> {
    refs::Options {
        remote: &target.origin.remote,
        writer,
        fsync: target.site.fsync,
    }
}
