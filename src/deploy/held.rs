//! Commits that were rolled back are held: they are not deployed again until an operator wants it, or there is a newer one.
//!
//! They are in `gitsocket/held.json` below the git directory. The file is written under the target's lock, before the rollback
//! begins: so after a kill, the next run goes on with the rollback. A file that is missing, damaged or too large counts as empty:
//! a commit is then tried once too often.

use std::path::Path;

use gix::ObjectId;
use serde::{Deserialize, Serialize};

use crate::{
    base::{bounded, event::Held},
    deploy::state::{self, Error},
};

/// The file, beside the state file.
const NAME: &str = "held.json";
/// The longest one, in bytes: [`MAX_HELD`] commits with messages of [`MAX_MESSAGE`] characters.
const MAX_BYTES: u64 = 1 << 18;
/// How many commits are held. One branch seldom has many, since a good newer commit ends them; but triggers of several branches
/// may share a path.
const MAX_HELD: usize = 16;
/// How much of a message is kept, in characters: a remote or a hook may have had a part in it.
const MAX_MESSAGE: usize = 1000;

/// What is held of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holds {
    /// The commit that is to be live instead.
    live: Option<String>,
    /// The newest last.
    held: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    held: Held,
    /// The ref that had it as its newest commit: `refs/remotes/origin/main`.
    tip: String,
}

/// The commits that are held of the repository at `git_dir`, the newest first.
pub fn list(git_dir: &Path) -> Vec<Held> {
    let held = Holds::read(git_dir).unwrap_or_default().held;
    held.into_iter().rev().map(|entry| entry.held).collect()
}

impl Holds {
    /// What is held of the repository at `git_dir`; `None`, by one system call in the usual case, if nothing is.
    pub fn read(git_dir: &Path) -> Option<Self> {
        if !state::has(git_dir, NAME) {
            return None;
        }
        let text = bounded::read_own(git_dir, [state::DIR, NAME], MAX_BYTES).ok()?;
        let holds: Self = serde_json::from_slice(&text).ok()?;
        (!holds.held.is_empty()).then_some(holds)
    }

    /// Why `commit` is not deployed, if it is held.
    pub fn find(&self, commit: ObjectId) -> Option<&Held> {
        let hex = commit.to_string();
        self.held
            .iter()
            .map(|entry| &entry.held)
            .find(|held| held.commit == hex)
    }

    /// The commit that is to be live instead.
    pub fn live(&self) -> Option<ObjectId> {
        ObjectId::from_hex(self.live.as_ref()?.as_bytes()).ok()
    }

    /// Hold what `held` says, the newest commit of `tip`, as `live` is to be live instead.
    pub fn hold(
        mut self,
        git_dir: &Path,
        mut held: Held,
        (tip, live): (&str, ObjectId),
        fsync: bool,
    ) -> Result<(), Error> {
        held.message = held.message.chars().take(MAX_MESSAGE).collect();
        let live = live.to_string();
        // The commit `live` cannot be held at the same time.
        self.held
            .retain(|entry| entry.held.commit != held.commit && entry.held.commit != live);
        self.live = Some(live);
        self.held.push(Entry {
            held,
            tip: tip.into(),
        });
        let surplus = self.held.len().saturating_sub(MAX_HELD);
        self.held.drain(..surplus);
        self.write(git_dir, fsync)
    }

    /// A newer commit of `tip` is live and good: its earlier commits are no longer held.
    pub fn forget(mut self, git_dir: &Path, tip: &str, fsync: bool) -> Result<(), Error> {
        let before = self.held.len();
        self.held.retain(|entry| entry.tip != tip);
        if self.held.len() == before {
            Ok(())
        } else {
            self.write(git_dir, fsync)
        }
    }

    /// `commit`, the newest of `tip`, is to be tried once more. What is held of others stays so.
    pub fn lift(mut self, git_dir: &Path, (tip, commit): (&str, ObjectId), fsync: bool) -> Result<(), Error> {
        let hex = commit.to_string();
        self.held
            .retain(|entry| entry.tip != tip && entry.held.commit != hex);
        self.write(git_dir, fsync)
    }

    fn write(&self, git_dir: &Path, fsync: bool) -> Result<(), Error> {
        if self.held.is_empty() {
            return state::remove(git_dir, NAME);
        }
        state::write_beside(git_dir, NAME, self, fsync)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::event::Why;

    fn commit(n: u8) -> ObjectId {
        ObjectId::from_bytes_or_panic(&[n; 20])
    }

    fn held(n: u8) -> Held {
        Held {
            commit: commit(n).to_string(),
            since: 7,
            kind: Why::Hook,
            message: "ä".repeat(9999),
        }
    }

    #[test]
    fn what_is_held_is_bounded_and_forgotten() {
        let dir = crate::machine::tempdir().unwrap();
        let read = || Holds::read(dir.path());
        let hold = |n, tip, live| {
            read()
                .unwrap_or_default()
                .hold(dir.path(), held(n), (tip, commit(live)), false)
                .unwrap();
        };
        assert_eq!(read(), None);
        hold(1, "main", 0);
        hold(2, "other", 0);
        hold(1, "main", 3);
        let holds = read().unwrap();
        assert_eq!((holds.held.len(), holds.live()), (2, Some(commit(3))));
        assert!(holds.find(commit(2)).is_some() && holds.find(commit(3)).is_none());
        // What is gone back to is held no longer.
        hold(4, "main", 2);
        assert!(read().unwrap().find(commit(2)).is_none());
        for n in 10..40 {
            hold(n, "main", 0);
        }
        assert_eq!(list(dir.path()).len(), MAX_HELD);
        assert_eq!(list(dir.path())[0].commit, commit(39).to_string());
        assert!(
            fs::metadata(dir.path().join("gitsocket/held.json"))
                .unwrap()
                .len()
                < MAX_BYTES
        );
        read().unwrap().forget(dir.path(), "another", false).unwrap();
        assert_eq!(list(dir.path()).len(), MAX_HELD);
        read().unwrap().forget(dir.path(), "main", false).unwrap();
        assert_eq!(read(), None);
        for text in ["", "{", "{}", "[]"] {
            fs::write(dir.path().join("gitsocket/held.json"), text).unwrap();
            assert_eq!(read(), None, "{text}");
        }
        for n in [1, 2, 3] {
            hold(n, if n == 1 { "other" } else { "main" }, 0);
        }
        let lift = |tip, n| read().unwrap().lift(dir.path(), (tip, commit(n)), false).unwrap();
        lift("main", 3);
        assert_eq!(list(dir.path()).len(), 1);
        lift("main", 1);
        assert_eq!(read(), None);
    }
}
