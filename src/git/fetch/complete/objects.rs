//! The objects that a tip leads to, as they are asked for: read, and missing where they are not here.

use std::fmt;

use gix::{
    ObjectId,
    bstr::BString,
    hashtable::HashSet,
    objs::{Kind, TreeRefIter},
};
use gix_pack::Find as _;

use crate::git::{repository, revwalk::Commit};

/// What is not there, or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub id: ObjectId,
    /// The kind that the object should be of.
    pub kind: Kind,
    /// The commit that leads to it.
    pub of: Option<ObjectId>,
    /// Where in that commit it is, if that could be found out.
    pub path: Option<BString>,
    /// Why the object cannot be read; `None`: it is not there.
    pub reason: Option<String>,
}

impl Missing {
    /// The time of the run was over before `id` was read.
    pub(super) fn late(id: ObjectId, kind: Kind) -> Box<Self> {
        Box::new(Self {
            id,
            kind,
            of: None,
            path: None,
            reason: Some("no time was left for it".into()),
        })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} {}", self.kind, self.id)?;
        if let Some(path) = &self.path {
            write!(f, " ({path:?})")?;
        }
        if let Some(of) = &self.of {
            write!(f, " of commit {}", of.to_hex_with_len(7))?;
        }
        match &self.reason {
            Some(reason) => write!(f, " cannot be read: {reason}"),
            None => write!(f, " is missing"),
        }
    }
}

/// The object database, as this module asks it.
pub(super) struct Objects(pub(super) gix::odb::HandleArc);

impl Objects {
    pub(super) fn read<'b>(
        &self,
        id: &ObjectId,
        kind: Kind,
        buf: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], Box<Missing>> {
        let missing = |reason| {
            Box::new(Missing {
                id: *id,
                kind,
                of: None,
                path: None,
                reason,
            })
        };
        match self.0.try_find(id, buf) {
            Ok(Some((data, _))) if data.kind == kind => Ok(data.data),
            Ok(Some((data, _))) => Err(missing(Some(format!("it is a {}", data.kind)))),
            Ok(None) => Err(missing(None)),
            Err(err) => Err(missing(Some(repository::reason(&err)))),
        }
    }

    /// What `id` is once it is no tag; all tags on the way are here.
    pub(super) fn peel(&self, id: ObjectId) -> Result<(ObjectId, Kind), Box<Missing>> {
        let (mut at, mut expected, mut buf) = (id, Kind::Commit, Vec::new());
        loop {
            let missing = |reason| {
                Box::new(Missing {
                    id: at,
                    kind: expected,
                    of: None,
                    path: None,
                    reason,
                })
            };
            let data = match self.0.try_find(&at, &mut buf) {
                Ok(Some((data, _))) => data,
                Ok(None) => return Err(missing(None)),
                Err(err) => return Err(missing(Some(repository::reason(&err)))),
            };
            if data.kind != Kind::Tag {
                return Ok((at, data.kind));
            }
            let tag = gix::objs::TagRef::from_bytes(data.data, at.kind());
            let tag = tag.map_err(|err| missing(Some(err.to_string())))?;
            (at, expected) = (tag.target(), tag.target_kind);
        }
    }

    pub(super) fn commit(&self, id: &ObjectId, buf: &mut Vec<u8>) -> Result<Commit, Box<Missing>> {
        let data = self.read(id, Kind::Commit, buf)?;
        Commit::parse(data, id.kind()).map_err(|err| {
            Box::new(Missing {
                id: *id,
                kind: Kind::Commit,
                of: None,
                path: None,
                reason: Some(err.to_string()),
            })
        })
    }

    /// Where in the commit `of` the object `wanted` is.
    pub(super) fn path(&self, of: ObjectId, wanted: ObjectId) -> Option<BString> {
        let mut buf = Vec::new();
        let root = self.commit(&of, &mut buf).ok()?.tree;
        let (mut stack, mut seen) = (vec![(root, BString::default())], HashSet::default());
        while let Some((id, path)) = stack.pop() {
            let Ok(data) = self.read(&id, Kind::Tree, &mut buf) else {
                continue;
            };
            for entry in TreeRefIter::from_bytes(data, id.kind()).map_while(Result::ok) {
                let mut path = path.clone();
                path.extend_from_slice(entry.filename);
                if entry.oid == wanted {
                    return Some(path);
                }
                if entry.mode.is_tree() && seen.insert(entry.oid.to_owned()) {
                    path.push(b'/');
                    stack.push((entry.oid.to_owned(), path));
                }
            }
        }
        None
    }
}

pub(super) struct Root {
    /// The commit, or the tip, that the tree is of.
    pub(super) of: ObjectId,
    pub(super) tree: ObjectId,
    /// A tree that is complete, or is checked as well.
    pub(super) base: Option<ObjectId>,
}
