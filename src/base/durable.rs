//! What must survive a power cut is flushed before anything is written that relies on it, see fsync(2).
//!
//! The order: objects, then the refs that name them; index and refs, then the state of the hooks. Files of the
//! worktree are not waited for: after a power cut the next run finds those that are not as the index says.
//!
//! Small files are replaced whole, see [`Replace`].

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::BorrowedFd,
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags},
    io::Errno,
};

use crate::base::fault::if_there;

/// How a file is replaced: another one is written beside it and renamed into its place, so that at any moment there is
/// either of the two, whole.
#[derive(Debug, Clone, Copy)]
pub struct Replace<'a> {
    /// Where relative paths begin.
    pub dir: BorrowedFd<'a>,
    /// What the new file is called until it is whole. Whatever a killed process left there is removed, and not written
    /// through. The caller makes sure that no other writes there.
    pub temporary: &'a Path,
    pub access: Access,
    pub flush: Flush,
}

/// The permissions of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// What the umask leaves.
    Usual,
    /// Its owner alone.
    Private,
    /// Everybody may read and start it.
    Program,
    /// As the file that it replaces, which must be there.
    Same,
}

/// What of a new file is flushed before it is relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Nothing: it can be done without.
    Nothing,
    /// Its content, before it gets its name: a power cut leaves one of the two files, whole.
    Content,
    /// Its name, too.
    Name,
}

impl<'a> Replace<'a> {
    /// A replacement by way of `temporary`. Relative paths begin at the working directory.
    pub fn by(temporary: &'a Path, access: Access, flush: Flush) -> Self {
        Self {
            dir: CWD,
            temporary,
            access,
            flush,
        }
    }

    /// Put `content` in the place of the file `path`, or make it. After an error, what was there is there.
    pub fn write(self, path: &Path, content: &[u8]) -> io::Result<()> {
        let file = self.create()?;
        let written = self.fill(file, path, content).and_then(|()| {
            rustix::fs::renameat(self.dir, self.temporary, self.dir, path)?;
            Ok(())
        });
        if written.is_err() {
            // What cannot be removed now is removed by the next one.
            rustix::fs::unlinkat(self.dir, self.temporary, AtFlags::empty()).ok();
        }
        written?;
        match (self.flush, path.parent()) {
            (Flush::Name, Some(dir)) => sync(dir),
            _ => Ok(()),
        }
    }

    fn create(self) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if self.access == Access::Usual {
            0o666
        } else {
            0o600
        });
        let open = || rustix::fs::openat(self.dir, self.temporary, flags, mode);
        let created = open().or_else(|errno| match errno {
            Errno::EXIST => {
                rustix::fs::unlinkat(self.dir, self.temporary, AtFlags::empty())?;
                open()
            }
            errno => Err(errno),
        });
        Ok(created?.into())
    }

    /// The file is closed then: one that is open for writing cannot be started.
    fn fill(self, mut file: File, path: &Path, content: &[u8]) -> io::Result<()> {
        file.write_all(content)?;
        match self.access {
            Access::Usual | Access::Private => {}
            Access::Program => rustix::fs::fchmod(&file, Mode::from_raw_mode(0o755))?,
            Access::Same => {
                let old = rustix::fs::statat(self.dir, path, AtFlags::empty())?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(old.st_mode))?;
            }
        }
        match self.flush {
            Flush::Nothing => Ok(()),
            Flush::Content | Flush::Name => file.sync_all(),
        }
    }
}

/// Remove the file `path`. Says whether it was there.
pub fn remove(path: &Path) -> io::Result<bool> {
    Ok(if_there(fs::remove_file(path))?.is_some())
}

/// Flush the content of `files`, and then their names. One that is not there has nothing to lose.
pub fn files<'a>(files: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
    let mut dirs: Vec<&Path> = Vec::new();
    for path in files {
        match sync(path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        }
        dirs.extend(path.parent());
    }
    dirs.sort_unstable();
    dirs.dedup();
    dirs.into_iter().try_for_each(sync)
}

/// Flush all that is below `dir`, links not followed.
pub fn tree(dir: &Path) -> io::Result<()> {
    let mut dirs = vec![dir.to_owned()];
    let mut at = 0;
    while let Some(dir) = dirs.get(at).cloned() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                sync(&entry.path())?;
            }
        }
        at += 1;
    }
    // Those below come after those above.
    dirs.iter().rev().try_for_each(|dir| sync(dir))
}

/// The space on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// What this user can still write.
    pub left: u64,
    pub total: u64,
}

/// The space on the disk that `path` is on; none if its file system does not say, as tmpfs without a size.
pub fn free_space(path: &Path) -> io::Result<Option<FreeSpace>> {
    let disk = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok((disk.f_blocks > 0).then(|| FreeSpace {
        left: bytes(disk.f_bavail),
        total: bytes(disk.f_blocks),
    }))
}

/// Flush the names in `dir`.
pub fn dir(dir: &Path) -> io::Result<()> {
    sync(dir)
}

fn sync(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        // A directory that may be passed but not read, above the worktree.
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        other => other?,
    };
    match file.sync_all() {
        // Some filesystems cannot do it for directories, and need not.
        Err(err) if err.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_and_trees_that_are_there_and_others() {
        let dir = crate::machine::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "x").unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.path().join("sub/link")).unwrap();
        files([
            file.as_path(),
            &dir.path().join("none"),
            &dir.path().join("none/x"),
        ])
        .unwrap();
        tree(dir.path()).unwrap();
        assert!(tree(&dir.path().join("none")).is_err());
    }
    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let dir = crate::machine::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        let (path, new) = (at("file"), at("new"));
        let by = |access, flush| Replace::by(&new, access, flush);
        // What a killed process left may be anything; it is not written through.
        fs::write(at("other"), "mine").unwrap();
        symlink("other", &new).unwrap();
        by(Access::Private, Flush::Nothing).write(&path, b"one").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read(at("other")).unwrap(), b"mine");
        assert_eq!(mode("file"), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        by(Access::Same, Flush::Content).write(&path, b"two").unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode("file")), (b"two".to_vec(), 0o640));
        by(Access::Program, Flush::Name).write(&path, b"three").unwrap();
        assert_eq!(mode("file"), 0o755);
        assert!(by(Access::Same, Flush::Nothing).write(&at("none"), b"x").is_err());
        fs::create_dir(at("dir")).unwrap();
        assert!(by(Access::Usual, Flush::Nothing).write(&at("dir"), b"x").is_err());
        assert!(!new.exists() && !at("none").exists());
        let fd = File::open(dir.path()).unwrap();
        let within = Replace {
            dir: std::os::fd::AsFd::as_fd(&fd),
            temporary: Path::new("new"),
            ..by(Access::Usual, Flush::Content)
        };
        within.write(Path::new("file"), b"four").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"four");
    }
}
