//! Where a run makes its tree, and how that becomes live.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use gix::{ObjectId, bstr::BString};

use crate::{
    base::{name::AbsPath, rights::Rights},
    config::Site,
    deploy::release::{self, Error, Yard, built, id::Id, located::Located, record::Tree, shared::Other},
    git::worktree::{self, Apart, Cache, Clean},
};

/// The tree of one run.
#[derive(Debug)]
pub enum Stage<'a> {
    /// The files are live one by one, as they are written.
    InPlace {
        /// What git knows of them.
        index: PathBuf,
    },
    /// A tree of its own for each commit, which is live once it is whole.
    Release(Box<Release<'a>>),
}

/// A target's releases, and the tree that this run makes.
#[derive(Debug)]
pub struct Release<'a> {
    yard: Yard<'a>,
    making: Option<Making>,
    /// What was live before it.
    previous: Option<Id>,
    has_switched: bool,
    cache: Cache,
}

/// The tree that is being made, or looked at.
#[derive(Debug)]
struct Making {
    id: Option<Id>,
    root: AbsPath,
    index: PathBuf,
    tree: OwnedFd,
    /// Tracked paths that are not as the commit has them, and stay so.
    leave: Vec<BString>,
    clean: Clean,
    /// It is a release that is looked at, in which nothing is deleted.
    keeps_rest: bool,
    /// What the files take, in bytes, once they are there.
    bytes: u64,
}

impl<'a> Stage<'a> {
    /// The one that `site` asks for; what a killed run has left of its trees is settled. What is new gets
    /// `rights`; a dry run changes nothing. `cache` knows where other targets are.
    pub fn settle(site: &'a Site, (rights, dry_run): (Rights, bool), cache: &Cache) -> Result<Self, Error> {
        let Some(releases) = &site.releases else {
            return Ok(Self::InPlace {
                index: site.git_dir().join("index"),
            });
        };
        Ok(Self::Release(Box::new(Release {
            yard: Yard::settle(site, releases, (rights, dry_run))?,
            making: None,
            previous: None,
            has_switched: false,
            // A tree has another name each time.
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

    /// Whether `commit` is live, so that there is no tree to make. In place, each run looks at the files.
    pub fn is_done(&self, commit: ObjectId) -> bool {
        match self {
            Self::InPlace { .. } => false,
            Self::Release(release) => release.live_commit() == Some(commit),
        }
    }

    /// Whether the files are seen while they are written.
    pub fn is_in_place(&self) -> bool {
        matches!(self, Self::InPlace { .. })
    }

    /// Begin the tree for `commit`. In a dry run it is compared with what is live, or with the directory `empty`.
    pub fn begin(&mut self, commit: ObjectId, dry_run: Option<&Path>) -> Result<(), Error> {
        let Self::Release(release) = self else {
            return Ok(());
        };
        let making = match (dry_run, release.yard.live().map(|tree| tree.id.clone())) {
            (None, _) => {
                let id = release.yard.begin(commit)?;
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

    /// The tree that was begun cannot be brought to its commit. Says whether another one may do.
    pub fn is_stuck(&mut self) -> Result<bool, Error> {
        match self {
            Self::InPlace { .. } => Ok(false),
            Self::Release(release) => {
                release.making = None;
                release.yard.is_stuck()
            }
        }
    }

    /// Remove the tree that the next one is to be made of, for the room that it takes. Says whether there was one.
    pub fn give_up_spare(&mut self) -> bool {
        match self {
            Self::InPlace { .. } => false,
            Self::Release(release) => release.yard.give_up_spare(),
        }
    }

    /// The index of these files.
    pub fn index(&self) -> Option<&Path> {
        match self {
            Self::InPlace { index, .. } => Some(index),
            Self::Release(release) => release.making.as_ref().map(|making| making.index.as_path()),
        }
    }

    /// Let `options`, which are those of a deploy in place, be those of the tree that is made.
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

    /// The files are there: so many bytes. What all releases share is linked.
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

    /// What is to be live is where it was made.
    pub fn check_place(&self) -> Result<(), Error> {
        match (self.yard(), self.release()) {
            (Some(yard), Some(id)) => yard.check_place(id),
            _ => Ok(()),
        }
    }

    /// Remember what Build has left: these tracked files are not as committed; and all of it takes so many bytes.
    pub fn built(&mut self, altered: &[worktree::Altered], bytes: u64, fsync: bool) -> Result<(), Error> {
        let Self::Release(release) = self else {
            return Ok(());
        };
        let Some(Making { id: Some(id), .. }) = &release.making else {
            return Ok(());
        };
        let path = release.yard.built(id);
        built::write(&path, altered, fsync).map_err(release::Error::io("write", &path))?;
        if let Some(making) = &mut release.making {
            making.bytes = bytes;
        }
        Ok(())
    }

    /// Let the tree be live, now that it is whole. Says whether that is another one than before.
    pub fn switch(&mut self, repo: &gix::Repository) -> Result<bool, Error> {
        match self {
            // It is.
            Self::InPlace { .. } => Ok(false),
            Self::Release(release) => release.switch(repo),
        }
    }

    /// What is live is good, or is not. Gives what could not be removed of older ones.
    pub fn judge(&mut self, repo: &gix::Repository, is_good: bool) -> Result<Vec<String>, Error> {
        match self {
            Self::InPlace { .. } => Ok(Vec::new()),
            Self::Release(release) => {
                release.yard.judge(is_good)?;
                if is_good {
                    release.yard.prune(repo, release.has_switched)
                } else {
                    Ok(Vec::new())
                }
            }
        }
    }

    /// Look at the release `id`; the tracked files `leave` are not as its commit has them.
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

    /// The release that was looked at, if it is of `commit`.
    pub fn verified(&self, commit: ObjectId) -> Option<Id> {
        let tree = self.yard()?.record().tree(self.release()?)?;
        let is_it = ObjectId::from_hex(tree.commit.as_bytes()).ok() == Some(commit);
        is_it.then(|| tree.id.clone())
    }

    /// The release that is live; none in place.
    pub fn live_release(&self) -> Option<&Tree> {
        self.yard()?.live()
    }

    /// Whether there is a release of `commit` that may be live again.
    pub fn has_release(&self, commit: ObjectId) -> bool {
        let hex = commit.to_string();
        let is_it = |tree: &Tree| tree.is_whole && tree.turn > 0 && tree.commit == hex;
        self.yard()
            .is_some_and(|yard| yard.record().trees.iter().any(is_it))
    }

    /// Let the release `id`, which was live before, be live again: what is live is taken back.
    pub fn restore(&mut self, repo: &gix::Repository, id: &Id) -> Result<(), Error> {
        match self {
            Self::InPlace { .. } => Ok(()),
            Self::Release(release) => release.restore(repo, id),
        }
    }

    /// The release that hooks are started in: the one that is being made, until it is live.
    pub fn located(&self) -> Option<Located> {
        match self {
            Self::InPlace { .. } => None,
            Self::Release(release) => release.located(),
        }
    }

    /// The release of `site` that is live now, as far as that can be seen.
    pub fn live(site: &Site) -> Option<Located> {
        let releases = site.releases.as_ref()?;
        let yard = Yard::settle(site, releases, (Rights::of(0), true)).ok()?;
        Some(Located {
            id: yard.live()?.id.clone(),
            previous: yard.previous().map(|tree| tree.id.clone()),
            is_live: true,
        })
    }

    /// The trees; none in place.
    pub fn yard(&self) -> Option<&Yard<'a>> {
        match self {
            Self::InPlace { .. } => None,
            Self::Release(release) => Some(&release.yard),
        }
    }
}

impl Release<'_> {
    fn live_commit(&self) -> Option<ObjectId> {
        let Tree { commit, is_whole, .. } = self.yard.live()?;
        ObjectId::from_hex(commit.as_bytes()).ok().filter(|_| *is_whole)
    }

    fn making(&self, id: Id, clean: Clean) -> Result<Making, Error> {
        Ok(Making {
            root: self.yard.root(&id)?,
            index: self.yard.index(&id),
            tree: self.yard.open(&id)?,
            leave: self.yard.shared(),
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
            leave: self.yard.shared(),
            clean: Clean::Nothing,
            keeps_rest: false,
            bytes: 0,
        })
    }

    fn written(&mut self, bytes: u64) -> Result<(), Error> {
        if let Some(making) = &mut self.making {
            making.bytes = bytes;
            if let Some(id) = &making.id {
                self.yard.link_shared(id, Other::Goes)?;
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
        self.yard.whole(repo, id, *bytes)?;
        self.previous = self.yard.live().map(|tree| tree.id.clone());
        self.yard.switch(id)?;
        self.has_switched = true;
        Ok(true)
    }

    fn restore(&mut self, repo: &gix::Repository, id: &Id) -> Result<(), Error> {
        let bytes = self.yard.record().tree(id).map_or(0, |tree| tree.bytes);
        self.yard.reject();
        // What was mended is on the disk before that, too.
        self.yard.whole(repo, id, bytes)?;
        self.previous = self.yard.live().map(|tree| tree.id.clone());
        self.yard.switch(id)?;
        self.has_switched = true;
        Ok(())
    }

    fn located(&self) -> Option<Located> {
        let live = self.yard.live().map(|tree| tree.id.clone());
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
                    self.yard.previous().map(|tree| tree.id.clone())
                },
                is_live: true,
            }),
        }
    }
}
