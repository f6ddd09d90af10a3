//! One edit of a ref, which leaves no lock file behind even where the disk refuses to remove one.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use gix::{
    lock::acquire::Fail,
    refs::transaction::{Change, RefEdit},
};

use super::Sharing;
use crate::base::identity::Identity;

/// How long an edit waits for the lock file of a ref, and for that of `packed-refs`: git's defaults.
const REF_PATIENCE: Fail = Fail::AfterDurationWithBackoff(Duration::from_millis(100));
const PACKED_REFS_PATIENCE: Fail = Fail::AfterDurationWithBackoff(Duration::from_secs(1));

/// Do `edit`, and write it into the reflog.
///
/// gitoxide ignores a lock file that it could not remove; every later edit would then wait for it in vain. The lock files
/// that this edit holds are told apart from those of a live git by their inode, and removed once more.
pub fn edit_ref(repo: &gix::Repository, edit: RefEdit) -> Result<(), gix::Error> {
    let written = written_by(repo, &edit);
    let sharing = Sharing::of(repo);
    let (files, made) = if sharing.is_set() {
        files_of(repo, &edit, &written)
    } else {
        Default::default()
    };
    let locks: Vec<PathBuf> = written
        .iter()
        .map(|name| repo.common_dir().join(format!("{name}.lock")))
        .filter(|path| Identity::at(path).is_err())
        .collect();
    let committer = repo.committer().transpose()?;
    let transaction = repo
        .refs
        .transaction()
        .prepare(Some(edit), REF_PATIENCE, PACKED_REFS_PATIENCE)?;
    let held = locks
        .into_iter()
        .filter_map(|path| Some((Identity::at(&path).ok()?, path)));
    let held: Vec<_> = held.collect();
    let edited = transaction.commit(committer);
    made.iter().chain(&files).for_each(|path| sharing.path(path));
    for (file, path) in held {
        if Identity::at(&path).is_ok_and(|now| now == file) {
            // If it fails again, the next run waits for it, and names it.
            fs::remove_file(path).ok();
        }
    }
    edited.map(drop)
}

/// The files that `edit` writes, refs and their logs, and the directories that are made for them.
fn files_of(repo: &gix::Repository, edit: &RefEdit, written: &[String]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let dir = repo.common_dir();
    let logs = written.iter().map(|name| dir.join("logs").join(name));
    // A branch is written through HEAD.
    let is_written = |name: &&String| *name != "HEAD" || !edit.deref && edit.name.as_bstr() == "HEAD";
    let refs = written.iter().filter(is_written).map(|name| dir.join(name));
    let files: Vec<PathBuf> = logs.chain(refs).collect();
    let above = files.iter().flat_map(|path| path.ancestors().skip(1));
    let made: BTreeSet<PathBuf> = above
        .filter(|above| above.starts_with(dir) && !above.exists())
        .map(Into::into)
        .collect();
    (files, made.into_iter().collect())
}

/// What `edit` writes, and locks by a `.lock` beside it.
fn written_by(repo: &gix::Repository, edit: &RefEdit) -> Vec<String> {
    let name = edit.name.to_string();
    let head = repo.head_name().ok().flatten().map(|name| name.to_string());
    let mut names = vec![name.clone()];
    match head {
        Some(branch) if branch == name => names.push("HEAD".into()),
        Some(branch) if name == "HEAD" && edit.deref => names.push(branch),
        _ => {}
    }
    if matches!(edit.change, Change::Delete { .. }) {
        names.push("packed-refs".into());
    }
    names
}
