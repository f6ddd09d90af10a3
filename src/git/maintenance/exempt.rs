//! Which repositories are left alone: those that another program maintains, and those that hold what is not understood.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{Error, files, packs};

/// A lock file of git's own maintenance older than this is of a process that died (as git itself sees it).
const STALE: Duration = Duration::from_secs(12 * 3600);

/// Why a repository is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// `gc.auto = 0`: its owner does not want this to happen by itself.
    GcOff,
    /// The repository uses an extension of its format that is not known here, or that forbids maintenance.
    Extension(String),
    /// Objects are missing on purpose: a partial clone.
    Partial,
    /// `info/grafts` changes what commits refer to.
    Grafts,
    GitAtWork(&'static str),
    /// The repository has a chain of multi-pack-indexes, which `git maintenance` keeps.
    MultiPackIndexChain,
    /// Objects or refs are elsewhere: `objects` is a symlink, or the repository is a linked worktree.
    Elsewhere,
    /// The index remembers how a merge was resolved, or cannot be read.
    Index,
    /// There is not enough room for a second copy of the packs.
    Space,
}

/// Extensions of git-config(1) that change nothing about which objects are needed.
const KNOWN: [&str; 6] = [
    "noop",
    "noop-v1",
    "objectformat",
    "refstorage",
    "relativeworktrees",
    "worktreeconfig",
];

/// Files that git has during its own maintenance.
const LOCKS: [&str; 5] = [
    "gc.pid",
    "gc.pid.lock",
    "objects/maintenance.lock",
    "objects/pack/multi-pack-index.lock",
    "objects/info/commit-graphs/commit-graph-chain.lock",
];

/// Why `repo` is left alone, if it is.
pub(super) fn reason(repo: &gix::Repository, now: SystemTime) -> Result<Option<Reason>, Error> {
    let git_dir = repo.git_dir();
    let is_link = |name: &str| fs::symlink_metadata(git_dir.join(name)).is_ok_and(|meta| meta.is_symlink());
    if ["", "objects", "objects/pack", "logs", "refs"]
        .iter()
        .any(|name| is_link(name))
        || git_dir.join("commondir").exists()
    {
        return Ok(Some(Reason::Elsewhere));
    }
    if let Some(reason) = of_config(repo) {
        return Ok(Some(reason));
    }
    if fs::metadata(git_dir.join("info/grafts")).is_ok_and(|meta| meta.len() > 0) {
        return Ok(Some(Reason::Grafts));
    }
    for name in LOCKS {
        let meta = files::metadata(&git_dir.join(name))?;
        if meta.is_some_and(|meta| !packs::is_older(packs::modified(&meta), now, STALE)) {
            return Ok(Some(Reason::GitAtWork(name)));
        }
    }
    let pack_dir = git_dir.join("objects/pack");
    if pack_dir.join("multi-pack-index.d").exists() {
        return Ok(Some(Reason::MultiPackIndexChain));
    }
    let is_promisor = |path: &Path| path.extension().is_some_and(|ext| ext == "promisor");
    if files::list(&pack_dir)?.iter().any(|path| is_promisor(path)) {
        Ok(Some(Reason::Partial))
    } else {
        Ok(None)
    }
}

fn of_config(repo: &gix::Repository) -> Option<Reason> {
    let config = repo.config_snapshot();
    // `gc.auto` that cannot be read counts as off: its owner has said something.
    if config.string("gc.auto").is_some() && config.integer("gc.auto").is_none_or(|auto| auto <= 0) {
        return Some(Reason::GcOff);
    }
    for section in config
        .plumbing()
        .sections_by_name("extensions")
        .into_iter()
        .flatten()
    {
        for name in section.value_names() {
            let name = name.to_string().to_ascii_lowercase();
            match name.as_str() {
                "partialclone" => return Some(Reason::Partial),
                known if KNOWN.contains(&known) => {}
                _ => return Some(Reason::Extension(name)),
            }
        }
    }
    let promises = config
        .plumbing()
        .sections_by_name("remote")
        .into_iter()
        .flatten()
        .any(|section| section.value("promisor").is_some() || section.value("partialclonefilter").is_some());
    promises.then_some(Reason::Partial)
}
