//! Runs that have ended, remembered across restarts: a file each, of every trigger the last [`KEPT`], and apart from them
//! the last [`KEPT_NOTHING_NEW`] that found nothing new.
//!
//! A run never fails because of this room. A file that cannot be read is passed over; a run that cannot be written is
//! kept in memory, and the log says so once. Nothing here is needed for a deploy.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use crate::{
    base::{
        event::{Event, Last, Outcome, Standing, Tally},
        mutex,
        name::RunId,
    },
    config::Target,
    daemon::store,
    deploy::{held, release, sandbox::Sandbox, state::State},
    git::{refs, repository, worktree},
};

mod disk;
mod places;
mod text;
mod unwritten;

use disk::MAX_BYTES;
use places::Places;
pub use places::{KEPT, KEPT_NOTHING_NEW};
use text::Head;
pub use text::{EndedRun, Replay};
use unwritten::Unwritten;

/// As [`MAX_BYTES`], in memory where there is no directory.
const MAX_BYTES_IN_MEMORY: usize = 16 * 1024;

/// Remembers runs.
#[derive(Debug)]
pub struct History {
    dir: Option<PathBuf>,
    sandbox: Sandbox,
    unwritten: Mutex<Unwritten>,
    /// What is known of each trigger that a client has asked for.
    newest: Mutex<BTreeMap<String, Known>>,
    /// Whether the last run could not be written: said once, until one can.
    failing: AtomicBool,
}

/// The newest run of a trigger, and how things stand since.
#[derive(Debug, Clone)]
struct Known {
    head: Head,
    /// When its directory had changed last. Another process may write there: the worker before this one finishes its runs.
    age: Option<SystemTime>,
    /// Whether the target was looked at, too, since this process began.
    is_corrected: bool,
}

impl History {
    /// Remember in `dir`, which is made if it is missing; or in memory until the process ends.
    /// What is at a target is looked at in the `sandbox` that its runs have.
    pub fn new(dir: Option<PathBuf>, sandbox: Sandbox) -> Self {
        let history = Self {
            dir,
            sandbox,
            unwritten: Mutex::default(),
            newest: Mutex::default(),
            failing: AtomicBool::new(false),
        };
        match &history.dir {
            Some(dir) => {
                if let Err(err) = store::make(dir) {
                    history.cannot_write(dir, &err);
                }
            }
            None => tracing::warn!(
                "runs are remembered in memory only, until this daemon ends: \
                 set STATE_DIRECTORY to a directory that it may write to"
            ),
        }
        history
    }

    /// The last run of `target`, and how things stand since. Read at the first call, known from then on. Without `looks`
    /// the target itself is not looked at: a thread that does may never come back.
    pub fn newest(&self, target: &Target, looks: bool) -> (Option<Last>, Standing) {
        let Head { last, standing, .. } = self.head(target, looks).head;
        (last, standing)
    }

    /// The same as it is remembered, and what was counted. The target is not looked at: that could take long, and this is
    /// asked for often.
    pub fn counted(&self, target: &Target) -> (Option<Last>, Standing, Tally) {
        let Head {
            last,
            standing,
            tally,
        } = self.head(target, false).head;
        (last, standing, tally)
    }

    /// Remember a run that has ended; `looks` as for [`Self::newest`].
    pub fn keep(&self, target: &Target, ended: EndedRun<'_>, looks: bool) {
        let Known {
            head: Head {
                standing, mut tally, ..
            },
            is_corrected,
            ..
        } = self.head(target, looks);
        let nothing_new = places::found_nothing_new(&ended, &standing);
        let mut standing = standing.after(&ended.last);
        tally.add(&ended.last, ended.took.as_ref());
        standing.hooks_pending &= !target.hooks.is_empty();
        standing.hooks_since = standing.hooks_since.filter(|_| standing.hooks_pending);
        if looks {
            let git_dir = target.site.git_dir();
            standing.mixed = worktree::mixed(&git_dir);
            standing.held = held::list(&git_dir);
            standing.releases = release::list::list(target);
            if ended.last.past.done.outcome == Outcome::RolledBack {
                standing.hooks_pending = has_pending_hooks(target);
            }
        }
        let head = Head {
            last: Some(ended.last.clone()),
            standing,
            tally,
        };
        let key = key(target);
        let written = self.dir.as_ref().map(|dir| {
            let text = text::write(&head, &ended, MAX_BYTES);
            let written = disk::write(&dir.join(&key), &ended.last.run, &text, nothing_new);
            (dir, written)
        });
        match written {
            Some((_, Ok(()))) => self.failing.store(false, Ordering::Release),
            Some((dir, Err(err))) => {
                self.cannot_write(dir, &err);
                self.keep_in_memory(&key, &head, &ended, nothing_new);
            }
            None => self.keep_in_memory(&key, &head, &ended, nothing_new),
        }
        self.know(key, head, is_corrected);
    }

    /// A run found that its commit is held. The run itself is not remembered.
    pub fn note_held(&self, target: &Target) {
        let mut head = self.head(target, true).head;
        head.standing.held = held::list(&target.site.git_dir());
        head.standing.releases = release::list::list(target);
        self.know(key(target), head, true);
    }

    fn know(&self, key: String, head: Head, is_corrected: bool) {
        let known = Known {
            head,
            age: self.age(&key),
            is_corrected,
        };
        mutex::lock(&self.newest).insert(key, known);
    }

    /// Remember a run that was interrupted, unless it is remembered already.
    pub fn keep_interrupted(&self, target: &Target, last: Last) {
        if self.list(target).any(|known| known.run == last.run) {
            return;
        }
        let events = [Event::Done(last.past.done.clone())];
        let ended = EndedRun {
            last,
            events: &events,
            lost: 0,
            took: None,
        };
        self.keep(target, ended, true);
    }

    /// The runs of `target` that are remembered, the newest first. Each is read when it is wanted.
    pub fn list(&self, target: &Target) -> impl Iterator<Item = Last> + use<> {
        let key = key(target);
        let in_memory = mutex::lock(&self.unwritten).heads(&key);
        let on_disk = self.dir.as_ref().map(|dir| disk::heads(&dir.join(&key)));
        let on_disk = on_disk.into_iter().flatten();
        let runs: Box<dyn Iterator<Item = (bool, Head)>> = if in_memory.is_empty() {
            Box::new(on_disk)
        } else {
            // Some could not be written, while others could.
            let mut heads: Vec<_> = in_memory.into_iter().chain(on_disk).collect();
            heads.sort_by_key(|(_, head)| head.last.as_ref().map(|last| std::cmp::Reverse(last.past.ended)));
            Box::new(heads.into_iter())
        };
        let mut places = Places::new();
        let runs = runs.filter(move |(nothing_new, _)| places.take(*nothing_new));
        runs.filter_map(|(_, head)| head.last)
    }

    /// The ids of the runs of `target` that are remembered, in no order.
    pub fn ids(&self, target: &Target) -> Vec<RunId> {
        let key = key(target);
        let mut ids = mutex::lock(&self.unwritten).ids(&key);
        let on_disk = self.dir.iter().flat_map(|dir| disk::ids(&dir.join(&key)));
        ids.extend(on_disk);
        ids
    }

    /// What the clients of `run` got. `None`: it is not remembered, or not any more.
    pub fn replay(&self, target: &Target, run: &RunId) -> Option<Replay> {
        let key = key(target);
        let text = mutex::lock(&self.unwritten).find(&key, run);
        let text = text.or_else(|| disk::find(&self.dir.as_ref()?.join(&key), run))?;
        Replay::new(text)
    }

    fn head(&self, target: &Target, looks: bool) -> Known {
        let key = key(target);
        let age = self.age(&key);
        let known = mutex::lock(&self.newest).get(&key).cloned();
        let is_corrected = known.as_ref().is_some_and(|known| known.is_corrected);
        let current = known.as_ref().filter(|known| known.age == age);
        if let Some(current) = current
            && (is_corrected || !looks)
        {
            return current.clone();
        }
        let on_disk = |dir: &PathBuf| disk::newest(&dir.join(&key));
        // Where there is no file yet, what is known counts: the directory is made before its first file.
        let before = || known.as_ref().map(|known| known.head.clone());
        let found = match current {
            Some(current) => Some(current.head.clone()),
            None => self.dir.as_ref().and_then(on_disk).or_else(before),
        };
        let mut head = found.unwrap_or_default();
        if looks && !is_corrected {
            let correct = || correct(&mut head.standing, target);
            // Without a thread, what is remembered must do.
            self.sandbox.confine(target, correct).ok();
        }
        let found = Known {
            head,
            age,
            is_corrected: is_corrected || looks,
        };
        let mut newest = mutex::lock(&self.newest);
        let mark = |known: &Known| (known.age, known.is_corrected);
        // A thread that was faster may know of a newer run.
        if newest.get(&key).map(mark) == known.as_ref().map(mark) {
            newest.insert(key, found.clone());
            return found;
        }
        newest.get(&key).cloned().unwrap_or(found)
    }

    /// When something was last written for `key`, if anything was.
    fn age(&self, key: &str) -> Option<SystemTime> {
        let dir = self.dir.as_ref()?.join(key);
        fs::metadata(dir).and_then(|meta| meta.modified()).ok()
    }

    fn keep_in_memory(&self, key: &str, head: &Head, ended: &EndedRun<'_>, nothing_new: bool) {
        let text = text::write(head, ended, MAX_BYTES_IN_MEMORY);
        mutex::lock(&self.unwritten).keep(key, ended.last.run.clone(), text, nothing_new);
    }

    fn cannot_write(&self, dir: &Path, err: &io::Error) {
        if !self.failing.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                "cannot write runs to {}: {err}; they are remembered in memory only: \
                 make it writable, or set STATE_DIRECTORY to another directory",
                dir.display()
            );
        }
    }
}

/// What is at the target counts more than what is remembered: another process may have deployed since, a run may have been
/// killed in the middle of its hooks, or the target may be gone.
fn correct(standing: &mut Standing, target: &Target) {
    let git_dir = target.site.git_dir();
    let commit = match fs::symlink_metadata(&git_dir) {
        Ok(meta) if meta.is_dir() => repository::open(&git_dir).ok().and_then(|repo| refs::head(&repo)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        // That cannot be told.
        _ => return,
    };
    standing.mixed = worktree::mixed(&git_dir);
    standing.held = held::list(&git_dir);
    standing.releases = release::list::list(target);
    standing.hooks_pending =
        commit.is_some_and(|commit| State::read(&git_dir).has_pending_hooks(target, commit));
    standing.hooks_since = standing.hooks_since.filter(|_| standing.hooks_pending);
    // A run may have been killed before HEAD said so.
    let live = standing.releases.iter().find(|release| release.live);
    let commit = live
        .map(|live| live.commit.clone())
        .or_else(|| commit.map(|commit| commit.to_string()));
    if standing.commit != commit {
        standing.commit = commit;
        standing.since = None;
    }
}

/// Whether hooks have not yet succeeded for what is deployed.
fn has_pending_hooks(target: &Target) -> bool {
    let git_dir = target.site.git_dir();
    let commit = repository::open(&git_dir).ok().and_then(|repo| refs::head(&repo));
    commit.is_some_and(|commit| State::read(&git_dir).has_pending_hooks(target, commit))
}

/// The name of a target's directory. Triggers of the same name are told apart by their path: two daemons on one
/// account do not mix.
fn key(target: &Target) -> String {
    let path = target.site.key().as_path();
    format!("{}-{}", target.trigger, store::digest(path))
}
