//! The index as git knows it: read at the beginning of an update, written at its end.

use gix::{
    bstr::{BStr, ByteSlice},
    index::{
        Entry,
        entry::{Flags, Stage, Stat, stat},
    },
};

use super::Error;
use crate::{
    fault::{Kind, kind_of_io},
    repository::reason,
};

/// The index that the last update, or git, left.
pub(super) struct Stored {
    pub(super) index: gix::index::File,
    is_usable: bool,
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
    pub(super) fn read(repo: &gix::Repository) -> Self {
        match repo.open_index() {
            Ok(index) if is_sorted(&index) => Self {
                is_usable: !index.is_sparse(),
                index,
            },
            _ => Self {
                index: gix::index::File::from_state(
                    gix::index::State::new(repo.object_hash()),
                    repo.index_path(),
                ),
                is_usable: false,
            },
        }
    }

    /// Whether `new` would say the same.
    pub(super) fn says_the_same_as(&self, new: &gix::index::State) -> bool {
        let old = self.index.entries();
        self.is_usable
            && old.len() == new.entries().len()
            && old.iter().zip(new.entries()).all(|(a, b)| {
                a.id == b.id
                    && a.mode == b.mode
                    && a.stat == b.stat
                    && !is_special(a)
                    && a.path(&self.index) == b.path(new)
            })
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

/// Replace the index by `new`. Its extensions (cached tree, split index, …) are not carried over:
/// they would describe the old one.
pub(super) fn write(repo: &gix::Repository, new: gix::index::State) -> Result<(), Error> {
    let path = repo.index_path();
    gix::index::File::from_state(new, path.clone())
        .write(gix::index::write::Options::default())
        .map_err(|err| Error::Index {
            path,
            kind: err
                .downcast_any_ref::<std::io::Error>()
                .map_or(Kind::Repository, kind_of_io),
            reason: reason(&err),
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

/// Whether entries are in the order that everything relies on.
fn is_sorted(index: &gix::index::State) -> bool {
    let key = |entry: &Entry| (entry.path(index).to_owned(), stage(entry));
    index
        .entries()
        .windows(2)
        .all(|pair| match pair[0].path(index).cmp(pair[1].path(index)) {
            std::cmp::Ordering::Less => true,
            _ => key(&pair[0]) < key(&pair[1]),
        })
}

fn stage(entry: &Entry) -> u32 {
    match entry.stage() {
        Stage::Unconflicted => 0,
        other => other as u32,
    }
}
