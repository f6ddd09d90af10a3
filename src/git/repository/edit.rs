//! One edit of a ref, which leaves no lock file behind even where the disk refuses to remove one.

use std::{fs, path::PathBuf, time::Duration};

use gix::{
    lock::acquire::Fail,
    refs::transaction::{Change, RefEdit},
};

use crate::base::identity::Identity;

/// How long an edit waits for the lock file of a ref, and for that of `packed-refs`: git's defaults.
const REF_PATIENCE: Fail = Fail::AfterDurationWithBackoff(Duration::from_millis(100));
const PACKED_REFS_PATIENCE: Fail = Fail::AfterDurationWithBackoff(Duration::from_secs(1));

/// Do `edit`, and write it into the reflog.
///
/// gitoxide ignores a lock file that it could not remove; every later edit would then wait for it in vain. The lock files
/// that this edit holds are told apart from those of a live git by their inode, and removed once more.
pub fn edit_ref(repo: &gix::Repository, edit: RefEdit) -> Result<(), gix::Error> {
    let locks: Vec<PathBuf> = locked_by(repo, &edit)
        .into_iter()
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
    for (file, path) in held {
        if Identity::at(&path).is_ok_and(|now| now == file) {
            // If it fails again, the next run waits for it, and names it.
            fs::remove_file(path).ok();
        }
    }
    edited.map(drop)
}

/// The lock files that `edit` takes.
fn locked_by(repo: &gix::Repository, edit: &RefEdit) -> Vec<PathBuf> {
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
    let dir = repo.common_dir();
    names
        .iter()
        .map(|name| dir.join(format!("{name}.lock")))
        .collect()
}
