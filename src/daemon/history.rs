//! Runs that have ended, remembered across restarts: one file for each run, the last [`KEPT`] of each trigger, and apart from them the
//! last [`KEPT_NOTHING_NEW`] that found nothing new.
//!
//! No run fails because of the history. A file that cannot be read is skipped; a run that cannot be written is kept in memory, and
//! the log says so once.

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

/// The history of all triggers.
#[derive(Debug)]
pub struct History {
    dir: Option<PathBuf>,
    sandbox: Sandbox,
    unwritten: Mutex<Unwritten>,
    /// What is known of each trigger that a client has asked for.
    newest: Mutex<BTreeMap<String, Known>>,
    /// Whether the last run could not be written, so that it is logged only once.
    failing: AtomicBool,
}

/// The newest run of a trigger, and the trigger's state since.
#[derive(Debug, Clone)]
struct Known {
    head: Head,
    /// When its directory had changed last: another process may write there, such as an earlier worker that finishes its runs.
    age: Option<SystemTime>,
    /// Whether this process has compared it with the target.
    is_corrected: bool,
}

impl History {
    /// A history in `dir`, which is made if it is missing; or in memory until the process ends.
    /// Targets are looked at in the `sandbox` of their runs.
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

    /// The last run of `target`, and the trigger's state since; read from the disk at the first call only. Without `looks`, the target
    /// itself is not looked at, which may hang.
    pub fn newest(&self, target: &Target, looks: bool) -> (Option<Last>, Standing) {
        let Head { last, standing, .. } = self.head(target, looks).head;
        (last, standing)
    }

    /// The same with the counters, and without a look at the target, since this is called often.
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

    /// Record that the newest commit of `target` is held. The run that found it is not remembered.
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

    /// The runs of `target` that are remembered, the newest first. Each is read only when the iterator comes to it.
    pub fn list(&self, target: &Target) -> impl Iterator<Item = Last> + use<> {
        let key = key(target);
        let in_memory = mutex::lock(&self.unwritten).heads(&key);
        let on_disk = self.dir.as_ref().map(|dir| disk::heads(&dir.join(&key)));
        let on_disk = on_disk.into_iter().flatten();
        let runs: Box<dyn Iterator<Item = (bool, Head)>> = if in_memory.is_empty() {
            Box::new(on_disk)
        } else {
            // Some runs could be written, and some could not.
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

    /// The events of `run`, as its clients got them; `None` if it is not remembered.
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
        // Without a file, the known state counts: the directory may have been made, but not its first file.
        let before = || known.as_ref().map(|known| known.head.clone());
        let found = match current {
            Some(current) => Some(current.head.clone()),
            None => self.dir.as_ref().and_then(on_disk).or_else(before),
        };
        let mut head = found.unwrap_or_default();
        if looks && !is_corrected {
            let correct = || correct(&mut head.standing, target);
            // Without a thread, the remembered state is used.
            self.sandbox.confine(target, correct).ok();
        }
        let found = Known {
            head,
            age,
            is_corrected: is_corrected || looks,
        };
        let mut newest = mutex::lock(&self.newest);
        let mark = |known: &Known| (known.age, known.is_corrected);
        // Another thread may have recorded a newer run meanwhile.
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

/// Correct the remembered state by the target itself: another process may have deployed since, a run may have been killed during
/// its hooks, or the target may have been removed.
fn correct(standing: &mut Standing, target: &Target) {
    let git_dir = target.site.git_dir();
    let commit = match fs::symlink_metadata(&git_dir) {
        Ok(meta) if meta.is_dir() => repository::open(&git_dir).ok().and_then(|repo| refs::head(&repo)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        // The state cannot be found out.
        _ => return,
    };
    standing.mixed = worktree::mixed(&git_dir);
    standing.held = held::list(&git_dir);
    standing.releases = release::list::list(target);
    standing.hooks_pending =
        commit.is_some_and(|commit| State::read(&git_dir).has_pending_hooks(target, commit));
    standing.hooks_since = standing.hooks_since.filter(|_| standing.hooks_pending);
    // With releases, the live one counts: a run may have been killed before it wrote HEAD.
    let live = standing.releases.iter().find(|release| release.live);
    let commit = live
        .map(|live| live.commit.clone())
        .or_else(|| commit.map(|commit| commit.to_string()));
    if standing.commit != commit {
        standing.commit = commit;
        standing.since = None;
    }
}

/// Whether hooks have not yet succeeded for the deployed commit.
fn has_pending_hooks(target: &Target) -> bool {
    let git_dir = target.site.git_dir();
    let commit = repository::open(&git_dir).ok().and_then(|repo| refs::head(&repo));
    commit.is_some_and(|commit| State::read(&git_dir).has_pending_hooks(target, commit))
}

/// The name of a target's directory. It contains a digest of the path, since two daemons of one user may have triggers of the same
/// name.
fn key(target: &Target) -> String {
    let path = target.site.key().as_path();
    format!("{}-{}", target.trigger, store::digest(path))
}
