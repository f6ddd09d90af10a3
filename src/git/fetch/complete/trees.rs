//! Looks through the trees of commits: each is read, and what it names is looked up.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use gix::{
    ObjectId,
    hashtable::HashSet,
    objs::{Exists as _, Kind, TreeRefIter, tree::EntryRef},
};

use super::objects::{Missing, Objects, Root};
use crate::base::mutex;

/// Parts of the set of objects that were met, each with its lock; a power of two.
const SHARDS: usize = 64;
/// The most threads: more would wait for each other and for memory.
const MAX_THREADS: usize = 4;
/// Trees, each beside one that it is compared with: history can have any number of them, of few objects. They take 100 bytes.
const MAX_PAIRS: usize = 500_000;
/// No thread is worth starting for fewer commits.
const BLOCK_COMMITS: usize = 64;
/// Looks through trees, with several threads if there are many.
///
/// A tree that is compared with another is complete if the other is. So it counts as met together with that other only:
/// a commit may bring back what an older one had, and each would vouch for the other.
pub(super) struct Trees<'a> {
    roots: &'a [Root],
    next: AtomicUsize,
    trees: Vec<Mutex<HashSet>>,
    blobs: Vec<Mutex<HashSet>>,
    pairs: Mutex<std::collections::HashSet<(ObjectId, ObjectId)>>,
    stop: AtomicBool,
    over: &'a AtomicBool,
}

impl<'a> Trees<'a> {
    pub(super) fn new(roots: &'a [Root], over: &'a AtomicBool) -> Self {
        Self {
            roots,
            next: AtomicUsize::new(0),
            trees: (0..SHARDS).map(|_| Mutex::default()).collect(),
            blobs: (0..SHARDS).map(|_| Mutex::default()).collect(),
            pairs: Mutex::default(),
            stop: AtomicBool::new(false),
            over,
        }
    }

    pub(super) fn check(&self, objects: &Objects) -> Result<(), Box<Missing>> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(MAX_THREADS).min(self.roots.len() / BLOCK_COMMITS);
        if threads < 2 {
            return self.work(objects);
        }
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .filter_map(|_| {
                    let objects = Objects(objects.0.clone());
                    // Where the system has no more threads, those there are do it.
                    let thread = thread::Builder::new();
                    thread.spawn_scoped(scope, move || self.work(&objects)).ok()
                })
                .collect();
            let mut result = self.work(objects);
            for other in others {
                // A panic goes on here.
                let other = other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(other);
            }
            result
        })
    }

    fn work(&self, objects: &Objects) -> Result<(), Box<Missing>> {
        let mut reader = Reader {
            trees: self,
            objects,
            new: Vec::new(),
            old: Vec::new(),
            stack: Vec::new(),
        };
        loop {
            let from = self
                .next
                .fetch_add(BLOCK_COMMITS, Ordering::Relaxed)
                .min(self.roots.len());
            let block = &self.roots[from..self.roots.len().min(from + BLOCK_COMMITS)];
            if block.is_empty() {
                return Ok(());
            }
            for root in block {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                reader.root(root).map_err(|mut missing| {
                    self.stop.store(true, Ordering::Relaxed);
                    missing.of = Some(root.of);
                    missing
                })?;
            }
        }
    }

    /// Whether a tree is met for the first time, beside `base`.
    fn meet_tree(&self, id: &gix::oid, base: Option<ObjectId>) -> bool {
        match base {
            None => meet(&self.trees, id),
            Some(base) => {
                let mut pairs = mutex::lock(&self.pairs);
                pairs.insert((id.to_owned(), base))
            }
        }
    }
}

/// Whether `id` is met for the first time.
fn meet(met: &[Mutex<HashSet>], id: &gix::oid) -> bool {
    let met = &met[usize::from(id.first_byte()) % SHARDS];
    let mut met = mutex::lock(met);
    met.insert(id.to_owned())
}

struct Reader<'a, 't> {
    trees: &'a Trees<'t>,
    objects: &'a Objects,
    new: Vec<u8>,
    old: Vec<u8>,
    /// Trees to read, and what to compare them with.
    stack: Vec<(ObjectId, Option<ObjectId>)>,
}

impl Reader<'_, '_> {
    fn root(&mut self, root: &Root) -> Result<(), Box<Missing>> {
        self.push(root.tree, root.base);
        while let Some((id, base)) = self.stack.pop() {
            if self.trees.over.load(Ordering::Relaxed) {
                return Err(Missing::late(id, Kind::Tree));
            }
            self.tree(&id, base)?;
        }
        Ok(())
    }

    fn push(&mut self, id: ObjectId, base: Option<ObjectId>) {
        if base == Some(id) {
            return;
        }
        // Beyond that, a tree is read once, and whole.
        let base = base.filter(|_| mutex::lock(&self.trees.pairs).len() < MAX_PAIRS);
        if self.trees.meet_tree(&id, base) {
            self.stack.push((id, base));
        }
    }

    fn tree(&mut self, id: &ObjectId, base: Option<ObjectId>) -> Result<(), Box<Missing>> {
        let mut buf = std::mem::take(&mut self.new);
        let data = self.objects.read(id, Kind::Tree, &mut buf)?;
        let mut old_buf = std::mem::take(&mut self.old);
        // One that cannot be read proves nothing.
        let base = base.and_then(|base| self.objects.read(&base, Kind::Tree, &mut old_buf).ok());
        let mut base = TreeRefIter::from_bytes(base.unwrap_or_default(), id.kind())
            .map_while(Result::ok)
            .peekable();
        for entry in TreeRefIter::from_bytes(data, id.kind()) {
            let entry = entry.map_err(|err| {
                let reason = Some(err.to_string());
                Box::new(Missing {
                    id: *id,
                    kind: Kind::Tree,
                    of: None,
                    path: None,
                    reason,
                })
            })?;
            while base.next_if(|old| *old < entry).is_some() {}
            let old = base.next_if(|old| old.filename == entry.filename);
            if entry.mode.is_commit() || old.is_some_and(|old| is_same(&old, &entry)) {
                continue;
            }
            let id = entry.oid.to_owned();
            if entry.mode.is_tree() {
                let old = old.filter(|old| old.mode.is_tree());
                self.push(id, old.map(|old| old.oid.to_owned()));
            } else if meet(&self.trees.blobs, &id) && !self.objects.0.exists(&id) {
                return Err(Box::new(Missing {
                    id,
                    kind: Kind::Blob,
                    of: None,
                    path: None,
                    reason: None,
                }));
            }
        }
        drop(base);
        (self.new, self.old) = (buf, old_buf);
        Ok(())
    }
}

/// Whether both are the same object, and are said to be of the same kind.
fn is_same(old: &EntryRef<'_>, new: &EntryRef<'_>) -> bool {
    old.oid == new.oid
        && old.mode.is_tree() == new.mode.is_tree()
        && old.mode.is_commit() == new.mode.is_commit()
}
