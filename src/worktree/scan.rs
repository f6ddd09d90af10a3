//! What must be looked at and what must go: the old index, the new tree and the files, compared by stat data alone.
//!
//! Nothing is changed here, and no content is read. All that forbids an update is found here or before.

use std::{cmp::Ordering, io, os::fd::AsFd};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::{Entry, entry::Mode},
};

use super::{
    Context, Error,
    dirs::{self, Kind, Meta},
    plan,
    stored::{self, Stored, Tracked},
};

/// The work to do.
#[derive(Default)]
pub(super) struct Work {
    /// Paths that are no longer tracked.
    pub(super) delete: Vec<Delete>,
    /// Entries of the new index whose file is not known to be right.
    pub(super) check: Vec<Check>,
}

pub(super) struct Delete {
    pub(super) path: BString,
    pub(super) is_submodule: bool,
}

pub(super) struct Check {
    /// Where in the new index it is.
    pub(super) entry: usize,
    /// The stat data match, but too closely in time to trust them.
    pub(super) racy: bool,
}

/// Compare, and give entries of `new` whose file is untouched the stat data of `old`.
pub(super) fn compare(
    cx: &mut Context<'_>,
    old: &Stored,
    new: &mut gix::index::State,
) -> Result<Work, Error> {
    let mut work = Work::default();
    let mut unseen = old.index.entries();
    for position in 0..new.entries().len() {
        let (entry, path) = (&new.entries()[position], new.entries()[position].path(new));
        let known = advance(&mut unseen, path, old, &mut work.delete);
        let known =
            known.filter(|old| old.id == entry.id && old.mode == entry.mode && !stored::is_special(old));
        let meta = cx.meta(path)?;
        match known.filter(|old| is_untouched(old, meta.as_ref(), cx.repo.object_hash())) {
            Some(known) => {
                let stat = known.stat;
                new.entries_mut()[position].stat = stat;
                if entry_needs_content(known.mode) && old.is_racy(&stat) {
                    work.check.push(Check {
                        entry: position,
                        racy: true,
                    });
                }
            }
            None => {
                check_place(cx, old, path, entry.mode, meta.as_ref())?;
                check_object(cx, entry, path)?;
                work.check.push(Check {
                    entry: position,
                    racy: false,
                });
            }
        }
    }
    for entry in unseen {
        forget(entry, old, &mut work.delete);
    }
    Ok(work)
}

/// The entry for `path`, without conflict. What comes before it is no longer tracked.
fn advance<'a>(
    unseen: &mut &'a [Entry],
    path: &BStr,
    old: &Stored,
    delete: &mut Vec<Delete>,
) -> Option<&'a Entry> {
    let mut found = None;
    while let Some((first, rest)) = unseen.split_first() {
        match first.path(&old.index).cmp(path) {
            Ordering::Greater => break,
            Ordering::Equal => found = Some(first),
            Ordering::Less => forget(first, old, delete),
        }
        *unseen = rest;
    }
    found
}

/// Plan to delete the file of `entry`, unless its path is one that an index must not hold.
fn forget(entry: &Entry, old: &Stored, delete: &mut Vec<Delete>) {
    let path = entry.path(&old.index);
    let is_safe = path
        .split_str("/")
        .all(|name| plan::check_name(name.as_bstr(), false).is_ok());
    let is_repeated = delete.last().is_some_and(|last| last.path == path);
    if is_safe && !is_repeated && !entry.mode.is_sparse() {
        delete.push(Delete {
            path: path.into(),
            is_submodule: entry.mode == Mode::COMMIT,
        });
    }
}

/// As git's `ie_match_stat`: nothing that the system tells about the file has changed.
fn is_untouched(entry: &Entry, meta: Option<&Meta>, hash: gix::hash::Kind) -> bool {
    let Some(meta) = meta else { return false };
    let is_executable = meta.permissions & 0o100 != 0;
    match (entry.mode, meta.kind) {
        // Whatever is in it.
        (Mode::COMMIT, Kind::Dir) => true,
        (Mode::SYMLINK, Kind::Symlink) => stored::stat_matches(entry, &meta.stat, hash),
        (Mode::FILE, Kind::File) => !is_executable && stored::stat_matches(entry, &meta.stat, hash),
        (Mode::FILE_EXECUTABLE, Kind::File) => is_executable && stored::stat_matches(entry, &meta.stat, hash),
        _ => false,
    }
}

fn entry_needs_content(mode: Mode) -> bool {
    mode != Mode::COMMIT
}

/// A missing object stops the update while nothing has been changed.
fn check_object(cx: &Context<'_>, entry: &Entry, path: &BStr) -> Result<(), Error> {
    if entry.mode == Mode::COMMIT || cx.repo.has_object(entry.id) {
        return Ok(());
    }
    Err(Error::Object {
        id: entry.id,
        path: path.to_string(),
        reason: "it is missing".into(),
    })
}

/// What stands in the place of `path` or of its parents may be removed, unless it is to be kept.
fn check_place(
    cx: &mut Context<'_>,
    old: &Stored,
    path: &BStr,
    mode: Mode,
    meta: Option<&Meta>,
) -> Result<(), Error> {
    let kept = match meta {
        Some(meta) if meta.kind == Kind::Dir && mode != Mode::COMMIT => kept_below(cx, old, path, meta),
        Some(_) => return Ok(()),
        None => kept_above(cx, old, path),
    };
    match kept.map_err(|err| cx.failed("read", path, err))? {
        None => Ok(()),
        Some(kept) => Err(Error::Kept {
            path: path.to_string(),
            kept: kept.to_string(),
        }),
    }
}

/// An untracked file or link, where `path` needs a directory, that must be kept.
fn kept_above(cx: &mut Context<'_>, old: &Stored, path: &BStr) -> io::Result<Option<BString>> {
    if cx.rules.keeps_nothing() {
        return Ok(None);
    }
    for dir in dirs::parents(path) {
        let (parent, name) = dirs::split(dir);
        let Some(parent) = cx.dirs.get(parent)? else {
            continue;
        };
        let is_in_the_way = dirs::meta(parent, name)?.is_some_and(|meta| meta.kind != Kind::Dir);
        let is_kept = stored::tracked(&old.index, dir) == Tracked::No && cx.rules.is_kept(dir, false);
        return Ok((is_in_the_way && is_kept).then(|| dir.into()));
    }
    Ok(None)
}

/// Something in the directory `path` that must be kept: by its pattern, or because it is the repository.
fn kept_below(cx: &mut Context<'_>, old: &Stored, path: &BStr, meta: &Meta) -> io::Result<Option<BString>> {
    if cx.protected.contains(&meta.inode)
        || (stored::tracked(&old.index, path) == Tracked::No && cx.rules.is_kept(path, true))
    {
        return Ok(Some(path.into()));
    }
    let Some(dir) = cx.dirs.get(path)? else {
        return Ok(None);
    };
    let mut children = Vec::new();
    for name in dirs::entries(dir.as_fd())? {
        if let Some(meta) = dirs::meta(dir.as_fd(), name.as_bstr())? {
            children.push((dirs::join(path, name.as_bstr()), meta));
        }
    }
    for (child, meta) in children {
        let child = child.as_bstr();
        let kept = match meta.kind {
            Kind::Dir => kept_below(cx, old, child, &meta)?,
            _ => (stored::tracked(&old.index, child) == Tracked::No && cx.rules.is_kept(child, false))
                .then(|| child.into()),
        };
        if kept.is_some() {
            return Ok(kept);
        }
    }
    Ok(None)
}
