//! Tracked files that a program has changed since they were brought: which, and whether they are still as it has left them.

use std::{
    io::{self, Read as _},
    os::fd::{AsFd as _, BorrowedFd},
};

use gix::bstr::{BStr, BString, ByteSlice as _};
use ring::digest;

use super::{
    Clean, Error, Options, apply,
    attributes::Sources,
    cache::Quiet,
    context::Context,
    dirs::{self, Dirs, Kind, Meta},
    local::Base,
    outside, plan, scan,
    stored::{self, Stored},
};
use crate::base::{rights::Rights, words::hex};

/// A tracked file that is not what its commit has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Altered {
    pub path: BString,
    /// What tells that it was not changed, see stat(2); nothing if there is no file.
    pub stat: Option<[u64; 6]>,
    /// What is there, in one line; with the digest of a file, or of what a link says.
    pub content: String,
}

/// Which tracked files of the tree are not as `commit` has them. The index gets the times of all others.
pub fn altered(
    repo: &gix::Repository,
    commit: gix::ObjectId,
    options: &Options<'_>,
) -> Result<Vec<Altered>, Error> {
    let root = options.root.as_path();
    let old = Stored::read(options.index, repo.object_hash());
    let plan = plan::tree(repo, commit, &old)?;
    // Nothing is cleaned, so nothing that is not tracked is looked at.
    let options = &Options {
        clean: Clean::Nothing,
        ..*options
    };
    let mut cx = Context::new(repo, options)?;
    let (found, _) = scan::compare(&mut cx, &old, &plan.index, &Quiet::default())?;
    if found.checks.is_empty() {
        return Ok(Vec::new());
    }
    let outside = outside::Rules::read(repo, root, &outside::ATTRIBUTES)?;
    let attributes = Sources::of(&plan.index, found.paths(&plan.index), outside);
    let base = Base {
        index: &old.index,
        old: &old,
        is_foreign: false,
        heeds_mode: true,
    };
    let all: Vec<usize> = (0..found.checks.len()).collect();
    let differing = apply::differing(&cx, &all, &found, (&base, &plan.index), &attributes)?;
    let mut index = plan.index.clone().into_owned();
    let mut altered = Vec::with_capacity(differing.len());
    for (at, check) in found.checks.iter().enumerate() {
        let entry = &mut index.entries_mut()[check.entry];
        if entry.mode == gix::index::entry::Mode::COMMIT {
            continue;
        }
        if differing.binary_search(&at).is_err() {
            entry.stat = check.there.as_ref().map_or(entry.stat, |there| there.stat);
            continue;
        }
        // The next update looks at it.
        entry.stat = gix::index::entry::Stat::default();
        let path = plan.index.entries()[check.entry].path(&plan.index);
        let (stat, content) =
            look(&mut cx.dirs, path, true).map_err(|err| options.failed("read", path, err))?;
        altered.push(Altered {
            path: path.to_owned(),
            stat,
            content,
        });
    }
    stored::write(options.index, index)?;
    Ok(altered)
}

/// The first of `known`, in the tree that is open as `dir`, that is not as it was.
pub fn changed<'k>(dir: BorrowedFd<'_>, known: &'k [Altered]) -> io::Result<Option<&'k Altered>> {
    let mut dirs = Dirs::within(dir, Rights::of(0))?;
    for file in known {
        let path = file.path.as_bstr();
        let (stat, kind) = look(&mut dirs, path, false)?;
        let is_same = match stat {
            Some(_) if stat == file.stat => true,
            Some(_) => look(&mut dirs, path, true)?.1 == file.content,
            None => kind == file.content,
        };
        if !is_same {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// What is at `path`: its stat data, and its kind; with its digest if it `reads`.
fn look(dirs: &mut Dirs, path: &BStr, reads: bool) -> io::Result<(Option<[u64; 6]>, String)> {
    const NOTHING: &str = "nothing";
    let (dir, name) = dirs::split(path);
    let Some(dir) = dirs.get(dir)? else {
        return Ok((None, NOTHING.into()));
    };
    let Some(meta) = dirs::meta(dir, name)? else {
        return Ok((None, NOTHING.into()));
    };
    let kind = match meta.kind {
        Kind::Dir => return Ok((None, "directory".into())),
        Kind::Other => return Ok((None, "special".into())),
        Kind::Symlink => "link",
        Kind::File if meta.permissions & 0o100 != 0 => "program",
        Kind::File => "file",
    };
    let content = if reads {
        format!("{kind} {}", digest_of(dir, name, &meta)?)
    } else {
        kind.into()
    };
    Ok((Some(stat(&meta)), content))
}

fn stat(meta: &Meta) -> [u64; 6] {
    let time = |time: gix::index::entry::stat::Time| u64::from(time.secs) << 32 | u64::from(time.nsecs);
    [
        meta.size,
        u64::from(meta.stat.ino),
        time(meta.stat.mtime),
        time(meta.stat.ctime),
        u64::from(meta.permissions),
        u64::from(meta.uid),
    ]
}

/// SHA-256 of a file, piece by piece, or of what a link says.
fn digest_of(dir: BorrowedFd<'_>, name: &BStr, meta: &Meta) -> io::Result<String> {
    let mut hash = digest::Context::new(&digest::SHA256);
    if meta.kind == Kind::Symlink {
        hash.update(rustix::fs::readlinkat(dir, name.as_bytes(), Vec::new())?.as_bytes());
    } else {
        // As much as there was a moment ago: it may grow while it is read.
        let mut file = dirs::open_file(dir.as_fd(), name)?.take(meta.size);
        let mut piece = vec![0; 64 << 10];
        loop {
            match file.read(&mut piece)? {
                0 => break,
                length => hash.update(&piece[..length]),
            }
        }
    }
    Ok(hex(hash.finish().as_ref()))
}
