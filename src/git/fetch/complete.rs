//! Whether everything that a commit leads to is here: a ref may hold it only then.
//!
//! A pack that holds all that its objects name ([`Whole`]) needs no more. Otherwise
//! commits are walked from the new ones back to those that are known to be complete, or to where history is cut; of each,
//! the tree is compared with its parent's, and only what differs is looked at. Trees are read once, blobs are looked up:
//! their content was hashed when their pack was indexed. Nothing recurses, and memory grows with the number of objects.

use std::fmt;

use gix::{
    ObjectId,
    bstr::BString,
    hashtable::HashSet,
    objs::{Kind, TreeRefIter, commit::ref_iter::Token},
};
use gix_pack::Find as _;

use crate::git::{intake::Whole, repository};

mod trees;
mod walk;
use trees::Trees;
use walk::Walk;

/// Bytes of unpacked trees that each thread keeps: most are changes of one that was read a moment ago.
const CACHE_BYTES: usize = 32 << 20;

/// What is not there, or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The object.
    pub id: ObjectId,
    /// What it should be.
    pub kind: Kind,
    /// The commit that leads to it.
    pub of: Option<ObjectId>,
    /// Where in that commit it is, if that could be found out.
    pub path: Option<BString>,
    /// Why it cannot be read; without, it is not there.
    pub reason: Option<String>,
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

/// Whether `tip` and all that it leads to is in the pack that came.
pub fn is_in(repo: &gix::Repository, tip: ObjectId, pack: &Whole) -> bool {
    pack.has(&tip)
        && (pack.cut().is_empty() || {
            let cut = cut(repo);
            pack.cut().iter().all(|id| cut.contains(id))
        })
}

/// Commits whose parents are not to be here.
fn cut(repo: &gix::Repository) -> HashSet {
    let cut = repo.shallow_commits().ok().flatten();
    cut.iter().flat_map(|cut| cut.iter().copied()).collect()
}

/// Whether all that `tips` lead to is here, as far as `known` do not lead there already.
pub fn check(repo: &gix::Repository, tips: &[ObjectId], known: &[ObjectId]) -> Result<(), Box<Missing>> {
    let mut objects = repo.objects.clone();
    objects.ignore_replacements = true;
    objects.set_pack_cache(|| Box::new(gix_pack::cache::lru::MemoryCappedHashmap::new(CACHE_BYTES)));
    let objects = Objects(objects.into_inner());
    let mut walk = Walk::new(&objects, cut(repo));
    for id in known {
        walk.know(*id);
    }
    let mut roots = Vec::new();
    for tip in tips {
        match objects.peel(*tip)? {
            (id, Kind::Commit) => walk.meet(id, *tip)?,
            (id, Kind::Tree) => roots.push(Root {
                of: *tip,
                tree: id,
                base: None,
            }),
            _ => {}
        }
    }
    roots.extend(walk.run()?);
    Trees::new(&roots).check(&objects).map_err(|mut missing| {
        missing.path = missing.of.and_then(|of| objects.path(of, missing.id));
        missing
    })
}

/// The object database, as this room asks it.
struct Objects(gix::odb::HandleArc);

/// What a commit refers to.
struct Commit {
    tree: ObjectId,
    parents: Vec<ObjectId>,
    time: i64,
}

impl Objects {
    fn read<'b>(&self, id: &ObjectId, kind: Kind, buf: &'b mut Vec<u8>) -> Result<&'b [u8], Box<Missing>> {
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
    fn peel(&self, id: ObjectId) -> Result<(ObjectId, Kind), Box<Missing>> {
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

    fn commit(&self, id: &ObjectId, buf: &mut Vec<u8>) -> Result<Commit, Box<Missing>> {
        let data = self.read(id, Kind::Commit, buf)?;
        let mut commit = Commit {
            tree: id.kind().null(),
            parents: Vec::new(),
            time: 0,
        };
        for token in gix::objs::CommitRefIter::from_bytes(data, id.kind()) {
            match token {
                Ok(Token::Tree { id }) => commit.tree = id,
                Ok(Token::Parent { id }) => commit.parents.push(id),
                Ok(Token::Committer { signature }) => {
                    commit.time = signature.seconds();
                    break;
                }
                Ok(_) => {}
                Err(err) => {
                    let reason = Some(err.to_string());
                    return Err(Box::new(Missing {
                        id: *id,
                        kind: Kind::Commit,
                        of: None,
                        path: None,
                        reason,
                    }));
                }
            }
        }
        Ok(commit)
    }

    /// Where in the commit `of` the object `wanted` is.
    fn path(&self, of: ObjectId, wanted: ObjectId) -> Option<BString> {
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

/// A tree to check.
struct Root {
    /// The commit, or the tip, that it is of.
    of: ObjectId,
    tree: ObjectId,
    /// A tree that is complete, or is checked as well.
    base: Option<ObjectId>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
