//! A pack comes in: it is written beside the others and indexed, in bounded memory, whatever it holds.
//!
//! gitoxide would do it, too, but keeps each entry as it is packed in memory, and every object that others are deltas of
//! until the last of them is undone. So gitoxide is given an empty pack in the place of the one that comes ([`Receiving`]).
//! Straight on: entries are written, measured and hashed while they arrive (`stream`), deltas are undone (`resolve`),
//! the index is written (`index`), and only then do pack and index get their names.
//!
//! What is above a bound is an error, and what was written of the pack is removed at once.

use std::{
    fs::{self, File},
    io::{self, BufRead},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use gix::ObjectId;

use crate::{
    base::{
        durable::{self, Room},
        fault::{Blame, Kind, kind_of_io},
        report::{Phase, Report, Reporter, Unit},
    },
    git::{
        large::{LARGE, Scratch},
        transport::Deadline,
    },
};

mod index;
mod names;
mod resolve;
mod stream;
mod transport;

use names::Names;
pub use names::Whole;
pub use transport::Receiving;

/// Objects in one pack. Each takes some 50 bytes while the pack is indexed: 200 MB in all.
const MAX_OBJECTS: u32 = 4_000_000;
/// Objects of this size and more are in files while deltas of them are undone, in bytes.
const IN_MEMORY: u64 = 4 << 20;
/// Space is looked at each time that so many bytes have come.
const BETWEEN_LOOKS: u64 = 16 << 20;
/// So many bytes of the disk are left to others, or a hundredth of it if that is more.
const RESERVE: u64 = 64 << 20;

/// A pack could not be taken in.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// It has more objects than fit into memory.
    #[error("the remote sends {count} objects at once, more than {MAX_OBJECTS}")]
    #[diagnostic(help("fetch less of the history: set `depth`, for example to 1"))]
    Objects {
        /// How many it says there are.
        count: u32,
    },
    /// It is larger than `max_pack`.
    #[error("the remote sends more than `max_pack`, which is {}", ByteSize(*limit))]
    #[diagnostic(help(
        "raise `max_pack` if the repository is that large, or set `depth` to fetch less of it"
    ))]
    Pack {
        /// `max_pack`, in bytes.
        limit: u64,
    },
    /// A commit, a tree or a tag is larger than any that is meant well.
    #[error("the remote sends a {kind} of {}, more than {}", ByteSize(*size), ByteSize(LARGE))]
    #[diagnostic(help("only files may be that large: find out who made it, and how"))]
    Object {
        /// What it is.
        kind: gix::objs::Kind,
        /// Its size in bytes.
        size: u64,
    },
    /// A delta comes to more than `max_blob`.
    #[error("the remote sends a delta that comes to {}, more than `max_blob`, which is {}", ByteSize(*size), ByteSize(*limit))]
    #[diagnostic(help(
        "raise `max_blob` if the repository has files that large, or set `depth` to fetch less of its history"
    ))]
    Delta {
        /// What it comes to, in bytes.
        size: u64,
        /// `max_blob`, in bytes.
        limit: u64,
    },
    /// Deltas are stacked as no git stacks them.
    #[error("the remote sends deltas that are based on each other too deeply")]
    #[diagnostic(help("let `git repack -adf` be run where the repository is"))]
    Depth,
    /// It is not a pack, or not all of one.
    #[error("the remote sends a damaged pack: {reason}")]
    #[diagnostic(help("trigger again; if it stays, let `git fsck` be run where the repository is"))]
    Damaged {
        /// What is wrong with it.
        reason: String,
    },
    /// An object that is neither in the pack nor here.
    #[error("the remote sends a pack with a delta of {id}, which is neither in it nor here")]
    #[diagnostic(help("trigger again; if it stays, let `git fsck` be run where the repository is"))]
    Base {
        /// The object.
        id: ObjectId,
    },
    /// The disk is nearly full.
    #[error(
        "the disk that {path} is on has space for {}, and {} are needed for what comes and to be left to others",
        ByteSize(*left),
        ByteSize(*needed)
    )]
    #[diagnostic(help("free space; `max_pack` bounds what one fetch may bring"))]
    Space {
        /// The directory.
        path: PathBuf,
        /// How much can still be written, in bytes.
        left: u64,
        /// How much has to be, in bytes.
        needed: u64,
    },
    /// The system refused.
    #[error("cannot store the objects fetched into {path}: {source}")]
    #[diagnostic(help("free space, or make the git directory writable for the user that gitsocket runs as"))]
    Store {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Objects { .. }
            | Self::Pack { .. }
            | Self::Object { .. }
            | Self::Delta { .. }
            | Self::Depth
            | Self::Base { .. } => Kind::Remote,
            Self::Damaged { .. } => Kind::Unreachable,
            Self::Space { .. } => Kind::Resources,
            Self::Store { source, .. } => kind_of_io(source),
        }
    }
}

/// Why no pack was taken in.
enum Fail {
    /// The connection broke: whoever asked knows more of it.
    Connection(io::Error),
    Ours(Error),
}

impl From<Error> for Fail {
    fn from(err: Error) -> Self {
        Self::Ours(err)
    }
}

/// What may come in.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the pack, in bytes.
    pub max_pack: u64,
    /// Of an object that a delta comes to, in bytes.
    pub max_blob: u64,
    /// When to give up.
    pub deadline: Deadline,
}

/// What has come.
#[derive(Debug, Default)]
pub struct Taken {
    /// The pack's `.keep`, if a pack has come and it is new.
    pub keep: Option<PathBuf>,
    /// The pack, if it is new and lacks nothing.
    pub whole: Option<Whole>,
}

/// Takes in the pack of one fetch.
pub struct Intake {
    repo: Mutex<gix::Repository>,
    limits: Limits,
    report: Reporter,
    outcome: Mutex<Option<Result<Taken, Error>>>,
}

impl Intake {
    /// Of a pack for `repo`.
    pub fn new(repo: &gix::Repository, limits: Limits, report: &Reporter) -> Self {
        Self {
            repo: Mutex::new(repo.clone()),
            limits,
            report: report.clone(),
            outcome: Mutex::default(),
        }
    }

    /// What has come, or why it could not be taken in.
    pub fn outcome(&self) -> Result<Taken, Error> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.take().unwrap_or(Ok(Taken::default()))
    }

    /// Take in the pack that `from` is at the beginning of. Gives the hash it is known by.
    fn take(&self, from: &mut dyn BufRead) -> io::Result<()> {
        let repo = self.repo.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let outcome = match self.receive(&repo, from) {
            Err(Fail::Connection(err)) => return Err(err),
            Err(Fail::Ours(err)) => Err(err),
            Ok(taken) => Ok(taken),
        };
        let failed = outcome.is_err();
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        match failed {
            true => Err(io::Error::other("the pack was not taken in")),
            false => Ok(()),
        }
    }

    fn receive(&self, repo: &gix::Repository, from: &mut dyn BufRead) -> Result<Taken, Fail> {
        let dir = repo.objects.store_ref().path().join("pack");
        let store = Store {
            hash: repo.object_hash(),
            scratch: Scratch::new(&dir),
            dir: &dir,
            limits: self.limits,
            names: Names::new(),
        };
        let mut pack = Temporary::new(&dir, "pack")?;
        let progress = Progress::new(&self.report, Phase::Fetch);
        let mut table = stream::read(from, &mut pack.file, &store, Some(progress))?;
        if table.offsets.is_empty() {
            return Ok(Taken::default());
        }
        let progress = Progress::new(&self.report, Phase::Index);
        resolve::all(Some(repo), &mut table, &mut pack.file, &store, Some(&progress))?;
        let mut index = Temporary::new(&dir, "idx")?;
        index::write(&table, &mut index.file).map_err(|err| store.failed(err))?;
        let path = dir.join(format!("pack-{}.pack", table.checksum));
        let keep = store.place(&path, pack, index).map_err(|err| store.failed(err))?;
        // One that was here may be damaged since.
        let whole = keep.as_ref().and_then(|_| store.names.whole(&mut table));
        Ok(Taken { keep, whole })
    }
}

/// Write the index of the pack at `path` to `index`. Gives the pack's checksum and the number of its objects.
pub fn index(path: &Path, index: &Path, hash: gix::hash::Kind) -> io::Result<(ObjectId, usize)> {
    let dir = path.parent().unwrap_or(path);
    let store = Store {
        hash,
        scratch: Scratch::new(dir),
        dir,
        limits: Limits {
            max_pack: u64::MAX,
            max_blob: u64::MAX,
            deadline: Deadline::new(Duration::from_secs(u32::MAX.into())),
        },
        names: Names::none(),
    };
    let failed = |fail| match fail {
        Fail::Connection(err) => err,
        Fail::Ours(err) => io::Error::other(err),
    };
    let mut file = File::open(path)?;
    let mut from = io::BufReader::with_capacity(1 << 16, file.try_clone()?);
    let mut table = stream::read(&mut from, &mut io::sink(), &store, None).map_err(failed)?;
    resolve::all(None, &mut table, &mut file, &store, None).map_err(failed)?;
    index::write(&table, &mut File::create_new(index)?)?;
    Ok((table.checksum, table.offsets.len()))
}

/// Where the pack goes.
struct Store<'a> {
    hash: gix::hash::Kind,
    scratch: Scratch,
    dir: &'a Path,
    limits: Limits,
    names: Names,
}

impl Store<'_> {
    fn failed(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
                Error::Damaged {
                    reason: source.to_string(),
                }
            }
            _ => Error::Store {
                path: self.dir.into(),
                source,
            },
        }
    }

    /// An error if others would have no room once `more` bytes are written.
    fn look_at_space(&self, more: u64) -> Result<(), Error> {
        let Some(Room { left, total }) = durable::room(self.dir).map_err(|err| self.failed(err))? else {
            return Ok(());
        };
        let needed = more.saturating_add(RESERVE.max(total / 100));
        match left < needed {
            true => Err(Error::Space {
                path: self.dir.into(),
                left,
                needed,
            }),
            false => Ok(()),
        }
    }

    fn look_at_time(&self) -> Result<(), Fail> {
        match self.limits.deadline.passed() {
            true => Err(Fail::Connection(io::ErrorKind::TimedOut.into())),
            false => Ok(()),
        }
    }

    /// Give pack and index their names: the index last, because it is what makes a pack count. The `.keep` holds it
    /// until a ref does.
    fn place(&self, path: &Path, pack: Temporary, index: Temporary) -> io::Result<Option<PathBuf>> {
        let (index_path, keep) = (path.with_extension("idx"), path.with_extension("keep"));
        if path.is_file() && index_path.is_file() {
            return Ok(None);
        }
        fs::write(&keep, b"")?;
        pack.rename(path)?;
        index.rename(&index_path)?;
        Ok(Some(keep))
    }
}

/// A file that is unlinked again unless it is renamed. Recovery knows its name for a temporary one.
struct Temporary {
    path: Option<PathBuf>,
    file: File,
}

impl Temporary {
    fn new(dir: &Path, extension: &str) -> Result<Self, Error> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = dir.join(format!(".tmp{:016x}.{extension}", fastrand::u64(..)));
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        match options.open(&path) {
            Ok(file) => Ok(Self {
                path: Some(path),
                file,
            }),
            Err(source) => Err(Error::Store {
                path: dir.into(),
                source,
            }),
        }
    }

    fn rename(mut self, to: &Path) -> io::Result<()> {
        if let Some(path) = &self.path {
            fs::rename(path, to)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What cannot be removed now is removed by recovery.
            let _ = fs::remove_file(path);
        }
    }
}

/// Reports how many objects there are, ten times a second.
struct Progress<'a> {
    report: &'a Reporter,
    phase: Phase,
    last: Mutex<Option<Instant>>,
}

impl<'a> Progress<'a> {
    const PERIOD: Duration = Duration::from_millis(100);

    fn new(report: &'a Reporter, phase: Phase) -> Self {
        Self {
            report,
            phase,
            last: Mutex::default(),
        }
    }

    fn tell(&self, done: usize, total: usize) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if done < total && last.is_some_and(|last| last.elapsed() < Self::PERIOD) {
            return;
        }
        *last = Some(Instant::now());
        drop(last);
        self.report.emit(Report::Progress {
            phase: self.phase,
            done: done as u64,
            total: Some(total as u64),
            unit: Unit::Objects,
        });
    }
}
