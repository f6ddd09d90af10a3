//! The index as git knows it: read at the beginning of an update, written at its end.

use std::{cmp::Ordering, io::Write, ops::Range, path::Path, thread};

use filetime::FileTime;
use gix::{
    bstr::{BStr, ByteSlice},
    index::{
        Entry,
        entry::{Flags, Mode, Stage, Stat, stat},
        extension::Tree,
    },
    lock::acquire::Fail,
};

use super::{
    Error, dirs, names,
    outline::{self, Outline},
    threads,
};
use crate::{
    base::{
        bounded,
        fault::{Kind, kind_of_io},
        identity::Stamp,
    },
    git::repository::reason,
};

/// The index that the last update, or git, left.
pub(super) struct Stored {
    pub(super) index: gix::index::File,
    is_plain: bool,
    /// Its cached tree can be believed.
    is_proof: bool,
    /// The file that it was read from.
    pub(super) file: Option<Stamp>,
}

/// What an entry cannot have that simply stands for a file of the tree.
const SPECIAL: Flags = Flags::STAGE_MASK
    .union(Flags::ASSUME_VALID)
    .union(Flags::EXTENDED)
    .union(Flags::INTENT_TO_ADD)
    .union(Flags::SKIP_WORKTREE);

/// Nanoseconds count here; git is built without them because some network file systems lose them.
/// There, files are compared by content more often, no more.
const STAT: stat::Options = stat::Options {
    trust_ctime: true,
    check_stat: true,
    use_nsec: true,
    use_stdev: false,
};

impl Stored {
    /// Read the index. A missing or damaged one is the same as an empty one: every file is looked at then.
    pub(super) fn read(path: &Path, hash: gix::hash::Kind) -> Self {
        if let Some((index, is_verified, file)) = load(path, hash) {
            let nature = examine(&index);
            if nature.is_sorted {
                return Self {
                    // Only what a checksum vouches for can stand for trees that are not looked at.
                    is_proof: nature.is_safe && is_verified && !index.is_sparse(),
                    is_plain: nature.is_plain,
                    file: Some(file),
                    index,
                };
            }
        }
        let empty = gix::index::State::new(hash);
        Self {
            index: gix::index::File::from_state(empty, path),
            is_plain: true,
            is_proof: false,
            file: None,
        }
    }

    /// Whether the entries are exactly the files of `tree`.
    pub(super) fn is(&self, tree: &gix::oid) -> bool {
        self.is_plain && self.whole().is_some_and(|root| root.id == tree)
    }

    /// Whether it is not known to be that of one tree: something was staged since, or it is not there.
    pub(super) fn may_have_staged(&self) -> bool {
        self.whole().is_none()
    }

    /// The tree that all entries are of.
    fn whole(&self) -> Option<&Tree> {
        let len = self.index.entries().len();
        self.tree()
            .filter(|root| root.num_entries.map(|count| count as usize) == Some(len))
    }

    /// Which trees the entries are the files of, as far as that is known: git's cached tree.
    pub(super) fn tree(&self) -> Option<&Tree> {
        self.index.tree().filter(|_| self.is_proof)
    }

    /// The disk usage of its files, in bytes, where the system has them in blocks of 4 KiB.
    pub(super) fn files_bytes(&self) -> u64 {
        let sizes = self
            .index
            .entries()
            .iter()
            .map(|entry| u64::from(entry.stat.size));
        sizes.map(|size| size.next_multiple_of(4096)).sum()
    }

    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.index.entries()) + self.index.path_backing().len()
    }

    /// Whether a file that was last changed at `stat` may have been changed again without a trace, after its
    /// entry was written: see "Racy Git" in git's technical documentation.
    pub(super) fn is_racy(&self, stat: &Stat) -> bool {
        let written = self.index.timestamp();
        let mtime = i64::from(stat.mtime.secs);
        // A file without nanoseconds is on a file system that has none, where a whole second is one moment.
        mtime > written.unix_seconds()
            || (mtime == written.unix_seconds()
                && (stat.mtime.nsecs == 0 || stat.mtime.nsecs >= written.nanoseconds()))
    }
}

/// Indices of fewer bytes are not worth a thread.
const BYTES_PER_THREAD: usize = 100_000;

/// The index, and whether its checksum is right. One that is wrong is as bad as no index; there may be none.
/// As gix reads it, but it is verified while it is decoded, and read once.
fn load(path: &Path, hash: gix::hash::Kind) -> Option<(gix::index::File, bool, Stamp)> {
    let file = bounded::open(path).ok()?;
    let meta = file.metadata().ok()?;
    let mut bytes = bounded::content(file, outline::MAX_BYTES).ok()?;
    let outline = Outline::of(&bytes, hash.len_in_bytes())?;
    let checksum = bytes.get(bytes.len().checked_sub(hash.len_in_bytes())?..)?;
    let checksum = gix::ObjectId::try_from(checksum).ok()?;
    let is_right = |bytes: &[u8]| {
        let mut hasher = gix::hash::hasher(hash);
        hasher.update(&bytes[..bytes.len() - hash.len_in_bytes()]);
        hasher.try_finalize().is_ok_and(|digest| digest == checksum)
    };
    let time = FileTime::from_last_modification_time(&meta);
    let decode = |bytes: &[u8]| gix::index::State::from_bytes(bytes, time, hash, Default::default()).ok();
    let (is_right, decoded) = match threads::count(bytes.len(), BYTES_PER_THREAD) {
        _ if !outline.is_harmless() => {
            let is_right = checksum.is_null() || is_right(&bytes);
            outline.defuse(&mut bytes);
            (is_right, decode(&bytes))
        }
        _ if checksum.is_null() => (true, decode(&bytes)),
        1 => (is_right(&bytes), decode(&bytes)),
        _ => thread::scope(|scope| {
            let verified = thread::Builder::new().spawn_scoped(scope, || is_right(&bytes));
            let decoded = decode(&bytes);
            let is_right = match verified {
                Ok(verified) => verified.join().unwrap_or(false),
                Err(_) => is_right(&bytes),
            };
            (is_right, decoded)
        }),
    };
    let (state, _) = decoded.filter(|_| is_right)?;
    let index = match state.link() {
        Some(link) => {
            let other = link.shared_index_checksum;
            let is_harmless = outline.is_harmless() && is_other_harmless(path, other);
            let whole = || gix::index::File::at(path, hash, false, Default::default()).ok();
            is_harmless.then(whole).flatten()?
        }
        None => gix::index::File::from_state(state, path),
    };
    Some((index, !checksum.is_null(), Stamp::of(&meta)))
}

/// Whether gitoxide may decode the other half of a split index, which is in a file of its own.
fn is_other_harmless(index: &Path, checksum: gix::ObjectId) -> bool {
    let name = format!("sharedindex.{checksum}");
    let bytes = bounded::read(&index.with_file_name(name), outline::MAX_BYTES);
    let outline = bytes
        .ok()
        .and_then(|bytes| Outline::of(&bytes, checksum.as_bytes().len()));
    outline.is_some_and(|outline| outline.is_harmless())
}

/// An index without entries that can take a cached tree. gix makes one with a cached tree only from its bytes.
pub(super) fn empty(old: &Stored) -> gix::index::State {
    let hash = old.index.object_hash();
    let mut bytes = b"DIRC\0\0\0\x02\0\0\0\0TREE\0\0\0\x06\0-1 0\n".to_vec();
    bytes.extend_from_slice(hash.null_ref().as_bytes());
    let options = gix::index::decode::Options::default();
    match gix::index::State::from_bytes(&bytes, old.index.timestamp(), hash, options) {
        Ok((index, _)) => index,
        // Without one, the next update only takes longer.
        Err(_) => gix::index::State::new(hash),
    }
}

/// Replace the index by `new`. Its cached tree goes along; other extensions (split index, …) do not: they would
/// describe the old one. Gives it as [`Stored::read`] would.
pub(super) fn write(path: &Path, mut new: gix::index::State) -> Result<Stored, Error> {
    let failed = |kind, reason| Error::Index {
        path: path.into(),
        kind,
        reason,
    };
    let damaged = |err: gix::Error| failed(Kind::Repository, reason(&err));
    // What an entry takes, without its path, and some for the cached tree.
    let mut bytes = Vec::with_capacity(new.entries().len() * 80 + new.path_backing().len() * 5 / 4);
    new.write_to(&mut bytes, Default::default()).map_err(damaged)?;
    let mut hasher = gix::hash::hasher(new.object_hash());
    hasher.update(&bytes);
    bytes.extend_from_slice(hasher.try_finalize().map_err(damaged)?.as_slice());

    let lock = gix::lock::File::acquire_to_update_resource(path, Fail::Immediately, None, 0);
    let mut lock = lock.map_err(|err| {
        let kind = err.downcast_any_ref::<std::io::Error>();
        failed(kind.map_or(Kind::Repository, kind_of_io), reason(&err))
    })?;
    lock.write_all(&bytes)
        .map_err(|err| failed(kind_of_io(&err), err.to_string()))?;
    let (_, file) = lock
        .commit()
        .map_err(|err| failed(kind_of_io(&err.error), err.error.to_string()))?;
    let file = file.and_then(|file| file.metadata().ok());
    if let Some(file) = &file {
        new.set_timestamp(FileTime::from_last_modification_time(file));
    }
    Ok(Stored {
        index: gix::index::File::from_state(new, path),
        is_plain: true,
        is_proof: true,
        file: file.as_ref().map(Stamp::of),
    })
}

/// Whether `entry` is more than a file of a tree: a conflict, an intention, or a file that git is told to overlook.
pub(super) fn is_special(entry: &Entry) -> bool {
    entry.flags.intersects(SPECIAL)
}

/// Whether the stat data that `entry` holds are those of `now`.
pub(super) fn stat_matches(entry: &Entry, now: &Stat, hash: gix::hash::Kind) -> bool {
    // git sets the size of an entry to zero if it wants it compared by content.
    let is_smudged = entry.stat.size == 0 && entry.id != gix::ObjectId::empty_blob(hash);
    !is_smudged && entry.stat.matches(now, STAT)
}

/// What stands at `path` in an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tracked {
    File,
    Directory,
    No,
}

/// What stands at `path` in `index`. A submodule is a file here: what is in it is not ours.
pub(super) fn tracked(index: &gix::index::State, path: &BStr) -> Tracked {
    if path.len() > dirs::MAX_PATH {
        return Tracked::No;
    }
    if index.entry_index_by_path(path).is_ok() {
        return Tracked::File;
    }
    let below = [path.as_bytes(), b"/"].concat();
    let first = index
        .entries()
        .partition_point(|entry| entry.path(index).as_bytes() < below.as_slice());
    match index.entries().get(first) {
        Some(entry) if entry.path(index).starts_with(&below) => Tracked::Directory,
        _ => Tracked::No,
    }
}

/// What is to be known of entries before they are used.
struct Nature {
    /// They are in the order that everything relies on.
    is_sorted: bool,
    is_plain: bool,
    /// Their paths may be in a worktree.
    is_safe: bool,
}

/// Fewer entries are not worth a thread.
const ENTRIES_PER_THREAD: usize = 5000;

fn examine(index: &gix::index::State) -> Nature {
    let len = index.entries().len();
    let threads = threads::count(len, ENTRIES_PER_THREAD);
    let parts = (0..threads).map(|part| part * len / threads..(part + 1) * len / threads);
    let natures = threads::run(parts.collect(), |part| examine_part(index, part));
    natures.into_iter().fold(Nature::default(), |all, part| Nature {
        is_sorted: all.is_sorted && part.is_sorted,
        is_plain: all.is_plain && part.is_plain,
        is_safe: all.is_safe && part.is_safe,
    })
}

fn examine_part(index: &gix::index::State, part: Range<usize>) -> Nature {
    let mut nature = Nature::default();
    let entries = index.entries();
    let mut previous = part.start.checked_sub(1).map(|at| &entries[at]);
    for entry in &entries[part] {
        let path = entry.path(index);
        let before = previous.map_or(BStr::new(""), |previous| previous.path(index));
        let same = before.iter().zip(path.iter()).take_while(|(a, b)| a == b).count();
        nature.is_sorted &= previous.is_none_or(|previous| match before.get(same).cmp(&path.get(same)) {
            Ordering::Less => true,
            Ordering::Equal => stage(previous) < stage(entry),
            Ordering::Greater => false,
        });
        nature.is_plain &= !is_special(entry);
        // Directories that the previous path is in, too, have been looked at.
        let new = path[..same].rfind_byte(b'/').map_or(0, |slash| slash + 1);
        let is_symlink = entry.mode == Mode::SYMLINK;
        nature.is_safe &= path[new..]
            .split_str("/")
            .all(|name| names::check(name.as_bstr(), is_symlink).is_ok());
        previous = Some(entry);
    }
    nature
}

impl Default for Nature {
    fn default() -> Self {
        Self {
            is_sorted: true,
            is_plain: true,
            is_safe: true,
        }
    }
}

fn stage(entry: &Entry) -> u32 {
    match entry.stage() {
        Stage::Unconflicted => 0,
        other => other as u32,
    }
}
