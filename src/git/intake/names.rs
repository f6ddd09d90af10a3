//! What a pack's objects name, noted while they pass: if all of it is in the pack as well, nothing has to be looked for.
//!
//! That is what a clone gets. Anything else is no error here: it is looked through by `complete`.

use std::{
    cmp::Ordering,
    collections::{HashSet, hash_map::RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use gix::{
    ObjectId,
    bstr::ByteSlice as _,
    objs::{CommitRefIter, Kind, TagRef, TreeRefIter, commit::ref_iter::Token},
};

use super::table::Table;

/// Names that are noted for one pack, and the objects of a pack that they are noted for: 100 MB at most.
pub(super) const MAX_NAMES: usize = 900_000;

/// What the objects that have passed name, or nothing if it is not noted any more.
pub(super) struct Names(Mutex<Option<Noted>>);

#[derive(Default)]
struct Noted {
    /// By a hash with a key: a remote names what it likes.
    objects: HashSet<(Kind, ObjectId), RandomState>,
    /// Commits, each with one parent: history may be cut between the two.
    parents: Vec<(ObjectId, ObjectId)>,
}

/// A pack that holds all that its objects name, except parents of some of its commits.
#[derive(Debug, Default)]
pub struct Whole {
    hash: gix::hash::Kind,
    /// The ids, one after the other, with nothing between them.
    ids: Vec<u8>,
    /// Commits of which a parent is not in the pack.
    cut: Vec<ObjectId>,
}

impl Whole {
    pub fn has(&self, id: &ObjectId) -> bool {
        let mut ids = self.ids.chunks_exact(self.hash.len_in_bytes());
        ids.any(|one| one == id.as_slice())
    }

    /// The commits of which a parent is not in the pack.
    pub fn cut(&self) -> &[ObjectId] {
        &self.cut
    }
}

impl Names {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(Noted::default())))
    }

    /// The names of a pack that will not be asked about.
    pub(super) fn none() -> Self {
        Self(Mutex::new(None))
    }

    /// Note nothing more, and forget what was noted.
    pub(super) fn give_up(&self) {
        *self.noted() = None;
    }

    /// Whether what objects of the kind `kind` name is noted.
    pub(super) fn want(&self, kind: Kind) -> bool {
        kind != Kind::Blob && self.noted().is_some()
    }

    /// Note what the object `id` names, and `base`, of which that is noted, does not. Without its bytes, nothing is known of
    /// the pack.
    pub(super) fn note(&self, kind: Kind, id: &ObjectId, bytes: Option<&[u8]>, base: Option<&[u8]>) {
        if !self.want(kind) {
            return;
        }
        let bytes = match (kind, bytes, base) {
            (Kind::Tree, Some(bytes), Some(base)) => Some(differing(base, bytes, id.kind().len_in_bytes())),
            (_, bytes, _) => bytes,
        };
        let names = bytes.and_then(|bytes| names(kind, id, bytes).ok());
        let mut noted = self.noted();
        let is_noted = match (names, &mut *noted) {
            (Some(names), Some(noted)) => noted.add(names),
            _ => false,
        };
        if !is_noted {
            *noted = None;
        }
    }

    /// What is known of the pack of the objects `table`, all of which have passed; nothing if it lacks something.
    pub(super) fn whole(self, table: &mut Table) -> Option<Whole> {
        let Noted {
            mut objects,
            mut parents,
        } = self.0.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        let mut commits = gix::hashtable::HashSet::default();
        let ids = table.ids.chunks_exact(table.hash.len_in_bytes());
        for (id, kind) in ids.zip(table.kinds.iter().flatten()) {
            let id = ObjectId::from_bytes_or_panic(id);
            objects.remove(&(*kind, id));
            if *kind == Kind::Commit {
                commits.insert(id);
            }
        }
        parents.retain(|(_, parent)| !commits.contains(parent));
        objects.is_empty().then(|| Whole {
            hash: table.hash,
            ids: std::mem::take(&mut table.ids),
            cut: parents.into_iter().map(|(commit, _)| commit).collect(),
        })
    }

    fn noted(&self) -> MutexGuard<'_, Option<Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    fn add(&mut self, names: Named) -> bool {
        self.objects.extend(names.objects);
        self.parents.extend(names.parents);
        self.objects.len() + self.parents.len() <= MAX_NAMES
    }
}

#[derive(Default)]
struct Named {
    objects: Vec<(Kind, ObjectId)>,
    parents: Vec<(ObjectId, ObjectId)>,
}

fn names(kind: Kind, id: &ObjectId, bytes: &[u8]) -> gix::Result<Named> {
    let mut named = Named::default();
    match kind {
        Kind::Tree => {
            for entry in TreeRefIter::from_bytes(bytes, id.kind()) {
                let entry = entry?;
                let kind = match entry.mode {
                    mode if mode.is_commit() => continue,
                    mode if mode.is_tree() => Kind::Tree,
                    _ => Kind::Blob,
                };
                named.objects.push((kind, entry.oid.to_owned()));
            }
        }
        Kind::Commit => {
            for token in CommitRefIter::from_bytes(bytes, id.kind()) {
                match token? {
                    Token::Tree { id } => named.objects.push((Kind::Tree, id)),
                    Token::Parent { id: parent } => named.parents.push((*id, parent)),
                    Token::Committer { .. } => break,
                    _ => {}
                }
            }
        }
        Kind::Tag => {
            let tag = TagRef::from_bytes(bytes, id.kind())?;
            named.objects.push((tag.target_kind, tag.target()));
        }
        Kind::Blob => {}
    }
    Ok(named)
}

/// What of `tree` is not in the tree `base` as well: whole entries. Most entries are: to compare bytes is much faster than to
/// note names.
fn differing<'t>(base: &[u8], tree: &'t [u8], id_length: usize) -> &'t [u8] {
    let next = |bytes: &[u8], at: usize| {
        let next = at + bytes[at..].find_byte(0)? + 1 + id_length;
        (next <= bytes.len()).then_some(next)
    };
    let mut start = 0;
    let same = same_at_begin(base, tree);
    while let Some(end) = next(tree, start).filter(|end| *end <= same) {
        start = end;
    }
    let same = same_at_end(&base[start..], &tree[start..]);
    // An entry has to begin in both where they become the same: the same bytes may mean something else otherwise.
    let (mut old, mut new) = (start, start);
    loop {
        let left = (base.len() - old, tree.len() - new);
        if left.0 == left.1 && left.1 <= same {
            return &tree[start..new];
        }
        let (old_next, new_next) = match left.0.cmp(&left.1) {
            Ordering::Greater => (next(base, old), Some(new)),
            Ordering::Less => (Some(old), next(tree, new)),
            Ordering::Equal => (next(base, old), next(tree, new)),
        };
        let (Some(old_next), Some(new_next)) = (old_next, new_next) else {
            return &tree[start..];
        };
        (old, new) = (old_next, new_next);
    }
}

const CHUNK: usize = 64;

fn same_at_begin(a: &[u8], b: &[u8]) -> usize {
    let chunks = a.chunks_exact(CHUNK).zip(b.chunks_exact(CHUNK));
    let same = chunks.take_while(|(a, b)| a == b).count() * CHUNK;
    let rest = a[same..].iter().zip(&b[same..]);
    same + rest.take_while(|(a, b)| a == b).count()
}

fn same_at_end(a: &[u8], b: &[u8]) -> usize {
    let chunks = a.rchunks_exact(CHUNK).zip(b.rchunks_exact(CHUNK));
    let same = chunks.take_while(|(a, b)| a == b).count() * CHUNK;
    let rest = a[..a.len() - same]
        .iter()
        .rev()
        .zip(b[..b.len() - same].iter().rev());
    same + rest.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::table::NONE, *};

    type Objects = Vec<(Kind, ObjectId, Vec<u8>)>;

    fn add(objects: &mut Objects, kind: Kind, bytes: &[u8]) -> ObjectId {
        let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, bytes).unwrap();
        objects.push((kind, id, bytes.into()));
        id
    }

    fn tree(objects: &mut Objects, entries: &[(&str, ObjectId)]) -> ObjectId {
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|(name, id)| [name.as_bytes(), b"\0", id.as_slice()].concat())
            .collect();
        add(objects, Kind::Tree, &bytes)
    }

    fn commit(objects: &mut Objects, tree: ObjectId, parents: &[ObjectId]) -> ObjectId {
        let parents: String = parents.iter().map(|id| format!("parent {id}\n")).collect();
        let text = format!("tree {tree}\n{parents}author a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n");
        add(objects, Kind::Commit, text.as_bytes())
    }

    fn whole<'a>(objects: impl IntoIterator<Item = &'a (Kind, ObjectId, Vec<u8>)>) -> Option<Whole> {
        let (names, mut table) = (Names::new(), Table::new(gix::hash::Kind::Sha1));
        for (kind, id, bytes) in objects {
            names.note(*kind, id, Some(bytes), None);
            table.push(0, 0, Some((*kind, *id)), NONE);
        }
        names.whole(&mut table)
    }

    /// A tag of a merge, with a directory and a submodule; and what may be lost: how many commits lack a parent then.
    fn history() -> (Objects, Vec<(ObjectId, usize)>) {
        let mut all = Vec::new();
        let elsewhere = ObjectId::from_hex(&[b'7'; 40]).unwrap();
        let (a, b) = (add(&mut all, Kind::Blob, b"a"), add(&mut all, Kind::Blob, b"b"));
        let dir = tree(&mut all, &[("100644 a", a), ("120000 l", a)]);
        let root = tree(
            &mut all,
            &[("100755 b", b), ("40000 d", dir), ("160000 m", elsewhere)],
        );
        let one = commit(&mut all, dir, &[]);
        let two = commit(&mut all, root, &[one]);
        let three = commit(&mut all, root, &[one, two]);
        let text = format!("object {three}\ntype commit\ntag v\ntagger a <a> 1 +0000\n\nx\n");
        let tag = add(&mut all, Kind::Tag, text.as_bytes());
        (all, vec![(one, 2), (two, 1), (tag, 0)])
    }

    #[test]
    fn whatever_is_not_there_is_missed() {
        let (all, can_be_lost) = history();
        let is_whole = whole(&all).unwrap();
        assert!(is_whole.cut().is_empty());
        assert!(all.iter().all(|(_, id, _)| is_whole.has(id)));
        for (kind, lost, _) in &all {
            let rest = whole(all.iter().filter(|(_, id, _)| id != lost));
            let expected = can_be_lost.iter().find(|(id, _)| id == lost);
            let cut = rest.as_ref().map(|rest| rest.cut().len());
            assert_eq!(cut, expected.map(|(_, cut)| *cut), "{kind} {lost}");
            assert!(rest.is_none_or(|rest| !rest.has(lost)));
        }
        assert!(whole(all.iter().rev()).is_some(), "whatever the order");
    }

    /// What is there is something else than it is said to be.
    #[test]
    fn kinds() {
        let (mut all, _) = history();
        let blob = all[0].1;
        tree(&mut all, &[("40000 d", blob)]);
        assert!(whole(&all).is_none());
        let (mut all, _) = history();
        let dir = all[2].1;
        tree(&mut all, &[("100644 f", dir)]);
        assert!(whole(&all).is_none());
    }

    #[test]
    fn what_cannot_be_noted() {
        let (all, _) = history();
        for bytes in [None, Some(&b"100644 rubbish"[..])] {
            let (names, mut table) = (Names::new(), Table::new(gix::hash::Kind::Sha1));
            names.note(Kind::Tree, &all[2].1, bytes, None);
            assert!(names.whole(&mut table).is_none());
        }
        let mut noted = Noted::default();
        let id = all[0].1;
        let mut named = Named {
            parents: vec![(id, id); MAX_NAMES],
            ..Named::default()
        };
        assert!(noted.add(std::mem::take(&mut named)));
        named.objects.push((Kind::Blob, id));
        assert!(!noted.add(named));
    }

    fn entries(tree: &[u8]) -> HashSet<Vec<u8>> {
        let entries = TreeRefIter::from_bytes(tree, gix::hash::Kind::Sha1).map(Result::unwrap);
        let bytes = |entry: gix::objs::tree::EntryRef<'_>| [entry.filename, entry.oid.as_bytes()].concat();
        entries.map(bytes).collect()
    }

    /// Whatever is changed, what is passed over is in the base, and it is most of what is there.
    #[test]
    fn trees_that_are_nearly_the_same() {
        let random = &mut fastrand::Rng::with_seed(7);
        let entry = |random: &mut fastrand::Rng| {
            // Few different bytes, so that the same come at other places.
            let id: Vec<u8> = (0..20).map(|_| random.u8(0..2)).collect();
            let name = "f".repeat(random.usize(1..4));
            [format!("100644 {name}\0").as_bytes(), &id].concat()
        };
        let mut noted = 0;
        for _ in 0..2_000 {
            let base: Vec<_> = (0..random.usize(0..40)).map(|_| entry(random)).collect();
            let mut tree = base.clone();
            for _ in 0..random.usize(0..3) {
                let at = random.usize(0..=tree.len());
                match random.u8(0..3) {
                    0 => tree.insert(at, entry(random)),
                    1 if at < tree.len() => drop(tree.remove(at)),
                    _ if at < tree.len() => tree[at] = entry(random),
                    _ => {}
                }
            }
            let (base, tree) = (base.concat(), tree.concat());
            let differing = differing(&base, &tree, 20);
            let all: HashSet<_> = entries(&base).union(&entries(differing)).cloned().collect();
            assert!(entries(&tree).is_subset(&all));
            noted += entries(differing).len();
        }
        assert!(noted < 2_000 * 20, "{noted}");
    }

    /// Of two trees that end alike, one has an entry `x` whose id is a part of a name in the other.
    #[test]
    fn the_same_bytes_elsewhere() {
        let tail = b"100644 x\x00100644 yyyyyyyyyyyyy100644 z\0uuuuuuuuuuuuuuuuuuuu";
        let base = [b"100644 a\0aaaaaaaaaaa", &tail[..]].concat();
        let tree = [b"100644 b\0bbbbbbbbbbbbbbbbbbbb", &tail[..]].concat();
        assert_eq!((entries(&base).len(), entries(&tree).len()), (2, 3));
        assert_eq!(differing(&base, &tree, 20), tree);
    }
}
