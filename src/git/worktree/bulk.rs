//! Files too large for memory: written, and compared, piece by piece.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use gix::{
    bstr::BStr,
    index::entry::{Mode, Stat},
    objs::{Kind, encode::loose_header},
};

use super::{
    Error,
    content::Conversion,
    dirs, file,
    notice::Notices,
    worker::{TrackedFile, Worker},
};
use crate::git::large::{self, Scratch, copied};

/// The longest target of a symlink, which Linux bounds as paths; in bytes.
const MAX_TARGET: u64 = 4095;

/// An error for a blob that is larger than `max_blob`.
pub(super) fn check(path: &BStr, size: u64, max_blob: u64) -> Result<(), Error> {
    if size > max_blob {
        Err(Error::TooLarge {
            path: path.to_string(),
            size,
            limit: max_blob,
        })
    } else {
        Ok(())
    }
}

/// Write `file` unless it is right, or this is a dry run, if all that is `wrong` with its blob is that memory does not hold it.
pub(super) fn bring(
    worker: &mut Worker<'_>,
    file: &TrackedFile<'_>,
    wrong: Error,
    notices: &mut Notices,
) -> Result<(Option<Stat>, bool), Error> {
    let size = match worker.repo.find_header(file.id) {
        Ok(header) if header.kind() == Kind::Blob => header.size(),
        _ => return Err(wrong),
    };
    let options = worker.options;
    check(file.path, size, options.max_blob)?;
    // What memory holds, and `content` could not read, is damaged, or is a delta of what memory does not hold.
    if matches!(wrong, Error::Convert { .. }) || (file.mode == Mode::SYMLINK && size > MAX_TARGET) {
        return Err(wrong);
    }
    let conversion = worker.content.conversion(file.mode, file.path, notices)?;
    if let Some(there) = file.there
        && worker.is_alike(file, there, size)
        && is_same(worker, file)
    {
        return Ok((Some(there.stat), false));
    }
    if options.dry_run {
        return Ok((None, true));
    }
    let (repo, rights) = (worker.repo, options.rights);
    let failed = |err| options.failed("write", file.path, err);
    let (dir, name) = worker.place(file).map_err(failed)?;
    let mut convert = false;
    let written = file::write_by(dir, name, file.mode, rights, |out| {
        let out = Watched {
            inner: out,
            has_nul: false,
        };
        let out = blob(repo, file, |_| Ok(out))?;
        // What is binary is not converted where that is for us to say.
        convert = match conversion {
            Conversion::None => false,
            Conversion::Text => !out.has_nul,
            Conversion::Always => true,
        };
        if convert {
            Err(io::ErrorKind::Unsupported.into())
        } else {
            Ok(())
        }
    });
    match written {
        // It could be read here: another copy of it is damaged.
        _ if convert && size <= large::LARGE => Err(wrong),
        _ if convert => Err(Error::Convert {
            path: file.path.to_string(),
            size,
            limit: large::LARGE,
        }),
        Ok(stat) => Ok((Some(stat), true)),
        // Not the system's.
        Err(err) if err.raw_os_error().is_none() => Err(Error::Object {
            id: file.id,
            path: file.path.to_string(),
            reason: err.to_string(),
        }),
        Err(err) => Err(failed(err)),
    }
}

/// Write the blob of `file`. Another content than its id says is an error in the end.
fn blob<W: Write>(
    repo: &gix::Repository,
    file: &TrackedFile<'_>,
    open: impl FnOnce(u64) -> io::Result<W>,
) -> io::Result<W> {
    let (store, hash) = (repo.objects.store_ref(), file.id.kind());
    let scratch = Scratch::new(&store.path().join("pack"));
    let out = large::blob(store, &scratch, &file.id, |size| {
        let mut out = gix::hash::io::Write::new(open(size)?, hash);
        out.hash.update(&loose_header(Kind::Blob, size));
        Ok(out)
    })?;
    let found = out.hash.try_finalize().map_err(io::Error::other)?;
    found.verify(&file.id).map_err(io::Error::other)?;
    Ok(out.inner)
}

/// Whether the file that is there has the content of the blob.
fn is_same(worker: &mut Worker<'_>, file: &TrackedFile<'_>) -> bool {
    let repo = worker.repo;
    let Some(there) = there(worker, file) else {
        return false;
    };
    blob(repo, file, |_| Ok(Same(there))).is_ok()
}

/// Whether the file that is there hashes to the blob's id.
pub(super) fn is_blob(worker: &mut Worker<'_>, file: &TrackedFile<'_>) -> bool {
    let hash = worker.repo.object_hash();
    let Some((mut there, size)) = there(worker, file).and_then(|there| {
        let size = there.metadata().ok()?.len();
        Some((there, size))
    }) else {
        return false;
    };
    let mut out = gix::hash::io::Write::new(io::sink(), hash);
    out.hash.update(&loose_header(Kind::Blob, size));
    copied(&mut there, &mut out, size).is_ok() && out.hash.try_finalize().is_ok_and(|id| id == file.id)
}

fn there(worker: &mut Worker<'_>, file: &TrackedFile<'_>) -> Option<File> {
    let (dir, name) = dirs::split(file.path);
    dirs::open_file(worker.dirs.get(dir).ok()??, name).ok()
}

/// Sees whether what is written is text.
struct Watched<W> {
    inner: W,
    has_nul: bool,
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.has_nul |= bytes.contains(&0);
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Fails once something else is written than what the file holds.
struct Same(File);

impl Write for Same {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut there = vec![0; bytes.len()];
        self.0.read_exact(&mut there)?;
        if there == bytes {
            Ok(bytes.len())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
