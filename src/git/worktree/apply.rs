//! Tracked files that differ are written, several at a time.
//!
//! Nothing here decides what is to be done: `plan` and `scan` did.

use std::{ops::Range, sync::Mutex, time::Duration};

use gix::{
    bstr::{BString, ByteSlice},
    index::entry::{Mode, Stat},
};

use super::{
    Error,
    attributes::Sources,
    bulk,
    content::Content,
    context::{Context, Options, Throttle},
    dirs::{Dirs, Kind},
    left::{self, Left},
    local::{self, Base},
    notice::{Notice, Notices},
    stored::Stored,
    threads::{self, Shares},
    walk::{Check, Found},
    worker::{TrackedFile, Worker},
};
use crate::base::report::{Action, Local, Lost};

pub(super) struct Written {
    pub(super) count: u64,
    /// Entries whose files have other stat data than the index says.
    pub(super) stats: Vec<(usize, Stat)>,
    /// What was replaced and is nowhere else.
    pub(super) lost: Lost,
}

/// Fewer files than this are not worth another thread.
const FILES_PER_THREAD: usize = 8;

/// Bring every file that was found to differ to what a checkout of `new` makes of it.
pub(super) fn write(
    cx: &mut Context<'_>,
    found: &Found,
    (base, new): (&Base<'_>, &gix::index::State),
    attributes: &Sources,
    left: &mut Left,
) -> Written {
    let mut notices = Notices::default();
    for submodule in &found.submodules {
        notices.note(Notice::Submodule, new.entries()[*submodule].path(new));
    }
    let threads = if cx.options.dry_run {
        // In order.
        1
    } else {
        threads::count(found.checks.len(), FILES_PER_THREAD)
    };
    let job = Job::new(cx.options, found, (base, new), attributes, threads);
    if left.is_given_up() {
        job.leave(job.shares.stop(), left);
    }
    let mut inputs = Vec::new();
    if !found.checks.is_empty() {
        for _ in 0..threads {
            match cx.dirs.again() {
                Ok(dirs) => inputs.push((cx.repo.clone(), dirs)),
                // One thread can do it all.
                Err(_) if !inputs.is_empty() => break,
                Err(err) => {
                    left.refused("read", "".into(), err);
                    job.leave(job.shares.stop(), left);
                }
            }
        }
    }
    let mut written = Written {
        count: 0,
        stats: Vec::new(),
        lost: Lost::default(),
    };
    for tally in threads::run(inputs, |(repo, dirs)| job.work(&repo, dirs)) {
        written.count += tally.count;
        written.stats.extend(tally.stats);
        written.lost.add(tally.lost);
        notices.add(tally.notices);
        left.add(tally.left);
    }
    // A path may have been taken for a directory's.
    cx.dirs.forget_all();
    notices.report(cx.options.report);
    written
}

/// Which of `checks`, by their place in what was found, have files that are not what a checkout makes of them.
/// Nothing is changed.
pub(super) fn differing(
    cx: &Context<'_>,
    checks: &[usize],
    found: &Found,
    (base, new): (&Base<'_>, &gix::index::State),
    attributes: &Sources,
) -> Result<Vec<usize>, Error> {
    let job = Job::new(cx.options, found, (base, new), attributes, 1);
    let dirs = cx.dirs.again().map_err(|err| cx.failed("read", "".into(), err))?;
    let mut worker = job.worker(cx.repo, dirs);
    let mut differing = Vec::new();
    for check in checks {
        let file = job.tracked(&found.checks[*check]);
        let is_different = match worker.difference(&file, &mut Notices::default()) {
            Ok(bytes) => bytes.is_some(),
            // It is too large for memory; or damaged, which writing it finds out.
            Err(_) => !bulk::is_blob(&mut worker, &file),
        };
        if is_different {
            differing.push(*check);
        }
    }
    Ok(differing)
}

/// What all threads know.
struct Job<'a> {
    options: &'a Options<'a>,
    checks: &'a [Check],
    base: &'a Base<'a>,
    new: &'a gix::index::State,
    attributes: &'a Sources,
    shares: Shares,
    progress: Mutex<Throttle>,
}

#[derive(Default)]
struct Tally {
    count: u64,
    stats: Vec<(usize, Stat)>,
    lost: Lost,
    notices: Notices,
    left: Left,
}

impl<'a> Job<'a> {
    fn new(
        options: &'a Options<'a>,
        found: &'a Found,
        (base, new): (&'a Base<'a>, &'a gix::index::State),
        attributes: &'a Sources,
        threads: usize,
    ) -> Self {
        Self {
            options,
            checks: &found.checks,
            base,
            new,
            attributes,
            shares: Shares::new(found.checks.len(), threads),
            progress: Mutex::new(Throttle::default()),
        }
    }

    fn worker<'w>(&'w self, repo: &'w gix::Repository, dirs: Dirs) -> Worker<'w> {
        Worker {
            options: self.options,
            repo,
            dirs,
            content: Content::new(repo, self.attributes),
        }
    }

    fn work(&self, repo: &gix::Repository, dirs: Dirs) -> Tally {
        let mut tally = Tally::default();
        let mut writer = Writer::new(self, repo, dirs);
        self.work_with(&mut writer, &mut tally);
        tally.lost.untracked.add(writer.worker.dirs.displaced());
        tally
    }

    fn work_with(&self, writer: &mut Writer<'_>, tally: &mut Tally) {
        while let Some(share) = self.shares.take() {
            if let Ok(mut progress) = self.progress.try_lock() {
                progress.report(self.options, self.shares.taken(), self.checks.len());
            }
            for at in share.clone() {
                let Err(err) = writer.check(&self.checks[at], tally) else {
                    continue;
                };
                let Check { entry, .. } = self.checks[at];
                let path = self.new.entries()[entry].path(self.new).to_owned();
                let is_final = match err {
                    Error::File { source, .. } => {
                        let is_final = left::is_final(&source);
                        tally.left.unwritten(entry, path, source);
                        is_final
                    }
                    err => {
                        tally.left.unreadable(entry, path, err);
                        true
                    }
                };
                if is_final {
                    self.leave(at + 1..share.end, &mut tally.left);
                    self.leave(self.shares.stop(), &mut tally.left);
                    return;
                }
            }
        }
    }

    /// Leave these checks untried.
    fn leave(&self, checks: Range<usize>, left: &mut Left) {
        for check in &self.checks[checks] {
            let entry = &self.new.entries()[check.entry];
            left.untried_entry(check.entry, entry.path(self.new).into());
        }
    }

    fn tracked<'c>(&'c self, check: &'c Check) -> TrackedFile<'c> {
        let entry = &self.new.entries()[check.entry];
        TrackedFile {
            id: entry.id,
            mode: entry.mode,
            path: entry.path(self.new),
            there: check.there.as_deref(),
        }
    }
}

struct Writer<'w> {
    job: &'w Job<'w>,
    worker: Worker<'w>,
    /// Content as the old index had it.
    before: Option<Content<'w>>,
    /// In a dry run: what was last said to be in the way of a directory.
    in_the_way: Option<BString>,
}

/// What has become of a file.
struct Brought {
    stat: Option<Stat>,
    /// The file was, or in a dry run would be, written.
    is_written: bool,
    /// What was there before, if it is nowhere else.
    local: Option<Local>,
}

impl Brought {
    fn right(stat: Option<Stat>) -> Self {
        Self {
            stat,
            is_written: false,
            local: None,
        }
    }
}

impl<'w> Writer<'w> {
    fn new(job: &'w Job<'w>, repo: &'w gix::Repository, dirs: Dirs) -> Self {
        Self {
            job,
            worker: job.worker(repo, dirs),
            before: None,
            in_the_way: None,
        }
    }

    fn check(&mut self, check: &Check, tally: &mut Tally) -> Result<(), Error> {
        let entry = &self.job.new.entries()[check.entry];
        let file = self.job.tracked(check);
        if check.racy && self.is_unchanged(&file) {
            return Ok(());
        }
        let Brought {
            stat,
            is_written,
            local,
        } = self.bring(&file, &mut tally.notices)?;
        if is_written {
            tally.count += 1;
            if self.job.options.dry_run {
                self.job.options.would(Action::Write, file.path, local);
            }
            if let Some(local) = local {
                tally.lost.note(local, file.path);
            }
        }
        if let Some(stat) = stat.filter(|stat| *stat != entry.stat) {
            tally.stats.push((check.entry, stat));
        }
        Ok(())
    }

    /// Whether a file that looks unchanged, or may be, holds what was checked out once: the blob, or what attributes made of
    /// it then. As for git, such a file is left alone if its stat data match.
    fn is_unchanged(&mut self, file: &TrackedFile<'_>) -> bool {
        let Self {
            job, worker, before, ..
        } = self;
        let before = before.get_or_insert_with(|| {
            let Job {
                checks,
                base,
                new,
                attributes,
                ..
            } = job;
            let paths = checks.iter().map(|check| new.entries()[check.entry].path(new));
            Content::new(
                worker.repo,
                &Sources::of(&base.old.index, paths, attributes.outside.clone()),
            )
        });
        local::is_checked_out(worker, before, file)
    }

    /// What is there in the place of `file`, which is about to be written, and nowhere else.
    fn local(&mut self, file: &TrackedFile<'_>) -> Option<Local> {
        let base = self.job.base;
        match file.there {
            Some(there) if there.kind == Kind::Dir => {
                local::is_in(&mut self.worker.dirs, base.old, file.path).then_some(Local::Untracked)
            }
            Some(there) => local::of(base, file.path, there, |file| self.is_unchanged(file)),
            None if self.job.options.dry_run => {
                let above = local::above(&mut self.worker.dirs, base, file.path)?;
                if self.in_the_way.as_ref() != Some(&above) {
                    let local = Some(Local::Untracked);
                    self.job.options.would(Action::Clean, above.as_bstr(), local);
                    self.in_the_way = Some(above);
                }
                None
            }
            // What is in the way of its directory is noted when that is made.
            None => None,
        }
    }

    /// Write `file` unless it is right.
    fn bring(&mut self, file: &TrackedFile<'_>, notices: &mut Notices) -> Result<Brought, Error> {
        let options = self.job.options;
        let failed = |err| options.failed("write", file.path, err);
        if file.mode == Mode::COMMIT {
            if !options.dry_run {
                self.worker.dirs.make(file.path).map(drop).map_err(failed)?;
            }
            return Ok(Brought::right(None));
        }
        let difference = self.worker.difference(file, notices);
        if let Ok(None) = difference {
            return Ok(Brought::right(file.there.map(|there| there.stat)));
        }
        let local = self.local(file);
        let (stat, is_written) = match difference {
            Err(err) => bulk::bring(&mut self.worker, file, err, notices)?,
            Ok(_) if options.dry_run => (None, true),
            Ok(bytes) => {
                let bytes = bytes.as_deref().unwrap_or_default();
                (Some(self.worker.replace(file, bytes).map_err(failed)?), true)
            }
        };
        Ok(Brought {
            stat,
            is_written,
            local,
        })
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
