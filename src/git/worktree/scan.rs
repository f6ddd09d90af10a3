//! What must be looked at, and whether anything forbids the update: the files as they are, beside the index to be.
//!
//! Nothing is changed here, and no content is read. All that forbids an update is found here or before.

use std::io;

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::{Entry, entry::Mode},
};

use super::{
    Error, bulk,
    cache::Quiet,
    context::Context,
    dirs::{self, Kind, Meta},
    space::Needed,
    stored::{self, Stored, Tracked},
    walk::{self, Aborted, Found, Why},
};
use crate::{base::descent::Descent, git::worktree::Clean};

/// Find what differs between the files and `new`.
pub(super) fn compare(
    cx: &mut Context<'_>,
    old: &Stored,
    new: &gix::index::State,
    quiet: &Quiet,
) -> Result<(Found, Needed), Error> {
    let root = cx.dirs.root().map_err(|err| cx.failed("read", "".into(), err))?;
    let not_ours = (cx.elsewhere.as_slice(), &*cx.others);
    let ours = (cx.options.clean == Clean::Everything).then_some(cx.options.rights);
    let mut found = walk::walk(root, old, new, not_ours, quiet, (cx.options.over, ours))
        .map_err(|stop| stopped(cx, stop))?;
    if cx.options.apart.is_some() {
        let is_left = |entry: usize| cx.options.leaves(new.entries()[entry].path(new));
        found.checks.retain(|check| !is_left(check.entry));
        found.submodules.retain(|entry| !is_left(*entry));
    }
    let mut needed = Needed::default();
    for check in found.checks.iter().filter(|check| !check.racy) {
        let entry = &new.entries()[check.entry];
        let path = entry.path(new);
        check_place(cx, old, path, entry.mode, check.there.as_deref())?;
        needed.add(check_object(cx, entry, path)?, check.there.as_deref());
    }
    Ok((found, needed))
}

fn stopped(cx: &Context<'_>, Aborted { path, why }: Aborted) -> Error {
    match why {
        Why::Io(err) => cx.failed("read", path.as_bstr(), err),
        Why::Over => Error::Over,
        Why::Others => Error::Others {
            path: cx.options.path(path.as_bstr()),
        },
        Why::Protected => Error::Kept {
            path: path.to_string(),
            kept: path.to_string(),
        },
    }
}

/// A missing object, and one that is too large, stops the update while nothing has been changed. Gives its size.
fn check_object(cx: &Context<'_>, entry: &Entry, path: &BStr) -> Result<u64, Error> {
    if entry.mode == Mode::COMMIT {
        return Ok(0);
    }
    let unreadable = |reason: String| Error::Object {
        id: entry.id,
        path: path.to_string(),
        reason,
    };
    // Of a delta, too, this is the size that it comes to.
    let header = cx
        .repo
        .try_find_header(entry.id)
        .map_err(|err| unreadable(err.to_string()))?;
    let size = header.ok_or_else(|| unreadable("it is missing".into()))?.size();
    bulk::check(path, size, cx.options.max_blob).map(|()| size)
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
    if cx.is_protected(&meta.identity)
        || (stored::tracked(&old.index, path) == Tracked::No && cx.rules.is_kept(path, true))
    {
        return Ok(Some(path.into()));
    }
    let Some(dir) = cx.dirs.get(path)? else {
        return Ok(None);
    };
    let mut way = Descent::new(dirs::open_dir(dir, ".".into())?);
    let mut rest = vec![Rest {
        names: dirs::entries(way.here())?.into_iter(),
        path: path.len(),
        is_kept: cx.rules.is_kept(path, true),
    }];
    let mut path = path.to_owned();
    while let Some(dir) = rest.last_mut() {
        path.truncate(dir.path);
        let Some(name) = dir.names.next() else {
            rest.pop();
            way.leave()?;
            continue;
        };
        let name = name.as_bstr();
        let Some(meta) = dirs::meta(way.here(), name)? else {
            continue;
        };
        dirs::push(&mut path, name);
        let is_dir = meta.kind == Kind::Dir;
        let is_kept = dir.is_kept || cx.rules.keeps(path.as_bstr(), is_dir);
        if (is_kept && stored::tracked(&old.index, path.as_bstr()) == Tracked::No)
            || (is_dir && cx.is_protected(&meta.identity))
        {
            return Ok(Some(dirs::shown(path.as_bstr())));
        }
        if is_dir && let Some(fd) = dirs::open_dir_if_there(way.here(), name)? {
            way.push(fd)?;
            rest.push(Rest {
                names: dirs::entries(way.here())?.into_iter(),
                path: path.len(),
                is_kept,
            });
        }
    }
    Ok(None)
}

/// A directory that is being looked through.
struct Rest {
    names: std::vec::IntoIter<BString>,
    /// The length of the directory's path.
    path: usize,
    /// A pattern holds for it or one of its parents.
    is_kept: bool,
}
