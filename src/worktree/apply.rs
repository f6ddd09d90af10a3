//! Tracked files: those that left the tree are unlinked, those that differ are written whole and renamed into place.
//!
//! A file that is there is never opened for writing, so another name of it, or a program that reads it, never sees
//! a change. A run killed here leaves a temporary file, which `clean` of the next run removes.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::entry::{Mode, Stat},
};
use rustix::{
    fs::{AtFlags, OFlags},
    io::Errno,
};

use super::{
    Context, Error,
    content::Content,
    dirs::{self, Kind, Meta},
    notice::{Notice, Notices},
    scan::{Check, Work},
    stored::Stored,
};
use crate::event::Action;

/// How the name of every temporary file begins.
pub(super) const TEMPORARY: &str = ".gitsocket-tmp-";

/// Unlink what is no longer tracked, and the directories that this leaves empty. Says how many files.
pub(super) fn delete(cx: &mut Context<'_>, work: &Work) -> Result<u64, Error> {
    let mut deleted = 0;
    for gone in &work.delete {
        let path = gone.path.as_bstr();
        let Some(is_file) = is_deletable(cx, path, gone.is_submodule)? else {
            continue;
        };
        if cx.options.dry_run {
            if is_file {
                cx.would(Action::Delete, path);
                deleted += 1;
            }
            continue;
        }
        deleted += u64::from(is_file);
        remove(cx, path, gone.is_submodule).map_err(|err| cx.failed("delete", path, err))?;
    }
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

fn remove(cx: &mut Context<'_>, path: &BStr, is_submodule: bool) -> io::Result<()> {
    let (dir, name) = dirs::split(path);
    if is_submodule {
        cx.dirs.forget(path);
    }
    if let Some(dir) = cx.dirs.get(dir)? {
        match is_submodule {
            true if dirs::remove_dir(dir, name).is_err() => return Ok(()),
            true => {}
            false => drop(dirs::unlink(dir, name)?),
        }
    }
    for empty in dirs::parents(path) {
        let (dir, name) = dirs::split(empty);
        cx.dirs.forget(empty);
        let Some(dir) = cx.dirs.get(dir)? else { break };
        if dirs::remove_dir(dir, name).is_err() {
            break;
        }
    }
    Ok(())
}

/// Bring every file of `work` to what a checkout of `new` makes of it, and note its stat data. Says how many were written.
pub(super) fn write(
    cx: &mut Context<'_>,
    work: &Work,
    old: &Stored,
    new: &mut gix::index::State,
) -> Result<u64, Error> {
    let mut notices = Notices::default();
    let is_submodule = |entry: &&gix::index::Entry| entry.mode == Mode::COMMIT;
    for submodule in new.entries().iter().filter(is_submodule) {
        notices.note(Notice::Submodule, submodule.path(new));
    }
    if work.check.is_empty() {
        notices.report(cx.options.report);
        return Ok(0);
    }
    let mut content = Content::new(cx.repo, new)?;
    let mut before = None;
    let mut written = 0;
    for (done, check) in work.check.iter().enumerate() {
        cx.progress(done, work.check.len());
        let entry = &new.entries()[check.entry];
        let path = entry.path(new).to_owned();
        let file = Tracked {
            id: entry.id,
            mode: entry.mode,
            path: path.as_bstr(),
        };
        if check.racy && is_unchanged(cx, &file, old, &mut before)? {
            continue;
        }
        let (stat, is_written) = bring(cx, &file, &mut content, &mut notices)?;
        written += u64::from(is_written);
        if let Some(stat) = stat {
            new.entries_mut()[check.entry].stat = stat;
        }
    }
    notices.report(cx.options.report);
    Ok(written)
}

/// An entry of the new index.
struct Tracked<'a> {
    id: gix::ObjectId,
    mode: Mode,
    path: &'a BStr,
}

/// Whether a file whose stat data match, but cannot be trusted, holds what was checked out once:
/// the blob, or what attributes made of it then. As for git, such a file is left alone.
fn is_unchanged<'a>(
    cx: &mut Context<'a>,
    file: &Tracked<'_>,
    old: &Stored,
    before: &mut Option<Content<'a>>,
) -> Result<bool, Error> {
    let Some(meta) = cx.meta(file.path)? else {
        return Ok(false);
    };
    let Some(bytes) = read(cx, file.path, &meta) else {
        return Ok(false);
    };
    let hash = gix::objs::compute_hash(cx.repo.object_hash(), gix::objs::Kind::Blob, &bytes);
    if hash.is_ok_and(|id| id == file.id) {
        return Ok(true);
    }
    let before = match before {
        Some(before) => before,
        None => before.insert(Content::new(cx.repo, &old.index)?),
    };
    let then = before.of(file.id, file.mode, file.path, &mut Notices::default());
    Ok(then.is_ok_and(|then| then == bytes))
}

/// Write `file` unless it is right. Gives its stat data, and whether it was, or in a dry run would be, written.
fn bring(
    cx: &mut Context<'_>,
    file: &Tracked<'_>,
    content: &mut Content<'_>,
    notices: &mut Notices,
) -> Result<(Option<Stat>, bool), Error> {
    let path = file.path;
    if file.mode == Mode::COMMIT {
        if !cx.options.dry_run {
            let made = cx.dirs.make(path).map(drop);
            made.map_err(|err| cx.failed("write", path, err))?;
        }
        return Ok((None, false));
    }
    let bytes = content.of(file.id, file.mode, path, notices)?;
    if let Some(meta) = cx.meta(path)?.filter(|meta| is_right(cx, file, meta, &bytes)) {
        return Ok((Some(meta.stat), false));
    }
    if cx.options.dry_run {
        cx.would(Action::Write, path);
        return Ok((None, true));
    }
    let stat = replace(cx, file, &bytes).map_err(|err| cx.failed("write", path, err))?;
    Ok((Some(stat), true))
}

/// Whether what is there could not be told from what would be written, but for its age.
fn is_right(cx: &mut Context<'_>, file: &Tracked<'_>, meta: &Meta, bytes: &[u8]) -> bool {
    let is_alike = match meta.kind {
        Kind::Symlink => file.mode == Mode::SYMLINK,
        Kind::File => {
            file.mode != Mode::SYMLINK
                && meta.permissions == permissions(file.mode, cx.options.umask)
                && meta.links == 1
        }
        Kind::Dir | Kind::Other => false,
    };
    is_alike
        && meta.uid == rustix::process::geteuid().as_raw()
        && meta.size == bytes.len() as u64
        && read(cx, file.path, meta).is_some_and(|now| now == bytes)
}

/// The content of a file or the target of a link. What cannot be read is as good as changed.
fn read(cx: &mut Context<'_>, path: &BStr, meta: &Meta) -> Option<Vec<u8>> {
    let (dir, name) = dirs::split(path);
    let dir = cx.dirs.get(dir).ok()??;
    if meta.kind == Kind::Symlink {
        let target = rustix::fs::readlinkat(dir, name.as_bytes(), Vec::new()).ok()?;
        return Some(target.into_bytes());
    }
    let mut bytes = Vec::new();
    dirs::open_file(dir, name).ok()?.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Write beside its place, then rename: nobody ever sees half a file.
fn replace(cx: &mut Context<'_>, file: &Tracked<'_>, bytes: &[u8]) -> io::Result<Stat> {
    let (dir, name) = dirs::split(file.path);
    cx.dirs.forget(file.path);
    let permissions = permissions(file.mode, cx.options.umask);
    let dir = cx.dirs.make(dir)?;
    // `scan` made sure that nothing in it is to be kept.
    if dirs::meta(dir, name)?.is_some_and(|meta| meta.kind == Kind::Dir) {
        dirs::remove_tree(dir, name)?;
    }
    if file.mode == Mode::SYMLINK {
        let temporary = Temporary::create(dir, |name| rustix::fs::symlinkat(bytes, dir, name))?.0;
        temporary.rename(name)?;
        let stat = rustix::fs::statat(dir, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?;
        return Ok(Meta::from(stat).stat);
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (temporary, fd) = Temporary::create(dir, |name| {
        rustix::fs::openat(dir, name, flags, rustix::fs::Mode::from_raw_mode(0o600))
    })?;
    let mut out = std::fs::File::from(fd);
    out.write_all(bytes)?;
    rustix::fs::fchmod(&out, rustix::fs::Mode::from_raw_mode(permissions))?;
    temporary.rename(name)?;
    // After the rename, which changes the ctime.
    Ok(Meta::from(rustix::fs::fstat(out.as_fd())?).stat)
}

fn permissions(mode: Mode, umask: u32) -> u32 {
    match mode {
        Mode::FILE_EXECUTABLE => 0o777 & !umask,
        _ => 0o666 & !umask,
    }
}

/// A file that is unlinked again unless it is renamed.
struct Temporary<'d> {
    dir: BorrowedFd<'d>,
    name: Option<BString>,
}

impl<'d> Temporary<'d> {
    /// Under the first name that is free.
    fn create<T>(
        dir: BorrowedFd<'d>,
        mut make: impl FnMut(&[u8]) -> rustix::io::Result<T>,
    ) -> io::Result<(Self, T)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{TEMPORARY}{:x}-{count:x}", std::process::id());
            match make(name.as_bytes()) {
                Ok(made) => {
                    let name = Some(name.into());
                    return Ok((Self { dir, name }, made));
                }
                Err(Errno::EXIST) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    fn rename(mut self, to: &BStr) -> io::Result<()> {
        if let Some(name) = &self.name {
            rustix::fs::renameat(self.dir, name.as_bytes(), self.dir, to.as_bytes())?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What cannot be removed now is removed by the next run.
            let _ = dirs::unlink(self.dir, name.as_bstr());
        }
    }
}

/// The kernel's clock for files moves in steps of up to 10 ms.
const CLOCK_TICK: Duration = Duration::from_millis(20);

fn age(stat: &Stat, now: Duration) -> Duration {
    now.saturating_sub(Duration::new(stat.mtime.secs.into(), stat.mtime.nsecs))
}

impl Work {
    /// Whether writing the same index again, now, would make files trustworthy that were too young before.
    pub(super) fn settles_races(&self, old: &Stored, new: &gix::index::State) -> bool {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        self.check
            .iter()
            .filter(|Check { racy, .. }| *racy)
            .map(|check| &new.entries()[check.entry].stat)
            .any(|stat| old.is_racy(stat) && age(stat, now) > CLOCK_TICK)
    }
}
