//! Refs and reflogs: what makes a commit the deployed one.
//!
//! Order matters. After a fetch, [`fetched`] lets a ref hold the new objects. After the files and the
//! index, [`deployed`] moves HEAD. After the hooks, `state` says so. A run that dies between
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

use crate::base::{
    durable,
    fault::{Blame, Kind, kind_of_io},
    name::{RefName, RemoteName},
};

mod good;
pub use good::Good;
mod past;
pub use past::is_deployed;

/// Something could not be published.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("cannot move {name}: {reason}")]
    #[diagnostic(help(
        "if another ref is in the way, delete it with git; else make the git directory writable"
    ))]
    Ref { name: String, reason: String },
    #[error("cannot move {name}: {source}")]
    #[diagnostic(help("make room, and the next run does it again"))]
    Full { name: String, source: io::Error },
    #[error("cannot flush {path} to disk: {source}")]
    #[diagnostic(help("see whether the disk is full or failing; the next run does it again"))]
    Sync { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}")]
    #[diagnostic(help("free space, or make the git directory writable for the user that gitsocket runs as"))]
    State { path: PathBuf, source: io::Error },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Ref { .. } => Kind::Repository,
            Self::Full { source, .. } | Self::State { source, .. } | Self::Sync { source, .. } => {
                kind_of_io(source)
            }
        }
    }
}

impl Error {
    /// What `err` means that ended the writing of the ref `name`.
    fn of_ref(name: String, err: &gix::Error) -> Self {
        match err.downcast_any_ref::<io::Error>() {
            Some(io) if kind_of_io(io) == Kind::Resources => Self::Full {
                name,
                source: io
                    .raw_os_error()
                    .map_or_else(|| io.kind().into(), io::Error::from_raw_os_error),
            },
            _ => Self::Ref {
                name,
                reason: crate::git::repository::reason(err),
            },
        }
    }
}

/// What a commit is the tip of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tip {
    Branch(RefName),
    /// A tag, and the object it points to: a tag object or the commit itself.
    Tag(RefName, ObjectId),
    /// No branch: the remote's HEAD is detached.
    Detached,
}

impl Tip {
    /// The ref of a user's that a deploy moves.
    fn moves(&self) -> Option<&str> {
        match self {
            Self::Branch(name) | Self::Tag(name, _) => Some(name.as_str()),
            Self::Detached => None,
        }
    }
}

/// The ref that is to hold what was fetched: a remote-tracking ref such as `refs/remotes/origin/main`, or the tag.
pub fn holding_ref(remote: &RemoteName, tip: &Tip) -> String {
    match tip {
        Tip::Branch(branch) => format!("refs/remotes/{remote}/{}", branch.short()),
        Tip::Tag(tag, _) => tag.as_str().to_owned(),
        Tip::Detached => format!("refs/remotes/{remote}/HEAD"),
    }
}

/// How refs are written.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    pub remote: &'a RemoteName,
    /// Who writes them, for reflogs: `gitsocket site`.
    pub writer: &'a str,
    /// Whether they survive a power cut.
    pub fsync: bool,
}

/// Let the remote-tracking ref, or the tag, hold the fetched `commit`; then the pack needs no `.keep`. Gives what it held
/// before.
///
/// A kill before leaves a `.keep`, which recovery removes, and the fetch is repeated.
pub fn fetched(
    repo: &gix::Repository,
    (tip, commit): (&Tip, ObjectId),
    keep: Option<&Path>,
    options: Options<'_>,
) -> Result<Option<ObjectId>, Error> {
    if let Some(keep) = keep {
        let [pack, index] = ["pack", "idx"].map(|extension| keep.with_extension(extension));
        sync(
            repo,
            options.fsync,
            &[&pack, &index, &repo.common_dir().join("shallow")],
        )?;
    }
    let name = holding_ref(options.remote, tip);
    let object = match tip {
        Tip::Tag(_, object) => *object,
        Tip::Branch(_) | Tip::Detached => commit,
    };
    let reference = repo.try_find_reference(name.as_str()).ok().flatten();
    let old = reference.and_then(|reference| reference.target().try_id().map(ToOwned::to_owned));
    if old != Some(object) {
        make_way(repo, &name)?;
        let message = format!("{}: fetch", options.writer);
        update(repo, &name, RefTarget::Object(object), &message, false)?;
    }
    if let Some(keep) = keep {
        // Harmless if it stays: recovery removes it before the next run.
        drop(fs::remove_file(keep));
    }
    Ok(old)
}

/// Flush index and refs: after a power cut, a state file must not claim a deploy that they lack.
pub fn settle(repo: &gix::Repository, tip: &Tip, index: &Path, options: Options<'_>) -> Result<(), Error> {
    let at = |name: &str| repo.common_dir().join(name);
    let branch = match tip {
        Tip::Branch(branch) => branch.as_str(),
        Tip::Tag(..) | Tip::Detached => "HEAD",
    };
    let head = repo.git_dir().join("HEAD");
    sync(
        repo,
        options.fsync,
        &[index, &head, &at(branch), &at(&holding_ref(options.remote, tip))],
    )
}

fn sync(repo: &gix::Repository, fsync: bool, paths: &[&Path]) -> Result<(), Error> {
    if !fsync {
        return Ok(());
    }
    durable::files(paths.iter().copied()).map_err(|source| Error::Sync {
        path: repo.git_dir().into(),
        source,
    })
}

/// The commit that HEAD is at.
pub fn head(repo: &gix::Repository) -> Option<ObjectId> {
    let mut name = FullName::try_from("HEAD").ok()?;
    // As git's SYMREF_MAXDEPTH.
    for _ in 0..5 {
        // A run asks often: `packed-refs` is looked at only for what is not loose.
        let found = match repo.refs.try_find_packed(name.as_ref(), None).ok()? {
            Some(loose) => loose,
            None => repo.refs.try_find(name.as_ref()).ok()??,
        };
        match found.target {
            RefTarget::Object(id) => return Some(id),
            RefTarget::Symbolic(next) => name = next,
        }
    }
    None
}

/// The commits that no ref of theirs holds any more once [`deployed`] has let HEAD be at `tip`: that of a branch or tag that
/// moves, and that of a HEAD which is on no branch.
pub fn moving(repo: &gix::Repository, tip: &Tip) -> Vec<ObjectId> {
    let moves = tip.moves().and_then(|name| repo.try_find_reference(name).ok()?);
    let moves = moves.and_then(|mut reference| Some(reference.peel_to_id().ok()?.detach()));
    let detached = match repo.head() {
        Ok(at) if at.is_detached() => at.id().map(gix::Id::detach),
        _ => None,
    };
    moves.into_iter().chain(detached).collect()
}

/// The commits that refs are at which a move of HEAD to `tip` leaves alone.
pub fn staying(repo: &gix::Repository, tip: &Tip) -> Vec<ObjectId> {
    let moves = tip.moves().unwrap_or("HEAD");
    let Ok(refs) = repo.references() else {
        return Vec::new();
    };
    let refs = refs.all().into_iter().flatten().filter_map(Result::ok);
    let refs = refs.filter(|reference| reference.name().as_bstr() != moves);
    refs.filter_map(|mut reference| Some(reference.peel_to_id().ok()?.detach()))
        .collect()
}

/// Move HEAD, and the branch it is on, to `commit`. Files and index are there already.
///
/// A kill before the first edit leaves HEAD at the old commit, and between the two leaves it on the right
/// branch; the next run does the rest. What a merge or cherry-pick left half done has ended with the files.
pub fn deployed(
    repo: &gix::Repository,
    tip: &Tip,
    commit: ObjectId,
    options: Options<'_>,
) -> Result<(), Error> {
    let message = format!("{}: deploy", options.writer);
    let old = head(repo);
    if let Some(old) = old.filter(|old| *old != commit) {
        // As `git reset` and `git merge`: the way back.
        update(repo, "ORIG_HEAD", RefTarget::Object(old), &message, false)?;
    }
    move_head(repo, tip, (old, commit), &message)?;
    end_merge(repo.git_dir())
}

fn move_head(
    repo: &gix::Repository,
    tip: &Tip,
    (old, commit): (Option<ObjectId>, ObjectId),
    message: &str,
) -> Result<(), Error> {
    let Tip::Branch(branch) = tip else {
        return match repo.head() {
            Ok(at) if at.is_detached() && old == Some(commit) => Ok(()),
            _ => update(repo, "HEAD", RefTarget::Object(commit), message, false),
        };
    };
    if old != Some(commit) || !is_on(repo, branch) {
        make_way(repo, branch.as_str())?;
    }
    if !is_on(repo, branch) {
        let name = full_name(branch.as_str())?;
        update(repo, "HEAD", RefTarget::Symbolic(name), message, false)?;
    }
    match head(repo) {
        Some(at) if at == commit => Ok(()),
        // Through HEAD, so that both reflogs get their line.
        _ => update(repo, "HEAD", RefTarget::Object(commit), message, true),
    }
}

fn is_on(repo: &gix::Repository, branch: &RefName) -> bool {
    matches!(repo.head_name(), Ok(Some(name)) if name.as_bstr() == branch.as_str())
}

/// What `git reset --hard` removes from a git directory, besides the index's conflicts.
const MERGE_STATE: [&str; 8] = [
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "MERGE_RR",
    "SQUASH_MSG",
    "AUTO_MERGE",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
];

fn end_merge(git_dir: &Path) -> Result<(), Error> {
    for path in MERGE_STATE.map(|name| git_dir.join(name)) {
        durable::remove(&path).map_err(|source| Error::State { path, source })?;
    }
    Ok(())
}

/// Where a branch or tag goes that has to make way, by the id of its commit.
const KEPT: &str = "refs/gitsocket/kept";

/// Let `name` be written: `a/b` cannot be beside `a`. The remote has it, so whatever is in its way is gone
/// there. A remote-tracking ref is deleted as `git fetch --prune` would; anything else may be a user's
/// work and lives on below [`KEPT`].
fn make_way(repo: &gix::Repository, name: &str) -> Result<(), Error> {
    for old in in_the_way_of(repo, name)? {
        let message = format!("gitsocket: makes way for {name}");
        if !old.as_bstr().starts_with(b"refs/remotes/")
            && let Ok(mut reference) = repo.find_reference(old.as_ref())
            && let Ok(id) = reference.peel_to_id()
        {
            let kept = format!("{KEPT}/{id}");
            update(repo, &kept, RefTarget::Object(id.detach()), &message, false)?;
        }
        delete(repo, &old.as_bstr().to_string())?;
    }
    Ok(())
}

/// The refs whose names are directories of `name`, or are below it.
fn in_the_way_of(repo: &gix::Repository, name: &str) -> Result<Vec<FullName>, Error> {
    let mut found = Vec::new();
    for (end, _) in name.match_indices('/') {
        if let Ok(Some(reference)) = repo.try_find_reference(&name[..end])
            && reference.name().as_bstr() == &name[..end]
        {
            found.push(reference.name().to_owned());
        }
    }
    let failed = |err: gix::Error| Error::Ref {
        name: name.into(),
        reason: crate::git::repository::reason(&err),
    };
    let below = format!("{name}/");
    let refs = repo.references().map_err(failed)?;
    let refs = refs.prefixed(below.as_str()).map_err(failed)?;
    found.extend(
        refs.filter_map(Result::ok)
            .map(|reference| reference.name().to_owned()),
    );
    Ok(found)
}

/// Let the ref `name` hold `commit`.
pub fn hold(repo: &gix::Repository, name: &str, commit: ObjectId) -> Result<(), Error> {
    update(repo, name, RefTarget::Object(commit), "gitsocket: hold", false)
}

/// Delete the ref `name`.
pub fn delete(repo: &gix::Repository, name: &str) -> Result<(), Error> {
    edit(
        repo,
        RefEdit {
            change: Change::Delete {
                expected: PreviousValue::Any,
                log: RefLog::AndReference,
            },
            name: full_name(name)?,
            deref: false,
        },
    )
}

/// The refs whose names begin with `prefix`, which ends with a slash.
pub fn below(repo: &gix::Repository, prefix: &str) -> Vec<String> {
    let Ok(refs) = repo.references() else {
        return Vec::new();
    };
    let refs = refs.prefixed(prefix).into_iter().flatten().filter_map(Result::ok);
    refs.map(|reference| reference.name().as_bstr().to_string())
        .collect()
}

fn update(
    repo: &gix::Repository,
    name: &str,
    new: RefTarget,
    message: &str,
    deref: bool,
) -> Result<(), Error> {
    let new = RefEdit {
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
    edit(repo, new)
}

fn edit(repo: &gix::Repository, edit: RefEdit) -> Result<(), Error> {
    let name = edit.name.to_string();
    crate::git::repository::look_at_logs(repo, &name, edit.deref).map_err(|trap| Error::Ref {
        name: name.clone(),
        reason: trap.to_string(),
    })?;
    crate::git::repository::edit_ref(repo, edit).map_err(|err| Error::of_ref(name, &err))
}

fn full_name(name: &str) -> Result<FullName, Error> {
    FullName::try_from(name).map_err(|err| Error::Ref {
        name: name.into(),
        reason: err.to_string(),
    })
}
