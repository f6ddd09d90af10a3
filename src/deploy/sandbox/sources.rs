//! Where the data of local sources are. A source may be on a file system that does not answer (a dead NFS server, a FUSE
//! whose program hangs), and nothing interrupts the thread that asks it: so threads of their own ask, and are left behind.
//!
//! A source that has not answered is as one that is not there: the sandbox denies it, and all else goes on.
//!
//! What a source says of other directories (a `.git` file, a linked worktree, alternates) was written by those who may write
//! to it. So that counts only for directories of the same owner that nothing else here has to do with; and not at all where
//! the source is, or is in, a target: there hooks write.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
};

use super::ways::{Lasts, Ways};
use crate::{deploy::links, git::repository};

/// How long sources may take to answer, all together. Local disks need microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sources that are being asked, each by one thread: no more are left behind in one that hangs.
static ASKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// One of them has answered.
static ANSWERED: Condvar = Condvar::new();

/// Where `sources` are, and the directories that data of the repositories there are in; those that answer.
pub(super) fn storage(sources: BTreeSet<PathBuf>, (lasts, ways): (Lasts, &Arc<Ways>)) -> Vec<PathBuf> {
    let until = Instant::now() + PATIENCE;
    let left = || until.saturating_duration_since(Instant::now());
    let (say, heard) = mpsc::channel();
    let mut near = Vec::new();
    for source in sources {
        if lasts == Lasts::Short && is_near(&source, ways).is_ok_and(|is| is) {
            near.extend(ways.around(&source));
            continue;
        }
        let Some(asked) = Asked::enter(source, left()) else {
            continue;
        };
        let (say, ways) = (say.clone(), ways.clone());
        let thread = thread::Builder::new().name("source".into());
        // Without a thread, nothing is known of it.
        thread
            .spawn(move || say.send(ask(&asked.0, (lasts, &ways))).ok())
            .ok();
    }
    drop(say);
    let far = std::iter::from_fn(|| heard.recv_timeout(left()).ok()).flatten();
    near.into_iter().chain(far).collect()
}

/// What names other directories, in a repository or a worktree.
const NAMING: [&str; 4] = [
    "commondir",
    "objects/info/alternates",
    ".git/commondir",
    ".git/objects/info/alternates",
];

/// Whether `source` need not be asked: it is on the disk of a target, which a run waits for anyhow, and names no other
/// place. Nothing here waits for a file system: what is not in the kernel's memory is an error.
fn is_near(source: &Path, ways: &Ways) -> Result<bool, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let alone = ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED;
    let dir = openat2(CWD, source, flags | OFlags::DIRECTORY, Mode::empty(), alone)?;
    if !ways.is_on_a_targets_disk(&dir)? {
        return Ok(false);
    }
    let below = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let is_absent = |name: &str| {
        let opened = openat2(&dir, name, flags, Mode::empty(), below);
        matches!(opened, Err(Errno::NOENT))
    };
    Ok(NAMING.iter().all(|name| is_absent(name)))
}

fn ask(source: &Path, (lasts, ways): (Lasts, &Ways)) -> Vec<PathBuf> {
    let Ok(real) = ways.lead(source) else {
        return Vec::new();
    };
    if lasts == Lasts::Long && !real.exists() {
        // It may be made later.
        return ways.beside(source);
    }
    // A worktree may hold what the configuration names.
    let mut dirs = ways.around(&real);
    if !ways.is_written(&real) {
        let named = repository::storage(&real).into_iter();
        let named = named.filter_map(|dir| ways.lead(&dir).ok());
        dirs.extend(named.filter(|dir| !dir.starts_with(&real) && may_lend(dir, &real, ways)));
    }
    for dir in &dirs {
        // As it is opened for its rule, which must not be what hangs.
        links::open(dir).ok();
    }
    dirs
}

/// Whether the repository `source` may have data in `dir`, both without links. A repository's directory holds objects and
/// `HEAD`; what is borrowed from is a directory of objects.
fn may_lend(dir: &Path, source: &Path, ways: &Ways) -> bool {
    let owner = |path: &Path| path.symlink_metadata().ok().map(|meta| meta.uid());
    let is_one = dir.ends_with("objects") || (dir.join("HEAD").is_file() && dir.join("objects").is_dir());
    let is_linked = dir.join("commondir").is_file() && dir.join("HEAD").is_file();
    (is_one || is_linked)
        && owner(dir).is_some_and(|uid| owner(source) == Some(uid))
        && !ways.holds_named(dir)
        && !ways.is_anothers(dir, source)
}

/// A source that is being asked, until this is dropped.
struct Asked(PathBuf);

impl Asked {
    /// None if another thread is still asking it after `patience`.
    fn enter(source: PathBuf, patience: Duration) -> Option<Self> {
        let asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
        let others = ANSWERED.wait_timeout_while(asked, patience, |asked| asked.contains(&source));
        let (mut asked, _) = others.unwrap_or_else(PoisonError::into_inner);
        asked.insert(source.clone()).then(|| Self(source))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        ASKED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.0);
        ANSWERED.notify_all();
    }
}
