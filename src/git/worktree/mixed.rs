//! The mark of a worktree that an update has left half done: `gitsocket/mixed.json` below the git directory.
//!
//! It is for people who ask how a trigger is, and says that there is more to do. No update relies on it: what is left is
//! found by looking.

use std::{fs, io, path::Path};

use crate::base::{bounded, report::Mixed};

const FILE: &str = "gitsocket/mixed.json";
/// Ten paths of 4,095 bytes, each byte written as `\u001f`, and some; in bytes.
const LIMIT: u64 = 256 << 10;

/// What an update has left undone in the worktree of `git_dir`, if anything. A mark that cannot be read is none.
pub fn mixed(git_dir: &Path) -> Option<Mixed> {
    let text = bounded::read(&git_dir.join(FILE), LIMIT).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Leave the mark, in place of any other.
pub(super) fn mark(git_dir: &Path, mixed: &Mixed) -> io::Result<()> {
    let (path, text) = (git_dir.join(FILE), serde_json::to_vec(mixed)?);
    let temporary = path.with_extension("json.tmp");
    match fs::create_dir(git_dir.join("gitsocket")) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
        _ => {}
    }
    // What a run left that was killed here may be anything: it is not written through.
    fs::remove_file(&temporary).ok();
    let written =
        fs::File::create_new(&temporary).and_then(|mut file| io::Write::write_all(&mut file, &text));
    let written = written.and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    written
}

/// Remove the mark. Says whether there was one.
pub(super) fn clear(git_dir: &Path) -> bool {
    fs::remove_file(git_dir.join(FILE)).is_ok()
}
