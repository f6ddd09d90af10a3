//! What an update could not do. It is collected, so that all else is done, and is said at the end.

use std::{fmt::Write as _, io, os::unix::ffi::OsStrExt, path::Path};

use gix::{
    bstr::{BString, ByteSlice},
    index::entry::{Flags, Stat},
};

use super::{
    Error,
    context::Options,
    dirs,
    keep::Keep,
    stored::{self, Stored, Tracked},
};
use crate::base::{
    fault::{Kind, kind_of_io},
    report::Named,
};

/// What is left to do, in no order.
#[derive(Default)]
pub(super) struct Left {
    refused: Vec<(BString, Refused)>,
    /// Entries of the new index whose files are not known to be right.
    entries: Vec<usize>,
    /// Paths that are no longer tracked, and still there.
    undeleted: Vec<BString>,
    /// What was not tried, because nothing more could have succeeded.
    untried: Vec<BString>,
    /// An object could not be read: nothing that can be done to the files helps.
    object: Option<(usize, Error)>,
    /// Nothing more of this kind need be tried.
    is_given_up: bool,
    keep: Keep,
}

struct Refused {
    action: &'static str,
    source: io::Error,
    /// The file is not tracked, so that it may stay.
    may_stay: bool,
}

/// How many names of what is left are told; the rest is counted.
pub(super) const NAMED: usize = Named::MAX;

impl Left {
    /// The system refused to write the file of an entry.
    pub(super) fn unwritten(&mut self, entry: usize, path: BString, source: io::Error) {
        self.entries.push(entry);
        self.refused("write", path, source);
    }

    /// The system refused to delete what is no longer tracked.
    pub(super) fn undeleted(&mut self, path: BString, source: io::Error) {
        self.undeleted.push(path.clone());
        self.refused("delete", path, source);
    }

    /// The system refused to `action` `path`, which is not tracked.
    pub(super) fn refused(&mut self, action: &'static str, path: BString, source: io::Error) {
        self.refused.push((
            path,
            Refused {
                action,
                source,
                may_stay: false,
            },
        ));
    }

    /// `clean` met `err`; `keep` would have kept it from that.
    pub(super) fn not_cleaned(&mut self, root: &Path, err: Error, keep: Keep) -> Result<(), Error> {
        let Error::File {
            action, path, source, ..
        } = err
        else {
            return Err(err);
        };
        let path = path.strip_prefix(root).unwrap_or(&path);
        let path = BString::from(path.as_os_str().as_bytes());
        // What could not be deleted is no longer tracked.
        if !self.undeleted.contains(&path) {
            let may_stay = source.kind() == io::ErrorKind::PermissionDenied;
            let refused = Refused {
                action,
                source,
                may_stay,
            };
            self.refused.push((path, refused));
            self.keep = keep;
        }
        Ok(())
    }

    /// The content of an entry cannot be had.
    pub(super) fn unreadable(&mut self, entry: usize, path: BString, err: Error) {
        self.untried_entry(entry, path);
        self.object = first(self.object.take(), Some((entry, err)));
    }

    pub(super) fn untried_entry(&mut self, entry: usize, path: BString) {
        self.entries.push(entry);
        self.untried.push(path);
    }

    pub(super) fn untried_deletion(&mut self, path: BString) {
        self.undeleted.push(path.clone());
        self.untried.push(path);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.refused.extend(other.refused);
        self.entries.extend(other.entries);
        self.undeleted.extend(other.undeleted);
        self.untried.extend(other.untried);
        self.object = first(self.object.take(), other.object);
        self.is_given_up |= other.is_given_up;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.refused.is_empty() && self.untried.is_empty()
    }

    /// Give up, as the same error is to be expected of every other file.
    pub(super) fn give_up(&mut self) {
        self.is_given_up = true;
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// Whether an ignore rule may be missing that says what must stay.
    pub(super) fn lacks_rules(&self) -> bool {
        self.paths()
            .any(|path| dirs::split(path.as_bstr()).1 == ".gitignore")
    }

    fn paths(&self) -> impl Iterator<Item = &BString> {
        let refused = self.refused.iter().map(|(path, _)| path);
        refused.chain(&self.untried)
    }

    /// The first names, and how many more there are.
    pub(super) fn names(&self) -> (Vec<String>, u64) {
        let mut paths: Vec<_> = self.paths().collect();
        paths.sort_unstable();
        let more = paths.len().saturating_sub(NAMED);
        let names = paths.into_iter().take(NAMED).map(ToString::to_string);
        (names.collect(), more as u64)
    }

    /// Let `new` tell of files as they are: the next update looks at all that is left.
    pub(super) fn mark(&self, old: &Stored, new: &mut gix::index::State) {
        for entry in &self.entries {
            new.entries_mut()[*entry].stat = Stat::default();
        }
        // Where the new tree has something in its place, that is what is looked at.
        let is_free = |path: &&BString| {
            let mut parents = dirs::parents(path.as_bstr());
            stored::tracked(new, path.as_bstr()) == Tracked::No
                && parents.all(|dir| new.entry_by_path(dir).is_none())
        };
        let entry = |path: &BString| old.index.entry_by_path(path.as_bstr());
        let undeleted: Vec<_> = self.undeleted.iter().filter(is_free).filter_map(entry).collect();
        if undeleted.is_empty() {
            return;
        }
        for entry in undeleted {
            let (path, flags) = (entry.path(&old.index), Flags::empty());
            new.dangerously_push_entry(Stat::default(), entry.id, flags, entry.mode, path);
        }
        new.sort_entries();
        // They are no longer the files of one tree.
        new.remove_tree();
    }

    /// What is left as an error, if anything is.
    pub(super) fn into_error(mut self, commit: gix::ObjectId, options: &Options<'_>) -> Option<Error> {
        if let Some((_, err)) = self.object {
            return Some(err);
        }
        self.refused.sort_by(|(a, _), (b, _)| a.cmp(b));
        let exhausted = |(_, refused): &(_, Refused)| kind_of_io(&refused.source) == Kind::Resources;
        let first = self.refused.iter().position(exhausted).unwrap_or_default();
        let lacks_rules = self.lacks_rules();
        let (mut what, mut help) = (String::new(), String::new());
        for (at, (path, refused)) in self.refused.iter().enumerate() {
            if at < NAMED {
                let Refused { action, source, .. } = refused;
                let path = options.path(path.as_bstr());
                write!(what, "cannot {action} {}: {source}; ", path.display()).ok();
            }
            let keep = self.keep.advice(options).filter(|_| refused.may_stay);
            let advice = keep.unwrap_or_else(|| super::error::help(&refused.source).into());
            if !help.contains(&advice) {
                help += &advice;
                help += "; ";
            }
        }
        if let Some(more @ 1..) = self.refused.len().checked_sub(NAMED) {
            write!(what, "and {more} more; ").ok();
        }
        what += &match self.untried.len() {
            _ if options.dry_run => "all else could be done".into(),
            0 => format!("all else is as in {}", commit.to_hex_with_len(7)),
            1 => "one more file was not tried".into(),
            untried => format!("{untried} more files were not tried"),
        };
        if lacks_rules && !options.dry_run {
            what += "; nothing untracked was removed, as a .gitignore is among these";
        }
        help += "the next run does the rest";
        let (_, Refused { source, .. }) = self.refused.into_iter().nth(first)?;
        Some(Error::Unfinished { what, help, source })
    }
}

fn first(a: Option<(usize, Error)>, b: Option<(usize, Error)>) -> Option<(usize, Error)> {
    a.into_iter().chain(b).min_by_key(|(entry, _)| *entry)
}

/// Whether the same is to be expected of every other file: no more are tried.
pub(super) fn is_final(err: &io::Error) -> bool {
    use io::ErrorKind as E;
    let is = |errno: rustix::io::Errno| err.raw_os_error() == Some(errno.raw_os_error());
    match err.kind() {
        E::FileTooLarge => false,
        E::ReadOnlyFilesystem => true,
        _ => kind_of_io(err) == Kind::Resources || is(rustix::io::Errno::IO),
    }
}
