//! Untracked files: what `git clean -df` would remove is removed, by its rules to the letter.
//!
//! Ignored and kept files stay, with all directories above them. Repositories of their own stay.
//! Fifos, sockets and stray `.git`s are neither tracked nor untracked to git: they go only with a directory that goes.
//! Which names are untracked in directories of the tree, `walk` has found; untracked directories are entered here.
//! A `.gitignore` is only read above something untracked.
//! What cannot be removed does not stop it; the first such error is reported at its end.

use std::{
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use gix::{
    bstr::{BStr, BString, ByteSlice},
    index::entry::Mode,
};

use super::{
    Context, Error,
    dirs::{self, Kind, Meta},
    file, nested,
    stored::{self, Stored, Tracked},
    walk::Untracked,
};
use crate::{config::Clean, event::Action};

/// Remove what is neither in `new`, nor ignored, nor to be kept, of what the walk found to be untracked.
/// Says how many files and directories, and what went wrong.
pub(super) fn clean(
    cx: &mut Context<'_>,
    untracked: &[Untracked],
    old: &Stored,
    new: &gix::index::State,
) -> (u64, Option<Error>) {
    let mut walk = Walk {
        cx,
        old,
        new,
        chain: Vec::new(),
        removed: Vec::new(),
        trouble: None,
    };
    for Untracked { dir, names } in untracked {
        if let Err(err) = walk.tracked_directory(dir.as_bstr(), names) {
            walk.fail("read", dir.as_bstr(), err);
        }
    }
    let (mut removed, trouble) = (walk.removed, walk.trouble);
    if cx.options.dry_run {
        removed.sort();
        for path in &removed {
            cx.options.would(Action::Clean, path.as_bstr());
        }
    }
    (removed.len() as u64, trouble)
}

struct Walk<'w, 'a> {
    cx: &'w mut Context<'a>,
    old: &'w Stored,
    new: &'w gix::index::State,
    /// The tracked directory at hand and those above it, the root first: whether a rule excludes each.
    /// The rules of those that are not excluded have been entered.
    chain: Vec<(BString, bool)>,
    /// Outermost first: a directory stands for all that was in it.
    removed: Vec<BString>,
    trouble: Option<Error>,
}

/// What is known of a directory before it is entered.
#[derive(Clone, Copy)]
struct Place {
    /// There are tracked files in it.
    tracked: bool,
    /// A rule excludes it, and with it all that is untracked in it.
    excluded: bool,
}

/// What is left in a directory.
#[derive(Default, Clone, Copy)]
struct Left {
    /// Something, so that it cannot be removed.
    anything: bool,
    /// Ignored or kept files: what git does not list stays with them.
    ignored: bool,
    /// There was something that git does not list.
    unlisted: bool,
    /// In a dry run: a directory in it would have gone with its tracked files before.
    deleted: bool,
}

impl Walk<'_, '_> {
    /// Clean away those of `names`, none of them tracked, that are to go, in a directory with tracked files.
    fn tracked_directory(&mut self, path: &BStr, names: &[BString]) -> io::Result<()> {
        let excluded = self.enter(path)?;
        let Some(fd) = self.cx.dirs.get(path)?.map(|dir| dirs::open_dir(dir, ".".into())) else {
            return Ok(());
        };
        let place = Place {
            tracked: true,
            excluded,
        };
        self.children(fd?, path, names, place);
        Ok(())
    }

    /// Let the rules of `path` hold and of all directories above it. Says whether it is excluded itself.
    fn enter(&mut self, path: &BStr) -> io::Result<bool> {
        while self
            .chain
            .last()
            .is_some_and(|(dir, _)| !is_in(path, dir.as_bstr()))
        {
            if let Some((_, false)) = self.chain.pop() {
                self.cx.rules.leave();
            }
        }
        let mut missing: Vec<&BStr> = std::iter::once(path)
            .chain(dirs::parents(path))
            .chain([BStr::new("")])
            .take_while(|dir| self.chain.last().is_none_or(|(last, _)| last != dir))
            .collect();
        // Both ends of the root's own chain are the root.
        missing.dedup();
        for dir in missing.into_iter().rev() {
            let is_excluded = match self.chain.last() {
                None => false,
                Some((_, excluded)) => *excluded || self.cx.rules.excludes(dir, true),
            };
            if !is_excluded {
                let text = match self.cx.dirs.get(dir)? {
                    Some(fd) => {
                        let fd = dirs::open_dir(fd, ".".into())?;
                        self.ignore_file(fd.as_fd(), dir)
                    }
                    None => Vec::new(),
                };
                self.cx.rules.enter(dir, &text);
            }
            self.chain.push((dir.into(), is_excluded));
        }
        Ok(self.chain.last().is_some_and(|(_, excluded)| *excluded))
    }

    /// Clean the untracked directory `path`, but do not remove it.
    fn directory(&mut self, fd: OwnedFd, path: &BStr, excluded: bool) -> Left {
        let names = match dirs::entries(fd.as_fd()) {
            Ok(names) => names,
            Err(err) => {
                self.fail("read", path, err);
                return Left {
                    anything: true,
                    ..Left::default()
                };
            }
        };
        if !excluded {
            let text = self.ignore_file(fd.as_fd(), path);
            self.cx.rules.enter(path, &text);
        }
        let place = Place {
            tracked: false,
            excluded,
        };
        let left = self.children(fd, path, &names, place);
        if !excluded {
            self.cx.rules.leave();
        }
        left
    }

    fn children(&mut self, fd: OwnedFd, path: &BStr, names: &[BString], place: Place) -> Left {
        let mut left = Left::default();
        let mut unlisted = Vec::new();
        for name in names {
            if let Err(err) = self.child(fd.as_fd(), path, name.as_bstr(), place, &mut left, &mut unlisted) {
                left.anything = true;
                self.fail("remove", dirs::join(path, name.as_bstr()).as_bstr(), err);
            }
        }
        self.unlisted(fd.as_fd(), path, &unlisted, place, &mut left);
        left
    }

    fn child(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &BStr,
        name: &BStr,
        place: Place,
        left: &mut Left,
        unlisted: &mut Vec<BString>,
    ) -> io::Result<()> {
        let child = dirs::join(path, name);
        let child = child.as_bstr();
        let Some(meta) = dirs::meta(dir, name)? else {
            return Ok(());
        };
        if name == ".git" || self.cx.protected.contains(&meta.inode) {
            match self.cx.protected.contains(&meta.inode) {
                true => left.anything = true,
                false => unlisted.push(name.into()),
            }
            return Ok(());
        }
        if is_leftover(name, &meta) {
            return self.remove(dir, name, None);
        }
        if self.is_to_be_deleted(child, &meta) {
            return Ok(());
        }
        let excluded = place.excluded || self.cx.rules.excludes(child, meta.kind == Kind::Dir);
        match meta.kind {
            _ if self.cx.options.clean == Clean::Nothing => left.anything = true,
            Kind::Dir => self.untracked_directory(dir, name, child, excluded, left)?,
            Kind::File | Kind::Symlink if excluded => {
                left.anything = true;
                left.ignored = true;
            }
            Kind::File | Kind::Symlink => self.remove(dir, name, Some(child))?,
            Kind::Other => unlisted.push(name.into()),
        }
        Ok(())
    }

    fn untracked_directory(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &BStr,
        path: &BStr,
        excluded: bool,
        left: &mut Left,
    ) -> io::Result<()> {
        if nested::is_repository(&self.cx.options.path(path)) {
            left.anything = true;
            return Ok(());
        }
        // In a dry run it may be about to be emptied.
        if excluded && !(self.cx.options.dry_run && self.was_tracked(path)) {
            left.anything = true;
            left.ignored = true;
            return Ok(());
        }
        let mark = self.removed.len();
        let inside = match dirs::open_dir(dir, name) {
            Ok(fd) => self.directory(fd, path, excluded),
            // An empty directory goes even if it cannot be read.
            Err(err) => match self.cx.options.dry_run || dirs::remove_dir(dir, name).is_err() {
                true => return Err(err),
                false => Left::default(),
            },
        };
        left.ignored |= inside.ignored;
        left.anything |= inside.anything;
        if inside.anything {
            return Ok(());
        }
        let is_deleted =
            self.removed.len() == mark && !inside.unlisted && (inside.deleted || self.held_tracked(path));
        if self.cx.options.dry_run && is_deleted {
            left.deleted = true;
            return Ok(());
        }
        if !self.cx.options.dry_run {
            dirs::remove_dir(dir, name)?;
        }
        self.removed.truncate(mark);
        self.removed.push(path.into());
        Ok(())
    }

    /// What git does not list goes with its directory, and a directory goes if nothing in it is ignored.
    fn unlisted(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &BStr,
        names: &[BString],
        place: Place,
        left: &mut Left,
    ) {
        left.unlisted = !names.is_empty();
        for name in names {
            let name = name.as_bstr();
            if place.tracked || place.excluded || left.ignored || self.cx.options.clean == Clean::Nothing {
                left.anything = true;
            } else if !self.cx.options.dry_run {
                let result = match dirs::meta(dir, name) {
                    Ok(Some(meta)) if meta.kind == Kind::Dir => dirs::remove_tree(dir, name),
                    Ok(Some(_)) => dirs::unlink(dir, name).map(drop),
                    Ok(None) => Ok(()),
                    Err(err) => Err(err),
                };
                if let Err(err) = result {
                    left.anything = true;
                    self.fail("remove", dirs::join(path, name).as_bstr(), err);
                }
            }
        }
    }

    /// Unlink a file, and count it under `path`.
    fn remove(&mut self, dir: BorrowedFd<'_>, name: &BStr, path: Option<&BStr>) -> io::Result<()> {
        if !self.cx.options.dry_run {
            self.cx.begin()?;
            dirs::unlink(dir, name)?;
        }
        self.removed.extend(path.map(ToOwned::to_owned));
        Ok(())
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

    /// In a dry run: the update would have deleted this before.
    fn is_to_be_deleted(&self, path: &BStr, meta: &Meta) -> bool {
        self.cx.options.dry_run
            && meta.kind != Kind::Dir
            && stored::tracked(&self.old.index, path) == Tracked::File
    }

    /// The text of the `.gitignore` of a directory. A link is not followed, as git does not.
    fn ignore_file(&self, dir: BorrowedFd<'_>, path: &BStr) -> Vec<u8> {
        let name = BStr::new(".gitignore");
        // In a dry run the file may not be there yet.
        if self.cx.options.dry_run
            && stored::tracked(&self.old.index, dirs::join(path, name).as_bstr()) == Tracked::File
            && self.new.entry_by_path(dirs::join(path, name).as_bstr()).is_none()
        {
            return Vec::new();
        }
        if self.cx.options.dry_run
            && let Some(entry) = self.new.entry_by_path(dirs::join(path, name).as_bstr())
            && matches!(entry.mode, Mode::FILE | Mode::FILE_EXECUTABLE)
        {
            let blob = self.cx.repo.find_object(entry.id);
            return blob.map(|blob| blob.detach().data).unwrap_or_default();
        }
        let mut text = Vec::new();
        let read = dirs::open_file(dir, name).and_then(|mut file| file.read_to_end(&mut text));
        read.map(|_| text).unwrap_or_default()
    }

    fn fail(&mut self, action: &'static str, path: &BStr, err: io::Error) {
        if self.trouble.is_none() {
            self.trouble = Some(self.cx.failed(action, path, err));
        }
    }
}

/// Whether `path` is `dir` or below it.
fn is_in(path: &BStr, dir: &BStr) -> bool {
    let rest = path.strip_prefix(dir.as_bytes());
    dir.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// A temporary file of a run that was killed.
fn is_leftover(name: &BStr, meta: &Meta) -> bool {
    name.starts_with_str(file::TEMPORARY) && matches!(meta.kind, Kind::File | Kind::Symlink)
}
