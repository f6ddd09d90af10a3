//! Where a pack goes, within which limits, and what is said of it on the way.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{
    error::{Error, Fail},
    names::Names,
};
use crate::{
    base::{
        durable::{self, FreeSpace},
        mutex,
        report::{Phase, Report, Reporter, Unit},
    },
    git::{large::Scratch, repository::Sharing, transport::Deadline},
};

/// Objects of this size and more are in files while deltas of them are undone, in bytes.
pub(super) const IN_MEMORY: u64 = 4 << 20;
/// How many bytes come between two looks at the space.
pub(super) const BETWEEN_LOOKS: u64 = 16 << 20;
/// So many bytes of the disk are left to others, or a hundredth of it if that is more.
pub(super) const RESERVE: u64 = 64 << 20;

/// The permissions of a pack and its index, less the umask: as git has them, they are never written again.
pub(super) const PACK_MODE: u32 = 0o444;

/// What may come in.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest pack, in bytes.
    pub max_pack: u64,
    /// The largest object that a delta comes to, in bytes.
    pub max_blob: u64,
    pub deadline: Deadline,
}

/// Where the pack goes.
pub(super) struct Store<'a> {
    pub(super) hash: gix::hash::Kind,
    pub(super) scratch: Scratch,
    pub(super) dir: &'a Path,
    pub(super) limits: Limits,
    pub(super) names: Names,
    pub(super) sharing: Sharing,
}

impl Store<'_> {
    pub(super) fn failed(&self, source: io::Error) -> Error {
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
    pub(super) fn look_at_space(&self, more: u64) -> Result<(), Error> {
        let Some(FreeSpace { left, total }) =
            durable::free_space(self.dir).map_err(|err| self.failed(err))?
        else {
            return Ok(());
        };
        let needed = more.saturating_add(RESERVE.max(total / 100));
        if left < needed {
            Err(Error::Space {
                path: self.dir.into(),
                left,
                needed,
            })
        } else {
            Ok(())
        }
    }

    pub(super) fn look_at_time(&self) -> Result<(), Fail> {
        if self.limits.deadline.passed() {
            Err(Fail::Connection(io::ErrorKind::TimedOut.into()))
        } else {
            Ok(())
        }
    }

    /// Give pack and index their names: the index last, because it is what makes a pack count. The `.keep` holds it
    /// until a ref does.
    pub(super) fn place(
        &self,
        path: &Path,
        pack: Temporary,
        index: Temporary,
    ) -> io::Result<Option<PathBuf>> {
        let (index_path, keep) = (path.with_extension("idx"), path.with_extension("keep"));
        if path.is_file() && index_path.is_file() {
            return Ok(None);
        }
        fs::write(&keep, b"")?;
        self.sharing.file(&pack.file)?;
        self.sharing.file(&index.file)?;
        pack.rename(path)?;
        index.rename(&index_path)?;
        Ok(Some(keep))
    }
}

/// A file that is unlinked again unless it is renamed. Recovery knows its name for a temporary one.
pub(super) struct Temporary {
    path: Option<PathBuf>,
    pub(super) file: File,
}

impl Temporary {
    pub(super) fn new(dir: &Path, extension: &str) -> Result<Self, Error> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = dir.join(format!(".tmp{:016x}.{extension}", fastrand::u64(..)));
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(PACK_MODE);
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

    pub(super) fn rename(mut self, to: &Path) -> io::Result<()> {
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
pub(super) struct Progress<'a> {
    report: &'a Reporter,
    phase: Phase,
    last: Mutex<Option<Instant>>,
}

impl<'a> Progress<'a> {
    const PERIOD: Duration = Duration::from_millis(100);

    pub(super) fn new(report: &'a Reporter, phase: Phase) -> Self {
        Self {
            report,
            phase,
            last: Mutex::default(),
        }
    }

    pub(super) fn tell(&self, done: usize, total: usize) {
        let mut last = mutex::lock(&self.last);
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
