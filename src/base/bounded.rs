//! Reads files of which nothing is known: regular ones, of a size that the caller bounds, and no others.
//!
//! A repository, a source or a worktree may hold a fifo, a device or a sparse file of terabytes under any name. A fifo
//! would be waited for without end, a device may be endless, a giant fills memory. Here they are errors, at once.
//! Whatever is read by name, and was not written by this program a moment ago, is read by this module.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{AtFlags, CWD, FileType, Mode, OFlags},
};

/// A file with one line of git's: `HEAD`, a ref, a `.git` file, `commondir`; in bytes. Paths have at most 4,096.
pub const LINE: u64 = 16 << 10;
/// A file with patterns or settings: `.gitignore`, `.gitattributes`, `config`; in bytes.
pub const RULES: u64 = 16 << 20;
/// A file with lines for many refs: `packed-refs`, `shallow`; in bytes.
pub const LIST: u64 = 256 << 20;

/// How long the writer of a pipe has, from its opening to its end: a password manager may ask its user first.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The content of the file at `path`, which has at most `limit` bytes. Symlinks are followed.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    content(open(path)?, limit)
}

/// The content of the file `name` in `dir`, which has at most `limit` bytes. A symlink is an error (ELOOP).
pub fn read_in(dir: BorrowedFd<'_>, name: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    content(open_in(dir, name)?, limit)
}

/// The content of the file at `path` from `dir` on, which has at most `limit` bytes. Symlinks are followed.
pub fn read_at(dir: BorrowedFd<'_>, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    content(open_at(dir, path)?, limit)
}

/// The content of the file `name` in the directory `below` of `dir`, which has at most `limit` bytes. A symlink is an error,
/// wherever in these three it is: for what only this program writes, where others may write as well.
pub fn read_own(dir: &Path, [below, name]: [&str; 2], limit: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
    let below = rustix::fs::openat(&dir, below, flags, Mode::empty())?;
    read_in(below.as_fd(), name.as_bytes(), limit)
}

/// Open the regular file at `path` for reading. Symlinks are followed.
pub fn open(path: &Path) -> io::Result<File> {
    open_at(CWD, path)
}

fn open_at(dir: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    regular(rustix::fs::statat(dir, path, AtFlags::empty())?)?;
    // What is there may be another file by now: neither a fifo nor a terminal may hold this process up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    opened(rustix::fs::openat(dir, path, flags, Mode::empty())?)
}

/// Open the regular file `name` in `dir` for reading. A symlink is an error (ELOOP).
pub fn open_in(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(rustix::io::Errno::LOOP.into());
    }
    regular(stat)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    opened(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// Whether what is at `path`, below `dir` if it is relative, can be read as a file of at most `limit` bytes. Symlinks are
/// followed. For what others will read: it may be another file by then, but not by chance.
pub fn look(dir: BorrowedFd<'_>, path: &Path, limit: u64) -> io::Result<()> {
    let stat = rustix::fs::statat(dir, path, AtFlags::empty())?;
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    regular(stat)?;
    if size > limit {
        Err(too_large(limit))
    } else {
        Ok(())
    }
}

/// A file that the operator names, a secret or certificate: a regular one, or a pipe such as a shell's `<(…)`, whose
/// writer has [`PATIENCE`]. How much of it is read is the caller's to bound.
#[derive(Debug)]
pub struct Given {
    file: File,
    /// When the writer of a pipe must have ended.
    until: Option<Instant>,
}

impl Given {
    /// Open the file or pipe at `path`. Symlinks are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let is_pipe = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
        let stat = rustix::fs::stat(path)?;
        if !is_pipe(stat) {
            return open(path).map(|file| Self { file, until: None });
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(fd.as_fd())?;
        if is_pipe(stat) {
            Ok(Self {
                file: fd.into(),
                until: Some(Instant::now() + PATIENCE),
            })
        } else {
            opened(fd).map(|file| Self { file, until: None })
        }
    }

    /// The standard input, whatever it is; its writer has [`PATIENCE`], too.
    pub fn stdin() -> io::Result<Self> {
        let fd = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self {
            file: fd.into(),
            until: Some(Instant::now() + PATIENCE),
        })
    }

    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

impl Read for Given {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(until) = self.until else {
            return self.file.read(buf);
        };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            if poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&left))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.file.read(buf) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }
}

/// The content of the file or pipe at `path` that the operator names, which has at most `limit` bytes.
pub fn read_given(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    within(Given::open(path)?, limit, 0)
}

fn opened(fd: OwnedFd) -> io::Result<File> {
    regular(rustix::fs::fstat(fd.as_fd())?)?;
    Ok(fd.into())
}

/// An error for what is not a regular file.
fn regular(stat: rustix::fs::Stat) -> io::Result<()> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    };
    Err(invalid(format!("it is {what}, not a file")))
}

/// The content of a file that was opened, and is a regular one, of at most `limit` bytes.
pub fn content(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    if size > limit {
        return Err(too_large(limit));
    }
    within(file, limit, usize::try_from(size).unwrap_or_default())
}

fn within(file: impl Read, limit: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size + 1);
    // It may grow meanwhile; and those of /proc have no size.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        Err(too_large(limit))
    } else {
        Ok(bytes)
    }
}

fn too_large(limit: u64) -> io::Error {
    invalid(format!("it is larger than {}", bytesize::ByteSize(limit)))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn files_are_read_and_traps_are_errors() {
        let dir = crate::machine::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "text").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        File::create(at("giant")).unwrap().set_len(3 << 40).unwrap();
        fs::create_dir(at("dir")).unwrap();
        assert_eq!(read(&at("file"), 4).unwrap(), b"text");
        assert_eq!(read(&at("link"), 4).unwrap(), b"text");
        let fd = File::open(dir.path()).unwrap();
        assert_eq!(read_in(fd.as_fd(), b"file", 4).unwrap(), b"text");
        for (name, kind) in [
            ("file", io::ErrorKind::InvalidData),
            ("zero", io::ErrorKind::InvalidData),
            ("fifo", io::ErrorKind::InvalidData),
            ("giant", io::ErrorKind::InvalidData),
            ("dir", io::ErrorKind::IsADirectory),
            ("none", io::ErrorKind::NotFound),
        ] {
            assert_eq!(read(&at(name), 3).unwrap_err().kind(), kind, "{name}");
        }
        let link = read_in(fd.as_fd(), b"link", 4).unwrap_err();
        assert_eq!(link.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
        assert!(read_in(fd.as_fd(), b"fifo", 4).is_err());
        fs::write(at("dir/own"), "text").unwrap();
        symlink("own", at("dir/link")).unwrap();
        symlink("dir", at("linked")).unwrap();
        assert_eq!(read_own(dir.path(), ["dir", "own"], 4).unwrap(), b"text");
        assert!(read_own(dir.path(), ["dir", "link"], 4).is_err());
        assert!(read_own(dir.path(), ["linked", "own"], 4).is_err());
        let fd = fd.as_fd();
        for (name, kind) in [
            ("file", Some(io::ErrorKind::InvalidData)),
            ("zero", Some(io::ErrorKind::InvalidData)),
            ("fifo", Some(io::ErrorKind::InvalidData)),
            ("giant", Some(io::ErrorKind::InvalidData)),
            ("dir", Some(io::ErrorKind::IsADirectory)),
            ("none", Some(io::ErrorKind::NotFound)),
        ] {
            let seen = look(fd, Path::new(name), 3).err().map(|err| err.kind());
            assert_eq!(seen, kind, "{name}");
        }
        look(fd, Path::new("link"), 4).unwrap();
        // A file of the system's that says it is empty.
        assert!(!read(Path::new("/proc/self/status"), LINE).unwrap().is_empty());
    }

    #[test]
    fn what_an_operator_names_may_be_a_pipe() {
        let dir = crate::machine::tempdir().unwrap();
        let path = dir.path().join("fifo");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || fs::write(path, "secret").unwrap())
        };
        assert_eq!(read_given(&path, 10).unwrap(), b"secret");
        writer.join().unwrap();
        assert!(read_given(Path::new("/dev/zero"), 10).is_err());
        // Without a writer, it is not waited for without end.
        let mut given = Given::open(&path).unwrap();
        given.until = Some(Instant::now());
        let err = given.read(&mut [0]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    }
}
