//! The files of a trigger's runs, one directory for each trigger: `0000000017-0198c0ffee0001.jsonl`.
//!
//! The number orders them independently of the clock. A file appears whole, by rename; one that a power cut has damaged is skipped.
//! No name that a client sends becomes part of a path: ids are compared with the existing names.

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
/// The extension of a file that is being written.
const NEW: &str = "new";
/// After so long, a file that is being written counts as left.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// The longest file that is read, in bytes.
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

/// The first lines of the runs that can be read, the newest first.
pub(super) fn heads(dir: &Path) -> impl Iterator<Item = Head> + use<> {
    let files = look(dir).map(|(files, _)| files).unwrap_or_default();
    files.into_iter().rev().filter_map(|file| {
        let mut first = String::new();
        open(&file.path).ok()?.read_line(&mut first).ok()?;
        text::head(&first)
    })
}

/// The ids of all runs, whether or not they can be read.
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

/// Whether the process that was writing `path` has ended. If the name has no process id, or another process has that id now,
/// [`LONGEST`] counts.
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
