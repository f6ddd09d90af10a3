//! The files of a trigger's runs, in a directory of its own: `0000000017-0198c0ffee0001.jsonl`.
//!
//! The number in front orders them, whatever the clock says. A file appears whole, by rename; a power cut may
//! leave less, which is passed over. No name that a client sends becomes part of a path: ids are compared with
//! the names that are there.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

use super::text::{self, Head};
use crate::{
    base::{
        bounded,
        durable::{Access, Flush, Replace},
        name::RunId,
    },
    daemon::store,
};

/// How many runs of a trigger are remembered.
pub const KEPT: usize = 50;
/// How many bytes of events of a run are kept in a file, the newest ones.
pub(super) const MAX_BYTES: usize = 256 * 1024;

const EXTENSION: &str = "jsonl";
/// Ends the name of a file that is being written.
const NEW: &str = "new";
/// How long the writing of a file may take, at most.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// No file of ours is longer.
const MAX_FILE: u64 = 4 * MAX_BYTES as u64;

/// Write a run's `text`, and remove the oldest runs beyond [`KEPT`].
pub(super) fn write(dir: &Path, run: &RunId, text: &str) -> io::Result<()> {
    store::make(dir)?;
    let (mut files, leftovers) = look(dir)?;
    let number = files.last().map_or(0, |file| file.number.saturating_add(1));
    let temporary = dir.join(format!("{run}.{}.{NEW}", std::process::id()));
    let path = dir.join(format!("{number:010}-{run}")).with_extension(EXTENSION);
    Replace::by(&temporary, Access::Private, Flush::Nothing).write(&path, text.as_bytes())?;
    let beyond = (files.len() + 1).saturating_sub(KEPT);
    for path in files.drain(..beyond).map(|file| file.path).chain(leftovers) {
        fs::remove_file(path).ok();
    }
    Ok(())
}

/// What is known of the runs that can be read, the newest first.
pub(super) fn heads(dir: &Path) -> impl Iterator<Item = Head> + use<> {
    let files = look(dir).map(|(files, _)| files).unwrap_or_default();
    files.into_iter().rev().filter_map(|file| {
        let mut first = String::new();
        open(&file.path).ok()?.read_line(&mut first).ok()?;
        text::head(&first)
    })
}

/// The ids of the runs that are there, readable or not.
pub(super) fn ids(dir: &Path) -> Vec<RunId> {
    let files = look(dir).map(|(files, _)| files).unwrap_or_default();
    files.into_iter().map(|file| file.run).collect()
}

/// The newest run that can be read.
pub(super) fn newest(dir: &Path) -> Option<Head> {
    heads(dir).next()
}

/// The text of `run`.
pub(super) fn find(dir: &Path, run: &RunId) -> Option<String> {
    let (files, _) = look(dir).ok()?;
    let file = files.into_iter().find(|file| file.run == *run)?;
    let bytes = bounded::read(&file.path, MAX_FILE).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn open(path: &Path) -> io::Result<BufReader<io::Take<File>>> {
    Ok(BufReader::new(bounded::open(path)?.take(MAX_FILE)))
}

struct Found {
    number: u64,
    run: RunId,
    path: PathBuf,
}

/// The runs in `dir`, the oldest first, and what a killed daemon left.
fn look(dir: &Path) -> io::Result<(Vec<Found>, Vec<PathBuf>)> {
    let (mut files, mut leftovers) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(EXTENSION) => files.extend(found(path)),
            Some(NEW) if is_left(&path) => leftovers.push(path),
            _ => {}
        }
    }
    files.sort_by_key(|file| file.number);
    Ok((files, leftovers))
}

/// Whether `path` was left by a process that has ended: another worker may be writing it. Where the name has no number of a
/// process, or another process has that number by now, [`LONGEST`] counts.
fn is_left(path: &Path) -> bool {
    let pid = path.file_stem().and_then(|stem| Path::new(stem).extension());
    let pid = pid.and_then(|pid| Pid::from_raw(pid.to_str()?.parse().ok()?));
    let is_gone = pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
    let age = || {
        fs::symlink_metadata(path)?
            .modified()?
            .elapsed()
            .map_err(io::Error::other)
    };
    is_gone || age().is_ok_and(|age| age > LONGEST)
}

fn found(path: PathBuf) -> Option<Found> {
    let (number, run) = path.file_stem()?.to_str()?.split_once('-')?;
    Some(Found {
        number: number.parse().ok()?,
        run: RunId::parse(run).ok()?,
        path,
    })
}
