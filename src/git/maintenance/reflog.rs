//! Which lines of reflogs hold on to objects, and which are dropped (git-reflog(1), "expire").
//!
//! As git does by default: 90 days for lines whose commit a ref leads to, 30 for others, for ever for the stash.
//! In a repository whose history is bounded by `depth`, lines that gitsocket wrote hold on to nothing: each
//! deploy would keep the one before alive.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use gix::{ObjectId, bstr::ByteSlice as _, refs::file::log::LineRef};

use super::{
    Error,
    files::{self, Guard},
    packs,
};
use crate::base::{bounded, fault::if_there};

/// A reflog, in bytes: one of hundreds of thousands of lines. It is in memory twice while it is shortened.
const LOG: u64 = 64 << 20;

const REACHABLE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Lines older than this do not keep alive what nothing else does.
const UNREACHABLE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Which lines count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) now: SystemTime,
    /// Lines of ours hold on to nothing.
    pub(super) is_bounded: bool,
    /// The owner has bounds of their own (`gc.reflogExpire` and the like): every line stays.
    pub(super) keep_all: bool,
}

impl Policy {
    pub(super) fn of(repo: &gix::Repository, now: SystemTime, is_bounded: bool) -> Self {
        let config = repo.config_snapshot();
        let keep_all = config
            .plumbing()
            .sections_by_name("gc")
            .into_iter()
            .flatten()
            .flat_map(|section| section.value_names().collect::<Vec<_>>())
            .any(|name| name.to_ascii_lowercase().starts_with("reflogexpire"));
        Self {
            now,
            is_bounded,
            keep_all,
        }
    }
}

#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// The ref itself: the holder of its lock may write the log.
    reference: PathBuf,
    is_stash: bool,
}

struct Line<'a> {
    bytes: &'a [u8],
    old: ObjectId,
    new: ObjectId,
    time: SystemTime,
    message: &'a [u8],
}

/// The reflogs of a git directory, or of a linked worktree's part of it.
pub(super) fn all(dir: &Path) -> Result<Vec<Log>, Error> {
    let mut found = Vec::new();
    below(&dir.join("logs"), dir, &mut found)?;
    Ok(found)
}

fn below(logs: &Path, refs: &Path, found: &mut Vec<Log>) -> Result<(), Error> {
    for path in files::list(logs)? {
        let Some(name) = path.file_name() else { continue };
        let reference = refs.join(name);
        match files::metadata(&path)? {
            Some(meta) if meta.is_dir() => below(&path, &reference, found)?,
            Some(meta) if meta.is_file() => found.push(Log {
                is_stash: reference.ends_with("refs/stash"),
                path,
                reference,
            }),
            _ => {}
        }
    }
    Ok(())
}

impl Log {
    /// The objects that lines which count refer to.
    pub(super) fn held(&self, policy: Policy, roots: &mut Vec<ObjectId>) -> Result<(), Error> {
        let text = self.read()?;
        for line in text.lines_with_terminator().filter_map(parse) {
            if self.holds(&line, policy) {
                roots.extend([line.old, line.new].into_iter().filter(|id| !id.is_null()));
            }
        }
        Ok(())
    }

    /// Drop the lines that refer to what is about to go, and those that are too old. The ref is locked as git
    /// locks it; whether that could be done. A kill leaves the log as it was, and a lock that recovery removes.
    pub(super) fn expire(
        &self,
        policy: Policy,
        git_dir: &Path,
        is_alive: &dyn Fn(&ObjectId) -> bool,
    ) -> Result<bool, Error> {
        if self.expired(policy, is_alive)?.is_none() {
            return Ok(true);
        }
        let lock = self.reference.with_file_name({
            let mut name = self.reference.file_name().unwrap_or_default().to_owned();
            name.push(".lock");
            name
        });
        let Some(_guard) = Guard::take(lock)? else {
            return Ok(false);
        };
        let Some(text) = self.expired(policy, is_alive)? else {
            return Ok(true);
        };
        files::replace(git_dir, &self.path, &text)
            .map(|()| true)
            .map_err(|err| Error::io("rewrite", &self.path, err))
    }

    fn read(&self) -> Result<Vec<u8>, Error> {
        let text = if_there(bounded::read(&self.path, LOG));
        let text = text.map_err(|err| Error::io("read", &self.path, err))?;
        // Its ref may have been deleted just now.
        Ok(text.unwrap_or_default())
    }

    fn holds(&self, line: &Line<'_>, policy: Policy) -> bool {
        if self.is_stash || policy.keep_all {
            return true;
        }
        let is_void = policy.is_bounded && line.message.starts_with(b"gitsocket ");
        !is_void && !packs::is_older(line.time, policy.now, UNREACHABLE)
    }

    /// The log without what goes; `None` if nothing does.
    fn expired(
        &self,
        policy: Policy,
        is_alive: &dyn Fn(&ObjectId) -> bool,
    ) -> Result<Option<Vec<u8>>, Error> {
        let text = self.read()?;
        let mut out = Vec::with_capacity(text.len());
        for bytes in text.lines_with_terminator() {
            let Some(line) = parse(bytes) else {
                out.extend_from_slice(bytes);
                continue;
            };
            if self.holds(&line, policy) {
                out.extend_from_slice(bytes);
            } else if is_alive(&line.new) && !packs::is_older(line.time, policy.now, REACHABLE) {
                // As `git reflog expire --rewrite`: the line before may be gone, and its commit with it.
                if line.old.is_null() || is_alive(&line.old) {
                    out.extend_from_slice(bytes)
                } else {
                    let hex = line.old.to_hex().to_string().len();
                    out.extend(std::iter::repeat_n(b'0', hex));
                    out.extend_from_slice(&line.bytes[hex..]);
                }
            }
        }
        Ok((out != text).then_some(out))
    }
}

/// A line; `None` for what is not understood.
fn parse(bytes: &[u8]) -> Option<Line<'_>> {
    let line = LineRef::from_bytes(bytes).ok()?;
    let seconds = u64::try_from(line.signature.time().ok()?.seconds).ok()?;
    Some(Line {
        bytes,
        old: line.previous_oid(),
        new: line.new_oid(),
        time: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?,
        message: line.message,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const DAY: u64 = 24 * 3600;

    fn id(n: u8) -> ObjectId {
        ObjectId::from_bytes_or_panic(&[n; 20])
    }

    fn line(old: u8, new: u8, days_ago: u64, message: &str) -> String {
        let seconds = 1000 * DAY - days_ago * DAY;
        let (old, new) = (id(old), id(new));
        format!("{old} {new} A U Thor <a@b> {seconds} +0100\t{message}\n")
    }

    fn policy(is_bounded: bool) -> Policy {
        Policy {
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1000 * DAY),
            is_bounded,
            keep_all: false,
        }
    }

    fn log(dir: &Path, name: &str, lines: &[String]) -> Log {
        let path = dir.join("logs").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, lines.concat()).unwrap();
        let mut logs = all(dir).unwrap();
        assert_eq!(logs.len(), 1);
        logs.remove(0)
    }

    #[test]
    fn lines_hold_as_long_as_gits_do() {
        let dir = crate::machine::tempdir().unwrap();
        let lines = [
            line(0, 1, 100, "commit"),
            line(1, 2, 40, "commit"),
            line(2, 3, 40, "gitsocket site: deploy"),
            line(3, 4, 2, "gitsocket site: deploy"),
            line(4, 5, 1, "commit"),
            "unreadable\n".into(),
        ];
        let log = log(dir.path(), "refs/heads/main", &lines);
        let held = |policy| {
            let mut roots = Vec::new();
            log.held(policy, &mut roots).unwrap();
            roots
        };
        assert_eq!(held(policy(false)), [3, 4, 4, 5].map(id));
        assert_eq!(held(policy(true)), [4, 5].map(id));
        let keep_all = Policy {
            keep_all: true,
            ..policy(true)
        };
        assert_eq!(held(keep_all).len(), 9);

        let expire = |policy| {
            log.expire(policy, dir.path(), &|at| [2, 3, 4, 5].map(id).contains(at))
                .unwrap()
        };
        assert!(expire(keep_all));
        assert_eq!(fs::read_to_string(&log.path).unwrap(), lines.concat());
        let guard = Guard::take(dir.path().join("refs/heads/main.lock")).unwrap();
        assert!(!expire(policy(true)), "git has the lock");
        drop(guard);
        assert!(expire(policy(true)));
        let left = [
            line(0, 2, 40, "commit"),
            line(2, 3, 40, "gitsocket site: deploy"),
            line(3, 4, 2, "gitsocket site: deploy"),
            line(4, 5, 1, "commit"),
            "unreadable\n".into(),
        ];
        assert_eq!(fs::read_to_string(&log.path).unwrap(), left.concat());
        assert!(!dir.path().join("refs/heads/main.lock").exists());
    }

    #[test]
    fn a_stash_is_for_ever() {
        let dir = crate::machine::tempdir().unwrap();
        let lines = [line(0, 1, 900, "WIP on main"), line(1, 2, 800, "WIP on main")];
        let log = log(dir.path(), "refs/stash", &lines);
        let mut roots = Vec::new();
        log.held(policy(true), &mut roots).unwrap();
        assert_eq!(roots, [1, 1, 2].map(id));
        assert!(log.expire(policy(true), dir.path(), &|_| false).unwrap());
        assert_eq!(fs::read_to_string(&log.path).unwrap(), lines.concat());
    }
}
