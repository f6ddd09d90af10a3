//! Where a run makes its tree, and how that becomes live.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use gix::{ObjectId, bstr::BString};

use crate::{
    base::{name::AbsPath, rights::Rights},
    config::Site,
    deploy::release::{self, Error, Trees, built, id::Id, located::Located, record::Tree, shared::Other},
    git::worktree::{self, Apart, Cache, Clean},
};

/// The tree that one run writes.
#[derive(Debug)]
pub enum Stage<'a> {
    /// The files are live one by one, as they are written.
    InPlace {
        /// Their index.
        index: PathBuf,
    },
    /// Each commit has its own tree, which becomes live once it is whole.
    Release(Box<Release<'a>>),
}

/// A target's releases, and the tree that this run makes.
#[derive(Debug)]
pub struct Release<'a> {
    trees: Trees<'a>,
    making: Option<Making>,
    /// The release that was live before.
    previous: Option<Id>,
    has_switched: bool,
    cache: Cache,
}

/// The tree that is being made or verified.
#[derive(Debug)]
struct Making {
    id: Option<Id>,
    root: AbsPath,
    index: PathBuf,
    tree: OwnedFd,
    /// Tracked paths that differ from the commit, and stay so.
    leave: Vec<BString>,
    clean: Clean,
    /// Whether untracked files stay, since the tree is a finished release that is verified.
    keeps_rest: bool,
    /// The size of its files in bytes, once they are written.
    bytes: u64,
}

impl<'a> Stage<'a> {
    /// The stage for `site`, whose trees are recovered from a killed run. New files get `rights`; a dry run changes nothing.
    /// `cache` knows the directories of other targets.
    pub fn recover(site: &'a Site, (rights, dry_run): (Rights, bool), cache: &Cache) -> Result<Self, Error> {
        let Some(releases) = &site.releases else {
            return Ok(Self::InPlace {
                index: site.git_dir().join("index"),
            });
        };
        Ok(Self::Release(Box::new(Release {
            trees: Trees::recover(site, releases, (rights, dry_run))?,
            making: None,
            previous: None,
            has_switched: false,
            // Not the daemon's cache: each tree has a new path, so its entries would never be used again.
            cache: Cache::beside(cache.others().clone()),
        })))
    }

    /// The commit that is live, where `head` is deployed.
    pub fn deployed(&self, head: Option<ObjectId>) -> Option<ObjectId> {
        match self {
            Self::InPlace { .. } => head,
            Self::Release(release) => release.live_commit(),
        }
    }

    /// Whether `commit` is live, so that no tree has to be made. In place, each run compares the files.
    pub fn is_done(&self, commit: ObjectId) -> bool {
        match self {
            Self::InPlace { .. } => false,
            Self::Release(release) => release.live_commit() == Some(commit),
        }
    }

    /// Whether files are live as soon as they are written.
    pub fn is_in_place(&self) -> bool {
        matches!(self, Self::InPlace { .. })
    }

    /// Begin the tree for `commit`. In a dry run it is compared with what is live, or with the directory `empty`.
    pub fn begin(&mut self, commit: ObjectId, dry_run: Option<&Path>) -> Result<(), Error> {
        let Self::Release(release) = self else {
            return Ok(());
        };
        let making = match (dry_run, release.trees.live().map(|tree| tree.id.clone())) {
            (None, _) => {
                let id = release.trees.begin(commit)?;
                release.making(id, Clean::Everything)?
            }
            (Some(_), Some(live)) => release.making(live, Clean::Nothing)?,
            (Some(empty), None) => Making {
                id: None,
                ..release.nothing(empty)?
            },
        };
        release.making = Some(making);
        Ok(())
    }

    /// Mark the tree that was begun as one that cannot be brought to its commit. Gives whether another try makes sense.
    pub fn is_stuck(&mut self) -> Result<bool, Error> {
        match self {
            Self::InPlace { .. } => Ok(false),
            Self::Release(release) => {
                release.making = None;
                release.trees.is_stuck()
            }
        }
    }

    /// Remove the spare tree to free space. Gives whether there was one.
    pub fn give_up_spare(&mut self) -> bool {
        match self {
            Self::InPlace { .. } => false,
            Self::Release(release) => release.trees.give_up_spare(),
        }
    }

    /// The index of these files.
    pub fn index(&self) -> Option<&Path> {
        match self {
            Self::InPlace { index, .. } => Some(index),
            Self::Release(release) => release.making.as_ref().map(|making| making.index.as_path()),
        }
    }

    /// Change `options` from those of a deploy in place to those of the tree that is made.
    pub fn aim<'o>(&'o self, options: worktree::Options<'o>) -> worktree::Options<'o> {
        let Self::Release(release) = self else {
            return options;
        };
        let Some(making) = &release.making else {
            return options;
        };
        worktree::Options {
            root: &making.root,
            index: &making.index,
            clean: making.clean,
            keep: &[],
            cache: &release.cache,
            apart: Some(Apart {
                dir: making.tree.as_fd(),
                leave: &making.leave,
                keeps_rest: making.keeps_rest,
            }),
            ..options
        }
    }

    /// The files are written, and take so many `bytes`: make the links to what all releases share.
    pub fn written(&mut self, bytes: u64) -> Result<(), Error> {
        match self {
            Self::InPlace { .. } => Ok(()),
            Self::Release(release) => release.written(bytes),
        }
    }

    /// The release that is being made, if one is.
    pub fn release(&self) -> Option<&Id> {
        match self {
            Self::InPlace { .. } => None,
            Self::Release(release) => release.making.as_ref()?.id.as_ref(),
        }
    }

    /// Check that no hook has moved or replaced the new release.
    pub fn check_place(&self) -> Result<(), Error> {
        match (self.trees(), self.release()) {
            (Some(trees), Some(id)) => trees.check_place(id),
            _ => Ok(()),
        }
    }

    /// Record the tracked files that Build has changed, and the size of the tree in bytes.
    pub fn built(&mut self, altered: &[worktree::Altered], bytes: u64, fsync: bool) -> Result<(), Error> {
        let Self::Release(release) = self else {
            return Ok(());
        };
        let Some(Making { id: Some(id), .. }) = &release.making else {
            return Ok(());
        };
        let path = release.trees.built(id);
        built::write(&path, altered, fsync).map_err(release::Error::io("write", &path))?;
        if let Some(making) = &mut release.making {
            making.bytes = bytes;
        }
        Ok(())
    }

    /// Make the tree, which is whole, live. Gives whether there was a switch.
    pub fn switch(&mut self, repo: &gix::Repository) -> Result<bool, Error> {
        match self {
            // The files are live already.
            Self::InPlace { .. } => Ok(false),
            Self::Release(release) => release.switch(repo),
        }
    }

    /// Record whether the live release is good, and remove surplus ones. Gives warnings about those that could not be removed.
    pub fn judge(&mut self, repo: &gix::Repository, is_good: bool) -> Result<Vec<String>, Error> {
        match self {
            Self::InPlace { .. } => Ok(Vec::new()),
            Self::Release(release) => {
                release.trees.judge(is_good)?;
                if is_good {
                    release.trees.prune(repo, release.has_switched)
                } else {
                    Ok(Vec::new())
                }
            }
        }
    }

    /// Prepare to verify the release `id`, of which the tracked files `leave` differ from its commit.
    pub fn inspect(&mut self, id: &Id, leave: impl Iterator<Item = BString>) -> Result<(), Error> {
        let Self::Release(release) = self else {
            return Ok(());
        };
        let mut making = release.making(id.clone(), Clean::Nothing)?;
        making.keeps_rest = true;
        making.leave.extend(leave);
        making.leave.sort();
        release.making = Some(making);
        Ok(())
    }

    /// The release that was verified, if it is of `commit`.
    pub fn verified(&self, commit: ObjectId) -> Option<Id> {
        let tree = self.trees()?.record().tree(self.release()?)?;
        let is_it = ObjectId::from_hex(tree.commit.as_bytes()).ok() == Some(commit);
        is_it.then(|| tree.id.clone())
    }

    /// The release that is live; none in place.
    pub fn live_release(&self) -> Option<&Tree> {
        self.trees()?.live()
    }

    /// Whether there is a release of `commit` that can become live again.
    pub fn has_release(&self, commit: ObjectId) -> bool {
        let hex = commit.to_string();
        let is_it = |tree: &Tree| tree.is_whole && tree.turn > 0 && tree.commit == hex;
        self.trees()
            .is_some_and(|trees| trees.record().trees.iter().any(is_it))
    }

    /// Make the release `id`, which was live before, live again, and mark the live one as rolled back.
    pub fn restore(&mut self, repo: &gix::Repository, id: &Id) -> Result<(), Error> {
        match self {
            Self::InPlace { .. } => Ok(()),
            Self::Release(release) => release.restore(repo, id),
        }
    }

    /// The release that hooks are started in: the new one before the switch, else the live one.
    pub fn located(&self) -> Option<Located> {
        match self {
            Self::InPlace { .. } => None,
            Self::Release(release) => release.located(),
        }
    }

    /// The release of `site` that is live now; `None` if the trees cannot be read.
    pub fn live(site: &Site) -> Option<Located> {
        let releases = site.releases.as_ref()?;
        let trees = Trees::recover(site, releases, (Rights::of(0), true)).ok()?;
        Some(Located {
            id: trees.live()?.id.clone(),
            previous: trees.previous().map(|tree| tree.id.clone()),
            is_live: true,
        })
    }

    /// The trees; none in place.
    pub fn trees(&self) -> Option<&Trees<'a>> {
        match self {
            Self::InPlace { .. } => None,
            Self::Release(release) => Some(&release.trees),
        }
    }
}

impl Release<'_> {
    fn live_commit(&self) -> Option<ObjectId> {
        let Tree { commit, is_whole, .. } = self.trees.live()?;
        ObjectId::from_hex(commit.as_bytes()).ok().filter(|_| *is_whole)
    }

    fn making(&self, id: Id, clean: Clean) -> Result<Making, Error> {
        Ok(Making {
            root: self.trees.root(&id)?,
            index: self.trees.index(&id),
            tree: self.trees.open(&id)?,
            leave: self.trees.shared(),
            clean,
            keeps_rest: false,
            bytes: 0,
            id: Some(id),
        })
    }

    fn nothing(&self, empty: &Path) -> Result<Making, Error> {
        let failed = |err: rustix::io::Errno| release::Error::io("open", empty)(err.into());
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let tree = rustix::fs::openat(rustix::fs::CWD, empty, flags, rustix::fs::Mode::empty());
        Ok(Making {
            id: None,
            root: AbsPath::resolve(Path::new("/"), empty).map_err(|_| failed(rustix::io::Errno::INVAL))?,
            index: empty.join("index"),
            tree: tree.map_err(failed)?,
            leave: self.trees.shared(),
            clean: Clean::Nothing,
            keeps_rest: false,
            bytes: 0,
        })
    }

    fn written(&mut self, bytes: u64) -> Result<(), Error> {
        if let Some(making) = &mut self.making {
            making.bytes = bytes;
            if let Some(id) = &making.id {
                self.trees.link_shared(id, Other::Goes)?;
            }
        }
        Ok(())
    }

    fn switch(&mut self, repo: &gix::Repository) -> Result<bool, Error> {
        let Some(Making {
            id: Some(id), bytes, ..
        }) = &self.making
        else {
            return Ok(false);
        };
        self.trees.whole(repo, id, *bytes)?;
        self.previous = self.trees.live().map(|tree| tree.id.clone());
        self.trees.switch(id)?;
        self.has_switched = true;
        Ok(true)
    }

    fn restore(&mut self, repo: &gix::Repository, id: &Id) -> Result<(), Error> {
        let bytes = self.trees.record().tree(id).map_or(0, |tree| tree.bytes);
        self.trees.reject();
        // Flushes the files that were restored, before the switch.
        self.trees.whole(repo, id, bytes)?;
        self.previous = self.trees.live().map(|tree| tree.id.clone());
        self.trees.switch(id)?;
        self.has_switched = true;
        Ok(())
    }

    fn located(&self) -> Option<Located> {
        let live = self.trees.live().map(|tree| tree.id.clone());
        match &self.making {
            Some(Making { id: Some(id), .. }) if !self.has_switched => Some(Located {
                id: id.clone(),
                previous: live,
                is_live: false,
            }),
            _ => Some(Located {
                id: live?,
                previous: if self.has_switched {
                    self.previous.clone()
                } else {
                    self.trees.previous().map(|tree| tree.id.clone())
                },
                is_live: true,
            }),
        }
    }
}
