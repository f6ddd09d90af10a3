//! The trees of a target: settled after whatever a killed run has left, and from there on each step in an order from which a kill
//! can be told.
//!
//! A tree that begins is in the record before it is renamed or made. It is whole once that is in the record, which is after all of
//! it is on the disk; only then is it switched to. So what was ever live is whole.

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
    ground::{Current, Ground},
    id::Id,
    record::{Record, Tree},
    shared::{self, Other},
    trees::{self, Sorted},
};
use crate::{
    base::{durable, fault::if_there, name::AbsPath, rights::Rights},
    config::{Live, Releases, Site},
};

mod goes;
mod pins;
mod settle;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use pins::pin;
use settle::live;

/// Below the git directory: the index of each tree, and what Build has left in it.
const FILES: &str = "gitsocket/releases";
/// What may come beside what the live release takes, in bytes: the new one is a little larger.
const MARGIN: u64 = 1 << 20;

/// The trees of a target.
#[derive(Debug)]
pub struct Yard<'a> {
    site: &'a Site,
    releases: &'a Releases,
    git_dir: PathBuf,
    rights: Rights,
    /// Nothing, if this is a dry run and nothing is there yet.
    ground: Option<Ground>,
    record: Record,
    is_damaged: bool,
    live: Option<Id>,
    seen: Current,
    foreign: Vec<String>,
    elsewhere: Vec<String>,
    /// The tree that was begun last, if it had been another one before.
    of_spare: Option<Id>,
}

impl<'a> Yard<'a> {
    /// See what is there, and put right what a run has left that was killed; in a dry run, change nothing. The caller holds the
    /// target's lock.
    pub fn settle(
        site: &'a Site,
        releases: &'a Releases,
        (rights, dry_run): (Rights, bool),
    ) -> Result<Self, Error> {
        let (path, git_dir) = (site.path.as_path(), site.git_dir());
        let (record, is_damaged) =
            Record::read(&git_dir).map_err(Error::io("read", &Record::file(&git_dir)))?;
        let ground = if dry_run {
            Ground::open(path)?
        } else {
            Some(Ground::make(path, rights)?)
        };
        let mut yard = Self {
            site,
            releases,
            git_dir,
            rights,
            ground: None,
            record,
            is_damaged,
            live: None,
            seen: Current::Nothing,
            foreign: Vec::new(),
            elsewhere: Vec::new(),
            of_spare: None,
        };
        if let Some(ground) = ground {
            yard.look(&ground, dry_run)?;
            yard.ground = Some(ground);
        }
        Ok(yard)
    }

    /// What is live now, it is for the first time that this is seen.
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

    /// What the run that is under way makes its tree of.
    pub fn live(&self) -> Option<&Tree> {
        self.live.as_ref().and_then(|live| self.record.tree(live))
    }

    /// The one that was live before that, if it is still there.
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

    /// All trees, as they are remembered.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Whether what was remembered of trees is damaged: then none that is there is ours.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// What else there is in `releases`.
    pub fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// What is to be said of names at which the live release was seen before the configuration had another one.
    pub fn elsewhere(&self) -> &[String] {
        &self.elsewhere
    }

    /// The index of the tree `id`.
    pub fn index(&self, id: &Id) -> PathBuf {
        self.git_dir.join(FILES).join(format!("{id}.index"))
    }

    /// What Build has left in the tree `id`.
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

    /// The same, as the engine wants it.
    pub fn root(&self, id: &Id) -> Result<AbsPath, Error> {
        let path = self.path(id);
        let invalid = |err| std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("{err:?}"));
        AbsPath::resolve(Path::new("/"), &path).map_err(|err| Error::io("use", &path)(invalid(err)))
    }

    /// Open the tree `id`.
    pub fn open(&self, id: &Id) -> Result<OwnedFd, Error> {
        self.ground()?.tree(id, self.swapped(id))
    }

    /// The name of the directory that is live, if that is the tree `id`.
    fn swapped(&self, id: &Id) -> Option<&str> {
        let is_swapped = self.live.as_ref() == Some(id) && matches!(self.seen, Current::Dir(_));
        is_swapped.then(|| self.releases.live.name())
    }

    fn ground(&self) -> Result<&Ground, Error> {
        let nothing =
            || Error::io("open", &self.site.path.as_path().join(DIR))(std::io::ErrorKind::NotFound.into());
        self.ground.as_ref().ok_or_else(nothing)
    }

    /// The paths of what is shared.
    pub fn shared(&self) -> Vec<BString> {
        shared::paths(self.releases)
    }

    /// Begin a tree for `commit`, of the spare one if there is one; what is in it has to be brought to that. After an error,
    /// [`is_stuck`](Self::is_stuck) says whether another one may do.
    pub fn begin(&mut self, commit: ObjectId) -> Result<Id, Error> {
        let Sorted { spare, .. } = self.sorted();
        let id = self.name(self.ground()?, commit);
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
                self.ground()?.begin(&id, self.rights)?;
                let dir = self.ground()?.find(&id)?;
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
        // Without its index, a tree is looked at whole.
        if_there(fs::rename(self.index(spare), self.index(&id)))
            .map_err(Error::io("rename", &self.index(spare)))?;
        let old = self.built(spare);
        built::remove(&old).map_err(Error::io("remove", &old))?;
        match self.ground()?.rename(spare.as_str().as_bytes(), &id) {
            Ok(true) => self.ground()?.open_up(&id),
            Ok(false) => Err(Error::InTheWay {
                path: self.path(&id).display().to_string(),
            }),
            // That may be so for ever, as it is of a directory in a lower layer of overlayfs.
            Err(err) => {
                self.keeps_name(&id, spare.clone());
                self.of_spare = Some(spare.clone());
                Err(err)
            }
        }
    }

    /// A name for a tree of `commit` that is made now.
    fn name(&self, ground: &Ground, commit: ObjectId) -> Id {
        let is_taken = |id: &Id| self.record.tree(id).is_some() || !ground.is_free(id);
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

    /// Let the tree `id` have its links to what is shared; gives the paths where something else is, and stays.
    pub fn link_shared(&self, id: &Id, other: Other) -> Result<Vec<&Path>, Error> {
        let (path, root) = (self.site.path.as_path(), self.ground()?.root());
        let tree = self.open(id)?;
        shared::link(
            self.releases,
            (path, root),
            (std::os::fd::AsFd::as_fd(&tree), other),
            self.rights,
        )
    }

    /// The paths that the live release does not share, though the configuration names them: it was made before that.
    pub fn unshared(&self) -> Vec<&Path> {
        let live = self.live().filter(|_| !self.releases.shared.is_empty());
        let tree = live.and_then(|live| self.open(&live.id).ok());
        tree.map_or_else(Vec::new, |tree| {
            shared::missing(self.releases, std::os::fd::AsFd::as_fd(&tree))
        })
    }

    /// The tree `id` holds its commit, and is built; it takes so many bytes. Once this is over it may become live.
    pub fn whole(&mut self, repo: &gix::Repository, id: &Id, bytes: u64) -> Result<(), Error> {
        self.check_place(id)?;
        if self.site.fsync {
            let tree = self.open(id)?;
            let synced = rustix::fs::syncfs(&tree).map_err(std::io::Error::from);
            synced.map_err(Error::io("have on the disk", &self.path(id)))?;
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

    /// A hook has had the tree `id` to itself: what has its name is to be what was made.
    pub fn check_place(&self, id: &Id) -> Result<(), Error> {
        let ground = self.ground()?;
        match (ground.find(id)?, self.record.tree(id).and_then(|tree| tree.dir)) {
            (Some(there), Some(made)) if there == made => Ok(()),
            _ => Err(Error::Moved {
                path: ground.at(id).display().to_string(),
            }),
        }
    }

    /// Let the tree `id`, which is whole, be live.
    pub fn switch(&mut self, id: &Id) -> Result<(), Error> {
        let ground = self.ground()?;
        let old = self.live.clone();
        match (&self.releases.live, &self.seen, &old) {
            (Live::Symlink(name), Current::Dir(_), Some(old)) => {
                ground.link_for_directory((id, old), name, self.rights)?
            }
            (Live::Symlink(name), ..) => ground.link(id, name, self.rights)?,
            (Live::Exchange(name), Current::Nothing, _) => {
                // Now, while nothing else would be in the way of a link.
                ground.try_exchange(name)?;
                ground.appear(id, name)?;
            }
            (Live::Exchange(name), Current::Dir(_), Some(old)) => {
                ground.swap(id, name)?;
                if !ground.rename(id.as_str().as_bytes(), old)? {
                    return Err(Error::InTheWay {
                        path: ground.at(old).display().to_string(),
                    });
                }
            }
            (Live::Exchange(name), ..) => {
                ground.swap(id, name)?;
                ground.unlink(id)?;
            }
        }
        if self.site.fsync {
            ground.sync()?;
        }
        self.seen = ground.current(self.releases.live.name())?;
        self.live = Some(id.clone());
        self.note_turn();
        self.write()
    }

    /// What is live is good: or it has turned out not to be.
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

    /// What is live is taken back; that is written with what is done next.
    pub fn reject(&mut self) {
        if let Some(tree) = self.live.as_ref().and_then(|live| self.record.tree_mut(live)) {
            tree.is_rejected = true;
        }
    }

    fn sorted(&self) -> Sorted {
        trees::sort(&self.record, self.live.as_ref(), self.keep())
    }
}

/// Whether what is at the live name of `site` is ours, or nothing. Nothing is changed.
pub fn check(site: &Site, releases: &Releases) -> Result<(), Error> {
    let path = site.path.as_path();
    let git_dir = site.git_dir();
    let Some(ground) = Ground::open(path)? else {
        return Ground::check_live(path, releases.live.name());
    };
    let (record, _) = Record::read(&git_dir).map_err(Error::io("read", &Record::file(&git_dir)))?;
    let name = releases.live.name();
    live(&record, &ground.current(name)?, || path.join(name)).map(drop)
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
