//! Removes what an interrupted run left behind, so that no one ever has to delete an `index.lock`.
//!
//! Called under the target's lock, so no run of ours is alive; but another git may be at work, and what it holds is
//! left alone. What is removed is what is ours by its name; and lock files, and packs without an index, which have git's
//! names, if a run of ours was interrupted and they may be its own by their age ([`crate::deploy::state::Left`]); or if they are
//! older than any git holds them. Temporary files in the worktree are the business of `worktree`, which meets them on its
//! way.
//!
//! A process looks once into each repository. From then on only an interrupted run is a reason to look again.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, Metadata},
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use super::error::{Error, OLD_LOCK};
use crate::base::{bounded, durable, fault::if_there, mutex};

/// A pack without index, or a temporary file of git's, that is older is stale: `git repack` may take hours. In time.
const OLD_PACK: Duration = Duration::from_secs(24 * 60 * 60);

/// When files of an interrupted run were written: not before, and not after.
pub(super) type Span = (SystemTime, SystemTime);

/// The repositories that this process has looked into. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Recovered(Arc<Mutex<HashSet<PathBuf>>>);

/// Remove left-overs in `git_dir`: those of a run that was interrupted in the time `span`, if one was, and what is stale.
pub fn recover(git_dir: &Path, span: Option<Span>, recovered: &Recovered) -> Result<(), Error> {
    let is_known = |dirs: &mut HashSet<PathBuf>| dirs.contains(git_dir);
    if span.is_none() && is_known(&mut recovered.lock()) {
        return Ok(());
    }
    let look = Look {
        span,
        uid: rustix::process::geteuid().as_raw(),
        now: SystemTime::now(),
    };
    look.locks(git_dir)?;
    look.refs_below(&git_dir.join("refs"))?;
    packs(git_dir, &look)?;
    if span.is_some() {
        temporary_objects(&git_dir.join("objects"))?;
    }
    each(&git_dir.join("gitsocket"), |path, name| {
        if name.ends_with(b".tmp") {
            remove(&path)
        } else {
            Ok(())
        }
    })?;
    recovered.lock().insert(git_dir.into());
    Ok(())
}

/// Remove what a run of this process leaves if it fails: it holds no lock file any more.
pub fn clear(git_dir: &Path) -> Result<(), Error> {
    let look = Look {
        span: None,
        uid: rustix::process::geteuid().as_raw(),
        now: SystemTime::now(),
    };
    packs(git_dir, &look)
}

impl Recovered {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        // A panic while it is held leaves nothing half done.
        mutex::lock(&self.0)
    }
}

/// How to tell what is whose.
struct Look {
    span: Option<Span>,
    uid: u32,
    now: SystemTime,
}

impl Look {
    /// Whether the file that `meta` is of may be left from an interrupted run of ours, or is older than `old`.
    fn is_nobodys(&self, meta: &Metadata, old: Duration) -> bool {
        let Ok(modified) = meta.modified() else {
            return false;
        };
        let is_ours = self
            .span
            .is_some_and(|(from, to)| meta.uid() == self.uid && (from..=to).contains(&modified));
        is_ours || age(modified, self.now) > old
    }

    /// Whether the file was written before the run that was interrupted: a pack loses its index when packs are replaced.
    /// One that git has not yet given an index is a moment old.
    fn is_from_before(&self, meta: &Metadata) -> bool {
        let is_older = |(from, _): Span| meta.modified().is_ok_and(|modified| modified < from);
        meta.uid() == self.uid && self.span.is_some_and(is_older)
    }

    fn lock_file(&self, path: &Path) -> Result<(), Error> {
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.is_dir() && self.is_nobodys(&meta, OLD_LOCK) => remove(path),
            _ => Ok(()),
        }
    }

    fn locks(&self, git_dir: &Path) -> Result<(), Error> {
        let names = [
            "index.lock",
            "HEAD.lock",
            "ORIG_HEAD.lock",
            "config.lock",
            "shallow.lock",
            "packed-refs.lock",
        ];
        names
            .iter()
            .try_for_each(|name| self.lock_file(&git_dir.join(name)))
    }

    /// `*.lock` in a directory of refs and below, and loose refs that a power cut has left without content:
    /// git could read neither them nor anything else then. What they pointed to is in their reflog.
    fn refs_below(&self, dir: &Path) -> Result<(), Error> {
        each(dir, |path, name| {
            if is_dir(&path) {
                self.refs_below(&path)
            } else if name.ends_with(b".lock") {
                self.lock_file(&path)
            } else if is_blank(&path) {
                remove(&path)
            } else {
                Ok(())
            }
        })
    }
}

/// How far `modified` is from now. A clock that was wrong then, or is now, makes nothing young for ever.
pub(super) fn age(modified: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(modified)
        .unwrap_or_else(|ahead| ahead.duration())
}

/// Whether a file holds nothing, or nothing but NULs: its size was written before the cut, its data were not.
fn is_blank(path: &Path) -> bool {
    let is_small = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= bounded::LINE);
    let content = is_small.then(|| bounded::read(path, bounded::LINE));
    content.is_some_and(|content| content.is_ok_and(|content| content.iter().all(|byte| *byte == 0)))
}

/// In `objects/pack`: gitoxide's temporary files; packs whose index was not yet written, and git's temporary files, if
/// they are stale; and the empty `.keep` files that protect a pack until its ref is written.
/// A `.keep` with a text was made on purpose and stays.
fn packs(git_dir: &Path, look: &Look) -> Result<(), Error> {
    each(&git_dir.join("objects/pack"), |path, name| {
        let is = |test: &dyn Fn(&Metadata) -> bool| fs::symlink_metadata(&path).is_ok_and(|meta| test(&meta));
        let is_gits = name.starts_with(b".tmp") || name.starts_with(b"tmp_");
        let garbage = is_gitoxides(name)
            || (is_gits && is(&|meta| age_of(meta, look) > OLD_PACK))
            || (!is_gits
                && name.ends_with(b".pack")
                && !path.with_extension("idx").exists()
                && is(&|meta| look.is_nobodys(meta, OLD_PACK) || look.is_from_before(meta)))
            || (name.ends_with(b".keep") && is(&|meta| meta.len() == 0));
        if garbage { remove(&path) } else { Ok(()) }
    })
}

fn age_of(meta: &Metadata, look: &Look) -> Duration {
    meta.modified()
        .map_or(Duration::ZERO, |modified| age(modified, look.now))
}

/// Whether that is how gitoxide names temporary files (`.tmp` and six letters or digits), or we those of a pack that comes
/// in (sixteen, and an extension). Those of `git repack` are `.tmp-PID-pack-…`, git's others `tmp_…`.
fn is_gitoxides(name: &[u8]) -> bool {
    let Some(random) = name.strip_prefix(b".tmp") else {
        return false;
    };
    let stem = random.split(|byte| *byte == b'.').next().unwrap_or_default();
    matches!(stem.len(), 6 | 16) && stem.iter().all(u8::is_ascii_alphanumeric)
}

/// Half-written loose objects of gitoxide's.
fn temporary_objects(dir: &Path) -> Result<(), Error> {
    each(dir, |path, name| {
        if is_gitoxides(name) {
            remove(&path)
        } else if name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit) {
            temporary_objects(&path)
        } else {
            Ok(())
        }
    })
}

/// Call `f` with the path and the name of each entry of `dir`. A missing directory has none, and a
/// symlink is not followed: what it leads to is not ours.
fn each(dir: &Path, mut f: impl FnMut(PathBuf, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Recover {
        path: dir.into(),
        source,
    };
    if fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_symlink()) {
        return Ok(());
    }
    let entries = if_there(fs::read_dir(dir)).map_err(failed)?;
    for entry in entries.into_iter().flatten() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        f(entry.path(), OsStr::as_bytes(&name))?;
    }
    Ok(())
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let removed = durable::remove(path).map_err(|source| Error::Recover {
        path: path.into(),
        source,
    });
    removed.map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;

    use super::*;

    const OURS: [&str; 4] = [
        "objects/pack/.tmpAbC123",
        "objects/pack/.tmp0123456789abcdef.pack",
        "objects/pack/pack-1.keep",
        "gitsocket/state.json.tmp",
    ];
    /// Locks have git's names.
    const LOCKS: [&str; 7] = [
        "index.lock",
        "HEAD.lock",
        "ORIG_HEAD.lock",
        "shallow.lock",
        "packed-refs.lock",
        "refs/heads/a/b.lock",
        "refs/remotes/origin/main.lock",
    ];
    const PACK: &str = "objects/pack/pack-2.pack";
    const GITS: [&str; 3] = [
        "objects/pack/tmp_pack_x",
        "objects/pack/.tmp-123-pack-0123456789abcdef.pack",
        "objects/pack/.tmp-123-pack",
    ];
    const STAYS: [&str; 8] = [
        "HEAD",
        "index",
        "refs/heads/main",
        "objects/pack/pack-1.pack",
        "objects/pack/pack-1.idx",
        "objects/12/3456",
        "objects/12/tmp_obj_x",
        "gitsocket/state.json",
    ];

    /// A repository with all of these, each as old as `age`.
    fn repository(age: Duration) -> tempfile::TempDir {
        let dir = crate::machine::tempdir().unwrap();
        let names = [&OURS[..], &LOCKS, &GITS, &STAYS, &[PACK]].concat();
        for name in names.iter().chain(&["objects/pack/pack-3.keep"]) {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let has_text = name.ends_with("main") || name.ends_with("pack-3.keep");
            fs::write(&path, if has_text { "1234\n" } else { "" }).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        dir
    }

    fn left(dir: &Path, names: &[&str]) -> Vec<String> {
        let there = names.iter().filter(|name| dir.join(name).exists());
        there.map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_a_live_git_may_hold_stays() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        for (age, locks, packs) in [
            (minutes(0), true, true),
            (minutes(9), true, true),
            (minutes(11), false, true),
            (minutes(23 * 60), false, true),
            (minutes(25 * 60), false, false),
        ] {
            let dir = repository(age);
            let dir = dir.path();
            recover(dir, None, &Recovered::default()).unwrap();
            assert_eq!(left(dir, &OURS), [""; 0], "{age:?}");
            assert_eq!(
                left(dir, &LOCKS).len(),
                if locks { LOCKS.len() } else { 0 },
                "{age:?}"
            );
            assert_eq!(left(dir, &[PACK]).len(), usize::from(packs), "{age:?}");
            assert_eq!(left(dir, &GITS).len(), if packs { 3 } else { 0 }, "{age:?}");
            assert_eq!(left(dir, &STAYS), STAYS, "{age:?}");
            assert!(dir.join("objects/pack/pack-3.keep").exists());
        }
    }

    #[test]
    fn what_an_interrupted_run_left_goes_at_once() {
        let ago = |secs| SystemTime::now() - Duration::from_secs(secs);
        // A pack without an index that is older than the run lost that when packs were replaced.
        for (span, stays, pack_stays) in [
            ((ago(30), ago(0)), false, false),
            ((ago(10), ago(0)), true, false),
            ((ago(90), ago(50)), true, true),
        ] {
            let dir = repository(Duration::from_secs(20));
            let dir = dir.path();
            recover(dir, Some(span), &Recovered::default()).unwrap();
            assert_eq!(left(dir, &LOCKS).is_empty(), !stays, "{span:?}");
            assert_eq!(left(dir, &[PACK]).is_empty(), !pack_stays, "{span:?}");
            assert_eq!(left(dir, &GITS), GITS);
            assert_eq!(left(dir, &STAYS), STAYS);
        }
    }

    #[test]
    fn blank_refs_go_when_a_process_looks_for_the_first_time() {
        let dir = repository(Duration::ZERO);
        let dir = dir.path();
        let recovered = Recovered::default();
        let blank = || {
            fs::write(dir.join("refs/heads/cut"), "").unwrap();
            fs::write(dir.join("refs/remotes/origin/cut"), "\0\0\0\0").unwrap();
        };
        let names = ["refs/heads/cut", "refs/remotes/origin/cut"];
        blank();
        recover(dir, None, &recovered).unwrap();
        assert_eq!(left(dir, &names), [""; 0]);
        blank();
        recover(dir, None, &recovered).unwrap();
        assert_eq!(left(dir, &names), names, "it has looked");
        recover(dir, Some((SystemTime::now(), SystemTime::now())), &recovered).unwrap();
        assert_eq!(left(dir, &names), [""; 0]);
        recover(&dir.join("missing"), None, &recovered).unwrap();
    }
}
