//! What gitoxide is about to read by name is looked at first: each is a file, of a size that git's have.
//!
//! gitoxide opens files as they come: a fifo under one of git's names holds up the thread without end, `/dev/zero` fills
//! the memory. What another process changes between this look and the reading is bounded by the run's deadlines.
//!
//! | what is read | when |
//! |---|---|
//! | `.git` (a file), `commondir`, `gitdir`, `HEAD`, `config`, `config.worktree` | it is opened |
//! | `objects/info/alternates`, of alternates too | it is opened, and an object is not found |
//! | `packed-refs`, `refs/…`, those of a linked worktree too | refs are listed or found |
//! | `shallow` | a fetch |
//!
//! Not read: included configuration (`Options::isolated`), commit-graphs (`core.commitGraph` is overridden), `refs/replace`
//! (`core.useReplaceRefs` is), `info/grafts`.
//! Not looked at: loose objects and packs, which gitoxide maps into memory, and passes over if they are no files. Only a pack
//! that a multi-pack-index names is opened as it is.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use crate::base::bounded::{self, LINE};

/// A `config`, in bytes: one of five thousand branches. gitoxide takes 260 times as much memory for one that holds nothing
/// but sections.
pub(super) const CONFIG: u64 = 512 << 10;
/// `packed-refs` and `shallow`, in bytes: a million refs. A client reads half as much in an answer.
const REFS: u64 = 64 << 20;
/// An `objects/info/alternates`, in bytes: as many lines as are followed, of the longest path each.
const ALTERNATES: u64 = 256 << 10;
/// How many object directories one repository may borrow from, in all.
const MAX_ALTERNATES: usize = 64;
/// How many loose refs and directories of such there may be: gitoxide sorts those of a directory in memory.
const MAX_LOOSE_REFS: usize = 200_000;

/// What is read of a git directory, and of no other.
const OWN: [(&str, u64); 2] = [("HEAD", LINE), ("config.worktree", CONFIG)];
/// What is read besides in the git directory of a linked worktree.
const LINKED: [(&str, u64); 1] = [("gitdir", LINE)];
/// What linked worktrees share.
const COMMON: [(&str, u64); 3] = [("config", CONFIG), ("packed-refs", REFS), ("shallow", REFS)];

/// What is under one of git's names is not what git keeps there.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct Trap {
    pub path: PathBuf,
    /// What is wrong with it. No `source` of errors: it is in the text.
    problem: io::Error,
}

impl Trap {
    fn new(path: impl Into<PathBuf>, problem: io::Error) -> Self {
        Self {
            path: path.into(),
            problem,
        }
    }
}

/// Look at a reflog that will be written to. It is never read here, so it may be of any size.
pub(super) fn log(path: &Path) -> Result<(), Trap> {
    match bounded::look(CWD, path, u64::MAX) {
        // Directories that are empty make way.
        Err(err) if err.kind() == io::ErrorKind::IsADirectory => Ok(()),
        result => trapped(result, || path.into()).map(drop),
    }
}

/// Where the parts of a repository are, see gitrepository-layout(5).
#[derive(Debug)]
pub(super) struct Layout {
    /// The repository's own git directory.
    pub(super) git_dir: PathBuf,
    /// The git directory of the repository whose linked worktree this is.
    pub(super) common: Option<PathBuf>,
    /// The object directories that it borrows from.
    pub(super) alternates: Vec<PathBuf>,
}

impl Layout {
    /// The layout of what is at `path`: a git directory, or a file that names one. What git would not understand is
    /// passed over: gitoxide says what is wrong with it.
    pub(super) fn of(path: &Path) -> Result<Self, Trap> {
        let mut layout = Self {
            git_dir: path.into(),
            common: None,
            alternates: Vec::new(),
        };
        if !path.is_dir() {
            if let Some(text) = read(path, LINE)?
                && let Ok(named) = gix::discover::parse::gitdir(&text)
            {
                layout.git_dir = path.parent().unwrap_or(path).join(named);
            } else {
                return Ok(layout);
            }
        }
        let file = layout.git_dir.join("commondir");
        direct(&file)?;
        if let Some(text) = read(&file, LINE)? {
            let common = layout.git_dir.join(OsStr::from_bytes(text.trim_ascii_end()));
            if !["objects", "refs"].iter().all(|name| common.join(name).is_dir()) {
                // gitoxide would show what is in it, and that may be anything.
                return Err(Trap::new(file, io::Error::other("it names no repository")));
            }
            layout.common = Some(common);
        }
        layout.alternates = alternates(layout.common().join("objects"))?;
        Ok(layout)
    }

    /// The directory that linked worktrees share.
    pub(super) fn common(&self) -> &Path {
        self.common.as_deref().unwrap_or(&self.git_dir)
    }

    /// Look at the repositories that it borrows from: a fetch reads their refs, too.
    pub(super) fn look_at_lenders(&self) -> Result<(), Trap> {
        let mut git_dirs = self.alternates.iter().filter_map(|objects| objects.parent());
        git_dirs.try_for_each(|git_dir| Self::of(git_dir)?.look())
    }

    /// Look at all that will be read.
    pub(super) fn look(&self) -> Result<(), Trap> {
        let Some(own) = open_dir(CWD, &self.git_dir) else {
            return Ok(());
        };
        direct(&self.git_dir.join("HEAD"))?;
        files(&self.git_dir, own.as_fd(), &OWN)?;
        refs(&self.git_dir, own.as_fd())?;
        match &self.common {
            None => files(&self.git_dir, own.as_fd(), &COMMON),
            Some(common) => {
                direct(&self.git_dir.join("gitdir"))?;
                files(&self.git_dir, own.as_fd(), &LINKED)?;
                let Some(dir) = open_dir(CWD, common) else {
                    return Ok(());
                };
                files(common, dir.as_fd(), &COMMON)?;
                refs(common, dir.as_fd())
            }
        }
    }
}

fn files(path: &Path, dir: BorrowedFd<'_>, names: &[(&str, u64)]) -> Result<(), Trap> {
    names.iter().try_for_each(|(name, limit)| {
        trapped(bounded::look(dir, Path::new(name), *limit), || path.join(name)).map(drop)
    })
}

/// Look that `path` is no symlink: git makes none there, and what one leads to would be read as a name. Only a branch is what
/// `HEAD` may lead to, as it did once.
fn direct(path: &Path) -> Result<(), Trap> {
    match fs::read_link(path) {
        Ok(to) if path.ends_with("HEAD") && is_ref(&to) => Ok(()),
        Ok(_) => Err(Trap::new(path, io::Error::other("it is a symlink"))),
        Err(_) => Ok(()),
    }
}

fn is_ref(path: &Path) -> bool {
    path.starts_with("refs") && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// The content of the file at `path`; none if there is none, or it may not be read.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Trap> {
    trapped(bounded::read(path, limit), || path.into())
}

/// What cannot be opened holds up no run: gitoxide says why.
fn trapped<T>(result: io::Result<T>, path: impl FnOnce() -> PathBuf) -> Result<Option<T>, Trap> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(err) => match err.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory => Err(Trap::new(path(), err)),
            _ => Ok(None),
        },
    }
}

/// The object directories that `objects` borrows from, in any depth. Those in a circle are followed once.
fn alternates(objects: PathBuf) -> Result<Vec<PathBuf>, Trap> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut seen = HashSet::new();
    let mut next = vec![objects.clone()];
    while let Some(dir) = next.pop() {
        let file = dir.join("info/alternates");
        let Some(text) = read(&file, ALTERNATES)? else {
            continue;
        };
        for named in gix::odb::alternate::parse(&text).unwrap_or_default() {
            // As gitoxide, and not as git, which takes a name from the directory that the file is in.
            let named = objects.join(named);
            if !seen.insert(named.canonicalize().unwrap_or_else(|_| named.clone())) {
                continue;
            }
            if found.len() == MAX_ALTERNATES {
                return Err(too_many(
                    &file,
                    MAX_ALTERNATES,
                    "object directories to borrow from",
                ));
            }
            found.push(named.clone());
            next.push(named);
        }
    }
    Ok(found)
}

/// Look at the loose refs in `dir`, which is at `path`, and below.
fn refs(path: &Path, dir: BorrowedFd<'_>) -> Result<(), Trap> {
    let mut left = MAX_LOOSE_REFS;
    let mut stack = vec![PathBuf::from("refs")];
    while let Some(below) = stack.pop() {
        let Some(fd) = open_below(path, dir, &below)? else {
            continue;
        };
        entries(fd, |fd, name, kind| {
            left = left.checked_sub(1).ok_or_else(|| {
                too_many(
                    &path.join("refs"),
                    MAX_LOOSE_REFS,
                    "loose refs; pack them: git pack-refs --all",
                )
            })?;
            if kind == FileType::Directory {
                stack.push(below.join(name));
                return Ok(());
            }
            match trapped(bounded::look(fd, name, LINE), || path.join(&below).join(name)) {
                // A link to a directory of refs.
                Err(trap)
                    if kind == FileType::Symlink && trap.problem.kind() == io::ErrorKind::IsADirectory =>
                {
                    Ok(())
                }
                other => other.map(drop),
            }
        })?;
    }
    Ok(())
}

/// Call `see` with each entry of the directory `fd`: that, its name, and its kind.
fn entries(
    fd: OwnedFd,
    mut see: impl FnMut(BorrowedFd<'_>, &Path, FileType) -> Result<(), Trap>,
) -> Result<(), Trap> {
    let Ok(mut list) = Dir::new(fd) else {
        return Ok(());
    };
    // What cannot be listed is not listed by gitoxide either.
    while let Some(Ok(entry)) = list.read() {
        let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
        let Ok(fd) = list.fd() else {
            return Ok(());
        };
        let kind = match entry.file_type() {
            FileType::Unknown => rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            known => known,
        };
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            see(fd, name, kind)?;
        }
    }
    Ok(())
}

/// The directory `below` in `dir`, which is at `path`; none if there is none.
fn open_below(path: &Path, dir: BorrowedFd<'_>, below: &Path) -> Result<Option<OwnedFd>, Trap> {
    match rustix::fs::openat(dir, below, DIRECTORY, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::NAMETOOLONG) => {
            let top: PathBuf = below.components().take(3).collect();
            let problem = io::Error::other("it holds directories in directories, deeper than a path can say");
            Err(Trap::new(path.join(top), problem))
        }
        Err(_) => Ok(None),
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

fn open_dir(dir: BorrowedFd<'_>, path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, path, flags, Mode::empty()).ok()
}

fn too_many(path: &Path, limit: usize, of_what: &str) -> Trap {
    Trap::new(
        path,
        io::Error::other(format!("it has more than {limit} {of_what}")),
    )
}
