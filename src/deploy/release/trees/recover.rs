//! Recovery at the beginning of a run: an earlier run may have been killed between any two of its system calls, and users remove
//! and rename directories.

use std::{fs, os::unix::ffi::OsStrExt as _, path::PathBuf};

use gix::ObjectId;

use super::{
    super::{
        Error,
        id::Id,
        layout::{Current, Found, Layout},
        record::{Directory, Record},
    },
    FILES, Trees,
};
use crate::config::Live;

impl Trees<'_> {
    /// Look at the directories; and unless this is a dry run, repair them.
    pub(super) fn look(&mut self, layout: &Layout, dry_run: bool) -> Result<(), Error> {
        let name = self.releases.live.name();
        let before = self.record.clone();
        let found = layout.list()?;
        self.seen = layout.current(name)?;
        let left = if dry_run { None } else { layout.left(name)? };
        self.look_elsewhere(layout, name);
        let misnamed = self.match_up(layout, &found, left);
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
            Some(Some(tree)) => layout.name_exchanged(name, &tree.id)?,
            Some(None) => layout.clear_tried(name),
            None => {}
        }
        if let (Some(live), Current::Dir(_)) = (&self.live, &self.seen) {
            layout.unlink(live)?;
        }
        self.rename(layout, misnamed)?;
        if self.live.is_none() {
            self.restore(layout)?;
        }
        self.note_turn();
        if self.record != before {
            self.write()?;
        }
        self.sweep();
        Ok(())
    }

    /// Look at the live names that the configuration had before `name`. A link there keeps its tree from being removed or used
    /// again; a directory there is no longer a release.
    fn look_elsewhere(&mut self, layout: &Layout, name: &str) {
        let mut linked = Vec::new();
        let mut names = std::mem::take(&mut self.record.names);
        names.retain(|old| {
            let at = self.site.path.as_path().join(old);
            let at = at.display();
            match (old != name).then(|| layout.current(old)) {
                Some(Ok(Current::Link(id))) if self.record.tree(&id).is_some() => {
                    self.elsewhere.push(format!(
                        "{at} is still a link to the release {id}, which is kept for that; `live` of `releases` is {name:?} now (if nothing reads the link any more, type: rm {at})"
                    ));
                    linked.push(id);
                    true
                }
                Some(Ok(Current::Dir(dir))) if self.record.tree_at(dir).is_some() => {
                    self.elsewhere.push(format!(
                        "{at} was the live release, and gitsocket leaves it alone from now on: `live` of `releases` is {name:?} now (if nothing reads it any more, type: rm -r {at})"
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

    /// Find the directory of each tree, and forget trees without one. Gives the directories that have not the name of their tree.
    fn match_up(&mut self, layout: &Layout, found: &[Found], left: Option<Directory>) -> Vec<(Found, Id)> {
        let mut misnamed = Vec::new();
        let known: Vec<Directory> = self.record.trees.iter().filter_map(|tree| tree.dir).collect();
        let seen = match self.seen {
            Current::Dir(dir) => Some(dir),
            _ => None,
        };
        self.record.trees.retain_mut(|tree| {
            let Some(dir) = tree.dir else {
                // A killed run was about to make it: only an empty directory can be that one.
                let there = found.iter().find(|found| found.name == tree.id.as_str());
                tree.dir = there
                    .and_then(|found| found.dir)
                    .filter(|dir| !known.contains(dir) && layout.is_blank(&tree.id));
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

    /// Give each tree its name back. Two trees may have each other's. Where a foreign file has it, a tree that was never live gets a
    /// new name: a hook may have moved the tree, and put that file there.
    fn rename(&mut self, layout: &Layout, mut misnamed: Vec<(Found, Id)>) -> Result<(), Error> {
        while !misnamed.is_empty() {
            let mut left = Vec::new();
            let all = misnamed.len();
            for (found, id) in misnamed {
                match layout.rename(found.name.as_bytes(), &id) {
                    Ok(true) => {}
                    Ok(false) => left.push((found, id)),
                    // A tree that was never live may keep the wrong name until it is removed.
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
                self.rename_another_way(layout, &mut left)?;
            }
            misnamed = left;
        }
        Ok(())
    }

    /// The tree `id`, which was never live, cannot be renamed: it keeps the name `name`, and is only to be removed.
    pub(super) fn keeps_name(&mut self, id: &Id, name: Id) -> bool {
        let tree = self.record.tree_mut(id).filter(|tree| !tree.is_whole);
        tree.is_some_and(|tree| {
            // With this number, the next release is not named after it.
            (tree.id, tree.is_stuck, tree.made) = (name, true, 0);
            true
        })
    }

    fn rename_another_way(&mut self, layout: &Layout, left: &mut [(Found, Id)]) -> Result<(), Error> {
        let unfinished = |id: &Id| {
            let tree = self.record.tree(id).filter(|tree| !tree.is_whole)?;
            ObjectId::from_hex(tree.commit.as_bytes()).ok()
        };
        let found = left.iter_mut().find_map(|(_, id)| Some((unfinished(id)?, id)));
        let Some((commit, id)) = found else {
            let path = left.first().map(|(_, id)| layout.at(id).display().to_string());
            return Err(Error::InTheWay {
                path: path.unwrap_or_default(),
            });
        };
        let name = self.name(layout, commit);
        if let Some(tree) = self.record.tree_mut(id) {
            tree.id = name.clone();
        }
        *id = name;
        Ok(())
    }

    /// Make the live link again, or move the live tree back, if a user has removed what was at the live name.
    fn restore(&mut self, layout: &Layout) -> Result<(), Error> {
        let last = self.record.trees.iter().find(|tree| {
            tree.turn > 0 && tree.turn == self.record.turn && tree.is_whole && self.seen == Current::Nothing
        });
        let Some((id, is_linked)) = last.map(|tree| (tree.id.clone(), tree.is_linked)) else {
            return Ok(());
        };
        match &self.releases.live {
            Live::Symlink(name) => layout.link(&id, name, self.rights)?,
            // The link at an earlier live name needs the tree where it is.
            Live::Exchange(_) if is_linked => return Ok(()),
            Live::Exchange(name) => layout.appear(&id, name)?,
        }
        self.is_live(id, layout)
    }

    fn is_live(&mut self, id: Id, layout: &Layout) -> Result<(), Error> {
        self.seen = layout.current(self.releases.live.name())?;
        self.live = Some(id);
        Ok(())
    }

    /// Remove files of trees that no longer exist.
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
                // If it stays, it does no harm.
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// The tree that is at the live name.
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
