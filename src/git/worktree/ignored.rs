//! Which ignore rules hold where `clean` is: the `.gitignore`s of a directory and of those above it, entered and left.
//!
//! Where one cannot be read, it is not known what must stay: all that is untracked there is excluded.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::entry::Mode,
};

use super::{
    context::Context,
    dirs,
    stored::{self, Stored, Tracked},
};
use crate::{
    base::bounded,
    git::{verified, worktree::Clean},
};

pub(super) struct Ignored<'w> {
    old: &'w Stored,
    new: &'w gix::index::State,
    /// The tracked directory at hand and those above it, the root first.
    chain: Vec<Chained>,
    /// The first `.gitignore` that could not be read, why, and how many more there are.
    sealed: Option<(BString, io::Error, u64)>,
}

struct Chained {
    path: BString,
    /// A rule excludes it, or its own rules cannot be read.
    excluded: bool,
    has_rules: bool,
}

impl<'w> Ignored<'w> {
    pub(super) fn new(old: &'w Stored, new: &'w gix::index::State) -> Self {
        Self {
            old,
            new,
            chain: Vec::new(),
            sealed: None,
        }
    }

    /// Let the rules of `path` hold and of all directories above it. Says whether it is excluded itself.
    pub(super) fn enter(&mut self, cx: &mut Context<'_>, path: &BStr) -> io::Result<bool> {
        while self
            .chain
            .last()
            .is_some_and(|last| !dirs::is_in(path, last.path.as_bstr()))
        {
            if let Some(Chained { has_rules: true, .. }) = self.chain.pop() {
                cx.rules.leave();
            }
        }
        let mut missing: Vec<&BStr> = std::iter::once(path)
            .chain(dirs::parents(path))
            .chain([BStr::new("")])
            .take_while(|dir| self.chain.last().is_none_or(|last| last.path != **dir))
            .collect();
        // Both ends of the root's own chain are the root.
        missing.dedup();
        for dir in missing.into_iter().rev() {
            let mut excluded = match self.chain.last() {
                None => false,
                Some(last) => last.excluded || cx.rules.excludes(dir, true),
            };
            let mut has_rules = false;
            if !excluded {
                let fd = cx.dirs.get(dir)?.map(|fd| dirs::open_dir(fd, ".".into()));
                if let Some(fd) = fd.transpose()? {
                    (has_rules, excluded) = self.enter_rules(cx, dir, fd.as_fd());
                }
            }
            self.chain.push(Chained {
                path: dir.into(),
                excluded,
                has_rules,
            });
        }
        Ok(self.chain.last().is_some_and(|last| last.excluded))
    }

    /// Let the rules of the directory `dir`, which is `fd`, hold. Says whether it has any, and whether all in it is
    /// excluded because its rules cannot be read.
    pub(super) fn enter_rules(
        &mut self,
        cx: &mut Context<'_>,
        dir: &BStr,
        fd: BorrowedFd<'_>,
    ) -> (bool, bool) {
        match self.ignore_file(cx, dir, fd) {
            Ok(text) if text.is_empty() => (false, false),
            Ok(text) => {
                // Where only patterns of names count, it does not matter where they are from.
                let is_short = dir.len() <= dirs::MAX_PATH;
                cx.rules.enter(if is_short { dir } else { "".into() }, &text);
                (true, false)
            }
            Err(err) => {
                match &mut self.sealed {
                    Some((_, _, more)) => *more += 1,
                    none => *none = Some((dirs::shown(dir), err, 0)),
                }
                (false, true)
            }
        }
    }

    /// The text of the `.gitignore` of the directory `dir`, which is `fd`; nothing if there is no file of that name, as
    /// for git.
    fn ignore_file(&self, cx: &Context<'_>, dir: &BStr, fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
        if cx.options.clean == Clean::All {
            return Ok(Vec::new());
        }
        let name = BStr::new(".gitignore");
        // In a dry run the file may not be there yet, or still be there.
        if cx.options.dry_run && dir.len() <= dirs::MAX_PATH {
            let path = dirs::join(dir, name);
            let entry = self.new.entry_by_path(path.as_bstr());
            if let Some(entry) =
                entry.filter(|entry| matches!(entry.mode, Mode::FILE | Mode::FILE_EXECUTABLE))
            {
                return ignore_blob(cx.repo, entry.id);
            }
            if entry.is_none() && stored::tracked(&self.old.index, path.as_bstr()) == Tracked::File {
                return Ok(Vec::new());
            }
        }
        match bounded::open_in(fd, name) {
            Ok(file) => bounded::content(file, bounded::RULES),
            // Nothing, or a link, which git does not follow here.
            Err(err) if dirs::is_absent(&err) => Ok(Vec::new()),
            Err(err) => match err.kind() {
                // A fifo or device.
                io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory => Ok(Vec::new()),
                _ => Err(err),
            },
        }
    }

    /// Warn of what could not be read.
    pub(super) fn report(self, cx: &Context<'_>) {
        if let Some((path, reason, more)) = self.sealed {
            let more = match more {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            cx.options.report.warn(format!(
                "nothing is removed where a .gitignore cannot be read: {path}: {reason}{more}"
            ));
        }
    }
}

fn ignore_blob(repo: &gix::Repository, id: gix::ObjectId) -> io::Result<Vec<u8>> {
    let size = repo.find_header(id).map_err(io::Error::other)?.size();
    if size > bounded::RULES {
        return Err(io::Error::other("it is too large"));
    }
    let blob = verified::object(repo, id).map_err(io::Error::other)?;
    Ok(blob.detach().data)
}
