//! What reflogs tell of the past: whether this program has been at work in a repository.

use std::{fs, io, path::Path};

use gix::bstr::ByteSlice as _;

use crate::base::{bounded, name::RemoteName};

/// How every reflog line of ours goes on behind the two ids, and what a deploy says there, see [`deployed`](super::deployed).
const WRITER: &[u8] = b" gitsocket <gitsocket@localhost> ";
const DEPLOY: &[u8] = b": deploy";
/// The largest reflog that is read to find a line of ours, in bytes: of one run a minute, that is two months.
const MAX_LOG: u64 = 16 << 20;
/// How many reflogs of remote-tracking refs are looked at. A clone of ours has one.
const MAX_LOGS: usize = 1000;

/// Whether the reflogs of the repository at `git_dir` tell that this program has deployed from it; or has cloned it, and
/// HEAD has never been anywhere.
pub fn is_deployed(git_dir: &Path, remote: &RemoteName) -> bool {
    let logs = git_dir.join("logs");
    match bounded::read(&logs.join("HEAD"), MAX_LOG) {
        Ok(text) => text.lines().any(|line| is_ours(line) && line.ends_with(DEPLOY)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            is_cloned(&logs.join("refs/remotes").join(remote.as_str()))
        }
        Err(_) => false,
    }
}

fn is_cloned(dir: &Path) -> bool {
    let mut dirs = vec![dir.to_owned()];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
            seen += 1;
            match entry.file_type() {
                _ if seen > MAX_LOGS => return false,
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                _ => {
                    let text = bounded::read(&entry.path(), MAX_LOG).unwrap_or_default();
                    if !text.is_empty() && text.lines().all(is_ours) {
                        return true;
                    }
                }
            }
        }
    }
    false
}

fn is_ours(line: &[u8]) -> bool {
    line.find(WRITER).is_some_and(|at| !line[..at].contains(&b'<'))
}
