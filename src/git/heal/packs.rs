//! Finds packs and loose objects that are not as they were written, and moves them aside. The index of a pack that is as it
//! was is written again.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
};

use gix::ObjectId;

use super::{Error, unread, workshop::Workshop};
use crate::{
    base::{bounded, fault::if_there},
    git::{
        intake,
        large::loose_path,
        repository::{self, Sharing},
    },
};

const CHUNK_BYTES: usize = 1 << 16;

/// What a pack and its index are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    /// The pack is as it was, its index is not.
    Index,
    Damaged,
}

/// Whether all packs in the directory `objects` are as they were written, and its loose objects can be read.
pub(super) fn are_sound(objects: &Path, hash: gix::hash::Kind) -> bool {
    let packs = packs(&objects.join("pack"));
    packs.is_ok_and(|packs| {
        packs
            .iter()
            .all(|pack| matches!(state(objects, pack, hash), Ok(State::Sound)))
    }) && damaged_loose(objects, hash).is_ok_and(|damaged| damaged.is_empty())
}

pub(super) fn put_aside(workshop: &Workshop, hash: gix::hash::Kind) -> Result<(), Error> {
    let (dir, git_dir) = (workshop.pack_dir(), &workshop.git_dir);
    for pack in packs(&dir).map_err(Error::io("list", &dir))? {
        match state(git_dir, &pack, hash)? {
            State::Sound => {}
            State::Index => write_index(workshop, &pack, hash)?,
            State::Damaged => {
                // The pack first: recovery would remove one without an index.
                for extension in ["pack", "idx", "rev", "bitmap", "mtimes", "promisor", "keep"] {
                    let part = pack.with_extension(extension);
                    if fs::symlink_metadata(&part).is_ok() {
                        let name = part.file_name().unwrap_or_default().to_string_lossy();
                        workshop.put_aside(&part, &name)?;
                    }
                }
            }
        }
        for extension in ["rev", "bitmap"] {
            // They only save time.
            let part = pack.with_extension(extension);
            if part.exists() && trailer(git_dir, &part, hash)?.is_none() {
                fs::remove_file(&part).map_err(Error::io("remove", &part))?;
            }
        }
    }
    for (id, path) in damaged_loose(&git_dir.join("objects"), hash)? {
        workshop.put_aside(&path, &id.to_string())?;
    }
    Ok(())
}

/// The packs in `dir`, also those of which only the index is there.
fn packs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut packs = Vec::new();
    for entry in if_there(fs::read_dir(dir))?.into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "pack" || ext == "idx") {
            packs.push(path.with_extension("pack"));
        }
    }
    packs.sort();
    packs.dedup();
    Ok(packs)
}

fn state(git_dir: &Path, pack: &Path, hash: gix::hash::Kind) -> Result<State, Error> {
    let Some(checksum) = trailer(git_dir, pack, hash)? else {
        return Ok(State::Damaged);
    };
    let index = pack.with_extension("idx");
    let named = trailer(git_dir, &index, hash)?
        .and_then(|_| gix_pack::index::File::at(&index, hash).ok())
        .map(|index| index.pack_checksum());
    Ok(if named == Some(checksum) {
        State::Sound
    } else {
        State::Index
    })
}

/// The hash at the end of a file, if it is that of the rest.
fn trailer(git_dir: &Path, path: &Path, hash: gix::hash::Kind) -> Result<Option<ObjectId>, Error> {
    let file = unread::or_damaged(git_dir, path, bounded::open(path))?;
    Ok(file.and_then(|file| trailer_of(file, hash)))
}

fn trailer_of(file: File, hash: gix::hash::Kind) -> Option<ObjectId> {
    let length = hash.len_in_bytes();
    let rest = file.metadata().ok()?.len().checked_sub(length as u64)?;
    let mut file = BufReader::with_capacity(CHUNK_BYTES, file);
    let mut hasher = gix::hash::io::Write::new(io::sink(), hash);
    io::copy(&mut (&mut file).take(rest), &mut hasher).ok()?;
    let mut end = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut end).ok()?;
    let found = hasher.hash.try_finalize().ok()?;
    (found.as_slice() == end).then_some(found)
}

fn write_index(workshop: &Workshop, pack: &Path, hash: gix::hash::Kind) -> Result<(), Error> {
    let new = workshop.dir.join("new.idx");
    drop(fs::remove_file(&new));
    intake::index(pack, &new, hash).map_err(|err| Error::Index {
        path: pack.into(),
        reason: err.to_string(),
    })?;
    File::open(&new)
        .and_then(|file| file.sync_all())
        .map_err(Error::io("flush", &new))?;
    Sharing::of(&repository::open(&workshop.git_dir)?).path(&new);
    let index = pack.with_extension("idx");
    fs::rename(&new, &index).map_err(Error::io("write", &index))?;
    // It was made from the index.
    drop(fs::remove_file(pack.with_extension("rev")));
    Ok(())
}

/// Loose objects whose content is not what their name says.
fn damaged_loose(objects: &Path, hash: gix::hash::Kind) -> Result<Vec<(ObjectId, PathBuf)>, Error> {
    let store = gix::odb::loose::Store::at(objects, hash);
    let mut buf = Vec::new();
    let mut is_damaged = |id: &ObjectId| match store.try_find(id, &mut buf) {
        Ok(Some(object)) => {
            gix::objs::compute_hash(hash, object.kind, object.data)
                .ok()
                .as_ref()
                != Some(id)
        }
        Ok(None) => false,
        Err(_) => true,
    };
    let ids = store.iter().filter_map(Result::ok).filter(|id| is_damaged(id));
    ids.map(|id| {
        let path = loose_path(objects, &id);
        unread::check_one(objects, &path)?;
        Ok((id, path))
    })
    .collect()
}
