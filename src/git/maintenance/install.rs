//! The short part, under the target's lock: the new pack appears, and those it replaces go.
//!
//! A kill before the new index is renamed leaves garbage that recovery knows; one after that leaves objects that
//! are there twice, and the next time finishes the work. No object is ever missing in between.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use gix::{ObjectId, bstr::ByteSlice as _, hashtable::HashSet};

use super::{
    Error,
    files::{self, Guard, remove, replace},
    output::Merged,
    packs::{self, Pack},
};
use crate::{
    base::{
        bounded::{self, LIST},
        fault::if_there,
    },
    git::{large::loose_path, repository::Sharing},
};

/// Whether `packs` are all there as they were. With `untouched`, git must not have found anything in them either.
pub(super) fn are_there(packs: &[Pack], untouched: bool) -> Result<bool, Error> {
    for pack in packs {
        let Some(meta) = files::metadata(&pack.path)? else {
            return Ok(false);
        };
        if meta.len() != pack.bytes
            || !pack.path.with_extension("idx").exists()
            || (!pack.held && pack.path.with_extension("keep").exists())
            || (untouched && packs::modified(&meta) != pack.modified)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Let the new pack be as old as the youngest of `packs` is now: git may have touched them meanwhile.
pub(super) fn age(merged: &Merged, packs: &[Pack]) -> Result<(), Error> {
    let mut youngest = None;
    for pack in packs {
        youngest = youngest.max(files::metadata(&pack.path)?.map(|meta| packs::modified(&meta)));
    }
    let failed = |err| Error::io("set the time of", &merged.pack, err);
    match youngest {
        Some(time) => File::open(&merged.pack)
            .and_then(|file| file.set_modified(time))
            .map_err(failed),
        None => Ok(()),
    }
}

/// Let the new pack appear: its index last, which makes git see it.
pub(super) fn install(merged: &Merged, pack_dir: &Path, sharing: Sharing) -> Result<(), Error> {
    let pack = pack_dir.join(&merged.name);
    let index = pack.with_extension("idx");
    // The name is the content's hash: it would be the same file.
    if !index.exists() {
        for (from, to) in [(&merged.pack, &pack), (&merged.index, &index)] {
            sharing.path(from);
            fs::rename(from, to).map_err(|err| Error::io("create", to, err))?;
        }
    }
    sync(pack_dir)
}

fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|err| Error::io("sync", dir, err))
}

/// Remove `packs`, except the one named `new`. What speeds up their reading goes first, and the index before
/// the pack: a pack without one is garbage that recovery knows.
pub(super) fn remove_packs(packs: &[Pack], new: Option<&str>, pack_dir: &Path) -> Result<(), Error> {
    let is_new = |pack: &Pack| pack.path.file_name().and_then(|name| name.to_str()) == new && new.is_some();
    let old: Vec<_> = packs.iter().filter(|pack| !is_new(pack)).collect();
    if old.is_empty() {
        return Ok(());
    }
    // It names packs that go; without it git looks into each index.
    for path in files::list(pack_dir)? {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name == b"multi-pack-index" || name.starts_with(b"multi-pack-index-") {
            remove(&path)?;
        }
    }
    for pack in old {
        for extension in ["bitmap", "rev", "idx", "pack"] {
            remove(&pack.path.with_extension(extension))?;
        }
    }
    Ok(())
}

/// Remove the commit-graph, which git rewrites at will: it may name commits that go.
pub(super) fn remove_commit_graph(objects: &Path) -> Result<(), Error> {
    let chain = objects.join("info/commit-graphs");
    remove(&chain.join("commit-graph-chain"))?;
    for path in files::list(&chain)? {
        remove(&path)?;
    }
    remove(&objects.join("info/commit-graph"))
}

/// The commits at which history is cut.
pub(super) fn shallow(git_dir: &Path) -> Result<HashSet, Error> {
    cuts(&git_dir.join("shallow"))
}

/// The ids in a file, one a line; none if it is not there. gix_shallow would read a file of any size, and from a device.
pub(super) fn cuts(path: &Path) -> Result<HashSet, Error> {
    let failed = |err| Error::io("read", path, err);
    let text = if_there(bounded::read(path, LIST)).map_err(failed)?;
    text.unwrap_or_default()
        .lines()
        .map(|line| ObjectId::from_hex(line.trim_ascii_end()))
        .collect::<Result<_, _>>()
        .map_err(|err| failed(io::Error::other(err.to_string())))
}

/// Forget cuts at commits that do not count, as `git prune` does. After the packs: the other way round, a kill would
/// leave a commit whose parents are missing.
pub(super) fn prune_shallow(git_dir: &Path, counts: &dyn Fn(&ObjectId) -> bool) -> Result<(), Error> {
    let all = shallow(git_dir)?;
    let mut left: Vec<_> = all.iter().filter(|id| counts(id)).collect();
    if left.len() == all.len() {
        return Ok(());
    }
    let Some(_guard) = Guard::take(git_dir.join("shallow.lock"))? else {
        return Ok(());
    };
    left.sort();
    let path = git_dir.join("shallow");
    let failed = |err| Error::io("rewrite", &path, err);
    if left.is_empty() {
        return remove(&path);
    }
    let text: String = left.iter().map(|id| format!("{id}\n")).collect();
    replace(git_dir, &path, text.as_bytes()).map_err(failed)
}

/// Loose objects, and when they were written.
pub(super) fn loose(objects: &Path, hash: gix::hash::Kind) -> Vec<(ObjectId, PathBuf)> {
    gix::odb::loose::Store::at(objects, hash)
        .iter()
        // What is no object does not count; what cannot be read is not removed.
        .filter_map(Result::ok)
        .map(|id| (id, loose_path(objects, &id)))
        .collect()
}
