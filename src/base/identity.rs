//! Which file something is, whatever it is called, and whether it is as it was.

use std::{fs::Metadata, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::fs::Stat;

/// Device and inode: what a file is as long as it exists or is open. After that, another one may get them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
        }
    }

    /// As [`Self::of`].
    // The widths of these fields differ between platforms.
    #[allow(clippy::unnecessary_cast)]
    pub fn of_stat(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
        }
    }

    /// The identity of what is at `path`. A link there is not followed.
    pub fn at(path: &Path) -> io::Result<Self> {
        path.symlink_metadata().map(|meta| Self::of(&meta))
    }
}

/// As device and inode.
impl From<(u64, u64)> for Identity {
    fn from((device, inode): (u64, u64)) -> Self {
        Self { device, inode }
    }
}

impl From<Identity> for (u64, u64) {
    fn from(Identity { device, inode }: Identity) -> Self {
        (device, inode)
    }
}

/// A file as it is: its content is the same as long as this is.
///
/// The change time tells of every change and cannot be set back, see inode(7); the rest is for changes within the few
/// milliseconds that are one moment to some kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    file: Identity,
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(meta: &Metadata) -> Self {
        Self {
            file: Identity::of(meta),
            mode: meta.mode(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn another_name_is_the_same_file_and_a_link_is_another() {
        let dir = crate::machine::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "one").unwrap();
        fs::hard_link(at("a"), at("b")).unwrap();
        symlink("a", at("link")).unwrap();
        let a = Identity::at(&at("a")).unwrap();
        assert_eq!(a, Identity::at(&at("b")).unwrap());
        assert_eq!(a, Identity::of(&fs::metadata(at("link")).unwrap()));
        assert_eq!(a, Identity::of_stat(&rustix::fs::stat(at("a")).unwrap()));
        assert_ne!(a, Identity::at(&at("link")).unwrap());
        assert!(Identity::at(&at("none")).is_err());
    }

    #[test]
    fn a_stamp_tells_of_a_change() {
        let dir = crate::machine::tempdir().unwrap();
        let path = dir.path().join("a");
        let now = || Stamp::of(&fs::metadata(&path).unwrap());
        fs::write(&path, "one").unwrap();
        let then = now();
        assert_eq!(then, now());
        fs::write(&path, "longer").unwrap();
        assert_ne!(then, now());
    }
}
