//! Directories where others are at work: the worktrees and git directories of other targets. Nothing in them is written
//! or removed, whatever leads there: a directory is known by device and inode, since links can be changed at any time.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::dirs;
use crate::base::{identity::Identity, mutex};

/// The directories of all targets of one process. Cheap to clone; all clones are one. The default knows of no other
/// target, and learns of none.
#[derive(Debug, Clone, Default)]
pub struct Others(Option<Arc<Mutex<Arc<Known>>>>);

/// The directories as they were at one moment.
#[derive(Debug, Default)]
pub(super) struct Known {
    by_path: BTreeMap<PathBuf, Identity>,
    paths: HashMap<Identity, Vec<PathBuf>>,
}

impl Others {
    pub fn new(dirs: impl IntoIterator<Item = (PathBuf, Identity)>) -> Self {
        let known = Known::new(dirs.into_iter().collect());
        Self(Some(Arc::new(Mutex::new(Arc::new(known)))))
    }

    pub fn note(&self, path: &Path) {
        let Some(known) = &self.0 else { return };
        let now = dirs::identity(path);
        let mut known = mutex::lock(known);
        if known.by_path.get(path) == now.as_ref() {
            return;
        }
        let mut by_path = known.by_path.clone();
        match now {
            Some(now) => drop(by_path.insert(path.into(), now)),
            None => drop(by_path.remove(path)),
        }
        *known = Arc::new(Known::new(by_path));
    }

    pub(super) fn known(&self) -> Arc<Known> {
        self.0
            .as_ref()
            .map_or_else(Arc::default, |known| mutex::lock(known).clone())
    }
}

impl Known {
    fn new(by_path: BTreeMap<PathBuf, Identity>) -> Self {
        let mut paths = HashMap::<_, Vec<_>>::new();
        for (path, identity) in &by_path {
            paths.entry(*identity).or_default().push(path.clone());
        }
        Self { by_path, paths }
    }

    /// Whether a directory is one of them. After one was removed, another directory may have got its number: so its path
    /// must still lead there.
    pub(super) fn has(&self, dir: &Identity) -> bool {
        let paths = self.paths.get(dir).into_iter().flatten();
        paths
            .map(|path| dirs::identity(path))
            .any(|now| now.as_ref() == Some(dir))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_is_known_wherever_it_is_moved() {
        let dir = crate::machine::tempdir().unwrap();
        let [a, b, link] = ["a", "b", "link"].map(|name| dir.path().join(name));
        fs::create_dir(&a).unwrap();
        std::os::unix::fs::symlink(&a, &link).unwrap();
        let id = Identity::at(&a).unwrap();
        let others = Others::new([(link.clone(), id)]);
        assert!(others.known().has(&id));
        fs::rename(&a, &b).unwrap();
        assert!(!others.known().has(&id), "nothing leads there");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&b, &link).unwrap();
        assert!(others.known().has(&id));
        fs::create_dir(&a).unwrap();
        let new = Identity::at(&a).unwrap();
        assert!(!others.known().has(&new));
        others.note(&a);
        assert!(others.known().has(&new));
        fs::remove_dir(&a).unwrap();
        others.note(&a);
        assert!(!others.known().has(&new) && others.known().has(&id));
        let alone = Others::default();
        alone.note(&b);
        assert!(!alone.known().has(&id));
    }
}
