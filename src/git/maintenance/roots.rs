//! What holds objects, so that they are not dropped: refs, HEADs, indices and reflogs, of linked worktrees, too.

use std::path::{Path, PathBuf};

use gix::{ObjectId, bstr::ByteSlice as _};

use super::{
    Error, files,
    reach::{Reach, Worth},
    reflog::{self, Policy},
};
use crate::base::{
    bounded::{self, LIST},
    fault::if_there,
    identity::Stamp,
};

/// The indices of trees that a deploy makes apart.
const TREES: &str = "gitsocket/releases";
/// Where HEAD was before the last deploy.
const ORIG_HEAD: &str = "ORIG_HEAD";

/// The roots of a repository at one moment.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// What refs and HEADs point to.
    needed: Vec<ObjectId>,
    /// What indices, reflogs and the like name.
    kept: Vec<ObjectId>,
    indices: Vec<(PathBuf, Stamp)>,
}

/// git replaces an index by a rename.
fn stamp(path: &Path) -> Result<Option<Stamp>, Error> {
    Ok(files::metadata(path)?.as_ref().map(Stamp::of))
}

impl Roots {
    /// Read them again, except indices that have not changed since `before`. `None`: an index holds what is not
    /// understood.
    pub(super) fn read(
        repo: &gix::Repository,
        policy: Policy,
        before: Option<&Self>,
    ) -> Result<Option<Self>, Error> {
        // With a bound, it would keep a whole deploy, as reflogs would.
        let passed_over = policy.is_bounded.then_some(ORIG_HEAD);
        let mut roots = Self::of_commits(repo, policy, passed_over)?;
        let mut paths: Vec<PathBuf> = admin_dirs(repo.git_dir())?
            .iter()
            .map(|dir| dir.join("index"))
            .collect();
        // Of trees that are not the worktree of a repository.
        let trees = files::list(&repo.git_dir().join(TREES))?.into_iter();
        paths.extend(trees.filter(|path| path.extension().is_some_and(|ext| ext == "index")));
        for path in paths {
            let Some(now) = stamp(&path)? else { continue };
            let index = (path, now);
            if before.is_none_or(|before| !before.indices.contains(&index))
                && !roots.index(&index.0, repo.object_hash())
            {
                return Ok(None);
            }
            roots.indices.push(index);
        }
        Ok(Some(roots))
    }

    /// The roots that are commits: all but what indices name.
    pub(super) fn of_history(repo: &gix::Repository, policy: Policy) -> Result<Self, Error> {
        Self::of_commits(repo, policy, None)
    }

    fn of_commits(repo: &gix::Repository, policy: Policy, passed_over: Option<&str>) -> Result<Self, Error> {
        let mut roots = Self::default();
        roots.refs(repo)?;
        for dir in admin_dirs(repo.git_dir())? {
            roots.heads(&dir, repo.object_hash(), passed_over)?;
            if dir != repo.git_dir() {
                roots.private_refs(&dir.join("refs"))?;
            }
            for log in reflog::all(&dir)? {
                log.held(policy, &mut roots.kept)?;
            }
        }
        Ok(roots)
    }

    pub(super) fn follow(&self, reach: &mut Reach<'_>) -> Result<(), Error> {
        for id in &self.needed {
            reach.follow(*id, Worth::Needed)?;
        }
        for id in &self.kept {
            reach.follow(*id, Worth::Kept)?;
        }
        Ok(())
    }

    fn refs(&mut self, repo: &gix::Repository) -> Result<(), Error> {
        let failed = |err: gix::Error| Error::repository("the refs", &err);
        let refs = repo.references().map_err(failed)?;
        for reference in refs.all().map_err(failed)? {
            let reference =
                reference.map_err(|err| Error::repository("a ref", &gix::Error::from_error(err)))?;
            self.needed
                .extend(reference.target().try_id().map(ToOwned::to_owned));
        }
        Ok(())
    }

    /// `HEAD` if it is detached, `ORIG_HEAD`, `FETCH_HEAD`, `MERGE_HEAD` and the like.
    fn heads(&mut self, dir: &Path, hash: gix::hash::Kind, passed_over: Option<&str>) -> Result<(), Error> {
        for path in files::list(dir)? {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            let is_head =
                name.ends_with(b"HEAD") && name.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
            let is_passed_over = passed_over.is_some_and(|other| other.as_bytes() == name);
            if !is_head || is_passed_over || !path.is_file() {
                continue;
            }
            let into = match name {
                b"HEAD" => &mut self.needed,
                _ => &mut self.kept,
            };
            into.extend(ids(&path, hash)?);
        }
        Ok(())
    }

    /// The refs that a linked worktree has for itself: of bisecting and rebasing.
    fn private_refs(&mut self, dir: &Path) -> Result<(), Error> {
        for path in files::list(dir)? {
            // A link may lead up again.
            if files::metadata(&path)?.is_some_and(|meta| meta.is_dir()) {
                self.private_refs(&path)?
            } else {
                self.kept.extend(
                    ids(&path, gix::hash::Kind::Sha1)?
                        .into_iter()
                        .chain(ids(&path, gix::hash::Kind::Sha256)?),
                )
            }
        }
        Ok(())
    }

    /// What the index names: entries, and the trees it remembers. Whether it is understood.
    fn index(&mut self, path: &Path, hash: gix::hash::Kind) -> bool {
        let options = gix::index::decode::Options {
            thread_limit: Some(1),
            ..Default::default()
        };
        // Mapped, and so waited for if it is a fifo.
        if bounded::look(rustix::fs::CWD, path, LIST).is_err() {
            return false;
        }
        let Ok(index) = gix::index::File::at(path, hash, false, options) else {
            return false;
        };
        if index.resolve_undo().is_some() {
            return false;
        }
        let entries = index.entries().iter();
        self.kept.extend(
            entries
                .filter(|entry| !entry.mode.is_submodule())
                .map(|entry| entry.id),
        );
        if let Some(tree) = index.tree() {
            cached(tree, &mut self.kept);
        }
        true
    }
}

/// The git directory, and those of linked worktrees in it.
pub(super) fn admin_dirs(git_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut dirs = files::list(&git_dir.join("worktrees"))?;
    dirs.retain(|dir| dir.is_dir());
    dirs.insert(0, git_dir.into());
    Ok(dirs)
}

/// The ids that lines of a file begin with.
fn ids(path: &Path, hash: gix::hash::Kind) -> Result<Vec<ObjectId>, Error> {
    let text = if_there(bounded::read(path, LIST)).map_err(|err| Error::io("read", path, err))?;
    Ok(text
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.fields().next())
        .filter(|word| word.len() == hash.len_in_hex())
        .filter_map(|word| ObjectId::from_hex(word).ok())
        .collect())
}

fn cached(tree: &gix::index::extension::Tree, ids: &mut Vec<ObjectId>) {
    if tree.num_entries.is_some() {
        ids.push(tree.id);
    }
    for child in &tree.children {
        cached(child, ids);
    }
}
