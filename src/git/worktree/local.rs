//! What an update takes that is nowhere else: changes of tracked files, and files that are not tracked.
//!
//! That costs nothing where nothing was changed: the times and sizes that the walk has met say so. Only a file that
//! goes, and looks changed, is read.

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::{
        Entry,
        entry::{Flags, Mode, Stage, Stat},
    },
};

use super::{
    attributes::Sources,
    bulk,
    content::Content,
    context::Context,
    dirs::{self, Dirs, Kind, Meta},
    notice::Notices,
    outside,
    stored::{self, Stored},
    worker::{TrackedFile, Worker},
};
use crate::{
    base::{descent::Descent, report::Local},
    git::large::LARGE,
};

/// What files are compared with to tell whether they were changed.
pub(super) struct Base<'a> {
    /// The files as they were checked out.
    pub(super) index: &'a gix::index::State,
    pub(super) old: &'a Stored,
    /// Another program may have written the old index: an entry without stat data is of a file that must be looked into.
    /// In an index of ours, it is of one that an update has not got to.
    pub(super) is_foreign: bool,
    /// Whether a file may be run counts, see `core.fileMode`. Where it does not, a commit's mode is brought all the same.
    pub(super) heeds_mode: bool,
}

/// What a file is, as far as its times and size tell.
pub(super) enum Verdict<'e> {
    /// A copy of what the repository has.
    Copy,
    Local(Local),
    /// A copy, if it holds what that entry says.
    Perhaps(&'e Entry),
}

impl Base<'_> {
    /// What is at `path`, where something goes.
    pub(super) fn judge(&self, path: &BStr, there: &Meta) -> Verdict<'_> {
        if !matches!(there.kind, Kind::File | Kind::Symlink) {
            return Verdict::Copy;
        }
        let Some(entry) = self.index.entry_by_path(path) else {
            return Verdict::Local(Local::Untracked);
        };
        let is_executable = there.permissions & 0o100 != 0;
        let is_kind = match entry.mode {
            Mode::COMMIT => return Verdict::Local(Local::Untracked),
            Mode::SYMLINK => there.kind == Kind::Symlink,
            mode => {
                there.kind == Kind::File
                    && (!self.heeds_mode || is_executable == (mode == Mode::FILE_EXECUTABLE))
            }
        };
        let known = &entry.stat;
        let is_known = *known != Stat::default();
        match there.stat {
            _ if !is_kind => Verdict::Local(Local::Edited),
            _ if !is_known && !self.is_foreign => Verdict::Copy,
            // git writes no size if it wants the content compared.
            now if is_known && known.size != 0 && known.size != now.size => Verdict::Local(Local::Edited),
            now if is_known
                && (known.size, known.mtime) == (now.size, now.mtime)
                && !self.old.is_racy(known) =>
            {
                Verdict::Copy
            }
            _ => Verdict::Perhaps(entry),
        }
    }
}

/// Whether `file` holds the blob, or what a checkout made of it by the attributes of `before`.
pub(super) fn is_checked_out(
    worker: &mut Worker<'_>,
    before: &mut Content<'_>,
    file: &TrackedFile<'_>,
) -> bool {
    if file.there.is_some_and(|there| there.size > LARGE) {
        return bulk::is_blob(worker, file);
    }
    let Some(bytes) = worker.read(file) else {
        return false;
    };
    let hash = gix::objs::compute_hash(worker.repo.object_hash(), gix::objs::Kind::Blob, &bytes);
    if hash.is_ok_and(|id| id == file.id) {
        return true;
    }
    let then = before.of(file.id, file.mode, file.path, &mut Notices::default());
    then.is_ok_and(|then| *then == *bytes)
}

/// What there is at `path` that is nowhere else, if that file, which is `there`, goes. `with` reads it, if it has to be read.
pub(super) fn of<'e>(
    base: &'e Base<'_>,
    path: &'e BStr,
    there: &'e Meta,
    with: impl FnOnce(&TrackedFile<'e>) -> bool,
) -> Option<Local> {
    let entry = match base.judge(path, there) {
        Verdict::Copy => return None,
        Verdict::Local(local) => return Some(local),
        Verdict::Perhaps(entry) => entry,
    };
    let file = TrackedFile {
        id: entry.id,
        mode: entry.mode,
        path,
        there: Some(there),
    };
    (!with(&file)).then_some(Local::Edited)
}

/// The same, for a file that is deleted.
pub(super) fn of_deleted(
    cx: &Context<'_>,
    base: &Base<'_>,
    attributes: &outside::Rules,
    (path, there): (&BStr, &Meta),
) -> Option<Local> {
    of(base, path, there, |file| {
        let Ok(dirs) = cx.dirs.again() else {
            return false;
        };
        let content = || {
            let sources = Sources::of(&base.old.index, std::iter::once(path), attributes.clone());
            Content::new(cx.repo, &sources)
        };
        let mut worker = Worker {
            options: cx.options,
            repo: cx.repo,
            dirs,
            content: content(),
        };
        is_checked_out(&mut worker, &mut content(), file)
    })
}

/// What is in the index alone: neither in `head`, nor in `new`, nor in the worktree, where it would have been met.
pub(super) fn only_staged(
    cx: &mut Context<'_>,
    old: &Stored,
    (head, new): (&gix::index::State, &gix::index::State),
) -> Vec<(Local, BString)> {
    let hash = head.object_hash();
    let mut found = Vec::new();
    for entry in old.index.entries() {
        let path = entry.path(&old.index);
        let is_in = |index: &gix::index::State| {
            index
                .entry_by_path(path)
                .is_some_and(|there| there.id == entry.id)
        };
        if entry.stage() != Stage::Unconflicted
            || entry.flags.contains(Flags::INTENT_TO_ADD)
            || is_in(head)
            || is_in(new)
        {
            continue;
        }
        let (dir, name) = dirs::split(path);
        let there = cx.dirs.get(dir).ok().flatten();
        let there = there.and_then(|dir| dirs::meta(dir, name).ok()?);
        if there.is_some_and(|there| stored::stat_matches(entry, &there.stat, hash)) {
            continue;
        }
        let local = match head.entry_by_path(path) {
            Some(_) => Local::Edited,
            None => Local::Untracked,
        };
        found.push((local, path.to_owned()));
    }
    found
}

/// Whether a file that is not tracked is in the directory `path`, or below. What cannot be read may have one.
pub(super) fn is_in(dirs: &mut Dirs, old: &Stored, path: &BStr) -> bool {
    let mut search = || -> std::io::Result<bool> {
        let Some(dir) = dirs.get(path)? else {
            return Ok(false);
        };
        let mut way = Descent::new(dirs::open_dir(dir, ".".into())?);
        let mut path = path.to_owned();
        let mut rest = vec![(dirs::entries(way.here())?.into_iter(), path.len())];
        while let Some((names, end)) = rest.last_mut() {
            path.truncate(*end);
            let Some(name) = names.next() else {
                rest.pop();
                way.leave()?;
                continue;
            };
            let name = name.as_bstr();
            let Some(meta) = dirs::meta(way.here(), name)? else {
                continue;
            };
            dirs::push(&mut path, name);
            match meta.kind {
                Kind::File | Kind::Symlink
                    if stored::tracked(&old.index, path.as_bstr()) == stored::Tracked::No =>
                {
                    return Ok(true);
                }
                Kind::Dir => {
                    if let Some(fd) = dirs::open_dir_if_there(way.here(), name)? {
                        way.push(fd)?;
                        rest.push((dirs::entries(way.here())?.into_iter(), path.len()));
                    }
                }
                _ => {}
            }
        }
        Ok(false)
    };
    search().unwrap_or(true)
}

/// In a dry run: what is no directory, and not tracked, where one is needed for `path`.
pub(super) fn above(dirs: &mut Dirs, base: &Base<'_>, path: &BStr) -> Option<BString> {
    let dir = dirs::split(path).0;
    if dirs.get(dir).ok()?.is_some() {
        return None;
    }
    for dir in dirs::chain(dir) {
        let (parent, name) = dirs::split(dir);
        if let Some(parent) = dirs.get(parent).ok()?
            && let Some(meta) = dirs::meta(parent, name).ok()?
        {
            let is_local = matches!(meta.kind, Kind::File | Kind::Symlink)
                && matches!(base.judge(dir, &meta), Verdict::Local(Local::Untracked));
            return is_local.then(|| dir.into());
        }
    }
    None
}
