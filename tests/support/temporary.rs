//! Where tests have their directories: in memory, where that has room.

use std::{env, io, path::Path};

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};
use tempfile::TempDir;

/// A tmpfs on most machines. A container often has a small one.
pub const MEMORY: &str = "/dev/shm";

/// Several times what all tests hold at once, in bytes.
const ROOM: u64 = 4 << 30;

/// A directory of its own: in `TMPDIR`, if that is set; else in memory, if there is room; else where temporary files are. Tests
/// make and delete hundreds of thousands of files, and the program flushes what it deploys: a disk doubles their time.
pub fn tempdir() -> io::Result<TempDir> {
    match env::var_os("TMPDIR") {
        None if has_room(Path::new(MEMORY)) => tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir()),
        _ => tempfile::tempdir(),
    }
}

fn has_room(dir: &Path) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    let (Ok(kind), Ok(found)) = (statfs(dir), statvfs(dir)) else {
        return false;
    };
    let closed = StatVfsMountFlags::NOEXEC | StatVfsMountFlags::RDONLY;
    u64::try_from(kind.f_type) == Ok(TMPFS_MAGIC)
        && !found.f_flag.intersects(closed)
        && found.f_bavail.saturating_mul(found.f_frsize) >= ROOM
}
