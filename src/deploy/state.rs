//! The state of a target, in `gitsocket/` below its git directory. `state.json` records that the worktree is ours, and for each
//! trigger, which hooks succeeded for which commit; `run.json` is the run that is under way (see `marker`).
//!
//! Triggers of one path share a repository, but each has its own hooks, and its own entry here. The file is written under the
//! target's lock. One that is missing, damaged or too large counts as empty: hooks then run once too often, never too seldom.
//!
//! The version before recorded one commit only, `hooks_succeeded_for`. That field is still written, for a downgrade. In a file
//! that has only this field, it counts for every trigger, with the hooks as they are configured now.

use std::{
    collections::{BTreeMap, btree_map},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use gix::ObjectId;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::{
    base::{
        bounded,
        durable::{self, Access, Flush, Replace},
        fault::{Blame, Kind, kind_of_io},
        identity::Stamp,
        words::hex,
    },
    config::{At, Hook, Target},
};

mod marker;
pub use marker::{Left, Marker, Run, forget, left};

/// The version of the file as it is written here. A file without a version has only a commit.
const VERSION: u32 = 1;
/// The longest state file, in bytes: some thousand triggers of one path.
const MAX_BYTES: u64 = 1 << 20;
/// The directory below the git directory.
pub(super) const DIR: &str = "gitsocket";
const NAME: &str = "state.json";

/// The state could not be written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("cannot write {path}: {source}")]
#[diagnostic(help("free space, or make the git directory writable for the user that gitsocket runs as"))]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        kind_of_io(&self.source)
    }
}

/// The state file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    version: u32,
    /// Whether gitsocket has written the worktree, so that it may remove files that are not in the repository.
    ours: bool,
    /// For the version before: the hooks succeeded for that commit, and none is pending.
    hooks_succeeded_for: Option<String>,
    /// The commit that the version before had written, for triggers that have no entry yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    inherited: Option<String>,
    triggers: BTreeMap<String, Hooks>,
}

/// The state of a trigger's hooks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// The commit that they last succeeded for.
    succeeded_for: Option<String>,
    /// Digests of the hooks that succeeded for it.
    succeeded: Vec<String>,
    /// The commit of HEAD when a hook failed or a run was interrupted: all hooks have to run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<String>,
}

impl Hooks {
    /// The commit that they last succeeded for.
    pub fn succeeded_for(&self) -> Option<ObjectId> {
        parse(&self.succeeded_for)
    }

    /// Whether a hook failed or a run was interrupted, and the hooks have not succeeded since.
    pub fn are_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether the hooks that were configured then have succeeded for `commit`.
    pub fn have_succeeded_for(&self, commit: ObjectId) -> bool {
        !self.are_pending() && self.succeeded_for() == Some(commit)
    }

    /// Whether they are pending, and HEAD was at `head` when that began.
    pub fn are_pending_at(&self, head: Option<ObjectId>) -> bool {
        self.are_pending() && parse(&self.pending) == head
    }

    /// Which hooks of `target` have to run for `commit`, once it is live: all of them, if they have not succeeded for it, or are
    /// pending; else those that were added or changed since.
    pub fn due(&self, target: &Target, commit: ObjectId) -> Vec<usize> {
        let live = target.hooks_at(At::Live);
        if !self.have_succeeded_for(commit) {
            return live.collect();
        }
        let mut succeeded = self.succeeded.clone();
        let added = live.filter(|hook| {
            let digest = digest(&target.hooks[*hook]);
            let found = succeeded.iter().position(|known| *known == digest);
            found.map(|at| succeeded.swap_remove(at)).is_none()
        });
        added.collect()
    }
}

/// Record that the repository at `git_dir`, which is being made, is ours.
pub fn begin(git_dir: &Path, fsync: bool) -> Result<(), Error> {
    State::default().claim(git_dir, fsync)
}

impl State {
    /// The state of the repository at `git_dir`.
    pub fn read(git_dir: &Path) -> Self {
        let text = bounded::read_own(git_dir, [DIR, NAME], MAX_BYTES).unwrap_or_default();
        let mut state: Self = serde_json::from_slice(&text).unwrap_or_default();
        if state.version == 0 {
            state.inherited = state.hooks_succeeded_for.take();
        }
        state
    }

    /// Whether the worktree is ours. The version before did not record that, but the commits that it had deployed.
    pub fn is_ours(&self) -> bool {
        self.ours || !self.commits().is_empty()
    }

    /// Record that the worktree is ours.
    pub fn claim(&mut self, git_dir: &Path, fsync: bool) -> Result<(), Error> {
        self.version = VERSION;
        self.ours = true;
        let path = file(git_dir);
        let written = self.text().and_then(|text| write(git_dir, &path, &text, fsync));
        written.map_err(|source| Error { path, source })
    }

    /// The state of the hooks of `target`.
    pub fn hooks(&self, target: &Target) -> Hooks {
        match (self.triggers.get(target.trigger.as_str()), &self.inherited) {
            (Some(hooks), _) => hooks.clone(),
            (None, Some(commit)) => Hooks {
                succeeded_for: Some(commit.clone()),
                succeeded: digests(target),
                pending: None,
            },
            (None, None) => Hooks::default(),
        }
    }

    /// Whether a hook of `target` has not yet succeeded for `commit`, which is deployed.
    pub fn has_pending_hooks(&self, target: &Target, commit: ObjectId) -> bool {
        !self.hooks(target).due(target, commit).is_empty()
    }

    /// The commits that hooks last succeeded for: the lists of changed files start there.
    pub fn commits(&self) -> Vec<ObjectId> {
        let inherited = parse(&self.inherited).into_iter();
        let known = self.triggers.values().filter_map(Hooks::succeeded_for);
        inherited.chain(known).collect()
    }

    /// Whether the hooks of `target` are recorded one by one, so that a new one can be recognized.
    pub fn knows(&self, target: &Target) -> bool {
        self.triggers.contains_key(target.trigger.as_str()) || self.inherited.is_none()
    }

    /// Record the commit of the version before for `target`, with its hooks as they are configured now.
    pub fn inherit(self, git_dir: &Path, target: &Target) -> Result<(), Error> {
        let hooks = self.hooks(target);
        self.put(git_dir, target, hooks)
    }

    /// Record that all hooks of `target` have succeeded for `commit`.
    pub fn succeeded(self, git_dir: &Path, target: &Target, commit: ObjectId) -> Result<(), Error> {
        let hooks = Hooks {
            succeeded_for: Some(commit.to_string()),
            succeeded: digests(target),
            pending: None,
        };
        self.put(git_dir, target, hooks)
    }

    /// Record that a run of `trigger` was interrupted, or one of its hooks failed, while HEAD was at `head`.
    pub fn left_pending(
        mut self,
        git_dir: &Path,
        target: &Target,
        trigger: &str,
        head: Option<ObjectId>,
    ) -> Result<(), Error> {
        let inherited = self.inherited.clone();
        let mut hooks = match self.triggers.entry(trigger.to_owned()) {
            btree_map::Entry::Occupied(entry) => entry.remove(),
            btree_map::Entry::Vacant(_) => Hooks {
                succeeded_for: inherited,
                ..Hooks::default()
            },
        };
        hooks.pending = Some(head.map(|id| id.to_string()).unwrap_or_default());
        self.put_as(git_dir, target, trigger, hooks)
    }

    fn put(self, git_dir: &Path, target: &Target, hooks: Hooks) -> Result<(), Error> {
        self.put_as(git_dir, target, target.trigger.as_str(), hooks)
    }

    fn put_as(mut self, git_dir: &Path, target: &Target, trigger: &str, hooks: Hooks) -> Result<(), Error> {
        let commit = hooks.succeeded_for.clone();
        if self.version == VERSION && self.triggers.get(trigger) == Some(&hooks) {
            return Ok(());
        }
        self.version = VERSION;
        self.ours = self.is_ours();
        self.triggers.insert(trigger.into(), hooks);
        self.hooks_succeeded_for = self.for_the_version_before(commit);
        let path = file(git_dir);
        let written = self.text().and_then(|text| {
            if text.len() as u64 <= MAX_BYTES {
                return Ok(text);
            }
            // Most entries are of triggers that were removed; the other triggers run their hooks once too often.
            self.triggers.retain(|name, _| name == trigger);
            self.inherited = None;
            self.text()
        });
        let written = written.and_then(|text| write(git_dir, &path, &text, target.site.fsync));
        written.map_err(|source| Error { path, source })
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// For the version before, hooks are pending if the commit is not that of HEAD, or missing.
    fn for_the_version_before(&self, commit: Option<String>) -> Option<String> {
        let mut pending = self.triggers.values().filter(|hooks| hooks.pending.is_some());
        match pending.next() {
            None => commit,
            Some(hooks) if self.triggers.len() == 1 => {
                commit.filter(|_| hooks.pending != hooks.succeeded_for)
            }
            Some(_) => None,
        }
    }
}

/// Whether the file `name` is next to the state file.
pub(super) fn has(git_dir: &Path, name: &str) -> bool {
    fs::symlink_metadata(git_dir.join(DIR).join(name)).is_ok()
}

/// A stamp that changes with each write of the state file or a file next to it.
pub(super) fn stamp(git_dir: &Path) -> Option<Stamp> {
    let meta = fs::symlink_metadata(git_dir.join(DIR)).ok()?;
    Some(Stamp::of(&meta))
}

/// Write the file `name` next to the state file, in the same way.
pub(super) fn write_beside(
    git_dir: &Path,
    name: &str,
    content: &impl Serialize,
    fsync: bool,
) -> Result<(), Error> {
    let path = git_dir.join(DIR).join(name);
    let text = serde_json::to_vec(content).map_err(io::Error::from);
    let written = text.and_then(|text| write(git_dir, &path, &text, fsync));
    written.map_err(|source| Error { path, source })
}

/// Remove the file `name` next to the state file.
pub(super) fn remove(git_dir: &Path, name: &str) -> Result<(), Error> {
    let path = git_dir.join(DIR).join(name);
    let removed = durable::remove(&path).map_err(|source| Error { path, source });
    removed.map(drop)
}

fn file(git_dir: &Path) -> PathBuf {
    git_dir.join(DIR).join(NAME)
}

fn parse(hex: &Option<String>) -> Option<ObjectId> {
    ObjectId::from_hex(hex.as_ref()?.as_bytes()).ok()
}

/// A digest of each hook of `target` at Live. Only digests are stored, since arguments and environment of a hook may hold secrets.
fn digests(target: &Target) -> Vec<String> {
    target
        .hooks_at(At::Live)
        .map(|hook| digest(&target.hooks[hook]))
        .collect()
}

fn digest(hook: &Hook) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    let mut add = |text: &str| {
        // With the length, so that two different hooks are never the same text.
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    match hook {
        Hook::Exec { run, user_env, .. } => {
            run.iter().for_each(|word| add(word));
            add("");
            user_env
                .iter()
                .flat_map(|(name, value)| [name, value])
                .for_each(|word| add(word));
        }
        // The content of git's hook does not count: as with git, a changed one runs at the next checkout.
        Hook::PostCheckout => add("post-checkout"),
    }
    hex(&hash.finish().as_ref()[..16])
}

/// Replace the file `path`, readable for its owner only, since short secrets could be guessed from their digests.
fn write(git_dir: &Path, path: &Path, text: &[u8], fsync: bool) -> io::Result<()> {
    make(git_dir)?;
    let flush = if fsync { Flush::Name } else { Flush::Nothing };
    Replace::by(&path.with_extension("json.tmp"), Access::Private, flush).write(path, text)
}

/// Make the directory, but not the git directory itself: if a hook has removed that, an incomplete one would block the next clone.
fn make(git_dir: &Path) -> io::Result<PathBuf> {
    let dir = git_dir.join(DIR);
    match fs::create_dir(&dir) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err),
        _ => Ok(dir),
    }
}

/// Open `path` for writing, and truncate it.
fn create(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(flags.bits() as i32)
        .open(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
