//! What a user should know about files that are not as git with all its helpers would leave them: one warning of a kind.

use gix::bstr::{BStr, BString};

use crate::base::report::Reporter;

#[derive(Debug, Clone, Copy)]
pub(super) enum Notice {
    Submodule,
    Lfs,
    Filter,
    Encoding,
}

/// How often each was met, and where first, in alphabetical order.
#[derive(Debug, Default)]
pub(super) struct Notices([Option<(u64, BString)>; 4]);

impl Notices {
    pub(super) fn note(&mut self, notice: Notice, path: &BStr) {
        self.0[notice as usize].get_or_insert_with(|| (0, path.into())).0 += 1;
    }

    pub(super) fn add(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            match (mine, theirs) {
                (Some((count, first)), Some((more, other))) => {
                    *count += more;
                    *first = other.min(std::mem::take(first));
                }
                (mine @ None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
    }

    /// One warning for each kind that was met.
    pub(super) fn report(&self, report: &Reporter) {
        for (text, found) in TEXTS.iter().zip(&self.0) {
            if let Some((count, first)) = found {
                let more = match count {
                    1 => String::new(),
                    count => format!(" and {} more", count - 1),
                };
                report.warn(format!("{text}: {first}{more}"));
            }
        }
    }
}

/// In the order of [`Notice`].
const TEXTS: [&str; 4] = [
    "submodules are not supported yet; their directories stay empty",
    "Git LFS is not supported yet; these files hold pointers instead of content",
    "external filters are never run; these files are checked out without them",
    "these files could not be converted to their working-tree-encoding and stay as they are in the repository",
];
