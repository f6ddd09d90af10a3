//! The one walk through the worktree: each directory of the new tree is opened once and listed, each file in it is
//! compared with its entry by stat data, relative to that directory. What is there and not tracked comes out too.
//!
//! Nothing is changed, no content is read, no link followed. Directories without tracked files are not entered.

use std::{
    io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::{Entry, entry::Mode},
};

use super::{
    cache::{DirStamp, Quiet},
    dirs::{self, Kind, Meta},
    listing::{Listed, Listing},
    others::Known,
    stored::{self, Stored},
    threads::{self, Tasks},
};
use crate::base::{identity::Identity, mutex, rights::Rights};

/// What differs from the index, in its order.
#[derive(Default)]
pub(super) struct Found {
    /// Entries whose file is not known to be right.
    pub(super) checks: Vec<Check>,
    /// Names in directories of the tree that the tree does not have.
    pub(super) untracked: Vec<Untracked>,
    pub(super) submodules: Vec<usize>,
    /// Directories with other permissions or another group than new ones get, where that counts.
    pub(super) modes: Vec<BString>,
    /// Directories without anything untracked, as they were when they were listed.
    pub(super) quiet: Vec<(BString, DirStamp)>,
}

impl Found {
    /// The paths of what is to be checked, in ascending order.
    pub(super) fn paths<'i>(&self, index: &'i gix::index::State) -> impl Iterator<Item = &'i BStr> {
        let entries = self.checks.iter().map(|check| &index.entries()[check.entry]);
        entries.map(|entry| entry.path(index))
    }
}

pub(super) struct Check {
    pub(super) entry: usize,
    /// The stat data match, but too closely in time to trust them.
    pub(super) racy: bool,
    pub(super) there: Option<Box<Meta>>,
}

pub(super) struct Untracked {
    pub(super) dir: BString,
    pub(super) names: Vec<BString>,
}

/// The walk could not go on at `path`.
pub(super) struct Aborted {
    pub(super) path: BString,
    pub(super) why: Why,
}

pub(super) enum Why {
    Io(io::Error),
    /// The tree has files where the repository is.
    Protected,
    /// The tree has files where others are at work.
    Others,
    Over,
}

/// Fewer entries than this are not worth another thread.
const ENTRIES_PER_THREAD: usize = 1000;

/// Compare `new` with the files below `root`. No directory of the tree may be one of `protected`, or of `others`.
pub(super) fn walk(
    root: OwnedFd,
    old: &Stored,
    new: &gix::index::State,
    (protected, others): (&[Identity], &Known),
    quiet: &Quiet,
    (over, ours): (&AtomicBool, Option<Rights>),
) -> Result<Found, Aborted> {
    let walk = Walk {
        old,
        new,
        protected,
        others,
        quiet,
        over,
        ours,
        now: SystemTime::now(),
        hash: new.object_hash(),
    };
    let stopped: Mutex<Option<Aborted>> = Mutex::new(None);
    let tasks = Tasks::new(Task {
        from: Arc::new(root),
        above: 0,
        depth: 0,
        path: BString::default(),
        entries: 0..new.entries().len(),
    });
    let threads = threads::count(new.entries().len(), ENTRIES_PER_THREAD);
    let parts = threads::run(vec![(); threads], |()| {
        let mut found = Found::default();
        let mut listing = Listing::default();
        tasks.work(|task, more| {
            if let Err(stop) = walk.directory(task, &mut listing, &mut found, more) {
                let mut first = mutex::lock(&stopped);
                if first.as_ref().is_none_or(|first| stop.path < first.path) {
                    *first = Some(stop);
                }
            }
        });
        found
    });
    match stopped.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(stop) => Err(stop),
        None => Ok(merge(parts)),
    }
}

fn merge(parts: Vec<Found>) -> Found {
    let mut all = Found::default();
    for part in parts {
        all.checks.extend(part.checks);
        all.untracked.extend(part.untracked);
        all.submodules.extend(part.submodules);
        all.modes.extend(part.modes);
        all.quiet.extend(part.quiet);
    }
    all.checks.sort_unstable_by_key(|check| check.entry);
    all.untracked.sort_unstable_by(|a, b| a.dir.cmp(&b.dir));
    all.submodules.sort_unstable();
    all
}

struct Walk<'w> {
    old: &'w Stored,
    new: &'w gix::index::State,
    protected: &'w [Identity],
    others: &'w Known,
    /// Directories that need not be listed if they have not changed.
    quiet: &'w Quiet,
    over: &'w AtomicBool,
    /// The tree is ours alone: a `.git` is untracked as any other name is, and all that is in it has what new files and
    /// directories get: directories the permissions and the group, files the group.
    ours: Option<Rights>,
    now: SystemTime,
    hash: gix::hash::Kind,
}

/// A directory with tracked files. It is opened when its turn comes, so that few are open at a time.
struct Task {
    /// The parent, or a directory further up.
    from: Arc<OwnedFd>,
    /// The length of that directory's path, with a slash at its end.
    above: usize,
    depth: usize,
    /// The path with a slash at its end, unless it is the root.
    path: BString,
    entries: Range<usize>,
}

/// Of directories this far from the root, those below are opened from their parents; further down, from the nearest
/// directory whose depth is a multiple of it. So no more than about three times as many are open for each thread, and no
/// more have to be passed to open one.
const OPEN: usize = 32;

impl Task {
    fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(path) = self.path[self.above..].strip_suffix(b"/") else {
            return dirs::open_dir_if_there(self.from.as_fd(), ".".into());
        };
        let mut fd = None;
        for name in path.split_str("/") {
            let parent = fd.as_ref().map_or(self.from.as_fd(), OwnedFd::as_fd);
            match dirs::open_dir_if_there(parent, name.as_bstr())? {
                Some(below) => fd = Some(below),
                None => return Ok(None),
            }
        }
        Ok(fd)
    }
}

/// A directory that has been opened, and what is known of it.
struct Opened<'l> {
    fd: Arc<OwnedFd>,
    stamp: DirStamp,
    /// It has the same names as when there was nothing untracked in it.
    is_quiet: bool,
    /// Its names, unless it is quiet.
    listing: &'l mut Listing,
}

impl Opened<'_> {
    fn may_have(&mut self, name: &BStr) -> bool {
        self.is_quiet || self.listing.see(name).is_some()
    }

    fn may_have_dir(&mut self, name: &BStr) -> bool {
        self.is_quiet || self.listing.see(name).is_some_and(Listed::may_be_dir)
    }

    /// What is there and no entry has asked for.
    fn untracked(&self, takes_all: bool) -> Vec<BString> {
        if self.is_quiet {
            return Vec::new();
        }
        let unseen = self.listing.unseen().filter(|name| takes_all || *name != ".git");
        unseen.map(ToOwned::to_owned).collect()
    }
}

impl Walk<'_> {
    fn directory(
        &self,
        task: Task,
        listing: &mut Listing,
        found: &mut Found,
        more: &mut Vec<Task>,
    ) -> Result<(), Aborted> {
        let stop = |why| Aborted {
            path: task.path.strip_suffix(b"/").unwrap_or_default().into(),
            why,
        };
        let Some(mut dir) = self.open(&task, (listing, found)).map_err(stop)? else {
            self.missing(task.entries, found);
            return Ok(());
        };
        self.entries(&task, &mut dir, found, more)?;
        let names = dir.untracked(self.ours.is_some());
        if !names.is_empty() {
            found.untracked.push(Untracked {
                dir: task.path.strip_suffix(b"/").unwrap_or_default().into(),
                names,
            });
        } else if dir.is_quiet || dir.stamp.is_settled(self.now) {
            found.quiet.push((task.path, dir.stamp));
        }
        Ok(())
    }

    /// Open the directory of `task`, if it is there, and list it unless that is known to be needless.
    fn open<'l>(
        &self,
        task: &Task,
        (listing, found): (&'l mut Listing, &mut Found),
    ) -> Result<Option<Opened<'l>>, Why> {
        if self.over.load(Ordering::Relaxed) {
            return Err(Why::Over);
        }
        let Some(fd) = task.open().map_err(Why::Io)? else {
            return Ok(None);
        };
        let here = dirs::meta_of(fd.as_fd()).map_err(Why::Io)?;
        if !task.path.is_empty() && self.protected.contains(&here.identity) {
            return Err(Why::Protected);
        }
        if !task.path.is_empty() && self.others.has(&here.identity) {
            return Err(Why::Others);
        }
        let is_settled =
            |rights: Rights| here.permissions & 0o777 == rights.dir() && rights.has_group(here.stat.gid);
        if !self.ours.is_none_or(is_settled) {
            found
                .modes
                .push(task.path.strip_suffix(b"/").unwrap_or_default().into());
        }
        let stamp = DirStamp::of(&here);
        let is_quiet = self.quiet.get(&task.path) == Some(&stamp);
        if !is_quiet {
            listing.read(fd.as_fd()).map_err(Why::Io)?;
        }
        Ok(Some(Opened {
            fd: Arc::new(fd),
            stamp,
            is_quiet,
            listing,
        }))
    }

    /// Compare the files of `task` that are in `dir` itself. Each directory in it is one more task.
    fn entries(
        &self,
        task: &Task,
        dir: &mut Opened<'_>,
        found: &mut Found,
        more: &mut Vec<Task>,
    ) -> Result<(), Aborted> {
        let fd = dir.fd.clone();
        // Far down, only some directories are open while those below wait for their turn.
        let (from, above) = if task.depth < OPEN || task.depth.is_multiple_of(OPEN) {
            (&fd, task.path.len())
        } else {
            (&task.from, task.above)
        };
        let first = more.len();
        let mut at = task.entries.start;
        while at < task.entries.end {
            let (path, depth) = (self.path(at), task.path.len());
            let name = path.get(depth..).unwrap_or_default().as_bstr();
            let Some(len) = name.find_byte(b'/') else {
                self.file(fd.as_fd(), at, name, dir.may_have(name), found)
                    .map_err(|err| Aborted {
                        path: path.into(),
                        why: Why::Io(err),
                    })?;
                at += 1;
                continue;
            };
            let below = &path[..depth + len + 1];
            let end = self.end(at..task.entries.end, below);
            if dir.may_have_dir(name[..len].as_bstr()) {
                more.push(Task {
                    from: from.clone(),
                    above,
                    depth: task.depth + 1,
                    path: below.into(),
                    entries: at..end,
                })
            } else {
                self.missing(at..end, found)
            }
            at = end;
        }
        // The last is the first to be done.
        more[first..].reverse();
        Ok(())
    }

    fn file(
        &self,
        dir: BorrowedFd<'_>,
        at: usize,
        name: &BStr,
        may_be_there: bool,
        found: &mut Found,
    ) -> io::Result<()> {
        let entry = &self.new.entries()[at];
        if entry.mode == Mode::COMMIT {
            found.submodules.push(at);
        }
        let there = if may_be_there {
            dirs::meta(dir, name)?
        } else {
            None
        };
        let is_untouched = there
            .as_ref()
            .is_some_and(|there| is_untouched(entry, there, self.hash) && self.has_group(there));
        let racy = is_untouched && self.old.is_racy(&entry.stat);
        if racy || !is_untouched {
            found.checks.push(Check {
                entry: at,
                racy,
                there: there.map(Box::new),
            });
        }
        Ok(())
    }

    fn has_group(&self, there: &Meta) -> bool {
        self.ours.is_none_or(|rights| rights.has_group(there.stat.gid))
    }

    /// Nothing of `entries` is there.
    fn missing(&self, entries: Range<usize>, found: &mut Found) {
        for at in entries {
            if self.new.entries()[at].mode == Mode::COMMIT {
                found.submodules.push(at);
            }
            found.checks.push(Check {
                entry: at,
                racy: false,
                there: None,
            });
        }
    }

    fn path(&self, at: usize) -> &BStr {
        self.new.entries()[at].path(self.new)
    }

    /// Where in `range`, whose first entry is below the directory `below`, those end that are.
    fn end(&self, range: Range<usize>, below: &[u8]) -> usize {
        let is_below = |entry: &Entry| entry.path(self.new).starts_with(below);
        let entries = &self.new.entries()[range.clone()];
        // Most directories are small: look near first.
        let (mut last, mut step) = (0, 1);
        while entries.get(last + step).is_some_and(is_below) {
            last += step;
            step *= 2;
        }
        let near = &entries[last + 1..entries.len().min(last + step).max(last + 1)];
        range.start + last + 1 + near.partition_point(is_below)
    }
}

/// As git's `ie_match_stat`: nothing that the system tells about the file has changed.
fn is_untouched(entry: &Entry, there: &Meta, hash: gix::hash::Kind) -> bool {
    let is_executable = there.permissions & 0o100 != 0;
    match (entry.mode, there.kind) {
        // Submodules never are: what is there may go with the last tracked file in it.
        (Mode::SYMLINK, Kind::Symlink) => stored::stat_matches(entry, &there.stat, hash),
        (Mode::FILE, Kind::File) => !is_executable && stored::stat_matches(entry, &there.stat, hash),
        (Mode::FILE_EXECUTABLE, Kind::File) => {
            is_executable && stored::stat_matches(entry, &there.stat, hash)
        }
        _ => false,
    }
}
