//! Untracked files: what `git clean -df` would remove is removed, by its rules to the letter.
//!
//! Ignored and kept files stay, with all directories above them. Repositories of their own stay.
//! Fifos, sockets and stray `.git`s are neither tracked nor untracked to git: they go only with a directory that goes.
//! Which names are untracked in directories of the tree, `walk` has found; untracked directories are entered here.
//! A `.gitignore` is only read above something untracked, by `ignored`.
//! What cannot be removed does not stop it; the first such error is reported at its end.

mod removed;

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::entry::Mode,
};

use self::removed::{Before, Removed};
use super::{
    Error,
    context::Context,
    dirs::{self, Kind, Meta},
    ignored::Ignored,
    keep::Keep,
    nested,
    stored::{self, Stored, Tracked},
    walk::Untracked,
};
use crate::{
    base::{
        descent::{self, Descent},
        report::{Action, Local, Named},
    },
    git::worktree::Clean,
};

/// Remove what is neither in `new`, nor ignored, nor to be kept, of what the walk found to be untracked.
pub(super) fn clean(
    cx: &mut Context<'_>,
    untracked: &[Untracked],
    old: &Stored,
    new: &gix::index::State,
) -> Cleaned {
    let removed = Removed {
        limit: if cx.options.dry_run {
            usize::MAX
        } else {
            Named::MAX
        },
        ..Removed::default()
    };
    let mut cleaner = Cleaner {
        cx,
        old,
        ignored: Ignored::new(old, new),
        path: BString::default(),
        removed,
        trouble: None,
        keep: Keep::default(),
    };
    for Untracked { dir, names } in untracked {
        if let Err(err) = cleaner.tracked_directory(dir.as_bstr(), names) {
            cleaner.fail("read", dir.as_bstr(), err);
        }
    }
    let Cleaner {
        mut removed,
        trouble,
        ignored,
        keep,
        ..
    } = cleaner;
    removed.first.sort();
    for gone in removed.first.iter().filter(|_| cx.options.dry_run) {
        let local = gone.has_files.then_some(Local::Untracked);
        let path = if gone.is_dir {
            dirs::join(gone.path.as_bstr(), "".into())
        } else {
            gone.path.clone()
        };
        cx.options.would(Action::Clean, path.as_bstr(), local);
    }
    ignored.report(cx);
    Cleaned {
        count: removed.marked.count,
        lost: removed.lost(),
        trouble: trouble.map(|err| (err, keep)),
    }
}

pub(super) struct Cleaned {
    /// Files and directories.
    pub(super) count: u64,
    /// Removed files, and directories that held files.
    pub(super) lost: Named,
    /// The first error, and what would keep all of that from being tried.
    pub(super) trouble: Option<(Error, Keep)>,
}

struct Cleaner<'w, 'i, 'a> {
    cx: &'w mut Context<'a>,
    old: &'w Stored,
    ignored: Ignored<'i>,
    /// The path of what is at hand.
    path: BString,
    removed: Removed,
    trouble: Option<Error>,
    keep: Keep,
}

/// What is known of a directory before it is entered.
#[derive(Clone, Copy)]
struct Status {
    /// There are tracked files in it.
    tracked: bool,
    /// A rule excludes it, and with it all that is untracked in it.
    excluded: bool,
}

#[derive(Default, Clone, Copy)]
struct Remains {
    /// Something, so that it cannot be removed.
    anything: bool,
    /// Ignored or kept files: what git does not list stays with them.
    ignored: bool,
    /// There was something that git does not list.
    unlisted: bool,
    /// In a dry run: a directory in it would have gone with its tracked files before.
    deleted: bool,
}

/// A directory that is being cleaned: what recursion would have on the stack, which has no room for any depth.
struct Frame {
    /// The length of the directory's path.
    path: usize,
    status: Status,
    has_rules: bool,
    /// What is still to be looked at.
    names: std::vec::IntoIter<BString>,
    left: Remains,
    unlisted: Vec<BString>,
    before: Before,
}

impl Cleaner<'_, '_, '_> {
    /// Clean away those of `names`, none of them tracked, that are to go, in a directory with tracked files.
    fn tracked_directory(&mut self, path: &BStr, names: &[BString]) -> io::Result<()> {
        let excluded = self.ignored.enter(self.cx, path)?;
        let Some(fd) = self.cx.dirs.get(path)?.map(|dir| dirs::open_dir(dir, ".".into())) else {
            return Ok(());
        };
        let status = Status {
            tracked: true,
            excluded,
        };
        self.path = path.into();
        let first = self.frame(status, names.to_vec());
        self.descend(Descent::new(fd?), first);
        Ok(())
    }

    /// The directory at hand, with `names` in it.
    fn frame(&self, status: Status, names: Vec<BString>) -> Frame {
        Frame {
            path: self.path.len(),
            status,
            has_rules: false,
            names: names.into_iter(),
            left: Remains::default(),
            unlisted: Vec::new(),
            before: self.removed.before(),
        }
    }

    /// Clean the directory where `way` begins, and go down from it as far as there is something to clean.
    fn descend(&mut self, mut way: Descent<OwnedFd>, first: Frame) {
        let mut frames = vec![first];
        while let Some(frame) = frames.last_mut() {
            self.path.truncate(frame.path);
            if let Some(name) = frame.names.next() {
                dirs::push(&mut self.path, name.as_bstr());
                match self.child(way.here(), name.as_bstr(), frame) {
                    Ok(None) => {}
                    Ok(Some(excluded)) => {
                        let below = self.untracked_directory(&mut way, name.as_bstr(), excluded, frame);
                        frames.extend(below);
                    }
                    Err(err) => self.stays(frame, "remove", err),
                }
                continue;
            }
            self.unlisted(way.here(), frame);
            if frame.has_rules {
                self.cx.rules.leave();
            }
            let Some(Frame { left, before, .. }) = frames.pop() else {
                return;
            };
            match way.leave() {
                Ok(()) => {
                    if let Some(above) = frames.last_mut() {
                        self.end(way.here(), left, before, above);
                    }
                }
                Err(err) => self.lost(&mut frames, err),
            }
        }
    }

    /// What is at hand stays, in the directory of `frame`.
    fn stays(&mut self, frame: &mut Frame, action: &'static str, err: io::Error) {
        frame.left.anything = true;
        if err.kind() == io::ErrorKind::PermissionDenied {
            self.keep.note(self.cx, self.old, self.path.as_bstr());
        }
        if self.trouble.is_none() {
            let path = dirs::shown(self.path.as_bstr());
            self.fail(action, path.as_bstr(), err);
        }
    }

    /// There is no way back up but to the first of `frames`.
    fn lost(&mut self, frames: &mut Vec<Frame>, err: io::Error) {
        for frame in frames.drain(1.min(frames.len())..) {
            if frame.has_rules {
                self.cx.rules.leave();
            }
        }
        if let Some(first) = frames.first_mut() {
            self.stays(first, "clean", err);
        }
    }

    /// Remove `name`, which is at hand, unless it stays. Says whether it is a directory to be entered, and then whether
    /// that is excluded.
    fn child(&mut self, dir: BorrowedFd<'_>, name: &BStr, frame: &mut Frame) -> io::Result<Option<bool>> {
        let Some(meta) = dirs::meta(dir, name)? else {
            return Ok(None);
        };
        let left = &mut frame.left;
        let is_protected = self.cx.is_protected(&meta.identity);
        if self.cx.options.clean == Clean::Everything && !is_protected {
            return self.take(dir, name, &meta).map(|()| None);
        }
        if name == ".git" || is_protected {
            if is_protected {
                left.anything = true
            } else {
                frame.unlisted.push(name.into())
            }
            return Ok(None);
        }
        if self.is_leftover(dir, name, &meta)? {
            return Ok(None);
        }
        let path = self.path.as_bstr();
        if self.is_to_be_deleted(path, &meta) {
            return Ok(None);
        }
        let is_dir = meta.kind == Kind::Dir;
        let excluded = frame.status.excluded || self.cx.rules.excludes(path, is_dir);
        match meta.kind {
            _ if self.cx.options.clean == Clean::Nothing => left.anything = true,
            Kind::Dir if nested::is_repository(dir, name) => left.anything = true,
            // In a dry run it may be about to be emptied.
            Kind::Dir if !excluded || (self.cx.options.dry_run && self.was_tracked(path)) => {
                return Ok(Some(excluded));
            }
            Kind::Dir | Kind::File | Kind::Symlink if excluded => {
                left.anything = true;
                left.ignored = true;
            }
            Kind::Dir | Kind::File | Kind::Symlink => {
                if !self.cx.options.dry_run {
                    self.cx.begin()?;
                    dirs::unlink(dir, name)?;
                }
                self.removed.files += 1;
                self.removed.add(path, true, false);
            }
            Kind::Other => frame.unlisted.push(name.into()),
        }
        Ok(None)
    }

    /// Remove `name`, which is at hand, with all that is in it.
    fn take(&mut self, dir: BorrowedFd<'_>, name: &BStr, meta: &Meta) -> io::Result<()> {
        if !self.cx.options.dry_run {
            self.cx.begin()?;
            match meta.kind {
                Kind::Dir => descent::remove_own(dir, name)?,
                _ => drop(dirs::unlink(dir, name)?),
            }
        }
        self.removed.files += 1;
        self.removed
            .add(self.path.as_bstr(), true, meta.kind == Kind::Dir);
        Ok(())
    }

    /// Enter the untracked directory `name`, which is at hand, in that of `frame`. Gives what is to be done in it.
    fn untracked_directory(
        &mut self,
        way: &mut Descent<OwnedFd>,
        name: &BStr,
        excluded: bool,
        frame: &mut Frame,
    ) -> Option<Frame> {
        if let Err(err) = way.enter(name) {
            // An empty directory goes even if it cannot be read.
            if self.cx.options.dry_run || dirs::remove_dir(way.here(), name).is_err() {
                self.stays(frame, "remove", err)
            } else {
                self.removed.add(self.path.as_bstr(), false, true)
            }
            return None;
        }
        let status = Status {
            tracked: false,
            excluded,
        };
        let names = match dirs::entries(way.here()) {
            Ok(names) => names,
            Err(err) => {
                let mut below = self.frame(status, Vec::new());
                self.stays(&mut below, "read", err);
                return Some(below);
            }
        };
        let mut below = self.frame(status, names);
        if !excluded {
            (below.has_rules, below.status.excluded) =
                self.ignored.enter_rules(self.cx, self.path.as_bstr(), way.here());
        }
        Some(below)
    }

    /// The directory at hand has been cleaned, except for what is `left` in it. If that is nothing, it goes, too.
    /// It is in that of `above`, which is `dir`.
    fn end(&mut self, dir: BorrowedFd<'_>, inside: Remains, before: Before, above: &mut Frame) {
        let left = &mut above.left;
        left.ignored |= inside.ignored;
        left.anything |= inside.anything;
        if inside.anything {
            return;
        }
        let path = self.path.as_bstr();
        if self.cx.options.dry_run {
            let is_deleted = self.removed.marked.count == before.marked.count
                && !inside.unlisted
                && (inside.deleted || self.held_tracked(path));
            if is_deleted {
                left.deleted = true;
                return;
            }
        } else if let Err(err) = dirs::remove_dir(dir, dirs::split(path).1) {
            return self.stays(above, "remove", err);
        }
        let has_files = self.removed.files > before.files;
        self.removed.go_back_to(before);
        self.removed.add(self.path.as_bstr(), has_files, true);
    }

    /// What git does not list goes with its directory, and a directory goes if nothing in it is ignored.
    fn unlisted(&mut self, dir: BorrowedFd<'_>, frame: &mut Frame) {
        let names = std::mem::take(&mut frame.unlisted);
        frame.left.unlisted = !names.is_empty();
        for name in &names {
            let name = name.as_bstr();
            let status = frame.status;
            if status.tracked
                || status.excluded
                || frame.left.ignored
                || self.cx.options.clean == Clean::Nothing
            {
                frame.left.anything = true;
            } else if !self.cx.options.dry_run {
                let result = match dirs::meta(dir, name) {
                    Ok(Some(meta)) if meta.kind == Kind::Dir => dirs::remove_tree(dir, name),
                    Ok(Some(_)) => dirs::unlink(dir, name).map(drop),
                    Ok(None) => Ok(()),
                    Err(err) => Err(err),
                };
                if let Err(err) = result {
                    dirs::push(&mut self.path, name);
                    self.stays(frame, "remove", err);
                    self.path.truncate(frame.path);
                }
            }
        }
    }

    /// Whether a directory held tracked files or a submodule until now. If nothing else is in it, it goes with them.
    fn was_tracked(&self, path: &BStr) -> bool {
        let old = &self.old.index;
        stored::tracked(old, path) == Tracked::Directory
            || old
                .entry_by_path(path)
                .is_some_and(|entry| entry.mode == Mode::COMMIT)
    }

    /// Whether tracked files were in the directory itself, or it was a submodule: what makes git remove it when it is empty.
    fn held_tracked(&self, path: &BStr) -> bool {
        let old = &self.old.index;
        let below = dirs::join(path, "".into());
        let files = old.prefixed_entries(below.as_bstr()).unwrap_or_default();
        files
            .iter()
            .any(|entry| !entry.path(old)[below.len()..].contains(&b'/'))
            || old
                .entry_by_path(path)
                .is_some_and(|entry| entry.mode == Mode::COMMIT)
    }

    /// Whether `name` is a temporary file, link or empty directory of a run that was killed: it goes.
    fn is_leftover(&self, dir: BorrowedFd<'_>, name: &BStr, meta: &Meta) -> io::Result<bool> {
        if !name.starts_with_str(dirs::TEMPORARY) {
            return Ok(false);
        }
        match meta.kind {
            Kind::File | Kind::Symlink if self.cx.options.dry_run => Ok(true),
            Kind::File | Kind::Symlink => dirs::unlink(dir, name).map(|_| true),
            // With something in it, it is not ours.
            Kind::Dir => Ok(!self.cx.options.dry_run && dirs::remove_dir(dir, name).is_ok()),
            Kind::Other => Ok(false),
        }
    }

    /// In a dry run: the update would have deleted this before.
    fn is_to_be_deleted(&self, path: &BStr, meta: &Meta) -> bool {
        self.cx.options.dry_run
            && meta.kind != Kind::Dir
            && stored::tracked(&self.old.index, path) == Tracked::File
    }

    fn fail(&mut self, action: &'static str, path: &BStr, err: io::Error) {
        if self.trouble.is_none() {
            self.trouble = Some(self.cx.failed(action, path, err));
        }
    }
}
