//! What maintenance remembers from one time to the next: `gitsocket/tidy.json` below the git directory.
//!
//! It only says when to look again, so a missing or damaged one costs nothing but time.

use std::{
    fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::{
    base::{
        bounded::{self, RULES},
        durable::{Access, Flush, Replace},
    },
    git::origin::Depth,
};

/// After a failure, nothing is tried for so long: its cause may be there for every run.
const PAUSE: Duration = Duration::from_secs(3600);

/// Cuts of history are looked at no more often: a git that has made one writes its ref meanwhile.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// What was seen last time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// Bytes of packs after garbage was last collected, or else when they were first looked at.
    pub(super) alive_bytes: u64,
    /// About how many loose objects there were then.
    pub(super) loose: u64,
    /// How many cuts of history were needed when these were last looked at.
    #[serde(default)]
    pub(super) cuts: u64,
    /// When cuts were last looked at, in seconds since the epoch.
    #[serde(default)]
    pub(super) looked: u64,
    /// The most commits of history that may be here, as it was then; none: all.
    #[serde(default)]
    pub(super) depth: Option<NonZeroU32>,
    /// Until when nothing is tried, in seconds since the epoch.
    #[serde(default)]
    pub(super) paused_until: u64,
}

impl Checkpoint {
    pub(super) fn read(git_dir: &Path) -> Option<Self> {
        let text = bounded::read(&file(git_dir), RULES).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Remember it. The caller is the only one that maintains it; what a kill leaves is overwritten the next time.
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

    /// The same, for a repository whose history is to be as long as `depth` says: if that is less than it was, what was
    /// alive tells nothing of what is.
    pub(super) fn bounded_by(self, depth: Depth) -> Self {
        let Depth::Commits(depth) = depth else {
            return self;
        };
        match self.depth {
            Some(before) if before <= depth => self,
            _ => Self {
                alive_bytes: 0,
                ..self
            },
        }
    }

    /// This checkpoint, with a pause: nothing is tried for a while.
    pub(super) fn paused(self, now: SystemTime) -> Self {
        Self {
            paused_until: seconds(now + PAUSE),
            ..self
        }
    }

    /// Whether cuts of history were looked at long enough ago, or by a clock that was wrong.
    pub(super) fn may_look(&self, now: SystemTime) -> bool {
        seconds(now).abs_diff(self.looked) >= BETWEEN_LOOKS.as_secs()
    }

    /// Whether the last failure is too fresh.
    pub(super) fn is_paused(&self, now: SystemTime) -> bool {
        let now = seconds(now);
        // A clock that was set back must not stop it for ever.
        now < self.paused_until && self.paused_until - now <= PAUSE.as_secs()
    }
}

fn file(git_dir: &Path) -> PathBuf {
    // Older versions call maintenance so, and read it.
    git_dir.join("gitsocket/tidy.json")
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_remembered_and_pauses_end() {
        let dir = crate::machine::tempdir().unwrap();
        assert_eq!(Checkpoint::read(dir.path()), None);
        let now = SystemTime::now();
        let checkpoint = Checkpoint {
            alive_bytes: 5,
            loose: 256,
            cuts: 1,
            looked: 0,
            depth: None,
            paused_until: 0,
        }
        .paused(now);
        checkpoint.write(dir.path()).unwrap();
        assert_eq!(Checkpoint::read(dir.path()), Some(checkpoint.clone()));
        assert!(checkpoint.is_paused(now));
        assert!(!checkpoint.is_paused(now + PAUSE));
        assert!(!checkpoint.is_paused(now - 2 * PAUSE), "the clock was set back");
        fs::write(dir.path().join("gitsocket/tidy.json"), "{").unwrap();
        assert_eq!(Checkpoint::read(dir.path()), None);
    }
}
