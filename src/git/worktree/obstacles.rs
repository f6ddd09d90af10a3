//! What would stop an update half-way, as far as that can be known: it is refused before anything changes.
//!
//! Only directories in which something is to be written or deleted are asked about. What this does not find (a file that
//! is immutable, a mount point, a disk that fills up) does not stop an update, see `left`.

use std::{collections::BTreeMap, io, os::fd::BorrowedFd};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::entry::Mode,
};
use rustix::{
    fs::{Access, AtFlags},
    io::Errno,
};

use super::{
    Error, apply,
    attributes::Sources,
    content::Content,
    context::Context,
    delete,
    dirs::{self, Kind},
    left::NAMED,
    local::Base,
    plan::Plan,
    walk::{Check, Found},
};
use crate::git::{repository::reason, verified};

/// The longest target of a link that Linux takes, without the NUL.
const MAX_TARGET_BYTES: u64 = 4095;

pub(super) fn check(
    cx: &mut Context<'_>,
    plan: &Plan<'_>,
    found: &Found,
    base: &Base<'_>,
    attributes: &Sources,
) -> Result<(), Error> {
    let new = &*plan.index;
    // Racy ones are there, and most are right.
    let checks = || found.checks.iter().enumerate().filter(|(_, check)| !check.racy);
    let path = |check: &Check| new.entries()[check.entry].path(new);
    for (_, check) in checks() {
        let entry = &new.entries()[check.entry];
        if entry.mode == Mode::SYMLINK {
            check_target(cx.repo, entry.id, path(check))?;
        }
    }
    if attributes.mention(cx.repo, "working-tree-encoding")? {
        let mut content = Content::new(cx.repo, attributes);
        for (_, check) in checks() {
            let entry = &new.entries()[check.entry];
            content.check_encoding(entry.id, entry.mode, path(check))?;
        }
    }
    let mut parents = Parents::default();
    for gone in &plan.delete {
        let path = gone.path.as_bstr();
        if let Some(parent) = parents.closed(cx, path)?
            && delete::is_deletable(cx, path, gone.is_submodule).unwrap_or(false)
        {
            parents.note(&parent, path);
        }
    }
    // What differs there in nothing but its times is not written.
    let mut doubtful = Vec::new();
    parents.last = None;
    for (at, check) in checks() {
        let there = check.there.as_ref().map(|there| there.kind);
        let is_submodule = new.entries()[check.entry].mode == Mode::COMMIT;
        if is_submodule && there == Some(Kind::Dir) {
            continue;
        }
        match parents.closed(cx, path(check))? {
            Some(parent) if matches!(there, None | Some(Kind::Dir | Kind::Other)) => {
                parents.note(&parent, path(check));
            }
            Some(parent) => doubtful.push((at, parent)),
            None => {}
        }
    }
    if !doubtful.is_empty() {
        let all: Vec<usize> = doubtful.iter().map(|(at, _)| *at).collect();
        let differing = apply::differing(cx, &all, found, (base, new), attributes)?;
        for (at, parent) in &doubtful {
            if differing.binary_search(at).is_ok() {
                parents.note(parent, path(&found.checks[*at]));
            }
        }
    }
    parents.into_result(cx)
}

/// A blob that a link cannot point to.
fn check_target(repo: &gix::Repository, id: gix::ObjectId, path: &BStr) -> Result<(), Error> {
    let damaged = |err: gix::Error| Error::Object {
        id,
        path: path.to_string(),
        reason: reason(&err),
    };
    let size = repo.find_header(id).map_err(damaged)?.size();
    let reason = match size {
        0 => "it is a symlink to nothing".into(),
        1..=MAX_TARGET_BYTES => {
            if verified::object(repo, id).map_err(damaged)?.data.contains(&0) {
                "it is a symlink to a path with a NUL byte in it".into()
            } else {
                return Ok(());
            }
        }
        _ => format!("it is a symlink to a path of {size} bytes, and {MAX_TARGET_BYTES} is the most"),
    };
    Err(Error::Link {
        path: path.to_string(),
        reason,
    })
}

#[derive(Default)]
struct Parents {
    last: Option<Parent>,
    /// Directories in which nothing can be made, with the first path that needs it and the number of such paths.
    closed: BTreeMap<BString, (Errno, BString, u64)>,
}

/// A directory in which nothing can be made, and why.
type Closed = (BString, Errno);

struct Parent {
    /// The directory of the path that was asked about last.
    dir: BString,
    /// It, or the first above it that exists.
    exists: BString,
    closed: Option<Errno>,
}

impl Parent {
    /// Whether what is known holds for `dir`, too: it is the same, or is missing along with it.
    fn is_for(&self, dir: &BStr) -> bool {
        if self.dir == dir {
            return true;
        }
        let depth = self.exists.len() + usize::from(!self.exists.is_empty());
        let Some(missing) = self.dir.get(depth..).filter(|missing| !missing.is_empty()) else {
            return false;
        };
        let first = depth + missing.find_byte(b'/').unwrap_or(missing.len());
        dirs::is_in(dir, self.dir[..first].as_bstr())
    }
}

impl Parents {
    /// The parent in which `path` would be made or deleted, if it is closed.
    fn closed(&mut self, cx: &mut Context<'_>, path: &BStr) -> Result<Option<Closed>, Error> {
        let dir = dirs::split(path).0;
        let parent = match self.last.take().filter(|last| last.is_for(dir)) {
            Some(parent) => parent,
            None => look(cx, dir).map_err(|err| cx.failed("read", dir, err))?,
        };
        let closed = parent.closed.map(|errno| (parent.exists.clone(), errno));
        self.last = Some(parent);
        Ok(closed)
    }

    fn note(&mut self, (dir, errno): &Closed, path: &BStr) {
        let closed = self.closed.entry(dir.clone());
        closed.or_insert_with(|| (*errno, path.into(), 0)).2 += 1;
    }

    fn into_result(self, cx: &Context<'_>) -> Result<(), Error> {
        let count = self.closed.len();
        let Some((errno, ..)) = self.closed.values().next() else {
            return Ok(());
        };
        let source = io::Error::from(*errno);
        let mut what: Vec<String> = Vec::new();
        for (dir, (errno, path, files)) in self.closed.iter().take(NAMED) {
            let more = match files - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let (dir, errno) = (cx.options.path(dir.as_bstr()), io::Error::from(*errno));
            what.push(format!(
                "cannot write in {}: {errno} (for {path:?}{more})",
                dir.display()
            ));
        }
        if count > NAMED {
            what.push(format!("and in {} other directories", count - NAMED));
        }
        Err(Error::Closed {
            what: what.join("; "),
            help: super::error::help(&source),
            source,
        })
    }
}

fn look(cx: &mut Context<'_>, dir: &BStr) -> io::Result<Parent> {
    for exists in dirs::chain(dir) {
        // What is no directory makes way for one.
        if let Some(fd) = cx.dirs.get(exists)? {
            return Ok(Parent {
                dir: dir.into(),
                exists: exists.into(),
                closed: closed(fd),
            });
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Why nothing can be made in the directory, or deleted from it. What the system does not say is no reason.
fn closed(dir: BorrowedFd<'_>) -> Option<Errno> {
    let ask = |flags| rustix::fs::accessat(dir, ".", Access::WRITE_OK | Access::EXEC_OK, flags);
    match ask(AtFlags::EACCESS) {
        Err(errno @ (Errno::ACCESS | Errno::ROFS)) => Some(errno),
        // It is immutable; or a filter of system calls does not know this one, but the older one.
        Err(Errno::PERM) => ask(AtFlags::empty()).err().filter(|errno| *errno == Errno::PERM),
        _ => None,
    }
}
