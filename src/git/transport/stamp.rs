//! When files last changed: what was made from their content is right as long as their stamps are the same.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// The state of some files; to be taken before they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<Stamp>>);

/// The change time tells of every change and cannot be set back, see inode(7); the rest is for changes within
/// the few milliseconds that are one moment to some kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    mode: u32,
    size: u64,
    changed: (i64, i64),
}

impl Stamps {
    /// Those of the files at `paths`, there or not.
    pub(super) fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        Self(paths.into_iter().map(Stamp::of).collect())
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            file: (meta.dev(), meta.ino()),
            mode: meta.mode(),
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn every_change_shows() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, link) = (
            dir.path().join("a"),
            dir.path().join("b"),
            dir.path().join("link"),
        );
        let now = || Stamps::of([a.as_path(), link.as_path()]);
        let mut seen = vec![now()];
        let mut note = |what: &str| {
            let stamps = now();
            assert_eq!(stamps, now());
            assert!(!seen.contains(&stamps), "{what}");
            seen.push(stamps);
        };
        fs::write(&a, "one").unwrap();
        note("it came");
        fs::write(&a, "longer").unwrap();
        note("it grew");
        fs::write(&b, "sequel").unwrap();
        fs::rename(&b, &a).unwrap();
        note("another took its place");
        symlink(&a, &link).unwrap();
        note("a link came");
        fs::set_permissions(&a, fs::Permissions::from_mode(0o600)).unwrap();
        note("its mode changed");
    }
}
