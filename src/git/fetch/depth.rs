//! How much history is here, and whether that is as much as there is to be.
//!
//! The depth that was brought about last is in `gitsocket/depth` below the git directory, for which tip, and with the size
//! of git's `shallow` at that time: a run that finds nothing new reads no more. Where these say nothing, or another one, history is measured;
//! and where it is not as it is to be, the remote is asked, as by `git fetch --depth` and `--unshallow`.

use std::{fs, path::Path};

use gix::{ObjectId, hashtable::HashSet, remote::fetch};

use crate::{
    base::{
        bounded,
        durable::{Access, Flush, Replace},
    },
    git::{origin::Depth, repository},
};

/// The file that says what was brought about last.
const FILE: &str = "gitsocket/depth";
/// The most commits that are measured; for more, the remote is asked.
const MAX_COMMITS: usize = 4096;

/// Whether a fetch has changed how much history the repository at `git_dir` has. A clone has begun with as much.
pub fn has_changed(git_dir: &Path) -> bool {
    fs::symlink_metadata(git_dir.join(FILE)).is_ok()
}

pub(super) fn wanted(repo: &gix::Repository, depth: Depth) -> fetch::Shallow {
    match depth {
        Depth::Commits(depth) => fetch::Shallow::DepthAtRemote(depth),
        Depth::All if shallow_bytes(repo) > 0 => fetch::Shallow::undo(),
        Depth::All | Depth::Same => fetch::Shallow::NoChange,
    }
}

/// Whether the history of `tip` is as long as it is to be.
pub(super) fn is_right(repo: &gix::Repository, depth: Depth, tip: ObjectId) -> bool {
    let Some(wanted) = memory(repo, depth, tip) else {
        return true;
    };
    if bounded::read(&repo.common_dir().join(FILE), bounded::LINE).is_ok_and(|text| text == wanted.as_bytes())
    {
        return true;
    }
    let is_right = measures(repo, depth, tip).unwrap_or(false);
    if is_right {
        remember(repo, depth, tip);
    }
    is_right
}

/// The remote has been asked for it, for the history of `tip`. If that cannot be written, the next run measures, or asks again.
pub(super) fn remember(repo: &gix::Repository, depth: Depth, tip: ObjectId) {
    let path = repo.common_dir().join(FILE);
    drop(match memory(repo, depth, tip) {
        Some(text) => Replace::by(&path.with_extension("tmp"), Access::Usual, Flush::Nothing)
            .write(&path, text.as_bytes()),
        None => Ok(()),
    });
}

/// What is remembered once history is as `depth` says; nothing where it is as a look at `shallow` tells.
fn memory(repo: &gix::Repository, depth: Depth, tip: ObjectId) -> Option<String> {
    let depth = match (depth, shallow_bytes(repo)) {
        (Depth::Same, _) | (Depth::All, 0) => return None,
        // The remote's own history may be cut.
        (Depth::All, cuts) => format!("all {cuts}\n"),
        (Depth::Commits(depth), cuts) => format!("{depth} {cuts} {tip}\n"),
    };
    Some(depth)
}

fn shallow_bytes(repo: &gix::Repository) -> u64 {
    fs::symlink_metadata(repo.common_dir().join("shallow")).map_or(0, |meta| meta.len())
}

/// Whether the history of `tip` is exactly as long as `depth` says: cut there, or over before.
fn measures(repo: &gix::Repository, depth: Depth, tip: ObjectId) -> Option<bool> {
    let Depth::Commits(depth) = depth else {
        return Some(false);
    };
    let cuts = repository::cut(repo).ok()?;
    let tip = repo.find_object(tip).ok()?.peel_tags_to_end().ok()?.id;
    let mut seen = HashSet::from_iter([tip]);
    let mut level = vec![tip];
    for left in (0..depth.get()).rev() {
        let mut next = Vec::new();
        for id in level {
            if seen.len() > MAX_COMMITS {
                return None;
            }
            let has_parents = {
                let commit = repo.find_commit(id).ok()?;
                let parents: Vec<_> = commit.parent_ids().map(gix::Id::detach).collect();
                let has_parents = !parents.is_empty();
                if !cuts.contains(&id) {
                    next.extend(parents.into_iter().filter(|parent| seen.insert(*parent)));
                }
                has_parents
            };
            if has_parents && cuts.contains(&id) != (left == 0) {
                return Some(false);
            }
        }
        if next.is_empty() {
            break;
        }
        level = next;
    }
    Some(true)
}
