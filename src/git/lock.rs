//! One run at a time per target, across processes; and the recovery of what a dead run left.
//!
//! The lock is a `flock` on the target's directory itself: it needs no file, dies with its holder,
//! and nobody ever has to remove it. Hooks do not inherit it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

use crate::base::{
    identity::Identity,
    name::AbsPath,
    report::{Report, Reporter},
    watch::{Early, Watch},
};

mod error;
mod foreign;
mod recovery;
mod wait;
pub use error::Error;
pub use foreign::wait_for;
pub use recovery::{Recovered, clear, recover};

/// The lock on a target. Dropping it releases the lock, and removes the directories that were made for
/// the target if nothing was put into them.
#[derive(Debug)]
pub struct Lock {
    _dir: File,
    made: Vec<PathBuf>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Only ever removes empty directories. A run that waits for this one sees that its directory
        // is gone, and makes it anew.
        for dir in self.made.iter().rev() {
            if fs::remove_dir(dir).is_err() {
                break;
            }
        }
    }
}

/// Lock the directory `path`, which is made if it is missing. While another run holds it, this one waits, for as long as
/// its `watch` allows.
pub fn acquire(path: &AbsPath, watch: &Watch, report: &Reporter) -> Result<Lock, Error> {
    let path = path.as_path();
    let mut made = Vec::new();
    loop {
        make(path, &mut made)?;
        if let Some(dir) = lock(path, watch, report)? {
            return Ok(Lock { _dir: dir, made });
        }
    }
}

/// Whether a run holds the lock on the directory `path`. To be asked by somebody who then leaves it to a run to wait.
pub fn is_held(path: &AbsPath) -> bool {
    let flags = (OFlags::DIRECTORY | OFlags::NONBLOCK).bits() as i32;
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path.as_path());
    let locked = dir.map(|dir| flock(&dir, FlockOperation::NonBlockingLockShared));
    matches!(locked, Ok(Err(Errno::WOULDBLOCK)))
}

/// Lock the directory that `path` is now; `None` if it was replaced or removed meanwhile.
fn lock(path: &Path, watch: &Watch, report: &Reporter) -> Result<Option<File>, Error> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotADirectory => Error::NotADirectory { path: path.into() },
        _ => Error::Lock {
            path: path.into(),
            source,
        },
    };
    let dir = match OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits() as i32)
        .open(path)
    {
        Ok(dir) => dir,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(failed(err)),
    };
    let dir = match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => dir,
        Err(Errno::WOULDBLOCK) => {
            report.emit(Report::Waiting {
                on: format!("another process that is updating {}", path.display()),
            });
            wait::lock(dir, watch).map_err(|err| match err {
                wait::Failed::Early(Early::Over) => Error::Held { path: path.into() },
                wait::Failed::Early(Early::Stopping) => Error::Stopping { path: path.into() },
                wait::Failed::Io(source) => failed(source),
            })?
        }
        Err(errno) => return Err(failed(errno.into())),
    };
    let held = dir.metadata().map_err(failed)?;
    Ok(match fs::metadata(path) {
        Ok(now) if Identity::of(&now) == Identity::of(&held) => Some(dir),
        _ => None,
    })
}

/// Make `path` and its parents, and remember in `made` which of them were not there.
fn make(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => return Err(Error::NotADirectory { path: path.into() }),
        Err(_) => {}
    }
    if let Some(parent) = path.parent() {
        make(parent, made)?;
    }
    match fs::create_dir(path) {
        Ok(()) => made.push(path.into()),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            // Another process made it just now; or else it will never be there, however often we try.
            let is_symlink = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
            if is_symlink && !path.exists() {
                return Err(Error::Dangling { path: path.into() });
            }
        }
        Err(source) => {
            return Err(Error::Create {
                path: path.into(),
                source,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::base::watch::Stop;

    fn silent() -> Reporter {
        Reporter::new(|_| {})
    }

    fn patient() -> Watch {
        Watch::new(std::time::Duration::from_secs(60), Stop::default(), None)
    }

    fn abs(path: &Path) -> AbsPath {
        AbsPath::resolve(Path::new("/"), path).unwrap()
    }

    #[test]
    fn directories_made_for_nothing_go_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = abs(&dir.path().join("a/b/c"));
        let lock = acquire(&path, &patient(), &silent()).unwrap();
        assert!(path.as_path().is_dir());
        drop(lock);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let lock = acquire(&path, &patient(), &silent()).unwrap();
        fs::write(path.as_path().join("x"), "").unwrap();
        drop(lock);
        assert!(path.as_path().join("x").exists());
    }

    #[test]
    fn a_symlink_that_leads_nowhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        for path in ["link", "link/below", "loop"] {
            let path = abs(&dir.path().join(path));
            assert!(
                matches!(acquire(&path, &patient(), &silent()), Err(Error::Dangling { .. })),
                "{path}"
            );
        }
    }

    #[test]
    fn a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            assert!(matches!(
                acquire(&abs(&path), &patient(), &silent()),
                Err(Error::NotADirectory { .. })
            ));
        }
    }

    #[test]
    fn the_second_waits_for_the_first_even_if_the_directory_was_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = abs(&dir.path().join("site"));
        let first = acquire(&path, &patient(), &silent()).unwrap();
        let (waiting, waits) = mpsc::channel();
        let second = std::thread::spawn({
            let path = path.clone();
            let report = Reporter::new(move |event| waiting.send(event).unwrap());
            move || acquire(&path, &patient(), &report).unwrap()
        });
        assert!(matches!(waits.recv().unwrap(), Report::Waiting { .. }));
        drop(first);
        let second = second.join().unwrap();
        assert!(path.as_path().is_dir(), "the second has made it anew");
        drop(second);
    }

    #[test]
    fn no_lock_is_waited_for_longer_than_there_is_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = abs(dir.path());
        let stranger = File::open(dir.path()).unwrap();
        flock(&stranger, FlockOperation::LockExclusive).unwrap();
        let impatient = || Watch::new(std::time::Duration::from_millis(20), Stop::default(), None);
        // The second one finds the thread that the first one left.
        for _ in 0..2 {
            let err = acquire(&path, &impatient(), &silent()).unwrap_err();
            assert!(matches!(err, Error::Held { .. }), "{err}");
        }
        let stop = Stop::default();
        let watch = Watch::new(std::time::Duration::from_secs(60), stop.clone(), None);
        stop.set();
        let err = acquire(&path, &watch, &silent()).unwrap_err();
        assert!(matches!(err, Error::Stopping { .. }), "{err}");
        // Whether the thread that was left or this one is first: it does not keep the lock.
        drop(stranger);
        drop(acquire(&path, &patient(), &silent()).unwrap());
        drop(acquire(&path, &patient(), &silent()).unwrap());
    }
}
