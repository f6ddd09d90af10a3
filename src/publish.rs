//! Refs, reflogs and the state file: what makes a commit the deployed one.
//!
//! Order matters. After a fetch, [`fetched`] lets a ref hold the new objects. After the files and the
//! index, [`deployed`] moves HEAD. After the hooks, [`set_hooks_succeeded_for`] says so. A run that dies between
//! two of these is finished by the next one, which finds the earlier ones done and repeats the rest.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gix::{
    ObjectId,
    refs::{
        FullName, Target as RefTarget,
        transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog},
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    config::Target,
    fault::{Blame, Kind, kind_of_io},
    fetch::{self, Tip},
    name::RefName,
};

/// Something could not be published.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A ref could not be written.
    #[error("cannot move {name}: {reason}")]
    #[diagnostic(help(
        "if another ref is in the way, delete it with git; else make the git directory writable"
    ))]
    Ref {
        /// The ref.
        name: String,
        /// Why.
        reason: String,
    },
    /// The state file could not be written.
    #[error("cannot write {path}: {source}")]
    #[diagnostic(help("free space, or make the git directory writable for the user that gitsocket runs as"))]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Ref { .. } => Kind::Repository,
            Self::State { source, .. } => kind_of_io(source),
        }
    }
}

/// Let the remote-tracking ref, or the tag, hold what was fetched; then the pack needs no `.keep`.
///
/// A kill before leaves a `.keep`, which recovery removes, and the fetch is repeated.
pub fn fetched(repo: &gix::Repository, target: &Target, outcome: &fetch::Outcome) -> Result<(), Error> {
    let (name, object) = match &outcome.tip {
        Tip::Branch(branch) => (fetch::tracking_ref(target, branch), outcome.commit),
        Tip::Tag(tag, object) => (tag.as_str().to_owned(), *object),
        Tip::Detached => (format!("refs/remotes/{}/HEAD", target.remote), outcome.commit),
    };
    let reference = repo.try_find_reference(name.as_str()).ok().flatten();
    if reference.is_none_or(|reference| reference.target().try_id() != Some(object.as_ref())) {
        let message = format!("gitsocket {}: fetch", target.trigger);
        update(repo, &name, RefTarget::Object(object), &message, false)?;
    }
    if let Some(keep) = &outcome.keep {
        // Harmless if it stays: recovery removes it before the next run.
        drop(fs::remove_file(keep));
    }
    Ok(())
}

/// The commit that HEAD is at.
pub fn head(repo: &gix::Repository) -> Option<ObjectId> {
    repo.head_id().ok().map(gix::Id::detach)
}

/// Move HEAD, and the branch it is on, to `commit`. Files and index are there already.
///
/// A kill before the first edit leaves HEAD at the old commit, and between the two leaves it on the right
/// branch; the next run does the rest.
pub fn deployed(repo: &gix::Repository, target: &Target, tip: &Tip, commit: ObjectId) -> Result<(), Error> {
    for name in UNFINISHED {
        // Else git would say that a merge is still going on. One that cannot be removed changes nothing.
        fs::remove_file(repo.git_dir().join(name)).ok();
    }
    let message = format!("gitsocket {}: deploy", target.trigger);
    let Tip::Branch(branch) = tip else {
        return match repo.head() {
            Ok(at) if at.is_detached() && at.id().map(gix::Id::detach) == Some(commit) => Ok(()),
            _ => update(repo, "HEAD", RefTarget::Object(commit), &message, false),
        };
    };
    if !is_on(repo, branch) {
        let name = full_name(branch.as_str())?;
        update(repo, "HEAD", RefTarget::Symbolic(name), &message, false)?;
    }
    match head(repo) {
        Some(at) if at == commit => Ok(()),
        // Through HEAD, so that both reflogs get their line.
        _ => update(repo, "HEAD", RefTarget::Object(commit), &message, true),
    }
}

/// What somebody's unfinished merge, cherry-pick or revert leaves, and `git reset --hard` removes.
const UNFINISHED: [&str; 8] = [
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "MERGE_RR",
    "AUTO_MERGE",
    "SQUASH_MSG",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
];

fn is_on(repo: &gix::Repository, branch: &RefName) -> bool {
    matches!(repo.head_name(), Ok(Some(name)) if name.as_bstr() == branch.as_str())
}

fn update(
    repo: &gix::Repository,
    name: &str,
    new: RefTarget,
    message: &str,
    deref: bool,
) -> Result<(), Error> {
    let edit = RefEdit {
        change: Change::Update {
            log: LogChange {
                mode: RefLog::AndReference,
                force_create_reflog: false,
                message: message.into(),
            },
            expected: PreviousValue::Any,
            new,
        },
        name: full_name(name)?,
        deref,
    };
    repo.edit_reference(edit).map(drop).map_err(|err| Error::Ref {
        name: name.into(),
        reason: crate::repository::reason(&err),
    })
}

fn full_name(name: &str) -> Result<FullName, Error> {
    FullName::try_from(name).map_err(|err| Error::Ref {
        name: name.into(),
        reason: err.to_string(),
    })
}

/// What a repository remembers of its deploys, in `gitsocket/state.json` below the git directory.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// The commit that the hooks last succeeded for.
    hooks_succeeded_for: Option<String>,
}

fn state_file(git_dir: &Path) -> PathBuf {
    git_dir.join("gitsocket/state.json")
}

/// The commit that the hooks last succeeded for. A state file that is missing or damaged means none:
/// then they run once too often, never once too few.
pub fn hooks_succeeded_for(git_dir: &Path) -> Option<ObjectId> {
    let text = fs::read(state_file(git_dir)).ok()?;
    let state: State = serde_json::from_slice(&text).ok()?;
    ObjectId::from_hex(state.hooks_succeeded_for?.as_bytes()).ok()
}

/// Remember that the hooks succeeded for `commit`, or that they have to run again.
pub fn set_hooks_succeeded_for(git_dir: &Path, commit: Option<ObjectId>) -> Result<(), Error> {
    if hooks_succeeded_for(git_dir) == commit {
        return Ok(());
    }
    let path = state_file(git_dir);
    let failed = |source| Error::State {
        path: path.clone(),
        source,
    };
    let state = State {
        hooks_succeeded_for: commit.map(|id| id.to_string()),
    };
    let text = serde_json::to_vec(&state).map_err(|err| failed(err.into()))?;
    let temporary = path.with_extension("json.tmp");
    fs::create_dir_all(git_dir.join("gitsocket")).map_err(failed)?;
    fs::write(&temporary, text).map_err(failed)?;
    fs::rename(&temporary, &path).map_err(failed)
}
