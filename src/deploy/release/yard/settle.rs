//! What a run finds of trees, and puts right: another one may have been killed between any two of its system calls, and people
//! remove and rename things.

use std::{fs, os::unix::ffi::OsStrExt as _, path::PathBuf};

use gix::ObjectId;

use super::{
    super::{
        Error,
        ground::{Current, Found, Ground},
        id::Id,
        record::{Directory, Record},
    },
    FILES, Yard,
};
use crate::config::Live;

impl Yard<'_> {
    /// See what is there; and unless this is a dry run, put it right.
    pub(super) fn look(&mut self, ground: &Ground, dry_run: bool) -> Result<(), Error> {
        let name = self.releases.live.name();
        let before = self.record.clone();
        let found = ground.list()?;
        self.seen = ground.current(name)?;
        let left = if dry_run { None } else { ground.left(name)? };
        self.look_elsewhere(ground, name);
        let misnamed = self.match_up(ground, &found, left);
        self.live = live(&self.record, &self.seen, || self.site.path.as_path().join(name))?;
        let is_ours = |found: &Found| found.dir.is_some_and(|dir| self.record.tree_at(dir).is_some());
        let foreign = found.iter().filter(|found| !is_ours(found));
        self.foreign = foreign
            .map(|found| found.name.to_string_lossy().into_owned())
            .collect();
        if dry_run {
            return Ok(());
        }
        match left.map(|dir| self.record.tree_at(dir)) {
            Some(Some(tree)) => ground.settle_new(name, &tree.id)?,
            Some(None) => ground.clear_tried(name),
            None => {}
        }
        if let (Some(live), Current::Dir(_)) = (&self.live, &self.seen) {
            ground.unlink(live)?;
        }
        self.rename(ground, misnamed)?;
        if self.live.is_none() {
            self.restore(ground)?;
        }
        self.note_turn();
        if self.record != before {
            self.write()?;
        }
        self.sweep();
        Ok(())
    }

    /// See what is left at the names that the configuration had for what is live before it had `name`. A link there keeps the tree
    /// that it leads to as it is; a directory is the release no more.
    fn look_elsewhere(&mut self, ground: &Ground, name: &str) {
        let mut linked = Vec::new();
        let mut names = std::mem::take(&mut self.record.names);
        names.retain(|old| {
            let at = self.site.path.as_path().join(old);
            let at = at.display();
            match (old != name).then(|| ground.current(old)) {
                Some(Ok(Current::Link(id))) if self.record.tree(&id).is_some() => {
                    self.elsewhere.push(format!(
                        "{at} is still a link to the release {id}, which stays for that; `live` of `releases` is {name:?} by now (if nothing reads it any more, type: rm {at})"
                    ));
                    linked.push(id);
                    true
                }
                Some(Ok(Current::Dir(dir))) if self.record.tree_at(dir).is_some() => {
                    self.elsewhere.push(format!(
                        "{at} was the live release, and is left alone from now on: `live` of `releases` is {name:?} by now (if nothing reads it any more, type: rm -r {at})"
                    ));
                    false
                }
                _ => false,
            }
        });
        names.push(name.to_owned());
        self.record.names = names;
        for tree in &mut self.record.trees {
            tree.is_linked = linked.contains(&tree.id);
        }
    }

    /// Find the directory of each tree; one that has none is forgotten. Gives those that have another name than theirs.
    fn match_up(&mut self, ground: &Ground, found: &[Found], left: Option<Directory>) -> Vec<(Found, Id)> {
        let mut misnamed = Vec::new();
        let known: Vec<Directory> = self.record.trees.iter().filter_map(|tree| tree.dir).collect();
        let seen = match self.seen {
            Current::Dir(dir) => Some(dir),
            _ => None,
        };
        self.record.trees.retain_mut(|tree| {
            let Some(dir) = tree.dir else {
                // It was about to be made.
                let there = found.iter().find(|found| found.name == tree.id.as_str());
                tree.dir = there
                    .and_then(|found| found.dir)
                    .filter(|dir| !known.contains(dir) && ground.is_blank(&tree.id));
                return tree.dir.is_some();
            };
            if seen == Some(dir) || left == Some(dir) {
                return true;
            }
            let there = found.iter().find(|found| found.dir == Some(dir));
            if let Some(found) = there.filter(|found| found.name != tree.id.as_str()) {
                misnamed.push((found.clone(), tree.id.clone()));
            }
            there.is_some()
        });
        misnamed
    }

    /// Give each tree its name. One may have the name of another. Where something else has it, a tree that was never live gets a new
    /// one: a hook may have moved it, and put that there.
    fn rename(&mut self, ground: &Ground, mut misnamed: Vec<(Found, Id)>) -> Result<(), Error> {
        while !misnamed.is_empty() {
            let mut left = Vec::new();
            let all = misnamed.len();
            for (found, id) in misnamed {
                match ground.rename(found.name.as_bytes(), &id) {
                    Ok(true) => {}
                    Ok(false) => left.push((found, id)),
                    // What was never live is in the way of nothing.
                    Err(err) => {
                        let name = found.name.into_string().ok();
                        let name = name.and_then(|name| Id::try_from(name).ok());
                        match name.filter(|name| self.record.tree(name).is_none()) {
                            Some(name) if self.keeps_name(&id, name.clone()) => {}
                            _ => return Err(err),
                        }
                    }
                }
            }
            if left.len() == all {
                self.rename_another_way(ground, &mut left)?;
            }
            misnamed = left;
        }
        Ok(())
    }

    /// The tree `id`, which was never live, cannot be renamed: it keeps its `name`, and only goes.
    pub(super) fn keeps_name(&mut self, id: &Id, name: Id) -> bool {
        let tree = self.record.tree_mut(id).filter(|tree| !tree.is_whole);
        tree.is_some_and(|tree| {
            // The names of later ones come after others.
            (tree.id, tree.is_stuck, tree.made) = (name, true, 0);
            true
        })
    }

    fn rename_another_way(&mut self, ground: &Ground, left: &mut [(Found, Id)]) -> Result<(), Error> {
        let unfinished = |id: &Id| {
            let tree = self.record.tree(id).filter(|tree| !tree.is_whole)?;
            ObjectId::from_hex(tree.commit.as_bytes()).ok()
        };
        let found = left.iter_mut().find_map(|(_, id)| Some((unfinished(id)?, id)));
        let Some((commit, id)) = found else {
            let path = left.first().map(|(_, id)| ground.at(id).display().to_string());
            return Err(Error::InTheWay {
                path: path.unwrap_or_default(),
            });
        };
        let name = self.name(ground, commit);
        if let Some(tree) = self.record.tree_mut(id) {
            tree.id = name.clone();
        }
        *id = name;
        Ok(())
    }

    /// What leads to the live release was removed: it is made again.
    fn restore(&mut self, ground: &Ground) -> Result<(), Error> {
        let last = self.record.trees.iter().find(|tree| {
            tree.turn > 0 && tree.turn == self.record.turn && tree.is_whole && self.seen == Current::Nothing
        });
        let Some((id, is_linked)) = last.map(|tree| (tree.id.clone(), tree.is_linked)) else {
            return Ok(());
        };
        match &self.releases.live {
            Live::Symlink(name) => ground.link(&id, name, self.rights)?,
            // The link leads to where it is.
            Live::Exchange(_) if is_linked => return Ok(()),
            Live::Exchange(name) => ground.appear(&id, name)?,
        }
        self.is_live(id, ground)
    }

    fn is_live(&mut self, id: Id, ground: &Ground) -> Result<(), Error> {
        self.seen = ground.current(self.releases.live.name())?;
        self.live = Some(id);
        Ok(())
    }

    /// Remove files of trees that are no more.
    pub(super) fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.git_dir.join(FILES)) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let is_known = name
                .to_str()
                .and_then(|name| name.split_once('.'))
                .is_some_and(|(id, what)| {
                    matches!(what, "index" | "built")
                        && self.record.trees.iter().any(|tree| tree.id.as_str() == id)
                });
            if !is_known {
                // It is in the way of nothing.
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// The tree that is seen as live.
pub(super) fn live(record: &Record, seen: &Current, at: impl Fn() -> PathBuf) -> Result<Option<Id>, Error> {
    let what = match seen {
        Current::Nothing => return Ok(None),
        Current::Link(id) => return Ok(record.tree(id).map(|tree| tree.id.clone())),
        Current::Dir(dir) => match record.tree_at(*dir) {
            Some(tree) => return Ok(Some(tree.id.clone())),
            None => "a directory",
        },
        Current::Other(what) => what,
    };
    Err(Error::Live {
        path: at().display().to_string(),
        what: what.into(),
    })
}
