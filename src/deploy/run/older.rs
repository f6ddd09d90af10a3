//! Finds the release of a rollback: it must be unchanged since it was live, or is mended; otherwise it is skipped.

use std::{
    os::fd::AsFd as _,
    sync::{Arc, Mutex},
};

use gix::ObjectId;

use super::{Error, NO_MARK, UnderWay, back::Refused, build, room::with_room, update_options};
use crate::{
    base::{
        event::Named,
        fault::{Blame as _, Failure, Kind},
        mutex,
        report::{Report, Reporter},
    },
    deploy::{
        held::Holds,
        release::{self, built, id::Id, record::Tree, retention, shared::Other},
        stage::Stage,
    },
    git::worktree,
};

/// The release that a rollback wants.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// The good release that was live last: of another commit than the live one, not rolled back, and not held.
    Good(&'a Holds),
    /// The release with this name, or whose commit's id begins with it.
    Named(&'a str),
}

/// The commit of the release that is `wanted`. A release that is damaged, and cannot be mended, is skipped. `None` if there is none.
pub(super) fn find(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
    wanted: Wanted<'_>,
) -> Result<Option<ObjectId>, Error> {
    let mut damaged = Vec::new();
    for (id, commit) in candidates(stage, wanted)? {
        let verified = with_room((under_way, stage), |stage| {
            verify(repo, (under_way, stage), &id, commit)
        });
        let why = match verified {
            Ok(None) => return Ok(Some(commit)),
            Ok(Some(why)) => why,
            // A fault of the file system here may not concern the next one.
            Err(err) if matches!(err.kind(), Kind::Path | Kind::Repository | Kind::Resources) => {
                Failure::of(&err).message
            }
            Err(err) => return Err(err),
        };
        let why = format!("{id}: {why}");
        let events = &under_way.context.events;
        events.warn(format!("a release is damaged, and was skipped: {why}"));
        damaged.push(why);
    }
    if damaged.is_empty() {
        Ok(None)
    } else {
        Err(release::Error::Damaged {
            what: damaged.join("; "),
        }
        .into())
    }
}

/// Make the release of `commit` live. Gives whether there was a switch.
pub(super) fn restore(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
    commit: ObjectId,
) -> Result<bool, Error> {
    if stage.is_done(commit) {
        return Ok(false);
    }
    let id = match stage.verified(commit) {
        Some(id) => id,
        None => {
            find(repo, (under_way, stage), Wanted::Named(&commit.to_string()))?;
            stage
                .verified(commit)
                .ok_or_else(|| Refused::nothing_older(under_way.target))?
        }
    };
    let marked = under_way.changes();
    marked.map_err(release::Error::io("mark the run in", under_way.git_dir()))?;
    stage.restore(repo, &id)?;
    build::tell_live(stage, under_way.context);
    Ok(true)
}

/// The releases to try, in this order.
fn candidates(stage: &Stage<'_>, wanted: Wanted<'_>) -> Result<Vec<(Id, ObjectId)>, Error> {
    let Some(trees) = stage.trees() else {
        return Ok(Vec::new());
    };
    let live = trees.live().map(|tree| &tree.id);
    let of = |tree: &Tree| {
        let commit = ObjectId::from_hex(tree.commit.as_bytes()).ok()?;
        Some((tree.id.clone(), commit))
    };
    let wanted = match wanted {
        Wanted::Good(holds) => {
            let older = retention::older(trees.record(), live, trees.keep())
                .into_iter()
                .filter_map(of);
            return Ok(older
                .filter(|(_, commit)| holds.find(*commit).is_none())
                .collect());
        }
        Wanted::Named(wanted) => wanted,
    };
    let mut others = retention::listed(trees.record(), live, trees.keep());
    others.retain(|tree| Some(&tree.id) != live);
    others.sort_by_key(|tree| !tree.is_good);
    let named = |tree: &&&Tree| tree.id.as_str() == wanted;
    let begins = |tree: &&&Tree| wanted.len() >= SHORTEST && tree.commit.starts_with(wanted);
    let mut commits: Vec<&str> = others.iter().filter(begins).map(|tree| &*tree.commit).collect();
    commits.sort_unstable();
    commits.dedup();
    let found = others.iter().find(named);
    if let (None, [_, _, ..]) = (found, commits.as_slice()) {
        let (to, which) = (wanted.into(), commits.join(", "));
        return Err(Refused::Ambiguous { to, which }.into());
    }
    let found = found.or_else(|| others.iter().find(begins));
    if let Some(found) = found.and_then(|tree| of(tree)) {
        return Ok(vec![found]);
    }
    let there = if others.is_empty() {
        "none".into()
    } else {
        others
            .iter()
            .map(|tree| tree.id.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let wanted = wanted.into();
    Err(release::Error::Unknown { wanted, there }.into())
}

/// The shortest beginning of a commit's id that names it, in digits, as git has it.
const SHORTEST: usize = 4;

/// Compare the tree `id` with its commit and with the files that Build had changed, and write changed files of the commit again.
/// Gives the reason if it cannot be mended.
fn verify(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
    id: &Id,
    commit: ObjectId,
) -> Result<Option<String>, Error> {
    let Some(trees) = stage.trees() else {
        return Ok(None);
    };
    let path = trees.built(id);
    let known = built::read(&path).map_err(release::Error::io("read what Build left, in", &path))?;
    let tree = trees.open(id)?;
    let changed = worktree::changed(tree.as_fd(), &known);
    if let Some(file) = changed.map_err(release::Error::io("look through", &trees.path(id)))? {
        return Ok(Some(format!("{} is not as Build left it", file.path)));
    }
    stage.inspect(id, known.into_iter().map(|file| file.path))?;
    let context = under_way.context;
    let options = update_options(under_way, stage, NO_MARK);
    let mended = differing(repo, commit, &options)?;
    if !mended.is_empty() && !context.dry_run {
        worktree::update(repo, commit, &options)?;
    }
    if !context.dry_run {
        share(under_way, stage, id);
    }
    if !mended.is_empty() {
        let mended = mended.line();
        context.events.warn(format!(
            "{id} has changed since it was live; these files were restored: {mended}"
        ));
    }
    Ok(None)
}

/// Add links to what `shared` names since the release `id` was made. The release was good without them, so a failure does not stop
/// the rollback.
fn share(under_way: &UnderWay<'_>, stage: &Stage<'_>, id: &Id) {
    let Some(trees) = stage.trees() else { return };
    let events = &under_way.context.events;
    let shared = under_way.target.site.path.as_path().join(release::SHARED);
    match trees.link_shared(id, Other::Stays) {
        Ok(stayed) => {
            for path in stayed {
                events.warn(format!(
                    "{path:?} is not shared in {id}: it holds something of its own there, which stays (to have it shared: move what \
                     is needed of that to {}, and deploy a newer commit)",
                    shared.join(path).display()
                ));
            }
        }
        Err(err) => events.warn(format!(
            "no links for what `shared` names since {id} was made could be added to it: {err}"
        )),
    }
}

/// The files that an update would write.
fn differing(
    repo: &gix::Repository,
    commit: ObjectId,
    options: &worktree::Options<'_>,
) -> Result<Named, worktree::Error> {
    let seen = Arc::new(Mutex::new(Named::default()));
    let report = Reporter::new({
        let seen = seen.clone();
        move |report| {
            if let Report::Change { path, .. } = report {
                mutex::lock(&seen).note(path);
            }
        }
    });
    let options = worktree::Options {
        dry_run: true,
        report: &report,
        ..*options
    };
    worktree::update(repo, commit, &options)?;
    Ok(std::mem::take(&mut *mutex::lock(&seen)))
}
