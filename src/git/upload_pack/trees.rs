//! From commits to objects: every tree and blob that the client lacks, once.
//!
//! Where the client has a parent of a commit, only what differs between the two trees is looked at, path by
//! path. What moved between directories may be sent again, as by git with `pack.useSparse`.

use gix::{ObjectId, bstr::BString, hashtable::HashSet, objs::Kind};

use super::{Error, objects::Peeled, selection::Selection, source::Source};

/// Up to so many commits of the client stand in as a base for commits that have none.
const MAX_BASES: usize = 8;

/// Collects the ids of the objects to send.
pub(super) struct Collector<'a> {
    source: &'a Source<'a>,
    /// What is sent, and what is known to be with the client.
    seen: HashSet,
    /// What is sent.
    found: Vec<ObjectId>,
    /// Called now and then with the number of objects found.
    progress: &'a mut dyn FnMut(usize) -> Result<(), Error>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        source: &'a Source<'a>,
        progress: &'a mut dyn FnMut(usize) -> Result<(), Error>,
    ) -> Self {
        Self {
            source,
            seen: HashSet::default(),
            found: Vec::new(),
            progress,
        }
    }

    pub(super) fn finish(self) -> Vec<ObjectId> {
        self.found
    }

    /// Add what the client asks for by name, except commits, which are selected.
    pub(super) fn wants(&mut self, wants: &[Peeled], haves: &[ObjectId]) -> Result<(), Error> {
        self.seen.extend(haves.iter().copied());
        for want in wants {
            self.tags(want)?;
            match want.kind {
                Kind::Tree => self.tree(want.id, Vec::new())?,
                Kind::Blob => {
                    self.add(want.id)?;
                }
                Kind::Commit | Kind::Tag => {}
            }
        }
        Ok(())
    }

    /// Add the tags that lead to `peeled`.
    pub(super) fn tags(&mut self, peeled: &Peeled) -> Result<(), Error> {
        for tag in &peeled.tags {
            self.add(*tag)?;
        }
        Ok(())
    }

    /// Add the selected commits and their trees; `haves` are commits of the client.
    pub(super) fn commits(&mut self, selection: &Selection, haves: &[ObjectId]) -> Result<(), Error> {
        let stand_in: Vec<_> = haves
            .iter()
            .take(MAX_BASES)
            .filter_map(|id| self.tree_of(id))
            .collect();
        if stand_in.is_empty() {
            // Nothing in common: every tree is walked in full, the newest first, which is the order of packs.
            for id in selection.commits.iter().rev() {
                self.commit(selection, id, |_| Vec::new())?;
            }
            return Ok(());
        }
        // A parent comes before its children wherever clocks were right, so that it can be a base.
        let mut done = HashSet::default();
        for id in &selection.commits {
            self.commit(selection, id, |parents| {
                bases(selection, parents, &done).unwrap_or_else(|| stand_in.clone())
            })?;
            done.insert(*id);
        }
        Ok(())
    }

    fn commit(
        &mut self,
        selection: &Selection,
        id: &ObjectId,
        bases: impl FnOnce(&[ObjectId]) -> Vec<ObjectId>,
    ) -> Result<(), Error> {
        let Some(node) = selection.node(id) else {
            return Ok(());
        };
        self.add(*id)?;
        self.tree(node.tree, bases(&node.parents))
    }

    fn tree_of(&self, commit: &ObjectId) -> Option<ObjectId> {
        self.source
            .objects
            .commit(commit)
            .ok()
            .flatten()
            .map(|commit| commit.tree)
    }

    /// Add the tree `id` and all in it, except what is in the trees `bases`, which the client has or will have.
    fn tree(&mut self, id: ObjectId, bases: Vec<ObjectId>) -> Result<(), Error> {
        let mut stack = vec![(id, bases)];
        while let Some((id, bases)) = stack.pop() {
            if bases.contains(&id) || !self.add(id)? {
                continue;
            }
            let entries = self.source.objects.tree(&id)?.ok_or(Error::Missing { id })?;
            let mut bases = self.subtrees(&bases)?;
            self.source.check_count(stack.len())?;
            for entry in entries {
                if entry.mode.is_tree() {
                    if !self.seen.contains(&entry.id) {
                        stack.push((entry.id, bases.remove(&entry.name).unwrap_or_default()));
                    }
                } else if !entry.mode.is_commit() {
                    self.add(entry.id)?;
                }
            }
        }
        Ok(())
    }

    /// Mark what is in the trees `bases` as seen, and return their directories by name.
    fn subtrees(
        &mut self,
        bases: &[ObjectId],
    ) -> Result<std::collections::HashMap<BString, Vec<ObjectId>>, Error> {
        let mut out = std::collections::HashMap::<_, Vec<_>>::new();
        for base in bases {
            // A base saves bytes, no more: it may be missing here.
            for entry in self
                .source
                .objects
                .tree(base)
                .ok()
                .flatten()
                .into_iter()
                .flatten()
            {
                if entry.mode.is_commit() {
                    continue;
                }
                self.seen.insert(entry.id);
                if entry.mode.is_tree() {
                    out.entry(entry.name).or_default().push(entry.id);
                }
            }
            self.source.check_count(self.seen.len())?;
        }
        Ok(out)
    }

    /// Add one object; whether it is new.
    fn add(&mut self, id: ObjectId) -> Result<bool, Error> {
        let new = self.seen.insert(id);
        if new {
            self.source.check_count(self.seen.len())?;
            self.found.push(id);
            (self.progress)(self.found.len())?;
        }
        Ok(new)
    }
}

/// The trees of those parents that the client has, or that were added already: only these may hide anything.
fn bases(selection: &Selection, parents: &[ObjectId], done: &HashSet) -> Option<Vec<ObjectId>> {
    let bases: Vec<_> = parents
        .iter()
        .filter_map(|id| {
            selection
                .node(id)
                .filter(|node| node.is_held || done.contains(id))
        })
        .map(|node| node.tree)
        .collect();
    (!bases.is_empty()).then_some(bases)
}
