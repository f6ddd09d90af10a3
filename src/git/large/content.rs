//! Bytes in memory or in files without a name, and how they are copied.

use std::{
    fs::File,
    io::{self, BufRead, Read, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use gix::zlib::Decompress;
use rustix::fs::{Mode, OFlags};

/// What is read or written at once, in bytes.
pub(super) const PIECE: usize = 64 << 10;

/// Where files without a name are made.
#[derive(Debug, Clone)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(dir: &Path) -> Self {
        Self(dir.into())
    }

    /// A file without a name.
    pub fn file(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        if let Ok(fd) = rustix::fs::open(&self.0, flags, Mode::RUSR | Mode::WUSR) {
            return Ok(fd.into());
        }
        // Some file systems cannot: as gitoxide names its temporary files, for recovery to find.
        loop {
            let path = self.0.join(format!(".tmp{:016x}", fastrand::u64(..)));
            match File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
            {
                Ok(file) => return std::fs::remove_file(path).map(|()| file),
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                Err(err) => return Err(err),
            }
        }
    }

    /// `size` bytes that `fill` writes: in memory up to `limit`, in a file above it.
    pub fn content(
        &self,
        size: u64,
        limit: u64,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Content> {
        if size <= limit {
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
            fill(&mut bytes)?;
            return Ok(Content::Memory(bytes));
        }
        let mut out = io::BufWriter::with_capacity(PIECE, self.file()?);
        fill(&mut out)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Content::File { file, size })
    }
}

/// An object's bytes.
#[derive(Debug)]
pub enum Content {
    Memory(Vec<u8>),
    File { file: File, size: u64 },
}

impl Content {
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }

    /// All of them, if they are in memory.
    pub fn memory(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(bytes) => Some(bytes),
            Self::File { .. } => None,
        }
    }

    /// How many of them are in memory.
    pub fn held(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { .. } => 0,
        }
    }

    pub fn copy(&self, at: u64, len: u64, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let end = at.checked_add(len).filter(|end| *end <= self.size());
        let end = end.ok_or_else(|| corrupt("a delta copies from beyond its base"))?;
        match self {
            Self::Memory(bytes) => {
                let range = usize::try_from(at).unwrap_or_default()..usize::try_from(end).unwrap_or_default();
                out.write_all(&bytes[range])
            }
            Self::File { file, .. } => copied(&mut Section::new(file, at, end), out, len),
        }
    }
}

/// A part of a file, read without moving its position.
#[derive(Debug)]
pub struct Section<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl<'f> Section<'f> {
    pub fn new(file: &'f File, at: u64, end: u64) -> Self {
        Self { file, at, end }
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = most.min(buf.len());
        let count = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The bytes that a zlib stream stands for.
pub struct Inflated<R> {
    inner: R,
    state: Decompress,
}

impl<R: BufRead> Inflated<R> {
    /// The bytes of the stream that `inner` is at.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            state: Decompress::new(),
        }
    }
}

impl<R: BufRead> Read for Inflated<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        gix::zlib::stream::inflate::read(&mut self.inner, &mut self.state, buf)
    }
}

/// Write what is behind `from` to `out`: exactly `size` bytes.
pub fn copied(from: &mut (impl Read + ?Sized), out: &mut (impl Write + ?Sized), size: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        match from.read(&mut piece[..most])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                out.write_all(&piece[..count])?;
                left -= count as u64;
            }
        }
    }
    Ok(())
}

/// An error for what is not as it must be.
pub fn corrupt(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}
