//! Deltas become objects, by several threads, each with a few objects in memory.
//!
//! Deltas of one object are undone one after the other, those that least is based on first: then no more objects are
//! waited for at any time than the number of all can be halved. What of them would fill memory is put into files.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::unix::fs::FileExt as _,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use gix::{
    ObjectId,
    objs::{Kind, encode::loose_header},
    zlib::{Inflate, Status},
};
use gix_pack::data::Entry;

use super::{
    error::{Error, Fail},
    store::{IN_MEMORY, Progress, Store},
    stream::{self, check, damaged},
    table::{NONE, Table},
};
use crate::{
    base::mutex,
    git::large::{self, Content, Inflated, LARGE, Section, copied},
};

/// More threads would read the disk in more places, and each needs memory.
const MAX_THREADS: usize = 4;
/// Objects that wait in memory for the last of their deltas, for each thread, in bytes.
const MAX_HELD: u64 = 2 * IN_MEMORY;
/// Objects that wait in files for the last of their deltas, for each thread: deltas whose base is given by its place
/// need 22 at most.
const MAX_FILES: usize = 64;
/// How many objects are looked through for deltas at once.
const SHARE: usize = 64;
/// The longest header of an entry: the size, and an id.
const MAX_HEADER: u64 = 64;

/// Find the kind and the id of every object.
pub(super) fn all(
    repo: Option<&gix::Repository>,
    table: &mut Table,
    file: &mut File,
    store: &Store<'_>,
    progress: Option<&Progress<'_>>,
) -> Result<(), Fail> {
    if table.kinds.iter().all(Option::is_some) {
        return Ok(());
    }
    table.refs.sort_unstable();
    let children = table.children();
    let total = table.offsets.len();
    let threads = thread::available_parallelism()
        .map_or(1, Into::into)
        .min(MAX_THREADS);
    let threads = threads.min(total);
    with(table, file, store, progress, &children, |work| {
        let ended: Vec<Result<(), Fail>> = thread::scope(|scope| {
            // Where the system has no more threads, those there are do it.
            let spawn = || thread::Builder::new().spawn_scoped(scope, || work.run());
            let others: Vec<_> = (1..threads).filter_map(|_| spawn().ok()).collect();
            let first = work.run();
            let others = others.into_iter().map(|other| match other.join() {
                Ok(ended) => ended,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            std::iter::once(first).chain(others).collect()
        });
        ended.into_iter().collect()
    })?;
    let is_open = |(_, at): &(ObjectId, u32)| table.kinds[*at as usize].is_none();
    if let Some(repo) = repo
        && table.refs.iter().any(is_open)
    {
        store.names.give_up();
        complete(repo, table, file, store, progress, &children)?;
    }
    if table.kinds.iter().all(Option::is_some) {
        Ok(())
    } else {
        Err(damaged("a delta is based on itself").into())
    }
}

/// Thin packs have deltas of objects that are here. These are put behind the others.
fn complete(
    repo: &gix::Repository,
    table: &mut Table,
    file: &mut File,
    store: &Store<'_>,
    progress: Option<&Progress<'_>>,
    children: &[u32],
) -> Result<(), Fail> {
    let refs = table.refs.clone();
    let mut absent = None;
    for same in refs.chunk_by(|a, b| a.0 == b.0) {
        if same.iter().all(|(_, at)| table.kinds[*at as usize].is_some()) {
            continue;
        }
        let id = same[0].0;
        let Some((kind, content)) = known(repo, store, id)? else {
            absent = Some(id);
            continue;
        };
        store.look_at_space(content.size())?;
        let at = stream::append(table, file, kind, id, &content).map_err(|err| store.failed(err))?;
        let limit = store.limits.max_pack;
        if table.end > limit {
            return Err(Error::Pack { limit }.into());
        }
        with(table, file, store, progress, children, |work| {
            let children = work.children(at, &id);
            Worker::new(work).tree(kind, content, children)
        })?;
    }
    if let Some(id) = absent
        && refs
            .iter()
            .any(|(base, at)| *base == id && table.kinds[*at as usize].is_none())
    {
        return Err(Error::Base { id }.into());
    }
    stream::seal(table, file).map_err(|err| store.failed(err).into())
}

/// An object that was here before, if it is as its id says: what is stored in the pack is read by that id.
fn known(repo: &gix::Repository, store: &Store<'_>, id: ObjectId) -> Result<Option<(Kind, Content)>, Error> {
    let damaged = |err: gix::Error| damaged(&err.to_string());
    let Some(header) = repo.try_find_header(id).map_err(damaged)? else {
        return Ok(None);
    };
    let (kind, content) = match repo.find_object(id) {
        Ok(object) if header.size() <= LARGE => (object.kind, Content::Memory(object.detach().data)),
        _ => {
            let mut file = store.scratch.file().map_err(|err| store.failed(err))?;
            let mut size = 0;
            large::blob(repo.objects.store_ref(), &store.scratch, &id, |all| {
                size = all;
                Ok(&mut file)
            })
            .map_err(|err| store.failed(err))?;
            (Kind::Blob, Content::File { file, size })
        }
    };
    let is_as_named = hash(id.kind(), kind, &content).map_err(|err| store.failed(err))? == id;
    Ok(is_as_named.then_some((kind, content)))
}

/// Do `work` while kinds and ids are taken out of `table`, and put back what has come of them.
fn with(
    table: &mut Table,
    file: &File,
    store: &Store<'_>,
    progress: Option<&Progress<'_>>,
    children: &[u32],
    work: impl FnOnce(&Work<'_>) -> Result<(), Fail>,
) -> Result<(), Fail> {
    let kinds = std::mem::take(&mut table.kinds);
    let found = Found {
        done: kinds.iter().flatten().count(),
        ids: std::mem::take(&mut table.ids),
        kinds,
    };
    let all = Work {
        table,
        file,
        limits: store.limits.max_blob.max(LARGE),
        store,
        progress,
        children,
        found: Mutex::new(found),
        next: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
    };
    let ended = work(&all);
    let found = all.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    (table.ids, table.kinds) = (found.ids, found.kinds);
    ended
}

/// What all threads know.
struct Work<'a> {
    table: &'a Table,
    file: &'a File,
    store: &'a Store<'a>,
    progress: Option<&'a Progress<'a>>,
    children: &'a [u32],
    /// The largest result of a delta, in bytes.
    limits: u64,
    found: Mutex<Found>,
    next: AtomicUsize,
    failed: AtomicBool,
}

struct Found {
    ids: Vec<u8>,
    kinds: Vec<Option<Kind>>,
    done: usize,
}

impl Work<'_> {
    fn found(&self) -> MutexGuard<'_, Found> {
        mutex::lock(&self.found)
    }

    fn run(&self) -> Result<(), Fail> {
        let mut worker = Worker::new(self);
        let total = self.table.offsets.len();
        while !self.failed.load(Ordering::Relaxed) {
            let start = self.next.fetch_add(SHARE, Ordering::Relaxed);
            if start >= total {
                break;
            }
            for at in start..total.min(start + SHARE) {
                if let Err(fail) = worker.root(at) {
                    self.failed.store(true, Ordering::Relaxed);
                    return Err(fail);
                }
            }
        }
        Ok(())
    }

    /// The deltas of the object `at`, the last to be undone first.
    fn children(&self, at: usize, id: &ObjectId) -> Vec<u32> {
        let parent = u32::try_from(at).unwrap_or(NONE);
        let of = |at: &u32| self.table.parents[*at as usize];
        let start = self.children.partition_point(|child| of(child) < parent);
        let by_place = self.children[start..].iter().copied();
        let refs = &self.table.refs;
        let start = refs.partition_point(|(base, _)| base < id);
        let by_id = refs[start..].iter().take_while(|(base, _)| base == id);
        let by_place = by_place.take_while(|child| of(child) == parent);
        by_place.chain(by_id.map(|(_, at)| *at)).collect()
    }
}

/// An object whose deltas are undone.
struct Base {
    content: Content,
    children: Vec<u32>,
}

struct Worker<'w> {
    work: &'w Work<'w>,
    inflate: Inflate,
    packed: Vec<u8>,
    delta: Vec<u8>,
}

impl<'w> Worker<'w> {
    fn new(work: &'w Work<'w>) -> Self {
        Self {
            work,
            inflate: Inflate::default(),
            packed: Vec::new(),
            delta: Vec::new(),
        }
    }

    /// Undo all deltas that lead to the object `at`, if it is one that is no delta itself.
    fn root(&mut self, at: usize) -> Result<(), Fail> {
        let (kind, id) = {
            let found = self.work.found();
            let length = self.work.table.hash.len_in_bytes();
            let id = ObjectId::from_bytes_or_panic(&found.ids[at * length..][..length]);
            (found.kinds[at], id)
        };
        let is_delta = self.work.table.parents[at] != NONE;
        let Some(kind) = kind.filter(|_| !is_delta) else {
            return Ok(());
        };
        let children = self.work.children(at, &id);
        if children.is_empty() {
            return Ok(());
        }
        let content = self.whole(at).map_err(|err| self.work.store.failed(err))?;
        self.tree(kind, content, children)
    }

    /// Undo all deltas that lead to `content`.
    fn tree(&mut self, kind: Kind, content: Content, children: Vec<u32>) -> Result<(), Fail> {
        let mut bases = vec![Base { content, children }];
        while let Some(base) = bases.last_mut() {
            self.work.store.look_at_time()?;
            let Some(at) = base.children.pop().map(|at| at as usize) else {
                bases.pop();
                continue;
            };
            if self.work.found().kinds[at].is_some() {
                continue;
            }
            let content = self.undo(kind, &base.content, at)?;
            let id = hash(self.work.table.hash, kind, &content)
                .map_err(|err| Fail::from(self.work.store.failed(err)))?;
            self.know(at, kind, &id);
            let names = &self.work.store.names;
            names.note(kind, &id, content.memory(), base.content.memory());
            if base.children.is_empty() {
                bases.pop();
            }
            let children = self.work.children(at, &id);
            if !children.is_empty() {
                bases.push(Base { content, children });
                self.make_room(&mut bases)?;
            }
        }
        Ok(())
    }

    fn know(&self, at: usize, kind: Kind, id: &ObjectId) {
        let mut found = self.work.found();
        let length = self.work.table.hash.len_in_bytes();
        found.ids[at * length..][..length].copy_from_slice(id.as_slice());
        found.kinds[at] = Some(kind);
        found.done += 1;
        let (done, total) = (found.done, found.kinds.len());
        drop(found);
        if let Some(progress) = self.work.progress
            && (done == total || done.is_multiple_of(SHARE))
        {
            progress.tell(done, total);
        }
    }

    /// Put what waits into files, if it is too much.
    fn make_room(&self, bases: &mut [Base]) -> Result<(), Fail> {
        let held = |bases: &[Base]| bases.iter().map(|base| base.content.held()).sum::<u64>();
        let Some((_, waiting)) = bases.split_last_mut() else {
            return Ok(());
        };
        if held(waiting) <= MAX_HELD {
            return Ok(());
        }
        for base in waiting.iter_mut().filter(|base| base.content.held() > 0) {
            let size = base.content.size();
            let content = self.content(size, 0, |out| base.content.copy(0, size, out))?;
            base.content = content;
        }
        if waiting.iter().filter(|base| base.content.held() == 0).count() > MAX_FILES {
            Err(Error::Depth.into())
        } else {
            Ok(())
        }
    }

    /// `size` bytes, in memory up to `limit`.
    fn content(
        &self,
        size: u64,
        limit: u64,
        fill: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<Content, Fail> {
        let store = self.work.store;
        if size > limit {
            store.look_at_space(size)?;
        }
        let content = store.scratch.content(size, limit, fill);
        content.map_err(|err| store.failed(err).into())
    }

    /// What the delta `at` makes of `base`.
    fn undo(&mut self, kind: Kind, base: &Content, at: usize) -> Result<Content, Fail> {
        let failed = |err| Fail::from(self.work.store.failed(err));
        let (entry, is_small) = self.entry(at).map_err(failed)?;
        let mut packed = std::mem::take(&mut self.delta);
        if is_small {
            self.inflate(&entry, &mut packed).map_err(failed)?;
            let content = self.applied(kind, base, &mut packed.as_slice())?;
            self.delta = packed;
            return Ok(content);
        }
        let range = self.work.table.range(at);
        let bytes = Section::new(self.work.file, entry.data_offset, range.end);
        let mut delta = BufReader::new(Inflated::new(BufReader::new(bytes)));
        self.applied(kind, base, &mut delta)
    }

    fn applied(&self, kind: Kind, base: &Content, delta: &mut impl BufRead) -> Result<Content, Fail> {
        let failed = |err| Fail::from(self.work.store.failed(err));
        let size = large::sizes(delta, base).map_err(failed)?;
        check(kind, size)?;
        let limit = self.work.limits;
        if size > limit {
            return Err(Error::Delta { size, limit }.into());
        }
        self.content(size, IN_MEMORY, |out| large::apply(base, delta, size, out))
    }

    /// The object `at`, which is no delta.
    fn whole(&mut self, at: usize) -> io::Result<Content> {
        let (entry, is_small) = self.entry(at)?;
        if is_small {
            let mut bytes = Vec::new();
            self.inflate(&entry, &mut bytes)?;
            return Ok(Content::Memory(bytes));
        }
        let range = self.work.table.range(at);
        let bytes = Section::new(self.work.file, entry.data_offset, range.end);
        let mut bytes = Inflated::new(BufReader::new(bytes));
        let size = entry.decompressed_size;
        let scratch = &self.work.store.scratch;
        scratch.content(size, IN_MEMORY, |out| copied(&mut bytes, out, size))
    }

    /// What the entry `at` is, and whether it was read because it is small.
    fn entry(&mut self, at: usize) -> io::Result<(Entry, bool)> {
        let range = self.work.table.range(at);
        let length = range.end - range.start;
        let is_small = length <= IN_MEMORY;
        let read = if is_small { length } else { MAX_HEADER };
        self.packed.resize(usize::try_from(read).unwrap_or_default(), 0);
        self.work.file.read_exact_at(&mut self.packed, range.start)?;
        let entry = Entry::from_bytes(&self.packed, range.start, self.work.table.hash);
        let entry = entry.map_err(|err| large::corrupt(&err.to_string()))?;
        let is_small = is_small && entry.decompressed_size <= IN_MEMORY;
        Ok((entry, is_small))
    }

    /// Inflate the small entry that was read.
    fn inflate(&mut self, entry: &Entry, into: &mut Vec<u8>) -> io::Result<()> {
        into.resize(usize::try_from(entry.decompressed_size).unwrap_or_default(), 0);
        let packed = self.packed.get(entry.header_size()..).unwrap_or_default();
        self.inflate.reset();
        match self.inflate.once(packed, into) {
            Ok((Status::StreamEnd, _, count)) if count == into.len() => Ok(()),
            _ => Err(large::corrupt("an object cannot be inflated")),
        }
    }
}

fn hash(hash: gix::hash::Kind, kind: Kind, content: &Content) -> io::Result<ObjectId> {
    let mut out = gix::hash::io::Write::new(io::sink(), hash);
    out.hash.update(&loose_header(kind, content.size()));
    content.copy(0, content.size(), &mut out)?;
    out.hash
        .try_finalize()
        .map_err(|err| large::corrupt(&err.to_string()))
}
