//! The trees of a target. First they are recovered from a run that was killed; from there on, the steps have an order from which
//! the next run can tell where a kill happened.
//!
//! A tree is in the record before it is made, or before the spare is renamed. The record calls it whole only after all of it is
//! flushed to the disk; only then it becomes live. So each tree that was ever live is whole.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use bytesize::ByteSize;
use gix::{ObjectId, bstr::BString};

use super::{
    DIR, Error, built,
    id::Id,
    layout::{Current, Layout},
    record::{Record, Tree},
    retention::{self, Sorted},
    shared::{self, Other},
};
use crate::{
    base::{durable, fault::if_there, name::AbsPath, rights::Rights},
    config::{Live, Releases, Site},
};

mod pins;
mod recover;
mod remove;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use pins::pin;
use recover::live;

/// The directory below the git directory with the index of each tree, and its list of files that Build has changed.
const FILES: &str = "gitsocket/releases";
/// How many bytes a new release may take beyond the size of the live one.
const MARGIN: u64 = 1 << 20;

/// The trees of a target.
#[derive(Debug)]
pub struct Trees<'a> {
    site: &'a Site,
    releases: &'a Releases,
    git_dir: PathBuf,
    rights: Rights,
    /// None, if this is a dry run and there are no releases yet.
    layout: Option<Layout>,
    record: Record,
    is_damaged: bool,
    live: Option<Id>,
    seen: Current,
    foreign: Vec<String>,
    elsewhere: Vec<String>,
    /// The tree that was begun last, if it was made of the spare.
    of_spare: Option<Id>,
}

impl<'a> Trees<'a> {
    /// Look at the trees, and repair what a killed run has left; a dry run changes nothing, and needs no lock. Otherwise the caller
    /// holds the target's lock.
    pub fn recover(
        site: &'a Site,
        releases: &'a Releases,
        (rights, dry_run): (Rights, bool),
    ) -> Result<Self, Error> {
        let (path, git_dir) = (site.path.as_path(), site.git_dir());
        let (record, is_damaged) =
            Record::read(&git_dir).map_err(Error::io("read", &Record::file(&git_dir)))?;
        let layout = if dry_run {
            Layout::open(path)?
        } else {
            Some(Layout::make(path, rights)?)
        };
        let mut trees = Self {
            site,
            releases,
            git_dir,
            rights,
            layout: None,
            record,
            is_damaged,
            live: None,
            seen: Current::Nothing,
            foreign: Vec::new(),
            elsewhere: Vec::new(),
            of_spare: None,
        };
        if let Some(layout) = layout {
            trees.look(&layout, dry_run)?;
            trees.layout = Some(layout);
        }
        Ok(trees)
    }

    /// Count a switch, if the live tree is not the one of the last switch.
    fn note_turn(&mut self) {
        let turn = self.record.turn;
        let Some(tree) = self.live.as_ref().and_then(|live| self.record.tree_mut(live)) else {
            return;
        };
        if tree.turn == 0 || tree.turn != turn {
            tree.turn = turn + 1;
            tree.live_since = Some(now());
            self.record.turn = turn + 1;
        }
    }

    fn write(&mut self) -> Result<(), Error> {
        let file = Record::file(&self.git_dir);
        if let Some(dir) = file.parent() {
            make(dir)?;
        }
        let written = self.record.write(&self.git_dir, self.site.fsync);
        written.map_err(Error::io("write", &file))
    }

    /// The live release.
    pub fn live(&self) -> Option<&Tree> {
        self.live.as_ref().and_then(|live| self.record.tree(live))
    }

    /// The release that was live before the live one, if it still exists.
    pub fn previous(&self) -> Option<&Tree> {
        let turn = self.live()?.turn;
        let before = self
            .record
            .trees
            .iter()
            .filter(|tree| tree.turn > 0 && tree.turn < turn);
        before.max_by_key(|tree| tree.turn)
    }

    /// How many older releases are kept.
    pub fn keep(&self) -> usize {
        self.releases.keep.get() as usize
    }

    /// The record of all trees.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Whether the record is damaged: then all directories count as foreign.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// The names in `releases` that are not in the record.
    pub fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// Warnings about earlier live names.
    pub fn elsewhere(&self) -> &[String] {
        &self.elsewhere
    }

    /// The path of the index of the tree `id`.
    pub fn index(&self, id: &Id) -> PathBuf {
        self.git_dir.join(FILES).join(format!("{id}.index"))
    }

    /// The path of the list of files that Build has changed in the tree `id`.
    pub fn built(&self, id: &Id) -> PathBuf {
        self.git_dir.join(FILES).join(format!("{id}.built"))
    }

    /// Where the tree `id` is.
    pub fn path(&self, id: &Id) -> PathBuf {
        let path = self.site.path.as_path();
        match self.swapped(id) {
            Some(live) => path.join(live),
            None => path.join(DIR).join(id.as_str()),
        }
    }

    /// The path of the tree `id`, in the type that `git::worktree` takes.
    pub fn root(&self, id: &Id) -> Result<AbsPath, Error> {
        let path = self.path(id);
        let invalid = |err| std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("{err:?}"));
        AbsPath::resolve(Path::new("/"), &path).map_err(|err| Error::io("use", &path)(invalid(err)))
    }

    /// Open the tree `id`.
    pub fn open(&self, id: &Id) -> Result<OwnedFd, Error> {
        self.layout()?.tree(id, self.swapped(id))
    }

    /// The live name, if the tree `id` is the directory there.
    fn swapped(&self, id: &Id) -> Option<&str> {
        let is_swapped = self.live.as_ref() == Some(id) && matches!(self.seen, Current::Dir(_));
        is_swapped.then(|| self.releases.live.name())
    }

    fn layout(&self) -> Result<&Layout, Error> {
        let nothing =
            || Error::io("open", &self.site.path.as_path().join(DIR))(std::io::ErrorKind::NotFound.into());
        self.layout.as_ref().ok_or_else(nothing)
    }

    /// The paths of what is shared.
    pub fn shared(&self) -> Vec<BString> {
        shared::paths(self.releases)
    }

    /// Begin a tree for `commit`, of the spare if there is one; the caller then brings its files to that commit. After an error,
    /// [`is_stuck`](Self::is_stuck) says whether another try makes sense.
    pub fn begin(&mut self, commit: ObjectId) -> Result<Id, Error> {
        let Sorted { spare, .. } = self.sorted();
        let id = self.name(self.layout()?, commit);
        make(&self.git_dir.join(FILES))?;
        if spare.is_none() {
            self.clear_stuck()?;
            self.check_room()?;
        }
        self.of_spare = None;
        self.record.made += 1;
        let tree = Tree::new(id.clone(), commit.to_string(), self.record.made);
        match spare {
            Some(spare) => self.begin_of(&spare, tree)?,
            None => {
                self.record.trees.push(tree);
                self.write()?;
                self.layout()?.begin(&id, self.rights)?;
                let dir = self.layout()?.find(&id)?;
                if let Some(tree) = self.record.tree_mut(&id) {
                    tree.dir = dir;
                }
                self.write()?;
            }
        }
        Ok(id)
    }

    fn begin_of(&mut self, spare: &Id, mut tree: Tree) -> Result<(), Error> {
        let id = tree.id.clone();
        if let Some(old) = self.record.tree_mut(spare) {
            (tree.dir, tree.bytes) = (old.dir, old.bytes);
            *old = tree;
        }
        self.of_spare = Some(id.clone());
        self.write()?;
        // Without an index, all files of the tree are compared, so a missing one is not an error.
        if_there(fs::rename(self.index(spare), self.index(&id)))
            .map_err(Error::io("rename", &self.index(spare)))?;
        let old = self.built(spare);
        built::remove(&old).map_err(Error::io("remove", &old))?;
        match self.layout()?.rename(spare.as_str().as_bytes(), &id) {
            Ok(true) => self.layout()?.open_up(&id),
            Ok(false) => Err(Error::InTheWay {
                path: self.path(&id).display().to_string(),
            }),
            // It may never succeed: overlayfs cannot rename a directory of a lower layer.
            Err(err) => {
                self.keeps_name(&id, spare.clone());
                self.of_spare = Some(spare.clone());
                Err(err)
            }
        }
    }

    fn name(&self, layout: &Layout, commit: ObjectId) -> Id {
        let is_taken = |id: &Id| self.record.tree(id).is_some() || !layout.is_free(id);
        let last = self.record.trees.iter().max_by_key(|tree| tree.made);
        Id::new(SystemTime::now(), commit, last.map(|tree| &tree.id), is_taken)
    }

    fn check_room(&self) -> Result<(), Error> {
        let bytes = self.live().map_or(0, |tree| tree.bytes);
        let (path, needed) = (self.site.path.as_path(), bytes + bytes / 20 + MARGIN);
        match durable::free_space(path) {
            Ok(Some(room)) if bytes > 0 && room.left < needed => Err(Error::Room {
                path: path.display().to_string(),
                needed: ByteSize(needed),
                left: ByteSize(room.left),
            }),
            _ => Ok(()),
        }
    }

    /// Make the links of the tree `id` to what is shared; gives the paths where something else is, and stays.
    pub fn link_shared(&self, id: &Id, other: Other) -> Result<Vec<&Path>, Error> {
        let (path, root) = (self.site.path.as_path(), self.layout()?.root());
        let tree = self.open(id)?;
        shared::link(
            self.releases,
            (path, root),
            (std::os::fd::AsFd::as_fd(&tree), other),
            self.rights,
        )
    }

    /// The paths that the configuration shares, but the live release does not, since it was made before.
    pub fn unshared(&self) -> Vec<&Path> {
        let live = self.live().filter(|_| !self.releases.shared.is_empty());
        let tree = live.and_then(|live| self.open(&live.id).ok());
        tree.map_or_else(Vec::new, |tree| {
            shared::missing(self.releases, std::os::fd::AsFd::as_fd(&tree))
        })
    }

    /// Record that the tree `id` holds its commit, is built, and takes so many `bytes`. After that it may become live.
    pub fn whole(&mut self, repo: &gix::Repository, id: &Id, bytes: u64) -> Result<(), Error> {
        self.check_place(id)?;
        if self.site.fsync {
            let tree = self.open(id)?;
            let synced = rustix::fs::syncfs(&tree).map_err(std::io::Error::from);
            synced.map_err(Error::io("flush to the disk", &self.path(id)))?;
        }
        let Some(tree) = self.record.tree_mut(id) else {
            return Ok(());
        };
        tree.is_whole = true;
        tree.bytes = bytes;
        if let Ok(commit) = ObjectId::from_hex(tree.commit.as_bytes()) {
            pin(repo, id, commit)?;
        }
        self.write()
    }

    /// Check that the directory of the tree `id` is still the one that was made: a hook could replace it.
    pub fn check_place(&self, id: &Id) -> Result<(), Error> {
        let layout = self.layout()?;
        match (layout.find(id)?, self.record.tree(id).and_then(|tree| tree.dir)) {
            (Some(there), Some(made)) if there == made => Ok(()),
            _ => Err(Error::Moved {
                path: layout.at(id).display().to_string(),
            }),
        }
    }

    /// Make the tree `id`, which is whole, live.
    pub fn switch(&mut self, id: &Id) -> Result<(), Error> {
        let layout = self.layout()?;
        let old = self.live.clone();
        match (&self.releases.live, &self.seen, &old) {
            (Live::Symlink(name), Current::Dir(_), Some(old)) => {
                layout.link_for_directory((id, old), name, self.rights)?
            }
            (Live::Symlink(name), ..) => layout.link(id, name, self.rights)?,
            (Live::Exchange(name), Current::Nothing, _) => {
                // Tried now: once a directory is live, a change to `Symlink` needs more steps.
                layout.try_exchange(name)?;
                layout.appear(id, name)?;
            }
            (Live::Exchange(name), Current::Dir(_), Some(old)) => {
                layout.swap(id, name)?;
                if !layout.rename(id.as_str().as_bytes(), old)? {
                    return Err(Error::InTheWay {
                        path: layout.at(old).display().to_string(),
                    });
                }
            }
            (Live::Exchange(name), ..) => {
                layout.swap(id, name)?;
                layout.unlink(id)?;
            }
        }
        if self.site.fsync {
            layout.sync()?;
        }
        self.seen = layout.current(self.releases.live.name())?;
        self.live = Some(id.clone());
        self.note_turn();
        self.write()
    }

    /// Record whether the live release is good.
    pub fn judge(&mut self, is_good: bool) -> Result<(), Error> {
        let Some(tree) = self.live.as_ref().and_then(|live| self.record.tree_mut(live)) else {
            return Ok(());
        };
        let is_rejected = tree.is_rejected && !is_good;
        if (tree.is_good, tree.is_rejected) != (is_good, is_rejected) {
            (tree.is_good, tree.is_rejected) = (is_good, is_rejected);
            self.write()?;
        }
        Ok(())
    }

    /// Mark the live release as rolled back. The next step writes the record.
    pub fn reject(&mut self) {
        if let Some(tree) = self.live.as_ref().and_then(|live| self.record.tree_mut(live)) {
            tree.is_rejected = true;
        }
    }

    fn sorted(&self) -> Sorted {
        retention::sort(&self.record, self.live.as_ref(), self.keep())
    }
}

/// Check that the live name of `site` is free, or that what is there is ours. Nothing is changed.
pub fn check(site: &Site, releases: &Releases) -> Result<(), Error> {
    let path = site.path.as_path();
    let git_dir = site.git_dir();
    let Some(layout) = Layout::open(path)? else {
        return Layout::check_live(path, releases.live.name());
    };
    let (record, _) = Record::read(&git_dir).map_err(Error::io("read", &Record::file(&git_dir)))?;
    let name = releases.live.name();
    live(&record, &layout.current(name)?, || path.join(name)).map(drop)
}

fn make(dir: &Path) -> Result<(), Error> {
    match fs::create_dir(dir) {
        Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::io("make", dir)(err)),
        _ => Ok(()),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
