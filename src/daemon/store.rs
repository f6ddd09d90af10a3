//! The state directory of a daemon, with one directory for runs that have ended, one for pauses, and one for accepted runs.
//!
//! A daemon is identified by the path of its configuration: the names of its files end with a digest of that path. So two daemons can
//! share the directory, and a trigger keeps its files when its fields change.

use std::{
    env,
    fs::{self, DirBuilder},
    io,
    os::unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::base::{
    bounded,
    durable::{self, Access, Flush, Replace},
    words::hex,
};

/// The directory of runs that have ended, see [`history`](super::history).
const RUNS: &str = "runs";
/// The directory of [`pauses`](super::pauses).
pub(super) const PAUSED: &str = "paused";
/// The directory of [accepted](super::waiting) runs.
pub(super) const WAITING: &str = "waiting";

/// The longest file of a [`Shelf`], in bytes: a few notes of clients, each of 200 characters at most.
const MAX_BYTES: u64 = 16 << 10;
/// How many files of a [`Shelf`] are listed: more than any daemon has accepted runs.
const MAX_FILES: usize = 100_000;

/// The state directory: `$STATE_DIRECTORY` (systemd.exec(5)), else `$XDG_STATE_HOME/gitsocket`, else
/// `$HOME/.local/state/gitsocket`. `None` if none of these is set to an absolute path.
pub fn dir() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let value = env::var_os(name)?;
        // systemd lists several directories with colons between them.
        let first = env::split_paths(&value).next()?;
        first.is_absolute().then_some(first)
    };
    absolute("STATE_DIRECTORY")
        .or_else(|| Some(absolute("XDG_STATE_HOME")?.join("gitsocket")))
        .or_else(|| Some(absolute("HOME")?.join(".local/state/gitsocket")))
}

/// Make `dir`, which no other user may read.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    let is_new = fs::symlink_metadata(dir).is_err();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        // Flushed, so that files in it survive a power cut.
        Some(parent) if is_new => durable::dir(parent),
        _ => Ok(()),
    }
}

/// A digest of a path, for names of files.
pub(super) fn digest(path: &Path) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, path.as_os_str().as_bytes());
    hex(&digest.as_ref()[..8])
}

/// The state directory of one daemon.
#[derive(Debug, Clone, Default)]
pub struct Store {
    dir: Option<PathBuf>,
    owner: String,
}

impl Store {
    /// A store in `dir`, see [`dir`], for the daemon whose configuration is at the absolute path `config`. Without a directory,
    /// nothing is stored.
    pub fn new(dir: Option<PathBuf>, config: &Path) -> Self {
        Self {
            dir,
            owner: digest(config),
        }
    }

    /// Its directories, made if they are missing: rules of the sandbox need existing directories.
    pub fn made(&self) -> Vec<PathBuf> {
        let dirs = [RUNS, PAUSED, WAITING]
            .into_iter()
            .filter_map(|name| self.below(name));
        // If that fails, the module that writes there logs it.
        dirs.inspect(|dir| drop(make(dir))).collect()
    }

    /// The directory of runs that have ended.
    pub fn runs(&self) -> Option<PathBuf> {
        self.below(RUNS)
    }

    /// Its files in the directory `name` whose names end in `ending`.
    pub(super) fn shelf(&self, name: &str, ending: &str) -> Shelf {
        Shelf {
            dir: self.below(name),
            ending: format!("-{}.{ending}", self.owner),
        }
    }

    fn below(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(name))
    }
}

/// Small files of one daemon in one directory. Their names are those of triggers or runs, so they contain no slash.
#[derive(Debug)]
pub(super) struct Shelf {
    /// `None` if the daemon has no state directory.
    pub(super) dir: Option<PathBuf>,
    ending: String,
}

/// The suffix of a file that is being written.
const NEW: &str = ".new";

impl Shelf {
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(format!("{name}{}", self.ending)))
    }

    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        let path = self.path(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(serde_json::from_slice(&bounded::read(&path, MAX_BYTES)?)?)
    }

    /// Write `content` to the file `name`. Callers must not do that at the same time.
    pub(super) fn write(&self, name: &str, content: &impl Serialize, flush: Flush) -> io::Result<()> {
        let path = self.path(name).ok_or(io::ErrorKind::NotFound)?;
        // Another worker may write the same file.
        let new = self.path(&format!("{name}.{}", std::process::id()));
        let mut new = new.unwrap_or_default().into_os_string();
        new.push(NEW);
        let text = serde_json::to_vec(content)?;
        Replace::by(Path::new(&new), Access::Private, flush).write(&path, &text)
    }

    /// Remove the file `name`. Gives whether it existed.
    pub(super) fn remove(&self, name: &str) -> io::Result<bool> {
        let path = self.path(name).ok_or(io::ErrorKind::NotFound)?;
        durable::remove(&path)
    }

    /// The names of its files. Incomplete files are removed, since no other process writes there at that time.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let Some(dir) = &self.dir else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)?.take(MAX_FILES) {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(name) = name.strip_suffix(&self.ending) {
                names.push(name.to_owned());
            } else if name
                .strip_suffix(NEW)
                .is_some_and(|name| name.ends_with(&self.ending))
            {
                fs::remove_file(entry.path()).ok();
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_that_share_a_directory_do_not_mix() {
        let dir = crate::machine::tempdir().unwrap();
        let store = |config: &str| Store::new(Some(dir.path().into()), Path::new(config));
        let (one, other) = (store("/etc/one.ron"), store("/etc/other.ron"));
        assert_eq!(one.made().len(), 3);
        let shelf = |store: &Store| store.shelf(PAUSED, "json");
        shelf(&one).write("site", &1, Flush::Name).unwrap();
        shelf(&other).write("a-b.json", &2, Flush::Nothing).unwrap();
        assert_eq!(shelf(&one).read::<u64>("site").unwrap(), 1);
        let missing = shelf(&other).read::<u64>("site").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        fs::write(dir.path().join(PAUSED).join("half"), "").unwrap();
        assert_eq!(shelf(&one).names().unwrap(), ["site"]);
        assert_eq!(shelf(&other).names().unwrap(), ["a-b.json"]);
        assert!(one.shelf(PAUSED, "refused").names().unwrap().is_empty());
        assert!(shelf(&one).remove("site").unwrap());
        assert!(!shelf(&one).remove("site").unwrap());
    }

    #[test]
    fn what_was_never_finished_goes_and_damage_is_an_error() {
        let dir = crate::machine::tempdir().unwrap();
        let store = Store::new(Some(dir.path().into()), Path::new("/c"));
        store.made();
        let shelf = store.shelf(WAITING, "json");
        let path = shelf.path("0198").unwrap();
        let half = dir.path().join(WAITING).join(format!(
            "{}.new",
            shelf
                .path("0198.7")
                .unwrap()
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
        ));
        fs::write(&half, "{").unwrap();
        fs::write(&path, "{").unwrap();
        assert_eq!(shelf.names().unwrap(), ["0198"]);
        assert!(!half.exists());
        assert!(shelf.read::<u64>("0198").is_err());
        fs::write(&path, " ".repeat(MAX_BYTES as usize + 1)).unwrap();
        assert!(shelf.read::<u64>("0198").is_err());
    }

    #[test]
    fn without_a_directory() {
        let shelf = Store::default().shelf(PAUSED, "json");
        assert!(shelf.names().unwrap().is_empty());
        assert!(shelf.read::<u64>("site").is_err());
        assert!(shelf.write("site", &1, Flush::Nothing).is_err());
    }
}
