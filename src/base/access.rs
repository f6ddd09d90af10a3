//! What this process may do with what is at a path: asked, not tried, so that nothing changes.

use std::{fs, io, path::Path};

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// Whether the file at `path` may be executed.
pub fn execute(path: &Path) -> io::Result<()> {
    ask(path, Access::EXEC_OK)?;
    if fs::metadata(path)?.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else {
        Ok(())
    }
}

/// Whether the file at `path` may be read and written.
pub fn edit(path: &Path) -> io::Result<()> {
    ask(path, Access::READ_OK | Access::WRITE_OK)
}

/// Whether the directory at `path` may be listed and entered.
pub fn list(path: &Path) -> io::Result<()> {
    ask(path, Access::READ_OK | Access::EXEC_OK)
}

/// Whether entries of the directory at `path` may be made and removed.
pub fn fill(path: &Path) -> io::Result<()> {
    ask(path, Access::WRITE_OK | Access::EXEC_OK)
}

fn ask(path: &Path, access: Access) -> io::Result<()> {
    Ok(accessat(CWD, path, access, AtFlags::EACCESS)?)
}
