//! Reads the objects of the source repository; knows nothing of what is done with them.
//!
//! What is not there is `None`, and what cannot be read is an error: the callers judge which one matters.

use gix::{
    ObjectId,
    bstr::BString,
    objs::{FindHeader, Kind, tree::EntryMode},
};
use gix_pack::Find;

use super::Error;
use crate::git::revwalk::Commit;

/// How many tags may lead to one another. git makes one of a tag by hand only.
const MAX_TAGS: usize = 100;

pub(super) struct Objects {
    pub(super) db: gix::odb::HandleArc,
    pub(super) format: gix::hash::Kind,
}

/// What an object amounts to once it is no tag.
#[derive(Debug, Clone)]
pub(super) struct Peeled {
    pub(super) id: ObjectId,
    pub(super) kind: Kind,
    /// The tags on the way, the outermost first.
    pub(super) tags: Vec<ObjectId>,
}

pub(super) struct Entry {
    pub(super) mode: EntryMode,
    pub(super) name: BString,
    pub(super) id: ObjectId,
}

impl Objects {
    pub(super) fn new(db: gix::odb::HandleArc, format: gix::hash::Kind) -> Self {
        Self { db, format }
    }

    pub(super) fn kind(&self, id: &ObjectId) -> Result<Option<Kind>, Error> {
        let header = self.db.try_header(id).map_err(unreadable(id))?;
        Ok(header.map(|header| header.kind))
    }

    /// Whether `id` is there, without looking for packs that appeared just now.
    pub(super) fn has(&self, id: &ObjectId) -> bool {
        self.db.exists_without_refresh(id)
    }

    /// The commit `id`, or `None` if it is not there or something else.
    pub(super) fn commit(&self, id: &ObjectId) -> Result<Option<Commit>, Error> {
        let mut buf = Vec::new();
        let found = self.db.try_find(id, &mut buf).map_err(unreadable(id))?;
        let Some((data, _)) = found.filter(|(data, _)| data.kind == Kind::Commit) else {
            return Ok(None);
        };
        let commit = Commit::parse(data.data, id.kind()).map_err(unreadable(id))?;
        Ok(Some(commit).filter(|commit| !commit.tree.is_null()))
    }

    /// The entries of the tree `id`, or `None` if it is not there or something else.
    pub(super) fn tree(&self, id: &ObjectId) -> Result<Option<Vec<Entry>>, Error> {
        let mut buf = Vec::new();
        let found = self.db.try_find(id, &mut buf).map_err(unreadable(id))?;
        let Some(entries) = found.and_then(|(data, _)| data.try_into_tree_iter()) else {
            return Ok(None);
        };
        entries
            .map(|entry| {
                entry.map_err(unreadable(id)).map(|entry| Entry {
                    mode: entry.mode,
                    name: entry.filename.to_owned(),
                    id: entry.oid.to_owned(),
                })
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// What `id` amounts to, or the error that something on the way is missing; `None` if `id` itself is.
    pub(super) fn peel(&self, id: &ObjectId) -> Result<Option<Peeled>, Error> {
        let (mut at, mut tags) = (*id, Vec::new());
        loop {
            match self.kind(&at)? {
                Some(Kind::Tag) if tags.len() == MAX_TAGS => return Err(Error::Tags { id: *id }),
                Some(Kind::Tag) => {
                    let target = self.tag_target(&at)?;
                    tags.push(std::mem::replace(&mut at, target));
                }
                Some(kind) => return Ok(Some(Peeled { id: at, kind, tags })),
                None if tags.is_empty() => return Ok(None),
                None => return Err(Error::Missing { id: at }),
            }
        }
    }

    fn tag_target(&self, id: &ObjectId) -> Result<ObjectId, Error> {
        let mut buf = Vec::new();
        let found = self.db.try_find(id, &mut buf).map_err(unreadable(id))?;
        found
            .and_then(|(data, _)| data.try_into_tag_iter())
            .ok_or(Error::Missing { id: *id })?
            .target_id()
            .map_err(unreadable(id))
    }
}

/// The error of an object that cannot be read.
pub(super) fn unreadable(id: &ObjectId) -> impl FnOnce(gix::Error) -> Error {
    let id = *id;
    move |source| Error::Object { id, source }
}
