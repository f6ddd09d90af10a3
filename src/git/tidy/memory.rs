//! What tidying remembers from one time to the next: `gitsocket/tidy.json` below the git directory.
//!
//! It only says when to look again, so a missing or damaged one costs nothing but time.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::base::{
    bounded::{self, RULES},
    durable::{Access, Flush, Replace},
};

/// After a failure, nothing is tried for so long: its cause may be there for every run.
const PAUSE: Duration = Duration::from_secs(3600);

/// What was seen last time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Bytes of packs after garbage was last collected, or else when they were first looked at.
    pub(super) alive_bytes: u64,
    /// About how many loose objects there were then.
    pub(super) loose: u64,
    /// How many cuts of history.
    #[serde(default)]
    pub(super) cuts: u64,
    /// Until then (seconds since the epoch) nothing is tried.
    #[serde(default)]
    pub(super) paused_until: u64,
}

impl Memory {
    /// What is remembered, if anything is.
    pub(super) fn read(git_dir: &Path) -> Option<Self> {
        let text = bounded::read(&file(git_dir), RULES).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Remember it. The caller is the only one who tidies; what a kill leaves is overwritten the next time.
    pub(super) fn write(&self, git_dir: &Path) -> Result<(), Error> {
        let path = file(git_dir);
        let failed = |source| Error::io("write", &path, source);
        let text = serde_json::to_vec(self).map_err(|err| failed(err.into()))?;
        match fs::create_dir(git_dir.join("gitsocket")) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(failed(err)),
            _ => {}
        }
        Replace::by(&path.with_extension("json.new"), Access::Usual, Flush::Nothing)
            .write(&path, &text)
            .map_err(failed)
    }

    /// The same, but try nothing for a while.
    pub(super) fn paused(self, now: SystemTime) -> Self {
        Self {
            paused_until: seconds(now + PAUSE),
            ..self
        }
    }

    /// Whether the last failure is too fresh.
    pub(super) fn is_paused(&self, now: SystemTime) -> bool {
        let now = seconds(now);
        // A clock that was set back must not stop it for ever.
        now < self.paused_until && self.paused_until - now <= PAUSE.as_secs()
    }
}

fn file(git_dir: &Path) -> PathBuf {
    git_dir.join("gitsocket/tidy.json")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_remembered_and_pauses_end() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Memory::read(dir.path()), None);
        let now = SystemTime::now();
        let memory = Memory {
            alive_bytes: 5,
            loose: 256,
            cuts: 1,
            paused_until: 0,
        }
        .paused(now);
        memory.write(dir.path()).unwrap();
        assert_eq!(Memory::read(dir.path()), Some(memory.clone()));
        assert!(memory.is_paused(now));
        assert!(!memory.is_paused(now + PAUSE));
        assert!(!memory.is_paused(now - 2 * PAUSE), "the clock was set back");
        fs::write(dir.path().join("gitsocket/tidy.json"), "{").unwrap();
        assert_eq!(Memory::read(dir.path()), None);
    }
}
