//! Where a trigger's files are: each of the roles that its `path` plays, by a name of its own.

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use gix::bstr::ByteSlice as _;

use super::Releases;
use crate::{
    base::name::AbsPath,
    git::{lock, worktree::Clean},
};

/// Where a trigger's files go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub path: AbsPath,
    /// The git directory, if it is not `.git` in the worktree.
    pub git_dir: Option<AbsPath>,
    pub clean: Clean,
    /// gitignore patterns of what `clean` never removes.
    pub keep: Vec<String>,
    /// Permission bits that files and directories of the worktree do not get; default: those of the process.
    pub umask: Option<u32>,
    /// The group that new files and directories of the worktree get, by name or number; default: that of the process.
    pub group: Option<String>,
    /// Whether a deploy survives a power cut.
    pub fsync: bool,
    /// Each deployed commit has a tree of its own; nothing: files are updated in place.
    pub releases: Option<Releases>,
}

impl Site {
    /// The directory that the files of the worktree are in.
    pub fn root(&self) -> &AbsPath {
        &self.path
    }

    pub fn git_dir(&self) -> PathBuf {
        match &self.git_dir {
            Some(apart) => apart.as_path().into(),
            None => self.path.as_path().join(match self.releases {
                Some(_) => "repo.git",
                None => ".git",
            }),
        }
    }

    /// The file that runs lock: one at a time is at work here.
    pub fn lock_file(&self) -> PathBuf {
        lock::file(&self.git_dir())
    }

    /// Whether what is at `below` in it is left alone: in place, a pattern matches that directory, or one above it; beside
    /// releases, it is nothing of theirs. What they share is their administrator's.
    pub fn keeps(&self, below: &Path) -> bool {
        if let Some(releases) = &self.releases {
            let mut own = ["releases", "repo.git", releases.live.name()].into_iter();
            return !own.any(|own| below.starts_with(own));
        }
        let search =
            gix::ignore::Search::from_overrides(self.keep.iter(), gix::ignore::search::Ignore::default());
        below
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty())
            .any(|path| {
                search
                    .pattern_matching_relative_path(
                        path.as_os_str().as_bytes().as_bstr(),
                        Some(true),
                        gix::glob::pattern::Case::Sensitive,
                    )
                    .is_some_and(|found| !found.pattern.is_negative())
            })
    }

    /// What tells this site from all others: triggers with the same key share it.
    pub fn key(&self) -> &AbsPath {
        &self.path
    }
}
