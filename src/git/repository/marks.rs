//! Whether a ref of a repository on this machine may have moved, without opening that: a look at the few files that say where it is.
//!
//! Wherever it is not as simple as that (a linked worktree, a symbolic ref, a symlink, a file that cannot be read), there are no
//! marks, and the repository has to be opened.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::entrance;
use crate::base::{bounded, identity::Stamp, name::RefName};

/// A file that was changed less than so many seconds ago may be changed once more without a trace, where the clock of its file
/// system is a coarse one. git is as careful ("racy").
const SETTLES: i64 = 3;
/// A line that is longer is none of git's, or not a simple one; in bytes. It is kept for each trigger that is polled.
const MAX_LINE: u64 = 1024;

/// What says where a ref is: it has not moved as long as these are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    head: Option<Stamp>,
    /// The configuration, which says in which form refs are stored.
    config: Option<Stamp>,
    packed: Option<Stamp>,
    /// What HEAD, if that is asked for, and the file of the ref hold: these are too short to be looked at only from outside.
    lines: Vec<Option<Vec<u8>>>,
}

impl Marks {
    /// The marks of the ref `name` of the repository at `path`; and whether they will show each change from now on.
    pub fn of(path: &Path, name: &str) -> Option<(Self, bool)> {
        let git_dir = entrance(path);
        if fs::symlink_metadata(git_dir.join("commondir")).is_ok() || !fs::metadata(&git_dir).ok()?.is_dir() {
            return None;
        }
        let mut last = i64::MIN;
        let mut stamp = |name: &str| -> io::Result<Option<Stamp>> {
            let Some(meta) = file(&git_dir.join(name))? else {
                return Ok(None);
            };
            last = last.max(meta.ctime()).max(meta.mtime());
            Ok(Some(Stamp::of(&meta)))
        };
        let (head, config, packed) = (
            stamp("HEAD").ok()?,
            stamp("config").ok()?,
            stamp("packed-refs").ok()?,
        );
        let mut lines = vec![line(&git_dir.join(name)).ok()?];
        if name == "HEAD" {
            let text = lines.first()?.as_deref()?;
            if let Some(branch) = text.strip_prefix(b"ref:") {
                let branch = std::str::from_utf8(branch).ok()?.trim();
                let branch = branch
                    .starts_with("refs/heads/")
                    .then(|| RefName::branch(branch).ok())??;
                lines.push(line(&git_dir.join(branch.as_str())).ok()?);
            }
        }
        let is_symbolic =
            |line: &Option<Vec<u8>>| line.as_ref().is_some_and(|line| line.starts_with(b"ref:"));
        if is_symbolic(lines.last()?) {
            return None;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let is_settled = last < i64::try_from(now.as_secs()).ok()? - SETTLES;
        let marks = Self {
            head,
            config,
            packed,
            lines,
        };
        Some((marks, is_settled))
    }
}

/// The file at `path`, which is none if it is a symlink, or anything else.
fn file(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => Ok(Some(meta)),
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        // A ref may be in the way of another one's directory.
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(err) => Err(err),
    }
}

fn line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match file(path)? {
        Some(_) => bounded::read(path, MAX_LINE).map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const ID: &str = "1111111111111111111111111111111111111111\n";
    const OTHER: &str = "2222222222222222222222222222222222222222\n";

    /// A repository that is looked at, as far as marks do.
    fn repository() -> tempfile::TempDir {
        let dir = crate::machine::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("refs/heads")).unwrap();
        for (name, text) in [
            ("HEAD", "ref: refs/heads/main\n"),
            ("config", "[core]\n"),
            ("refs/heads/main", ID),
            ("packed-refs", OTHER),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn every_change_that_may_move_a_ref_shows() {
        let dir = repository();
        let at = |name: &str| dir.path().join(name);
        let now = |name| Marks::of(dir.path(), name).map(|(marks, _)| marks);
        for name in ["HEAD", "refs/heads/main"] {
            let mut seen = vec![now(name).unwrap()];
            let mut note = |what: &str| {
                let marks = now(name).unwrap();
                assert_eq!(Some(&marks), now(name).as_ref());
                assert!(!seen.contains(&marks), "{name}: {what}");
                seen.push(marks);
            };
            // All of the same length, and most of them within a moment.
            fs::write(at("refs/heads/main"), OTHER).unwrap();
            note("it moved");
            fs::write(at("packed.lock"), ID).unwrap();
            fs::rename(at("packed.lock"), at("packed-refs")).unwrap();
            note("others were packed");
            fs::remove_file(at("refs/heads/main")).unwrap();
            note("it was packed");
            fs::remove_file(at("packed-refs")).unwrap();
            note("it is gone");
            fs::write(at("config.lock"), "[c0re]\n").unwrap();
            fs::rename(at("config.lock"), at("config")).unwrap();
            note("refs may be stored in another form");
            fs::write(at("HEAD.lock"), "ref: refs/heads/next\n").unwrap();
            fs::rename(at("HEAD.lock"), at("HEAD")).unwrap();
            note("HEAD is on another branch");
            fs::write(at("HEAD"), ID).unwrap();
            note("HEAD is on none");
            for (name, text) in [("refs/heads/main", ID), ("packed-refs", ID)] {
                fs::write(at(name), text).unwrap();
            }
            fs::write(at("HEAD"), "ref: refs/heads/main\n").unwrap();
        }
    }

    #[test]
    fn what_is_not_simple_has_no_marks() {
        let is_none = |what: &str, change: &dyn Fn(&Path)| {
            let dir = repository();
            assert!(Marks::of(dir.path(), "HEAD").is_some());
            change(dir.path());
            for name in ["HEAD", "refs/heads/main"] {
                assert_eq!(Marks::of(dir.path(), name), None, "{what}: {name}");
            }
        };
        let main = |dir: &Path| dir.join("refs/heads/main");
        is_none("symbolic", &|dir| {
            fs::write(main(dir), "ref: refs/heads/x\n").unwrap()
        });
        is_none("a link", &|dir| {
            fs::rename(main(dir), dir.join("x")).unwrap();
            symlink("../../x", main(dir)).unwrap();
        });
        is_none("a giant", &|dir| {
            fs::File::create(main(dir)).unwrap().set_len(1 << 40).unwrap();
        });
        is_none("a directory", &|dir| {
            fs::remove_file(main(dir)).unwrap();
            fs::create_dir(main(dir)).unwrap();
        });
        is_none("a fifo", &|dir| {
            fs::remove_file(dir.join("packed-refs")).unwrap();
            let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
            rustix::fs::mknodat(rustix::fs::CWD, dir.join("packed-refs"), kind, mode, 0).unwrap();
        });
        is_none("a linked worktree", &|dir| {
            fs::write(dir.join("commondir"), ".\n").unwrap()
        });
        is_none("a file that leads to it", &|dir| {
            fs::write(dir.join(".git"), "gitdir: .\n").unwrap()
        });
    }

    #[test]
    fn a_change_of_just_now_may_be_followed_by_one_that_does_not_show() {
        let dir = repository();
        assert!(!Marks::of(dir.path(), "refs/heads/main").unwrap().1);
        for name in ["HEAD", "config", "packed-refs"] {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        assert!(Marks::of(dir.path(), "refs/heads/main").unwrap().1);
    }
}
