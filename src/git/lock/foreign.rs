//! Lock files of other programs, such as git: a run waits for them a little, and never takes them away from a git that is alive.

use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Error,
    error::OLD_LOCK,
    recovery::{age, remove},
};
use crate::base::report::{Report, Reporter};

/// How long a run waits for a lock file of git's, which is held for as long as an index or a ref is written. In time.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Wait until no other program holds one of the files `names` in `git_dir`, by a `.lock` beside it.
pub fn wait_for<'a>(
    git_dir: &Path,
    names: impl IntoIterator<Item = &'a str>,
    report: &Reporter,
) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    for name in names {
        wait(&git_dir.join(format!("{name}.lock")), until, report)?;
    }
    Ok(())
}

fn wait(path: &Path, until: Instant, report: &Reporter) -> Result<(), Error> {
    let mut is_said = false;
    loop {
        let held_for = match fs::symlink_metadata(path) {
            Ok(meta) => age(meta.modified().unwrap_or(SystemTime::now()), SystemTime::now()),
            Err(err) if is_absent(&err) => return Ok(()),
            Err(source) => {
                return Err(Error::Lock {
                    path: path.into(),
                    source,
                });
            }
        };
        if held_for > OLD_LOCK {
            return remove(path);
        }
        if Instant::now() >= until {
            return Err(Error::Foreign {
                path: path.into(),
                held_for: Duration::from_secs(held_for.as_secs()),
            });
        }
        if !is_said {
            report.emit(Report::Waiting {
                on: format!("another program, such as git, that holds {}", path.display()),
            });
            is_said = true;
        }
        thread::park_timeout(PAUSE);
    }
}

/// A directory of refs may not be there yet.
fn is_absent(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
