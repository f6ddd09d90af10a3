//! What refs need, and only a damaged pack or lender has, is written again. A ref that needs what is lost goes, and is named.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gix::{
    ObjectId,
    bstr::ByteSlice as _,
    hashtable::HashSet,
    objs::{Exists as _, Kind, TreeRefIter, Write as _, commit::ref_iter::Token},
    refs::transaction::{Change, PreviousValue, RefEdit, RefLog},
};
use gix_pack::Find as _;

use super::{
    Error, text, unread,
    workshop::{Workshop, id_of, replace},
};
use crate::{
    base::{bounded, durable},
    git::{
        fetch,
        large::loose_path,
        refs::Tip,
        repository::{Sharing, reason},
    },
};

/// Bytes of unpacked objects that are kept while trees are read.
const CACHE_BYTES: usize = 32 << 20;

/// Whose objects the refs may need.
#[derive(Debug, Clone, Copy)]
pub(super) struct From<'a> {
    /// Object directories that are borrowed from no more.
    pub(super) copied: &'a [PathBuf],
    /// A lender that is not there: what only that one has is not lost yet.
    pub(super) away: Option<&'a Path>,
}

/// Rescue what can be rescued. Gives what was lost.
pub(super) fn rescue(
    workshop: &Workshop,
    repo: &gix::Repository,
    from: From<'_>,
    fetched: &fetch::Outcome,
    fsync: bool,
) -> Result<Vec<String>, Error> {
    let mut rescue = Rescue::new(workshop, repo, from.copied)?;
    drop(rescue.follow(fetched.commit));
    if let Some(path) = from.away
        && let Some(what) = rescue.may_be_away(&fetched.tip)?
    {
        return Err(Error::Away {
            path: path.into(),
            what,
            alternates: workshop.alternates(),
        });
    }
    let mut said = Vec::new();
    let mut going = Vec::new();
    for (name, id) in refs(repo)? {
        if let Err(lost) = rescue.follow(id) {
            said.push(format!(
                "{name} was at {id}, which needs {lost}: that is lost, neither here nor in the remote; the ref is gone"
            ));
            going.push(name);
        }
    }
    if let Ok(head) = repo.head()
        && head.is_detached()
        && let Some(id) = head.id()
        && let Err(lost) = rescue.follow(id.detach())
    {
        said.push(format!(
            "HEAD was at {id}, which needs {lost}: that is lost, neither here nor in the remote"
        ));
    }
    for id in indexed(repo) {
        // It stands for what was staged, or is about to go.
        drop(rescue.follow(id));
    }
    let dropped = rescue.reflogs()?;
    if dropped > 0 {
        said.push(format!(
            "{dropped} lines of reflogs named what is lost, and are gone"
        ));
    }
    rescue.may_give_up()?;
    rescue.store(fsync)?;
    for name in going {
        delete(repo, name)?;
    }
    Ok(said)
}

/// The refs, and what they point to.
fn refs(repo: &gix::Repository) -> Result<Vec<(gix::refs::FullName, ObjectId)>, Error> {
    let unread = |err: gix::Error| Error::io("read", &repo.git_dir().join("refs"))(system(&err));
    let platform = repo.references().map_err(unread)?;
    let refs = platform.all().map_err(unread)?;
    Ok(refs
        .filter_map(Result::ok)
        .filter_map(|r| Some((r.name().to_owned(), r.target().try_id()?.to_owned())))
        .collect())
}

/// The system's error that led to `err`.
fn system(err: &gix::Error) -> io::Error {
    let system = err.downcast_any_ref::<io::Error>();
    match system.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(system.map_or(io::ErrorKind::Other, io::Error::kind), reason(err)),
    }
}

/// What the index names. One that cannot be read names nothing.
fn indexed(repo: &gix::Repository) -> Vec<ObjectId> {
    let Ok(index) = repo.open_index() else {
        return Vec::new();
    };
    let entries = index.entries().iter();
    entries
        .filter(|entry| !entry.mode.is_submodule())
        .map(|entry| entry.id)
        .collect()
}

fn delete(repo: &gix::Repository, name: gix::refs::FullName) -> Result<(), Error> {
    let path = repo.git_dir().join(name.to_string());
    let edit = RefEdit {
        change: Change::Delete {
            expected: PreviousValue::Any,
            log: RefLog::AndReference,
        },
        name,
        deref: false,
    };
    crate::git::repository::edit_ref(repo, edit)
        .map_err(|err| Error::io("remove", &path)(io::Error::other(reason(&err))))
}

struct LostObject(ObjectId);

impl std::fmt::Display for LostObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the object {}", self.0)
    }
}

struct Rescue<'a> {
    workshop: &'a Workshop,
    repo: &'a gix::Repository,
    db: gix::odb::HandleArc,
    /// The packs that were moved aside, or are lenders', and whose index can be read.
    damaged: Vec<gix_pack::Bundle>,
    /// Loose objects of lenders.
    loose: Vec<gix::odb::loose::Store>,
    /// What is here with all it leads to; and what is being looked at.
    met: HashSet,
    /// Commits whose parents do not count.
    cut: HashSet,
    new_cuts: Vec<ObjectId>,
    rescued: Vec<ObjectId>,
    /// Why something may seem lost that is not.
    failed: Option<io::Error>,
}

impl<'a> Rescue<'a> {
    fn new(workshop: &'a Workshop, repo: &'a gix::Repository, lenders: &[PathBuf]) -> Result<Self, Error> {
        let mut objects = repo.objects.clone();
        objects.set_pack_cache(|| Box::new(gix_pack::cache::lru::MemoryCappedHashmap::new(CACHE_BYTES)));
        let dirs = lenders.iter().map(|objects| objects.join("pack"));
        let indices = dirs
            .chain([workshop.aside()])
            .flat_map(|dir| fs::read_dir(dir).into_iter().flatten())
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|ext| ext == "idx"));
        let mut damaged = Vec::new();
        for path in indices {
            match gix_pack::Bundle::at(&path, repo.object_hash()) {
                Ok(bundle) => damaged.push(bundle),
                Err(_) => {
                    for part in [&path, &path.with_extension("pack")] {
                        unread::check_one(&workshop.git_dir, part)?;
                    }
                }
            }
        }
        Ok(Self {
            workshop,
            repo,
            db: objects.into_inner(),
            damaged,
            loose: lenders
                .iter()
                .map(|objects| gix::odb::loose::Store::at(objects, repo.object_hash()))
                .collect(),
            met: HashSet::default(),
            cut: text::cuts(&workshop.git_dir.join("shallow"))
                .into_iter()
                .collect(),
            new_cuts: Vec::new(),
            rescued: Vec::new(),
            failed: None,
        })
    }

    /// What is not whole first of what only a user of the repository writes: branches, tags, stashes. What holds what was
    /// fetched, the remote gives again.
    fn may_be_away(&mut self, tip: &Tip) -> Result<Option<String>, Error> {
        let is_fetched = |name: &gix::refs::FullName| match tip {
            _ if name.as_bstr().starts_with(b"refs/remotes/") => true,
            Tip::Branch(tip) | Tip::Tag(tip, _) => name.as_bstr() == tip.as_str(),
            Tip::Detached => false,
        };
        for (name, id) in refs(self.repo)? {
            if !is_fetched(&name)
                && let Err(lost) = self.follow(id)
            {
                return Ok(Some(format!("{name} needs {lost}")));
            }
        }
        let stash = bounded::read(&self.workshop.git_dir.join("logs/refs/stash"), bounded::LIST);
        let stash = stash.unwrap_or_default();
        let is_whole = stash.lines_with_terminator().all(|line| self.is_line_whole(line));
        Ok((!is_whole).then(|| "a stash needs what is nowhere else".into()))
    }

    /// Whether what a line of a reflog names is here.
    fn is_line_whole(&mut self, line: &[u8]) -> bool {
        let mut ids = line.splitn(3, |byte| *byte == b' ').take(2).map(id_of);
        ids.all(|id| id.is_some_and(|id| id.is_null() || self.follow(id).is_ok()))
    }

    /// Meet `root` and all it leads to, unless something of it is lost.
    fn follow(&mut self, root: ObjectId) -> Result<(), LostObject> {
        let (mut fresh, mut stack) = (Vec::new(), vec![(root, false)]);
        while let Some((id, is_blob)) = stack.pop() {
            if !self.met.insert(id) {
                continue;
            }
            fresh.push(id);
            let found = if is_blob {
                self.has(&id)
            } else {
                self.expand(&id, &mut stack)
            };
            if !found {
                for id in fresh {
                    self.met.remove(&id);
                }
                return Err(LostObject(id));
            }
        }
        Ok(())
    }

    fn has(&mut self, id: &ObjectId) -> bool {
        self.db.exists(id) || self.bring_back(id).is_some()
    }

    /// Add what `id` refers to. Says whether `id` is there.
    fn expand(&mut self, id: &ObjectId, stack: &mut Vec<(ObjectId, bool)>) -> bool {
        let mut buf = Vec::new();
        let here = match self.db.try_find(id, &mut buf) {
            Ok(found) => found.map(|(data, _)| (data.kind, data.data.to_vec())),
            Err(err) => {
                let err = system(&err);
                if !unread::is_damage(&err) {
                    self.failed.get_or_insert(err);
                }
                None
            }
        };
        let Some((kind, buf)) = here.or_else(|| self.bring_back(id)) else {
            return false;
        };
        match kind {
            Kind::Blob => true,
            Kind::Tree => {
                let mut entries = TreeRefIter::from_bytes(&buf, id.kind());
                entries
                    .try_for_each(|entry| {
                        let entry = entry.ok()?;
                        if !entry.mode.is_commit() {
                            stack.push((entry.oid.to_owned(), !entry.mode.is_tree()));
                        }
                        Some(())
                    })
                    .is_some()
            }
            Kind::Commit => self.expand_commit(id, &buf, stack),
            Kind::Tag => match gix::objs::TagRefIter::from_bytes(&buf, id.kind()).target_id() {
                Ok(target) => {
                    stack.push((target, false));
                    true
                }
                Err(_) => false,
            },
        }
    }

    fn expand_commit(&mut self, id: &ObjectId, data: &[u8], stack: &mut Vec<(ObjectId, bool)>) -> bool {
        let mut parents = Vec::new();
        for token in gix::objs::CommitRefIter::from_bytes(data, id.kind()) {
            match token {
                Ok(Token::Tree { id }) => stack.push((id, false)),
                Ok(Token::Parent { id }) => parents.push(id),
                Ok(_) => break,
                Err(_) => return false,
            }
        }
        if self.cut.contains(id) {
            return true;
        }
        // Where history is cut already, it is cut here rather than lost.
        if !self.cut.is_empty()
            && !parents
                .iter()
                .all(|parent| self.met.contains(parent) || self.has(parent))
        {
            self.cut.insert(*id);
            self.new_cuts.push(*id);
            return true;
        }
        stack.extend(parents.into_iter().map(|parent| (parent, false)));
        true
    }

    /// Write an object again that only a damaged pack or a lender has.
    fn bring_back(&mut self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        let packed = self.damaged.iter().find_map(|bundle| read(bundle, id));
        let (kind, data) = packed.or_else(|| self.loose.iter().find_map(|store| read_loose(store, id)))?;
        if let Err(err) = self.repo.objects.write_buf(kind, &data) {
            self.failed.get_or_insert(system(&err));
            return None;
        }
        self.rescued.push(*id);
        Some((kind, data))
    }

    /// What was not found is lost, unless a disk is full, or too many files are open.
    fn may_give_up(&mut self) -> Result<(), Error> {
        let objects = self.workshop.git_dir.join("objects");
        self.failed.take().map_or(Ok(()), |err| {
            Err(Error::io("rescue what refs need in", &objects)(err))
        })
    }

    fn store(&self, fsync: bool) -> Result<(), Error> {
        text::add_cuts(self.workshop, &self.new_cuts)?;
        let objects = self.workshop.git_dir.join("objects");
        let paths = self.rescued.iter().map(|id| loose_path(&objects, id));
        let sharing = Sharing::of(self.repo);
        let paths: Vec<PathBuf> = paths.collect();
        for path in &paths {
            sharing.path(path.parent().unwrap_or(path));
            sharing.path(path);
        }
        let paths: Vec<PathBuf> = paths.into_iter().filter(|_| fsync).collect();
        durable::files(paths.iter().map(PathBuf::as_path)).map_err(Error::io("flush", &objects))
    }

    /// Keep what reflogs name; drop the lines of what is lost. Gives the number of those lines.
    fn reflogs(&mut self) -> Result<usize, Error> {
        let (mut dirs, mut dropped) = (vec![self.workshop.git_dir.join("logs")], 0);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok) {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                    Ok(kind) if kind.is_file() => dropped += self.reflog(&entry.path())?,
                    _ => {}
                }
            }
        }
        Ok(dropped)
    }

    fn reflog(&mut self, path: &std::path::Path) -> Result<usize, Error> {
        let Ok(text) = bounded::read(path, bounded::LIST) else {
            return Ok(0);
        };
        let (mut kept, mut dropped) = (Vec::with_capacity(text.len()), 0);
        for line in text.lines_with_terminator() {
            if self.is_line_whole(line) {
                kept.extend_from_slice(line)
            } else {
                dropped += 1
            }
        }
        if dropped > 0 {
            self.may_give_up()?;
            replace(self.workshop, path, &kept)?;
        }
        Ok(dropped)
    }
}

/// The object, if the damage has spared it.
fn read(bundle: &gix_pack::Bundle, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
    bundle.index.lookup(id)?;
    let (mut buf, mut inflate) = (Vec::new(), gix::zlib::Inflate::default());
    let mut cache = gix_pack::cache::Never;
    let (data, _) = bundle.find(id, &mut buf, &mut inflate, &mut cache).ok()??;
    let kind = data.kind;
    let found = gix::objs::compute_hash(id.kind(), kind, data.data).ok()?;
    (found == *id).then(|| (kind, data.data.to_vec()))
}

fn read_loose(store: &gix::odb::loose::Store, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
    let mut buf = Vec::new();
    let (kind, data) = store
        .try_find(id, &mut buf)
        .ok()?
        .map(|found| (found.kind, found.data))?;
    let found = gix::objs::compute_hash(id.kind(), kind, data).ok()?;
    (found == *id).then(|| (kind, data.to_vec()))
}
