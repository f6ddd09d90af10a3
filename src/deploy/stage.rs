//! Where a run makes its tree, and how that becomes live.

use std::path::{Path, PathBuf};

use super::release::placed::Placed;
use crate::{base::name::AbsPath, config::Site};

/// The tree of one run.
#[derive(Debug)]
pub enum Stage<'a> {
    /// The files are live one by one, as they are written.
    InPlace {
        /// The directory that they are in.
        root: &'a AbsPath,
        /// What git knows of them.
        index: PathBuf,
    },
}

impl<'a> Stage<'a> {
    /// The one that `site` asks for.
    pub fn of(site: &'a Site) -> Self {
        Self::InPlace {
            root: site.root(),
            index: site.git_dir().join("index"),
        }
    }

    /// The directory that the files are written to.
    pub fn root(&self) -> &AbsPath {
        match self {
            Self::InPlace { root, .. } => root,
        }
    }

    /// The index of these files.
    pub fn index(&self) -> &Path {
        match self {
            Self::InPlace { index, .. } => index,
        }
    }

    /// The release that the tree is; none in place.
    pub fn placed(&self) -> Option<&Placed> {
        match self {
            Self::InPlace { .. } => None,
        }
    }

    /// Let the tree be live, now that it is whole.
    pub fn switch(&self) {
        match self {
            // It is.
            Self::InPlace { .. } => {}
        }
    }
}
