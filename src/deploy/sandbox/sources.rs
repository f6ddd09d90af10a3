//! Where the data of local sources are. A source may be on a file system that does not answer (a dead NFS server, a FUSE
//! whose program hangs), and nothing interrupts the thread that asks it: so threads of their own ask, and are left behind.
//!
//! A source that has not answered is as one that is not there: the sandbox denies it, and all else goes on.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, Mode, OFlags};

use crate::git::repository;

/// How long sources may take to answer, all together. Local disks need microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sources that are being asked, each by one thread: no more are left behind in one that hangs.
static ASKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// One of them has answered.
static ANSWERED: Condvar = Condvar::new();

/// `sources`, and the directories that data of the repositories there are in; those that answer.
pub(super) fn storage(sources: BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let until = Instant::now() + PATIENCE;
    let left = || until.saturating_duration_since(Instant::now());
    let (say, heard) = mpsc::channel();
    for source in sources {
        let Some(asked) = Asked::enter(source, left()) else {
            continue;
        };
        let say = say.clone();
        let thread = thread::Builder::new().name("source".into());
        // Without a thread, nothing is known of it.
        thread.spawn(move || say.send(ask(&asked.0)).ok()).ok();
    }
    drop(say);
    std::iter::from_fn(|| heard.recv_timeout(left()).ok())
        .flatten()
        .collect()
}

fn ask(source: &Path) -> Vec<PathBuf> {
    let mut dirs = vec![source.to_owned()];
    dirs.extend(repository::storage(source));
    for dir in &dirs {
        // As it is opened for its rule, which must not be what hangs.
        rustix::fs::openat(CWD, dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
    }
    dirs
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
