//! One run at a time per target, across processes; and the recovery of what a dead run left.
//!
//! The lock is a `flock` on a file in the git directory that no other user may open (see `file`). It dies with its holder,
//! and the file need not be removed. Hooks do not inherit it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::base::{
    report::{Report, Reporter},
    watch::{Early, Watch},
};

mod before;
mod error;
mod file;
mod foreign;
mod made;
mod recovery;
mod wait;
pub use error::Error;
pub use file::file;
pub use foreign::wait_for;
use made::Made;
pub use recovery::{Recovered, clear, recover};

/// The lock on a target. Dropping it releases the lock, and removes what was made for the target if nothing was put into it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    // Before the lock: in this order they go.
    made: Made,
    _held: File,
    /// What a run of the version before would lock.
    _before: Option<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.made.is_empty() || !is_alone(&self.path) {
            return;
        }
        // While it is held: a run that waits for it sees that it is another file's by then. The directories follow.
        fs::remove_file(&self.path).ok();
    }
}

/// Whether the lock file at `path` is all that there is of a git directory.
fn is_alone(path: &Path) -> bool {
    let Some(dir) = path.parent() else { return false };
    let is_repository = fs::symlink_metadata(dir.with_file_name("HEAD")).is_ok();
    !is_repository && fs::read_dir(dir).is_ok_and(|entries| entries.count() == 1)
}

/// Lock the target whose lock file is at `path`, and whose files are in `root`. What is missing is made: the root, the git
/// directory, and the file. While another run holds it, this one waits, for as long as its `watch` allows.
pub fn acquire(path: &Path, root: &Path, watch: &Watch, report: &Reporter) -> Result<Lock, Error> {
    let mut made = Made::default();
    let held = loop {
        if watch.is_over() {
            return Err(Error::early(Early::Over, path));
        }
        if let Some(file) = file::open(path, &mut made)? {
            let held = lock(file, (path, root), watch, report)?;
            if file::is_at(&held, path).map_err(failed(path))? {
                if !path.starts_with(root) {
                    made.make(root)?;
                }
                break held;
            }
        }
        made.make(root)?;
        // A clone of the version before would not get its place.
        before::wait(root, watch, report)?;
        if let Some(git_dir) = path.parent().and_then(Path::parent) {
            made.make(git_dir)?;
        }
    };
    let mut lock = Lock {
        path: path.into(),
        made,
        _held: held,
        _before: None,
    };
    before::wait(root, watch, report)?;
    lock._before = before::hold(root);
    Ok(lock)
}

/// Whether a run holds the lock of the target whose lock file is at `path`, and whose files are in `root`. To be asked by
/// a caller that then leaves it to a run to wait.
pub fn is_held(path: &Path, root: &Path) -> bool {
    let locked = file::peek(path).map(|file| flock(&file, FlockOperation::NonBlockingLockShared));
    matches!(locked, Some(Err(Errno::WOULDBLOCK))) || before::is_held(root)
}

/// Lock `file`, which was at `path` a moment ago.
fn lock(file: File, (path, root): (&Path, &Path), watch: &Watch, report: &Reporter) -> Result<File, Error> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            report.emit(Report::Waiting {
                on: format!("another process that is updating {}", root.display()),
            });
            wait::lock(file, watch).map_err(|err| match err {
                wait::Failed::Early(early) => Error::early(early, path),
                wait::Failed::Io(source) => failed(path)(source),
            })
        }
        Err(errno) => Err(failed(path)(errno.into())),
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Lock {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
        sync::mpsc,
        time::Duration,
    };

    use rustix::fs::{FileType, Mode};

    use super::*;
    use crate::base::watch::Stop;

    fn silent() -> Reporter {
        Reporter::new(|_| {})
    }

    fn patient() -> Watch {
        Watch::new(std::time::Duration::from_secs(60), Stop::default(), None)
    }

    /// The lock of the target at `root`, in place.
    fn take(root: &Path, watch: &Watch, report: &Reporter) -> Result<Lock, Error> {
        acquire(&at(root), root, watch, report)
    }

    fn at(root: &Path) -> PathBuf {
        file(&root.join(".git"))
    }

    #[test]
    fn what_was_made_for_nothing_goes_away() {
        let dir = crate::machine::tempdir().unwrap();
        let root = dir.path().join("a/b/c");
        let apart = file(&dir.path().join("lib/c.git"));
        for path in [at(&root), apart] {
            let lock = acquire(&path, &root, &patient(), &silent()).unwrap();
            assert!(root.is_dir() && path.is_file() && is_held(&path, &root));
            drop(lock);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
            assert!(!is_held(&path, &root));
        }

        let lock = take(&root, &patient(), &silent()).unwrap();
        fs::write(root.join("x"), "").unwrap();
        drop(lock);
        assert!(root.join("x").exists() && !root.join(".git").exists());
        // What was there stays, and so does the lock of a repository.
        fs::create_dir(root.join(".git")).unwrap();
        drop(take(&root, &patient(), &silent()).unwrap());
        assert!(root.join(".git").exists() && !root.join(".git/gitsocket").exists());
        fs::write(root.join(".git/HEAD"), "").unwrap();
        drop(take(&root, &patient(), &silent()).unwrap());
        assert!(at(&root).exists());
    }

    #[test]
    fn a_symlink_that_leads_nowhere_is_refused() {
        let dir = crate::machine::tempdir().unwrap();
        symlink("nowhere", dir.path().join("link")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        for path in ["link", "link/below", "loop"] {
            let taken = take(&dir.path().join(path), &patient(), &silent());
            assert!(matches!(taken, Err(Error::Dangling { .. })), "{path}: {taken:?}");
        }
    }

    #[test]
    fn a_file_is_refused() {
        let dir = crate::machine::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let taken = take(&path, &patient(), &silent());
            assert!(matches!(taken, Err(Error::NotADirectory { .. })), "{taken:?}");
        }
    }

    #[test]
    fn what_is_not_ours_in_its_place_is_refused_and_stays() {
        let dir = crate::machine::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir_all(elsewhere.join("gitsocket")).unwrap();
        fs::write(elsewhere.join("lock"), "").unwrap();
        let root = dir.path().join("site");
        fs::create_dir(&root).unwrap();
        let names = [".git", ".git/gitsocket", ".git/gitsocket/lock"];
        for (n, name) in names.into_iter().enumerate() {
            let name = root.join(name);
            for target in [
                "../elsewhere",
                "../../elsewhere",
                "../../../elsewhere/lock",
                "nowhere",
            ] {
                symlink(target, &name).unwrap();
                let taken = take(&root, &patient(), &silent());
                assert!(
                    matches!(taken, Err(Error::Odd { what: "symlink", .. })),
                    "{name:?}: {taken:?}"
                );
                assert!(!is_held(&at(&root), &root));
                fs::remove_file(&name).unwrap();
            }
            if n < 2 {
                fs::create_dir(&name).unwrap();
            }
        }
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 2);
        assert_eq!(fs::read_dir(elsewhere.join("gitsocket")).unwrap().count(), 0);
        rustix::fs::mknodat(rustix::fs::CWD, at(&root), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let err = take(&root, &patient(), &silent()).unwrap_err();
        assert!(matches!(err, Error::Odd { wanted: "file", .. }), "{err}");
    }

    #[test]
    fn the_file_is_for_its_owner_alone() {
        let dir = crate::machine::tempdir().unwrap();
        let mode = || fs::metadata(at(dir.path())).unwrap().mode() & 0o7777;
        fs::create_dir(dir.path().join(".git")).unwrap();
        fs::write(dir.path().join(".git/HEAD"), "").unwrap();
        for wrong in [None, Some(0o666), Some(0), Some(0o600)] {
            if let Some(wrong) = wrong {
                fs::set_permissions(at(dir.path()), fs::Permissions::from_mode(wrong)).unwrap();
            }
            let _lock = take(dir.path(), &patient(), &silent()).unwrap();
            assert_eq!(mode(), 0o600);
        }
    }

    #[test]
    fn the_second_waits_for_the_first_even_if_the_directory_was_removed() {
        let dir = crate::machine::tempdir().unwrap();
        let root = dir.path().join("site");
        let first = take(&root, &patient(), &silent()).unwrap();
        let (waiting, waits) = mpsc::channel();
        let second = std::thread::spawn({
            let root = root.clone();
            let report = Reporter::new(move |event| waiting.send(event).unwrap());
            move || take(&root, &patient(), &report).unwrap()
        });
        assert!(matches!(waits.recv().unwrap(), Report::Waiting { .. }));
        drop(first);
        let second = second.join().unwrap();
        assert!(at(&root).is_file(), "the second has made it again");
        drop(second);
        assert!(!root.exists());
    }

    #[test]
    fn no_lock_is_waited_for_longer_than_there_is_time() {
        let dir = crate::machine::tempdir().unwrap();
        drop(take(dir.path(), &patient(), &silent()).unwrap());
        fs::create_dir_all(dir.path().join(".git/gitsocket")).unwrap();
        let stranger = File::create(at(dir.path())).unwrap();
        flock(&stranger, FlockOperation::LockExclusive).unwrap();
        let impatient = || Watch::new(Duration::from_millis(20), Stop::default(), None);
        // The second one finds the thread that the first one left.
        for _ in 0..2 {
            let err = take(dir.path(), &impatient(), &silent()).unwrap_err();
            assert!(matches!(err, Error::Held { .. }), "{err}");
        }
        let stop = Stop::default();
        let watch = Watch::new(Duration::from_secs(60), stop.clone(), None);
        stop.set();
        let err = take(dir.path(), &watch, &silent()).unwrap_err();
        assert!(matches!(err, Error::Stopping { .. }), "{err}");
        // Whether the thread that was left or this one is first: it does not keep the lock.
        drop(stranger);
        drop(take(dir.path(), &patient(), &silent()).unwrap());
        drop(take(dir.path(), &patient(), &silent()).unwrap());
    }
}
