//! The files of a trigger's runs, one directory for each trigger: `0000000017-0198c0ffee0001.jsonl`.
//!
//! The number orders them independently of the clock. A plus sign, as in `+0000000018-0198c0ffee0002.jsonl`, marks a run that found
//! nothing new: the files to delete are known without reading any, and an older version reads the number all the same. A file
//! appears whole, by rename; one that a power cut has damaged is skipped. No name that a client sends becomes part of a path: ids
//! are compared with the existing names.

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

use super::{
    places::Places,
    text::{self, Head},
};
use crate::{
    base::{
        bounded,
        durable::{Access, Flush, Replace},
        name::RunId,
    },
    daemon::store,
};

/// How many bytes of events of a run are kept in a file, the newest ones.
pub(super) const MAX_BYTES: usize = 256 * 1024;

const EXTENSION: &str = "jsonl";
/// The extension of a file that is being written.
const NEW: &str = "new";
/// After so long, a file that is being written counts as left.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 4 * MAX_BYTES as u64;

/// Write a run's `text`, and remove the runs that have no [place](Places) any more.
pub(super) fn write(dir: &Path, run: &RunId, text: &str, nothing_new: bool) -> io::Result<()> {
    store::make(dir)?;
    let (files, leftovers) = look(dir)?;
    let number = files.last().map_or(0, |file| file.number.saturating_add(1));
    let temporary = dir.join(format!("{run}.{}.{NEW}", std::process::id()));
    let path = dir.join(name(number, run, nothing_new));
    Replace::by(&temporary, Access::Private, Flush::Nothing).write(&path, text.as_bytes())?;
    let mut places = Places::new();
    places.take(nothing_new);
    let without = files
        .into_iter()
        .rev()
        .filter(|file| !places.take(file.nothing_new));
    for path in without.map(|file| file.path).chain(leftovers) {
        fs::remove_file(path).ok();
    }
    Ok(())
}

/// The first lines of the runs that can be read, the newest first, and whether each run found nothing new.
pub(super) fn heads(dir: &Path) -> impl Iterator<Item = (bool, Head)> + use<> {
    let files = look(dir).map(|(files, _)| files).unwrap_or_default();
    files.into_iter().rev().filter_map(|file| {
        let mut first = String::new();
        open(&file.path).ok()?.read_line(&mut first).ok()?;
        Some((file.nothing_new, text::head(&first)?))
    })
}

/// The ids of all runs, whether or not they can be read.
pub(super) fn ids(dir: &Path) -> Vec<RunId> {
    let files = look(dir).map(|(files, _)| files).unwrap_or_default();
    files.into_iter().map(|file| file.run).collect()
}

/// The newest run that can be read.
pub(super) fn newest(dir: &Path) -> Option<Head> {
    heads(dir).next().map(|(_, head)| head)
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
    nothing_new: bool,
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

fn name(number: u64, run: &RunId, nothing_new: bool) -> String {
    if nothing_new {
        format!("{number:+011}-{run}.{EXTENSION}")
    } else {
        format!("{number:010}-{run}.{EXTENSION}")
    }
}

fn found(path: PathBuf) -> Option<Found> {
    let (number, run) = path.file_stem()?.to_str()?.split_once('-')?;
    Some(Found {
        // With a plus sign or without.
        nothing_new: number.starts_with('+'),
        number: number.parse().ok()?,
        run: RunId::parse(run).ok()?,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::places::{KEPT, KEPT_NOTHING_NEW},
        *,
    };

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// The version before knows no sign: it reads names so, and removes what is older than the newest fifty.
    fn number_before(name: &str) -> Option<u64> {
        let (number, run) = name.strip_suffix(".jsonl")?.split_once('-')?;
        RunId::parse(run).ok()?;
        number.parse().ok()
    }

    #[test]
    fn who_goes_and_in_which_order() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().join("site");
        let keep = |nothing_new| {
            let run = RunId::new();
            write(&dir, &run, "", nothing_new).unwrap();
            run
        };
        let first = keep(false);
        let of_nothing: Vec<_> = (0..60).map(|_| keep(true)).collect();
        let newest = keep(false);
        let mut expected = vec![first];
        expected.extend_from_slice(&of_nothing[60 - KEPT_NOTHING_NEW..]);
        expected.push(newest);
        assert_eq!(ids(&dir), expected);
        assert_eq!(names(&dir).len(), expected.len());

        let mut read: Vec<_> = names(&dir).iter().map(|name| number_before(name)).collect();
        read.sort_unstable();
        assert_eq!(read.first(), Some(&Some(0)));
        assert_eq!(read.last(), Some(&Some(61)));

        for _ in 0..60 {
            keep(false);
        }
        assert_eq!(ids(&dir).len(), KEPT + KEPT_NOTHING_NEW);
        assert_eq!(ids(&dir)[..KEPT_NOTHING_NEW], expected[1..=KEPT_NOTHING_NEW]);
    }
}
