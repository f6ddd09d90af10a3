//! Tracked files: those that left the tree are unlinked, those that differ are written, several at a time.
//!
//! Nothing here decides what is to be done: `plan` and `scan` did.

use std::{io, os::fd::BorrowedFd, sync::Mutex, time::Duration};

use gix::{
    bstr::{BStr, ByteSlice},
    index::entry::{Mode, Stat},
};

use super::{
    Context, Error, Options, Throttle, bulk,
    content::{self, AttributeFiles, Content},
    dirs::{self, Dirs, Kind, Meta},
    file,
    notice::{Notice, Notices},
    plan::Delete,
    stored::Stored,
    threads::{self, Shares},
    walk::{Check, Found},
};
use crate::{event::Action, large::LARGE};

/// Unlink what is no longer tracked, and the directories that this leaves empty. Says how many files.
pub(super) fn delete(cx: &mut Context<'_>, delete: &[Delete]) -> Result<u64, Error> {
    let mut deleted = 0;
    let mut emptied = BStr::new("");
    for gone in delete {
        let path = gone.path.as_bstr();
        let Some(is_file) = is_deletable(cx, path, gone.is_submodule)? else {
            continue;
        };
        deleted += u64::from(is_file);
        if cx.options.dry_run {
            if is_file {
                cx.options.would(Action::Delete, path);
            }
            continue;
        }
        let failed = |cx: &Context<'_>, err| cx.failed("delete", path, err);
        remove_emptied(cx, emptied, path).map_err(|err| failed(cx, err))?;
        if remove(cx, path, gone.is_submodule).map_err(|err| failed(cx, err))? {
            emptied = dirs::split(path).0;
        }
    }
    remove_emptied(cx, emptied, "".into()).map_err(|err| cx.failed("delete", emptied, err))?;
    Ok(deleted)
}

/// As git: only what is reached through directories, and no directory with something in it.
/// Says whether there is a file; if there is nothing, its empty parents go nevertheless.
fn is_deletable(cx: &mut Context<'_>, path: &BStr, is_submodule: bool) -> Result<Option<bool>, Error> {
    let (dir, _) = dirs::split(path);
    match cx.dirs.get(dir) {
        Ok(Some(_)) => {}
        Ok(None) => return Ok(None),
        Err(err) => return Err(cx.failed("delete", path, err)),
    }
    Ok(match cx.meta(path)? {
        Some(meta) if meta.kind == Kind::Dir => is_submodule.then_some(false),
        Some(_) => (!is_submodule).then_some(true),
        None => Some(false),
    })
}

/// Unlink `path`. Says whether it is gone.
fn remove(cx: &mut Context<'_>, path: &BStr, is_submodule: bool) -> io::Result<bool> {
    let (dir, name) = dirs::split(path);
    if is_submodule {
        cx.dirs.forget(path);
    }
    let Some(dir) = cx.dirs.get(dir)? else {
        return Ok(true);
    };
    match is_submodule {
        true => Ok(dirs::remove_dir(dir, name).is_ok()),
        false => dirs::unlink(dir, name).map(|_| true),
    }
}

/// Remove `dir` and its parents as far as they are empty, but none that `next` is in: that one's turn comes.
fn remove_emptied(cx: &mut Context<'_>, dir: &BStr, next: &BStr) -> io::Result<()> {
    let is_next_in = |dir: &BStr| {
        let below = next.strip_prefix(dir.as_bytes());
        below.is_some_and(|below| below.starts_with(b"/"))
    };
    for empty in std::iter::once(dir).chain(dirs::parents(dir)) {
        if empty.is_empty() || is_next_in(empty) {
            break;
        }
        let (dir, name) = dirs::split(empty);
        cx.dirs.forget(empty);
        let Some(dir) = cx.dirs.get(dir)? else { break };
        if dirs::remove_dir(dir, name).is_err() {
            break;
        }
    }
    Ok(())
}

/// What writing came to.
pub(super) struct Written {
    /// How many files were written.
    pub(super) count: u64,
    /// Entries whose files have other stat data than the index says.
    pub(super) stats: Vec<(usize, Stat)>,
}

/// Fewer files than this are not worth another thread.
const FILES_PER_THREAD: usize = 8;

/// Bring every file that was found to differ to what a checkout of `new` makes of it.
pub(super) fn write(
    cx: &mut Context<'_>,
    found: &Found,
    old: &Stored,
    new: &gix::index::State,
) -> Result<Written, Error> {
    let mut notices = Notices::default();
    for submodule in &found.submodules {
        notices.note(Notice::Submodule, new.entries()[*submodule].path(new));
    }
    let threads = match cx.options.dry_run {
        // In order.
        true => 1,
        false => threads::count(found.checks.len(), FILES_PER_THREAD),
    };
    let paths = found
        .checks
        .iter()
        .map(|check| new.entries()[check.entry].path(new));
    let job = Job {
        options: cx.options,
        checks: &found.checks,
        old,
        new,
        attributes: content::attribute_files(new, paths),
        shares: Shares::new(found.checks.len(), threads),
        progress: Mutex::new(Throttle::default()),
    };
    let mut inputs = Vec::new();
    if !found.checks.is_empty() {
        for _ in 0..threads {
            let dirs = cx.dirs.again().map_err(|err| cx.failed("read", "".into(), err))?;
            inputs.push((cx.repo.clone(), dirs));
        }
    }
    let mut written = Written {
        count: 0,
        stats: Vec::new(),
    };
    let mut failed: Option<(usize, Error)> = None;
    for done in threads::run(inputs, |(repo, dirs)| job.work(&repo, dirs)) {
        written.count += done.count;
        written.stats.extend(done.stats);
        notices.add(done.notices);
        failed = [failed, done.failed]
            .into_iter()
            .flatten()
            .min_by_key(|(check, _)| *check);
    }
    // A path may have been taken for a directory's.
    cx.dirs.forget_all();
    notices.report(cx.options.report);
    match failed {
        Some((_, err)) => Err(err),
        None => Ok(written),
    }
}

/// What all threads know.
pub(super) struct Job<'a> {
    pub(super) options: &'a Options<'a>,
    checks: &'a [Check],
    old: &'a Stored,
    new: &'a gix::index::State,
    attributes: AttributeFiles,
    shares: Shares,
    progress: Mutex<Throttle>,
}

/// What one thread has done.
#[derive(Default)]
struct Done {
    count: u64,
    stats: Vec<(usize, Stat)>,
    notices: Notices,
    failed: Option<(usize, Error)>,
}

impl Job<'_> {
    fn work(&self, repo: &gix::Repository, dirs: Dirs) -> Done {
        let mut done = Done::default();
        let mut worker = match Content::new(repo, self.attributes.clone()) {
            Ok(content) => Worker {
                job: self,
                repo,
                dirs,
                content,
                before: None,
            },
            Err(err) => {
                done.failed = Some((0, err));
                return done;
            }
        };
        while let Some(share) = self.shares.take() {
            if let Ok(mut progress) = self.progress.try_lock() {
                progress.report(self.options, self.shares.taken(), self.checks.len());
            }
            for at in share {
                if let Err(err) = worker.check(&self.checks[at], &mut done) {
                    self.shares.stop();
                    done.failed = Some((at, err));
                    return done;
                }
            }
        }
        done
    }
}

pub(super) struct Worker<'w> {
    pub(super) job: &'w Job<'w>,
    pub(super) repo: &'w gix::Repository,
    pub(super) dirs: Dirs,
    pub(super) content: Content<'w>,
    /// As the old index had it.
    before: Option<Content<'w>>,
}

/// An entry of the new index, and what is in its place.
pub(super) struct Tracked<'a> {
    pub(super) id: gix::ObjectId,
    pub(super) mode: Mode,
    pub(super) path: &'a BStr,
    pub(super) there: Option<&'a Meta>,
}

impl Worker<'_> {
    fn check(&mut self, check: &Check, done: &mut Done) -> Result<(), Error> {
        let new = self.job.new;
        let entry = &new.entries()[check.entry];
        let file = Tracked {
            id: entry.id,
            mode: entry.mode,
            path: entry.path(new),
            there: check.there.as_deref(),
        };
        if check.racy && self.is_unchanged(&file)? {
            return Ok(());
        }
        let (stat, is_written) = self.bring(&file, &mut done.notices)?;
        done.count += u64::from(is_written);
        if let Some(stat) = stat.filter(|stat| *stat != entry.stat) {
            done.stats.push((check.entry, stat));
        }
        Ok(())
    }

    /// Whether a file whose stat data match, but cannot be trusted, holds what was checked out once:
    /// the blob, or what attributes made of it then. As for git, such a file is left alone.
    fn is_unchanged(&mut self, file: &Tracked<'_>) -> Result<bool, Error> {
        if file.there.is_some_and(|there| there.size > LARGE) {
            return Ok(bulk::is_blob(self, file));
        }
        let Some(bytes) = self.read(file) else {
            return Ok(false);
        };
        let hash = gix::objs::compute_hash(self.repo.object_hash(), gix::objs::Kind::Blob, &bytes);
        if hash.is_ok_and(|id| id == file.id) {
            return Ok(true);
        }
        let Job { checks, old, new, .. } = self.job;
        let before = match &mut self.before {
            Some(before) => before,
            before => {
                let racy = checks.iter().filter(|check| check.racy);
                let paths = racy.map(|check| new.entries()[check.entry].path(new));
                let files = content::attribute_files(&old.index, paths);
                before.insert(Content::new(self.repo, files)?)
            }
        };
        let then = before.of(file.id, file.mode, file.path, &mut Notices::default());
        Ok(then.is_ok_and(|then| *then == *bytes))
    }

    /// Write `file` unless it is right. Gives its stat data, and whether it was, or in a dry run would be, written.
    fn bring(&mut self, file: &Tracked<'_>, notices: &mut Notices) -> Result<(Option<Stat>, bool), Error> {
        let options = self.job.options;
        let failed = |err| options.failed("write", file.path, err);
        if file.mode == Mode::COMMIT {
            if !options.dry_run {
                self.dirs.make(file.path).map(drop).map_err(failed)?;
            }
            return Ok((None, false));
        }
        let bytes = match self.content.of(file.id, file.mode, file.path, notices) {
            Ok(bytes) => bytes,
            Err(err) => return bulk::bring(self, file, err, notices),
        };
        if let Some(there) = file.there
            && self.is_right(file, there, &bytes)
        {
            return Ok((Some(there.stat), false));
        }
        if options.dry_run {
            options.would(Action::Write, file.path);
            return Ok((None, true));
        }
        let stat = self.replace(file, &bytes).map_err(failed)?;
        Ok((Some(stat), true))
    }

    /// Whether what is there could not be told from what would be written, but for its age.
    fn is_right(&mut self, file: &Tracked<'_>, there: &Meta, bytes: &[u8]) -> bool {
        self.is_alike(file, there, bytes.len() as u64) && self.read(file).is_some_and(|now| now == bytes)
    }

    /// As far as that can be told without reading it.
    pub(super) fn is_alike(&self, file: &Tracked<'_>, there: &Meta, size: u64) -> bool {
        let is_alike = match there.kind {
            Kind::Symlink => file.mode == Mode::SYMLINK,
            Kind::File => {
                file.mode != Mode::SYMLINK
                    && there.permissions == file::permissions(file.mode, self.job.options.umask)
                    && there.links == 1
            }
            Kind::Dir | Kind::Other => false,
        };
        is_alike && there.uid == rustix::process::geteuid().as_raw() && there.size == size
    }

    fn read(&mut self, file: &Tracked<'_>) -> Option<Vec<u8>> {
        let (dir, name) = dirs::split(file.path);
        file::read(self.dirs.get(dir).ok()??, name, file.there?)
    }

    fn replace(&mut self, file: &Tracked<'_>, bytes: &[u8]) -> io::Result<Stat> {
        let umask = self.job.options.umask;
        let (dir, name) = self.place(file)?;
        file::write(dir, name, file.mode, umask, bytes)
    }

    /// The directory and the name of `file`, where there is no directory of that name any more.
    pub(super) fn place<'s>(&'s mut self, file: &Tracked<'s>) -> io::Result<(BorrowedFd<'s>, &'s BStr)> {
        let (dir, name) = dirs::split(file.path);
        let dir = self.dirs.make(dir)?;
        // `scan` made sure that nothing in it is to be kept. It may have gone with the last file in it.
        if file.there.is_some_and(|there| there.kind == Kind::Dir)
            && dirs::meta(dir, name)?.is_some_and(|there| there.kind == Kind::Dir)
        {
            dirs::remove_tree(dir, name)?;
        }
        Ok((dir, name))
    }
}

/// The kernel's clock for files moves in steps of up to 10 ms.
const CLOCK_TICK: Duration = Duration::from_millis(20);

fn age(stat: &Stat, now: Duration) -> Duration {
    now.saturating_sub(Duration::new(stat.mtime.secs.into(), stat.mtime.nsecs))
}

/// Whether writing the same index again, now, would make files trustworthy that were too young before.
pub(super) fn settles_races(found: &Found, old: &Stored, new: &gix::index::State) -> bool {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let racy = found.checks.iter().filter(|check| check.racy);
    racy.map(|check| &new.entries()[check.entry].stat)
        .any(|stat| old.is_racy(stat) && age(stat, now) > CLOCK_TICK)
}
