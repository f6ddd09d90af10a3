//! Runs of the version before this one, which locked the root of the worktree itself. During an upgrade they are waited for.
//!
//! Any user who may read the root can hold such a lock, so it counts only where a process of our own user holds it.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

use super::error::Error;
use crate::base::{
    bounded,
    report::{Report, Reporter},
    watch::Watch,
};

/// How often the lock is looked at. A flock(2) that blocks would wait for a stranger, too. In time.
const PAUSE: Duration = Duration::from_millis(100);
/// What is read of the list of all locks, in bytes: some fifty thousand of them. What is longer tells nothing.
const LOCKS: u64 = 4 << 20;

/// Let runs of the version before wait for this one, as far as `root` can be locked: it is held as long as the value lives.
pub(super) fn hold(root: &Path) -> Option<File> {
    let dir = open(root).ok()?;
    flock(&dir, FlockOperation::NonBlockingLockShared).ok()?;
    Some(dir)
}

fn open(root: &Path) -> std::io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(root)
}

/// Wait until no run of the version before holds the lock on `root`.
pub(super) fn wait(root: &Path, watch: &Watch, report: &Reporter) -> Result<(), Error> {
    if !is_held(root) {
        return Ok(());
    }
    report.emit(Report::Waiting {
        on: format!(
            "another process, of a version before this one, that is updating {}",
            root.display()
        ),
    });
    let free = watch.look_every(PAUSE, || !is_held(root));
    free.map_err(|early| Error::early(early, root))
}

/// Whether a run of the version before holds the lock on `root`.
pub(super) fn is_held(root: &Path) -> bool {
    // What cannot be opened is not locked by our own user either; the run says what is wrong with it.
    open(root).is_ok_and(|dir| match flock(&dir, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            // Closing would not do: a hook that is about to be started has a copy of it until then.
            flock(&dir, FlockOperation::Unlock).ok();
            false
        }
        Err(Errno::WOULDBLOCK) => is_held_by_us(&dir),
        Err(_) => false,
    })
}

fn is_held_by_us(dir: &File) -> bool {
    let Ok(meta) = dir.metadata() else {
        return false;
    };
    let list = bounded::read(Path::new("/proc/locks"), LOCKS).unwrap_or_default();
    let list = String::from_utf8_lossy(&list);
    let us = rustix::process::geteuid().as_raw();
    // Root may take part in anything; and root, in the runs of the user that the worktree belongs to.
    let counts = |uid: u32| uid == us || uid == 0 || (us == 0 && uid == meta.uid());
    let is_ours = |pid: u32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| counts(meta.uid()));
    holders(&list, meta.ino()).any(|pid| pid != std::process::id() && is_ours(pid))
}

/// The processes that hold an exclusive flock(2) on `inode`, as /proc/locks has them: proc_locks(5).
///
/// The device is not compared: some file systems, such as btrfs, show another one there than to stat(2). A lock of our own
/// user's on a file that has the same number elsewhere is waited for without need, if a stranger holds this one.
fn holders(list: &str, inode: u64) -> impl Iterator<Item = u32> {
    list.lines().filter_map(move |line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = words.as_slice() else {
            return None;
        };
        let (_, number) = file.rsplit_once(':')?;
        if number.parse() == Ok(inode) {
            pid.parse().ok()
        } else {
            None
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_list() {
        let list = "1: FLOCK  ADVISORY  WRITE 11 fe:00:131 0 EOF\n\
                    1: -> FLOCK  ADVISORY  WRITE 12 fe:00:131 0 EOF\n\
                    2: FLOCK  ADVISORY  READ 13 fe:00:131 0 EOF\n\
                    3: POSIX  ADVISORY  WRITE 14 fe:00:131 0 EOF\n\
                    4: FLOCK  ADVISORY  WRITE 15 fe:00:1310 0 EOF\n\
                    5: FLOCK  ADVISORY  WRITE 16 00:2c:131 0 EOF\n\
                    6: FLOCK  ADVISORY  WRITE -1 00:2c:131 0 EOF\n\
                    7: LEASE\n\n8: FLOCK ADVISORY WRITE 17 131";
        assert_eq!(holders(list, 131).collect::<Vec<_>>(), [11, 16]);
    }

    #[test]
    fn our_own_lock_is_none_of_the_version_before() {
        let dir = crate::machine::tempdir().unwrap();
        assert!(!is_held(dir.path()) && !is_held(&dir.path().join("none")));
        let held = File::open(dir.path()).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        assert!(!is_held(dir.path()));
    }
}
