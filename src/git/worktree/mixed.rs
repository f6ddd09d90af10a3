//! The mark of a worktree that an update has left half done: `gitsocket/mixed.json` below the git directory.
//!
//! It is for `gitsocket status`, and says that there is more to do. No update relies on it: what is left is
//! found by looking.

use std::{fs, io, path::Path};

use crate::base::{
    bounded,
    durable::{Access, Flush, Replace},
    report::Mixed,
};

const FILE: &str = "gitsocket/mixed.json";
const PARTS: [&str; 2] = ["gitsocket", "mixed.json"];
/// Ten paths of 4,095 bytes, each byte written as `\u001f`, and some; in bytes.
const LIMIT: u64 = 256 << 10;

/// What an update has left undone in the worktree of `git_dir`, if anything. A mark that cannot be read is none.
pub fn mixed(git_dir: &Path) -> Option<Mixed> {
    let text = bounded::read_own(git_dir, PARTS, LIMIT).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Leave the mark, in place of any other.
pub(super) fn mark(git_dir: &Path, mixed: &Mixed) -> io::Result<()> {
    let (path, text) = (git_dir.join(FILE), serde_json::to_vec(mixed)?);
    match fs::create_dir(git_dir.join("gitsocket")) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
        _ => {}
    }
    Replace::by(&path.with_extension("json.tmp"), Access::Usual, Flush::Nothing).write(&path, &text)
}

/// Remove the mark. Says whether there was one.
pub(super) fn clear(git_dir: &Path) -> bool {
    fs::remove_file(git_dir.join(FILE)).is_ok()
}
