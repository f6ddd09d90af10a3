//! When files last changed: what was made from their content is right as long as their stamps are the same.

use std::{fs, path::Path};

use crate::base::identity::Stamp;

/// The state of some files; to be taken before they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<Stamp>>);

impl Stamps {
    /// The stamps of the files at `paths`, there or not.
    pub(super) fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        Self(paths.into_iter().map(stamp).collect())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    Some(Stamp::of(&fs::metadata(path).ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn every_change_shows() {
        let dir = crate::machine::tempdir().unwrap();
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
