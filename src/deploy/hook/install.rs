//! Reads and replaces the file `hooks/post-checkout` of a clone.
//!
//! The invariant: whatever `hooks` is, only `hooks/post-checkout` in the git directory is written. No link is followed below it,
//! and the file appears whole and executable, by rename.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, mkdirat, openat},
    io::Errno,
};

use crate::base::{
    bounded::{self, RULES},
    durable::{self, Flush, Replace},
    fault::{Blame, Kind, kind_of_io},
    name::RunId,
};

/// A hook could not be read or written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// `hooks` is not a directory, or the hook is not a file.
    #[error("{path} is not a {wanted}; nothing was written")]
    #[diagnostic(help("move it away, or make a {wanted} of it"))]
    Odd {
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// A system call failed.
    #[error("cannot {doing} {path}: {source}")]
    #[diagnostic(help("do this as the user that gitsocket runs as, or as root"))]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Odd { .. } => Kind::Path,
            Self::Io { source, .. } => kind_of_io(source),
        }
    }
}

/// The hook that is there.
#[derive(Debug, PartialEq, Eq)]
pub struct Installed {
    /// What is in it.
    pub content: Vec<u8>,
    /// Whether it can be started.
    pub executable: bool,
}

const DIR: &str = "hooks";
const NAME: &str = "post-checkout";

/// The directory `hooks` of a git directory, held open.
#[derive(Debug)]
pub struct Hooks {
    dir: OwnedFd,
    /// Where the hook is.
    pub path: PathBuf,
}

impl Hooks {
    /// Open `hooks` in `git_dir` for writing. It is made if it is missing.
    pub fn open(git_dir: &Path) -> Result<Self, Error> {
        let path = git_dir.join(DIR);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |path: &Path, errno: Errno| match errno {
            Errno::NOTDIR | Errno::LOOP => Error::Odd {
                path: path.into(),
                wanted: "directory",
            },
            errno => Error::Io {
                doing: "write in",
                path: path.into(),
                source: errno.into(),
            },
        };
        let parent = openat(CWD, git_dir, flags, Mode::empty()).map_err(|errno| failed(git_dir, errno))?;
        match mkdirat(&parent, DIR, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(&path, errno)),
        }
        let dir = openat(&parent, DIR, flags, Mode::empty()).map_err(|errno| failed(&path, errno))?;
        // Checked now, before the user writes a hook in the editor.
        accessat(&dir, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .map_err(|errno| failed(&path, errno))?;
        Ok(Self {
            dir,
            path: path.join(NAME),
        })
    }

    /// The hook that is there. A link is followed; one that leads nowhere counts as an empty hook.
    pub fn read(&self) -> Result<Option<Installed>, Error> {
        let failed = |source| self.failed("read", source);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file: File = match openat(&self.dir, NAME, flags, Mode::empty()) {
            Ok(fd) => fd.into(),
            Err(Errno::NOENT) if self.path.symlink_metadata().is_err() => return Ok(None),
            Err(Errno::NOENT) => {
                return Ok(Some(Installed {
                    content: Vec::new(),
                    executable: false,
                }));
            }
            Err(errno) => return Err(failed(errno.into())),
        };
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(Error::Odd {
                path: self.path.clone(),
                wanted: "regular file",
            });
        }
        let content = bounded::content(file, RULES).map_err(failed)?;
        Ok(Some(Installed {
            content,
            executable: meta.permissions().mode() & 0o111 != 0,
        }))
    }

    /// Replace the hook by `content`, executable for all.
    ///
    /// A kill before the rename leaves `hooks/post-checkout.ID.tmp`, which is never started.
    pub fn write(&self, content: &[u8]) -> Result<(), Error> {
        let temporary = format!("{NAME}.{}.tmp", RunId::new());
        let replace = Replace {
            dir: self.dir.as_fd(),
            temporary: Path::new(&temporary),
            access: durable::Access::Program,
            flush: Flush::Content,
        };
        replace
            .write(Path::new(NAME), content)
            .map_err(|err| self.failed("write", err))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> Error {
        Error::Io {
            doing,
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, symlink},
    };

    use super::*;

    #[test]
    fn appears_whole_and_executable_in_place_of_what_was_there() {
        let dir = crate::machine::tempdir().unwrap();
        let hooks = Hooks::open(dir.path()).unwrap();
        assert_eq!(hooks.read().unwrap(), None);
        hooks.write(b"1").unwrap();
        let meta = fs::metadata(&hooks.path).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o755);
        hooks.write(b"2").unwrap();
        let found = hooks.read().unwrap().unwrap();
        assert_eq!((found.content.as_slice(), found.executable), (&b"2"[..], true));
        let now = fs::metadata(&hooks.path).unwrap().ino();
        assert_ne!(meta.ino(), now, "it is another file");
        assert_eq!(fs::read_dir(dir.path().join("hooks")).unwrap().count(), 1);

        // A link is replaced, and what it leads to stays.
        let other = dir.path().join("other");
        fs::write(&other, "mine").unwrap();
        fs::remove_file(&hooks.path).unwrap();
        symlink(&other, &hooks.path).unwrap();
        let found = hooks.read().unwrap().unwrap();
        assert_eq!(
            (found.content.as_slice(), found.executable),
            (&b"mine"[..], false)
        );
        hooks.write(b"3").unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"mine");
        assert!(fs::symlink_metadata(&hooks.path).unwrap().is_file());

        fs::remove_file(&hooks.path).unwrap();
        symlink("nowhere", &hooks.path).unwrap();
        assert!(hooks.read().unwrap().is_some(), "it is not nothing");
    }

    #[test]
    fn no_link_is_followed_on_the_way() {
        let dir = crate::machine::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let git_dir = dir.path().join("git");
        symlink(&elsewhere, &git_dir).unwrap();
        assert!(matches!(Hooks::open(&git_dir), Err(Error::Odd { .. })));
        fs::remove_file(&git_dir).unwrap();
        fs::create_dir(&git_dir).unwrap();
        symlink(&elsewhere, git_dir.join("hooks")).unwrap();
        assert!(matches!(Hooks::open(&git_dir), Err(Error::Odd { .. })));
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_a_hook() {
        let dir = crate::machine::tempdir().unwrap();
        let hooks = Hooks::open(dir.path()).unwrap();
        fs::create_dir_all(&hooks.path).unwrap();
        assert!(matches!(hooks.read(), Err(Error::Odd { .. })));
        assert!(matches!(hooks.write(b"x"), Err(Error::Io { .. })));
        let left = fs::read_dir(dir.path().join("hooks")).unwrap().count();
        assert_eq!(left, 1, "nothing temporary is left");
    }
}
