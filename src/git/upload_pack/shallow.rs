//! Where history is cut: by the depth that the client asks for, by what it has, and by what this repository has.
//!
//! See shallow(5) and gitprotocol-v2, "shallow-info".

use std::{collections::VecDeque, io::Write};

use gix::{ObjectId, hashtable::HashSet};
use gix_transport::packetline::blocking_io::encode;

use super::{
    Error,
    request::{Depth, Fetch},
    selection::Selection,
    source::Source,
};
use crate::git::repository;

/// Where the client's history will be cut after this fetch.
#[derive(Default)]
pub(super) struct Boundary {
    /// Commits whose parents count for nothing while the pack is put together.
    pub(super) cut: HashSet,
    /// Commits that were cut and shall be no more: the client has them, but lacks their parents.
    pub(super) unshallow: Vec<ObjectId>,
    /// The parents of these.
    pub(super) parents: Vec<ObjectId>,
    /// New cuts.
    shallow: Vec<ObjectId>,
    /// Where this repository's own history is cut.
    ours: HashSet,
    client: HashSet,
}

impl Boundary {
    /// The boundary for a fetch of the commits `wants`.
    pub(super) fn new(source: &Source<'_>, request: &Fetch, wants: &[ObjectId]) -> Result<Self, Error> {
        let ours = ours(source)?;
        let client: HashSet = request.shallow.iter().copied().collect();
        let mut boundary = Self {
            cut: client.union(&ours).copied().collect(),
            ours,
            client,
            ..Self::default()
        };
        match request.depth {
            None => {}
            Some(Depth::FromTip(depth)) if depth.get() >= Depth::INFINITE && boundary.ours.is_empty() => {
                boundary.remove(source)?;
            }
            Some(Depth::FromTip(depth)) => boundary.measure(source, wants, depth.get())?,
            Some(Depth::FromBoundary(depth)) => {
                let cuts = boundary.reached(source, wants)?;
                boundary.measure(source, &cuts, depth.get().saturating_add(1))?;
            }
        }
        Ok(boundary)
    }

    /// Tell the client, once it is known what it will get.
    pub(super) fn write(&self, sent: &Selection, write: &mut impl Write) -> Result<(), Error> {
        // A cut of ours matters to the client only if it gets the commit: otherwise it may well have the parents.
        let inherited = sent.commits.iter().filter(|id| self.ours.contains(*id));
        let shallow: HashSet = self.shallow.iter().chain(inherited).copied().collect();
        let mut shallow: Vec<_> = shallow.difference(&self.client).collect();
        if shallow.is_empty() && self.unshallow.is_empty() {
            return Ok(());
        }
        shallow.sort();
        let shallow = shallow.iter().map(|id| format!("shallow {id}"));
        let unshallow = self.unshallow.iter().map(|id| format!("unshallow {id}"));
        let section = || {
            encode::text_to_write(b"shallow-info", &mut *write)?;
            for line in shallow.chain(unshallow) {
                encode::text_to_write(line.as_bytes(), &mut *write)?;
            }
            encode::delim_to_write(&mut *write)
        };
        section().map(|_| ()).map_err(Error::Gone)
    }

    /// Cut no history of the client any more.
    fn remove(&mut self, source: &Source<'_>) -> Result<(), Error> {
        for id in self.client.clone() {
            if let Some(commit) = source.objects.commit(&id)? {
                self.unshallow.push(id);
                self.parents.extend(commit.parents);
            }
        }
        Ok(())
    }

    /// Cut history `depth` commits from `tips`, these being the first.
    fn measure(&mut self, source: &Source<'_>, tips: &[ObjectId], depth: u32) -> Result<(), Error> {
        let mut queue: VecDeque<_> = tips.iter().map(|id| (*id, 1)).collect();
        let mut seen: HashSet = tips.iter().copied().collect();
        // Breadth first: each commit is met at its least depth.
        while let Some((id, at)) = queue.pop_front() {
            source.check_count(seen.len())?;
            let commit = source.objects.commit(&id)?.ok_or(Error::Missing { id })?;
            if !commit.parents.is_empty() && (at >= depth || self.ours.contains(&id)) {
                self.shallow.push(id);
                continue;
            }
            for parent in &commit.parents {
                if seen.insert(*parent) {
                    queue.push_back((*parent, at + 1));
                }
            }
            if self.client.contains(&id) {
                self.unshallow.push(id);
                self.parents.extend(commit.parents);
            }
        }
        self.cut.extend(self.shallow.iter().copied());
        Ok(())
    }

    /// The cuts of the client that `wants` lead to.
    fn reached(&self, source: &Source<'_>, wants: &[ObjectId]) -> Result<Vec<ObjectId>, Error> {
        let mut stack = wants.to_vec();
        let mut seen: HashSet = stack.iter().copied().collect();
        let mut out = Vec::new();
        while let Some(id) = stack.pop() {
            source.check_count(seen.len())?;
            if self.client.contains(&id) {
                out.push(id);
            }
            if self.cut.contains(&id) {
                continue;
            }
            let commit = source.objects.commit(&id)?.ok_or(Error::Missing { id })?;
            stack.extend(commit.parents.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(out)
    }
}

/// The commits at which the history of this repository itself is cut.
fn ours(source: &Source<'_>) -> Result<HashSet, Error> {
    repository::cut(&source.repo).map_err(|source| Error::Repository {
        what: "the shallow file",
        source,
    })
}
