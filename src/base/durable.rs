//! What must survive a power cut is on the disk before anything is written that relies on it, see fsync(2).
//!
//! The order: objects, then the refs that name them; index and refs, then the state of the hooks. Files of the
//! worktree are not waited for: after a power cut the next run finds those that are not as the index says.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Have the content of `files`, and then their names, on the disk. One that is not there has nothing to lose.
pub fn files<'a>(files: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
    let mut dirs: Vec<&Path> = Vec::new();
    for path in files {
        match sync(path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        }
        dirs.extend(path.parent());
    }
    dirs.sort_unstable();
    dirs.dedup();
    dirs.into_iter().try_for_each(sync)
}

/// Have all that is below `dir` on the disk, links not followed.
pub fn tree(dir: &Path) -> io::Result<()> {
    let mut dirs = vec![dir.to_owned()];
    let mut at = 0;
    while let Some(dir) = dirs.get(at).cloned() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                sync(&entry.path())?;
            }
        }
        at += 1;
    }
    // Those below come after those above.
    dirs.iter().rev().try_for_each(|dir| sync(dir))
}

/// What a disk has room for, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What this user can still write.
    pub left: u64,
    /// All that it holds.
    pub total: u64,
}

/// The room on the disk that `path` is on; none if its file system does not say, as tmpfs without a size.
pub fn room(path: &Path) -> io::Result<Option<Room>> {
    let disk = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok((disk.f_blocks > 0).then(|| Room {
        left: bytes(disk.f_bavail),
        total: bytes(disk.f_blocks),
    }))
}

/// Have the names in `dir` on the disk.
pub fn dir(dir: &Path) -> io::Result<()> {
    sync(dir)
}

fn sync(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        // A directory that may be passed but not read, above the worktree.
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        other => other?,
    };
    match file.sync_all() {
        // Some filesystems cannot do it for directories, and need not.
        Err(err) if err.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_and_trees_that_are_there_and_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "x").unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.path().join("sub/link")).unwrap();
        files([
            file.as_path(),
            &dir.path().join("none"),
            &dir.path().join("none/x"),
        ])
        .unwrap();
        tree(dir.path()).unwrap();
        assert!(tree(&dir.path().join("none")).is_err());
    }
}
