//! Going back to a release that was good: it is as it was, or is mended, or is passed over.

use std::{
    os::fd::AsFd as _,
    sync::{Arc, Mutex},
};

use gix::ObjectId;

use super::{Error, NO_MARK, UnderWay, update_options};
use crate::{
    base::{
        event::Named,
        mutex,
        report::{Report, Reporter},
    },
    deploy::{
        release::{self, built, id::Id, record::Tree, trees},
        stage::Stage,
    },
    git::worktree,
};

/// What was gone back to.
#[derive(Debug)]
pub(super) struct Back {
    /// The commit that is live again.
    pub(super) commit: ObjectId,
}

/// Let an older release be live again: the newest one that was good and still is as it was; or the one whose name, or whose
/// commit's id, begins with `to`. What is live by now is good no more if it `is_sick`.
pub(super) fn back(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
    to: Option<&str>,
    is_sick: bool,
) -> Result<Back, Error> {
    let context = under_way.context;
    let mut damaged = Vec::new();
    for (id, commit) in candidates(stage, to)? {
        let mended = match verify(repo, (under_way, stage), &id, commit)? {
            Ok(mended) => mended,
            Err(why) => {
                let why = format!("{id}: {why}");
                context.events.warn(format!("a release is damaged, and is passed over: {why}"));
                damaged.push(why);
                continue;
            }
        };
        if !mended.is_empty() {
            context.events.warn(format!(
                "{id} was changed since it was live; mended: {}",
                mended.line()
            ));
        }
        let marked = under_way.changes();
        marked.map_err(release::Error::io("mark the run in", under_way.git_dir()))?;
        if is_sick {
            stage.judge(repo, false)?;
        }
        stage.restore(repo, &id)?;
        super::build::tell_live(stage, context);
        return Ok(Back { commit });
    }
    Err(match damaged.is_empty() {
        true => release::Error::None,
        false => release::Error::Damaged {
            what: damaged.join("; "),
        },
    }
    .into())
}

/// The releases to try, one after the other.
fn candidates(stage: &Stage<'_>, to: Option<&str>) -> Result<Vec<(Id, ObjectId)>, Error> {
    let Some(yard) = stage.yard() else {
        return Ok(Vec::new());
    };
    let live = yard.live().map(|tree| &tree.id);
    let of = |tree: &Tree| {
        let commit = ObjectId::from_hex(tree.commit.as_bytes()).ok()?;
        Some((tree.id.clone(), commit))
    };
    let Some(wanted) = to else {
        return Ok(trees::older(yard.record(), live).into_iter().filter_map(of).collect());
    };
    let mut others: Vec<&Tree> = yard.record().trees.iter().collect();
    others.retain(|tree| tree.is_whole && tree.turn > 0 && Some(&tree.id) != live);
    others.sort_by_key(|tree| std::cmp::Reverse(tree.made));
    let named = |tree: &&&Tree| tree.id.as_str() == wanted || tree.commit.starts_with(wanted);
    match others.iter().find(named).and_then(|tree| of(tree)) {
        Some(found) if wanted.len() >= SHORTEST => Ok(vec![found]),
        _ => {
            let there: Vec<&str> = others.iter().map(|tree| tree.id.as_str()).collect();
            let there = match there.is_empty() {
                true => "none".into(),
                false => there.join(", "),
            };
            let wanted = wanted.into();
            Err(release::Error::Unknown { wanted, there }.into())
        }
    }
}

/// The shortest beginning of a commit's id that names it, in digits, as git has it.
const SHORTEST: usize = 4;

/// Compare the tree `id` with what Build left in it, and mend what was as committed then. Gives what was mended; or why it
/// cannot be.
fn verify(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
    id: &Id,
    commit: ObjectId,
) -> Result<Result<Named, String>, Error> {
    let Some(yard) = stage.yard() else {
        return Ok(Ok(Named::default()));
    };
    let path = yard.built(id);
    let known = match built::read(&path) {
        Err(err) if err.kind() == std::io::ErrorKind::InvalidData => {
            return Ok(Err(format!("what Build left in it is not known: {}: {err}", path.display())));
        }
        known => known.map_err(release::Error::io("read", &path))?,
    };
    let tree = yard.open(id)?;
    let changed = worktree::changed(tree.as_fd(), &known);
    if let Some(file) = changed.map_err(release::Error::io("look through", &yard.path(id)))? {
        return Ok(Err(format!("{} is not as Build left it", file.path)));
    }
    stage.inspect(id, known.into_iter().map(|file| file.path))?;
    let context = under_way.context;
    let options = update_options(under_way, stage, NO_MARK);
    let mended = match differing(repo, commit, &options) {
        Err(worktree::Error::Object { reason, .. }) => return Ok(Err(reason)),
        mended => mended?,
    };
    if !mended.is_empty() && !context.dry_run {
        match worktree::update(repo, commit, &options) {
            Err(worktree::Error::Object { reason, .. }) => return Ok(Err(reason)),
            updated => updated.map(drop)?,
        }
    }
    if !context.dry_run && let Some(yard) = stage.yard() {
        yard.link_shared(id)?;
    }
    Ok(Ok(mended))
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
