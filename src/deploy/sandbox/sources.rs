//! Where the data of local sources are. A source may be on a file system that does not answer (a dead NFS server, a FUSE
//! whose program hangs), and nothing interrupts the thread that looks at it: so other threads look, and are abandoned if they
//! hang.
//!
//! A source that does not answer in time counts as missing: the sandbox denies it, and all else goes on.
//!
//! What a source says of other directories (a `.git` file, a linked worktree, alternates) was written by a user who may write
//! to it. So it counts only for directories of the same owner that hold neither a target nor a file of the configuration; and
//! not at all where the source is, or is in, a target, since hooks write there.

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

use super::allowed::{Allowed, Lasts};
use crate::{deploy::links, git::repository};

/// How long sources may take to answer, all together. Local disks need microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sources that threads look at now, one thread each: no second one hangs in the same source.
static ASKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static ANSWERED: Condvar = Condvar::new();

/// The directories with the data of the repositories at `sources`, as far as their file systems answer.
pub(super) fn storage(sources: BTreeSet<PathBuf>, (lasts, allowed): (Lasts, &Arc<Allowed>)) -> Vec<PathBuf> {
    let until = Instant::now() + PATIENCE;
    let left = || until.saturating_duration_since(Instant::now());
    let (say, heard) = mpsc::channel();
    let mut near = Vec::new();
    for source in sources {
        if lasts == Lasts::Short && is_near(&source, allowed).is_ok_and(|is| is) {
            near.extend(allowed.around(&source));
            continue;
        }
        let Some(asked) = Asked::enter(source, left()) else {
            continue;
        };
        let (say, allowed) = (say.clone(), allowed.clone());
        let thread = thread::Builder::new().name("source".into());
        // Without a thread, the source counts as missing.
        thread
            .spawn(move || say.send(ask(&asked.0, (lasts, &allowed))).ok())
            .ok();
    }
    drop(say);
    let far = std::iter::from_fn(|| heard.recv_timeout(left()).ok()).flatten();
    near.into_iter().chain(far).collect()
}

/// The files of a repository or a worktree that name other directories.
const NAMING: [&str; 4] = [
    "commondir",
    "objects/info/alternates",
    ".git/commondir",
    ".git/objects/info/alternates",
];

/// Whether `source` needs no thread: it is on the file system of a target, which a run waits for in any case, and names no
/// other directory. Nothing here waits for a file system: what the kernel has not cached is an error.
fn is_near(source: &Path, allowed: &Allowed) -> Result<bool, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let alone = ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED;
    let dir = openat2(CWD, source, flags | OFlags::DIRECTORY, Mode::empty(), alone)?;
    if !allowed.is_on_a_targets_disk(&dir)? {
        return Ok(false);
    }
    let below = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let is_absent = |name: &str| {
        let opened = openat2(&dir, name, flags, Mode::empty(), below);
        matches!(opened, Err(Errno::NOENT))
    };
    Ok(NAMING.iter().all(|name| is_absent(name)))
}

fn ask(source: &Path, (lasts, allowed): (Lasts, &Allowed)) -> Vec<PathBuf> {
    let Ok(real) = allowed.lead(source) else {
        return Vec::new();
    };
    if lasts == Lasts::Long && !real.exists() {
        // It may be made later.
        return allowed.beside(source);
    }
    // A worktree may hold what the configuration names.
    let mut dirs = allowed.around(&real);
    if !allowed.is_written(&real) {
        let named = repository::storage(&real).into_iter();
        let named = named.filter_map(|dir| allowed.lead(&dir).ok());
        dirs.extend(named.filter(|dir| !dir.starts_with(&real) && may_lend(dir, &real, allowed)));
    }
    for dir in &dirs {
        // The rule opens it later on a thread that must not hang.
        links::open(dir).ok();
    }
    dirs
}

/// Whether `dir`, which the repository `source` names, looks like its data; both are paths without links. A git directory holds
/// objects and `HEAD`; alternates name a directory of objects.
fn may_lend(dir: &Path, source: &Path, allowed: &Allowed) -> bool {
    let owner = |path: &Path| path.symlink_metadata().ok().map(|meta| meta.uid());
    let is_one = dir.ends_with("objects") || (dir.join("HEAD").is_file() && dir.join("objects").is_dir());
    let is_linked = dir.join("commondir").is_file() && dir.join("HEAD").is_file();
    (is_one || is_linked)
        && owner(dir).is_some_and(|uid| owner(source) == Some(uid))
        && !allowed.holds_named(dir)
        && !allowed.is_anothers(dir, source)
}

/// A source that a thread looks at, until this is dropped.
struct Asked(PathBuf);

impl Asked {
    /// None if another thread still looks at it after `patience`.
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
