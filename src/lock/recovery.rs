//! Removes what an interrupted run left behind, so that nobody ever has to delete an `index.lock`.
//!
//! Called under the target's lock, so no run of ours is alive. What it removes is garbage by git's own
//! rules: lock files, packs without an index and temporary files. Temporary files in the worktree are
//! the business of `worktree`, which meets them on its way.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::Error;
use crate::bounded;

/// Remove left-overs in `git_dir`.
pub fn recover(git_dir: &Path) -> Result<(), Error> {
    for name in [
        "index.lock",
        "HEAD.lock",
        "config.lock",
        "shallow.lock",
        "packed-refs.lock",
    ] {
        remove(&git_dir.join(name))?;
    }
    refs_below(&git_dir.join("refs"))?;
    packs(&git_dir.join("objects/pack"))?;
    temporary_objects(&git_dir.join("objects"))?;
    each(&git_dir.join("gitsocket"), |path, name| {
        match name.ends_with(b".tmp") {
            true => remove(&path),
            false => Ok(()),
        }
    })
}

/// `*.lock` in a directory of refs and below, and loose refs that a power cut has left without content:
/// git could read neither them nor anything else then. What they pointed to is in their reflog.
fn refs_below(dir: &Path) -> Result<(), Error> {
    each(dir, |path, name| {
        if is_dir(&path) {
            refs_below(&path)
        } else if name.ends_with(b".lock") || is_blank(&path) {
            remove(&path)
        } else {
            Ok(())
        }
    })
}

/// Whether a file holds nothing, or nothing but NULs: its size was written before the cut, its data were not.
fn is_blank(path: &Path) -> bool {
    let is_file = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    is_file && bounded::read(path, bounded::LINE).is_ok_and(|content| content.iter().all(|byte| *byte == 0))
}

/// In `objects/pack`: temporary files of gitoxide (`.tmp*`) and git (`tmp_*`), packs whose index was not
/// yet written, and the empty `.keep` files that protect a pack until its ref is written.
/// A `.keep` with a text is somebody's decision and stays.
fn packs(dir: &Path) -> Result<(), Error> {
    each(dir, |path, name| {
        let garbage = name.starts_with(b".tmp")
            || name.starts_with(b"tmp_")
            || (name.ends_with(b".pack") && !path.with_extension("idx").exists())
            || (name.ends_with(b".keep") && fs::metadata(&path).is_ok_and(|meta| meta.len() == 0));
        if garbage { remove(&path) } else { Ok(()) }
    })
}

/// Half-written loose objects: `tmp_obj_*` of git and `.tmp*` of gitoxide.
fn temporary_objects(dir: &Path) -> Result<(), Error> {
    each(dir, |path, name| {
        if name.starts_with(b"tmp_obj_") || name.starts_with(b".tmp") {
            remove(&path)
        } else if name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit) {
            temporary_objects(&path)
        } else {
            Ok(())
        }
    })
}

/// Call `f` with the path and the name of each entry of `dir`. A missing directory has none, and a
/// symlink is not followed: what it leads to is not ours.
fn each(dir: &Path, mut f: impl FnMut(PathBuf, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Recover {
        path: dir.into(),
        source,
    };
    if fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_symlink()) {
        return Ok(());
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(failed(err)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        f(entry.path(), OsStr::as_bytes(&name))?;
    }
    Ok(())
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(Error::Recover {
            path: path.into(),
            source: err,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_goes_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let stays = [
            "HEAD",
            "index",
            "refs/heads/main",
            "objects/pack/pack-1.pack",
            "objects/pack/pack-1.idx",
            "objects/12/3456",
            "gitsocket/state.json",
        ];
        let goes = [
            "index.lock",
            "HEAD.lock",
            "shallow.lock",
            "refs/heads/a/b.lock",
            "refs/remotes/origin/main.lock",
            "objects/pack/.tmpAbC",
            "objects/pack/tmp_pack_x",
            "objects/pack/pack-2.pack",
            "objects/pack/pack-1.keep",
            "objects/12/tmp_obj_x",
            "gitsocket/state.json.tmp",
        ];
        for name in stays.iter().chain(&goes) {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(
                path,
                if name.starts_with("refs/heads/main") {
                    "1234\n"
                } else {
                    ""
                },
            )
            .unwrap();
        }
        fs::write(dir.path().join("objects/pack/pack-3.keep"), "mine").unwrap();
        fs::write(dir.path().join("refs/heads/cut"), "").unwrap();
        fs::write(dir.path().join("refs/remotes/origin/cut"), "\0\0\0\0").unwrap();
        recover(dir.path()).unwrap();
        for name in stays.iter().chain(&["objects/pack/pack-3.keep"]) {
            assert!(dir.path().join(name).exists(), "{name}");
        }
        for name in goes.iter().chain(&["refs/heads/cut", "refs/remotes/origin/cut"]) {
            assert!(!dir.path().join(name).exists(), "{name}");
        }
        recover(&dir.path().join("missing")).unwrap();
    }
}
