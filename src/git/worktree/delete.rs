//! Tracked files that left the tree are unlinked, and the directories that this leaves empty.
//!
//! Nothing here decides what is to be done: `plan` did.

use std::io;

use gix::bstr::{BStr, BString, ByteSlice};

use super::{
    context::Context,
    dirs::{self, Kind, Meta},
    left::{self, Left},
    local::{self, Base},
    outside,
    plan::Delete,
};
use crate::base::report::{Action, Local, Lost};

/// Unlink what is no longer tracked, and the directories that this leaves empty. Says how many files, and which of them are
/// nowhere else.
pub(super) fn delete(
    cx: &mut Context<'_>,
    delete: &[Delete],
    (base, attributes): (&Base<'_>, &outside::Rules),
    left: &mut Left,
) -> (u64, Lost) {
    let mut deleted = 0;
    let mut lost = Lost::default();
    let mut emptied = BStr::new("");
    for gone in delete {
        let path = gone.path.as_bstr();
        if left.is_given_up() {
            left.untried_deletion(path.into());
            continue;
        }
        match delete_one(cx, gone, emptied, (base, attributes)) {
            Ok(Gone {
                is_file,
                is_gone,
                local,
            }) => {
                deleted += u64::from(is_file);
                if let Some(local) = local {
                    lost.note(local, path);
                }
                if is_gone {
                    emptied = dirs::split(path).0;
                }
            }
            Err(err) => {
                let is_final = left::is_final(&err);
                left.undeleted(path.into(), err);
                if is_final {
                    left.give_up();
                }
            }
        }
    }
    if let Err(err) = remove_emptied(cx, emptied, "".into()) {
        left.refused("delete", emptied.into(), err);
    }
    (deleted, lost)
}

/// Empty the directories of `submodules`, where all that the tree does not have goes. They are made again with the files.
pub(super) fn empty(cx: &mut Context<'_>, submodules: impl Iterator<Item = BString>, left: &mut Left) {
    for path in submodules {
        let (dir, name) = dirs::split(path.as_bstr());
        let emptied = cx.dirs.get(dir).and_then(|dir| match dir {
            Some(dir) if dirs::meta(dir, name)?.is_some_and(|meta| meta.kind == Kind::Dir) => {
                dirs::remove_tree(dir, name)
            }
            _ => Ok(()),
        });
        if let Err(err) = emptied {
            left.refused("empty", path, err);
        }
    }
    cx.dirs.forget_all();
}

#[derive(Default)]
struct Gone {
    is_file: bool,
    is_gone: bool,
    /// What it was, if it is nowhere else.
    local: Option<Local>,
}

fn delete_one(
    cx: &mut Context<'_>,
    gone: &Delete,
    emptied: &BStr,
    (base, attributes): (&Base<'_>, &outside::Rules),
) -> io::Result<Gone> {
    let path = gone.path.as_bstr();
    let Some(file) = deletable(cx, path, gone.is_submodule)? else {
        return Ok(Gone::default());
    };
    let local = file
        .as_ref()
        .and_then(|there| local::of_deleted(cx, base, attributes, (path, there)));
    let mut is_gone = false;
    if !cx.options.dry_run {
        remove_emptied(cx, emptied, path)?;
        is_gone = remove(cx, path, gone.is_submodule)?;
    } else if file.is_some() {
        cx.options.would(Action::Delete, path, local);
    }
    Ok(Gone {
        is_file: file.is_some(),
        is_gone,
        local,
    })
}

pub(super) fn is_deletable(cx: &mut Context<'_>, path: &BStr, is_submodule: bool) -> io::Result<bool> {
    Ok(matches!(deletable(cx, path, is_submodule)?, Some(Some(_))))
}

/// As git: only what is reached through directories, and no directory with something in it.
/// Gives the file; if there is nothing, its empty parents go nevertheless.
fn deletable(cx: &mut Context<'_>, path: &BStr, is_submodule: bool) -> io::Result<Option<Option<Meta>>> {
    let (dir, name) = dirs::split(path);
    let Some(dir) = cx.dirs.get(dir)? else {
        return Ok(None);
    };
    Ok(match dirs::meta(dir, name)? {
        Some(meta) if meta.kind == Kind::Dir => is_submodule.then_some(None),
        Some(meta) => (!is_submodule).then_some(Some(meta)),
        None => Some(None),
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
    if is_submodule {
        Ok(dirs::remove_dir(dir, name).is_ok())
    } else {
        dirs::unlink(dir, name).map(|_| true)
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
