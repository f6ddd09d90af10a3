//! A release and where it is now: the working directory of hooks, and the paths in their environment.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2},
    io::Errno,
};

use super::{
    DIR,
    id::{Id, Invalid},
};
use crate::{
    base::{control, identity::Identity},
    config::{Live, Releases, Site},
};

/// A release. Its path follows from its name and from whether it is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    pub id: Id,
    /// The release that was live before it.
    pub previous: Option<Id>,
    /// Whether it is live.
    pub is_live: bool,
}

impl Located {
    /// Its path below the trigger's path.
    fn below(&self, releases: &Releases) -> PathBuf {
        match &releases.live {
            Live::Exchange(name) if self.is_live => name.into(),
            _ => Path::new(DIR).join(self.id.as_str()),
        }
    }

    /// Its path.
    pub fn dir(&self, site: &Site) -> PathBuf {
        let path = site.path.as_path();
        site.releases
            .as_ref()
            .map_or_else(|| path.into(), |releases| path.join(self.below(releases)))
    }

    /// The path under which it is, or will be, live.
    pub fn live(&self, site: &Site) -> PathBuf {
        let path = site.path.as_path();
        site.releases
            .as_ref()
            .map_or_else(|| path.into(), |releases| path.join(releases.live.name()))
    }

    /// The path of the previous release, which is still the live one until this release is live.
    pub fn previous(&self, site: &Site) -> Option<PathBuf> {
        let before = Self {
            id: self.previous.clone()?,
            previous: None,
            is_live: !self.is_live,
        };
        Some(before.dir(site))
    }

    /// The path of its index.
    pub fn index(&self, site: &Site) -> PathBuf {
        site.git_dir()
            .join(format!("gitsocket/releases/{}.index", self.id))
    }

    /// Open its directory, following no link below the trigger's path.
    pub fn open(&self, site: &Site) -> io::Result<OwnedFd> {
        let releases = site.releases.as_ref().ok_or(Errno::NOENT)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = openat(CWD, site.path.as_path(), flags, Mode::empty())?;
        let below = self.below(releases);
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(&path, &below, flags, Mode::empty(), how) {
            // systemd's RestrictSUIDSGID= denies openat2(2).
            Err(Errno::NOSYS) => {
                let flags = flags | OFlags::NOFOLLOW;
                let mut names = below.iter();
                Ok(names.try_fold(path, |dir, name| openat(&dir, name, flags, Mode::empty()))?)
            }
            opened => Ok(opened?),
        }
    }
}

/// A path by which a child process finds the open directory `dir`: by the descriptor, so that it is this directory even if another
/// one is at `path` by then. Where there is no /proc, it is `path`.
pub fn by_descriptor(dir: &OwnedFd, path: PathBuf) -> PathBuf {
    let open = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let is_it = || Some(Identity::of(&open.metadata().ok()?) == Identity::of_stat(&fstat(dir).ok()?));
    match is_it() {
        Some(true) => open,
        _ => path,
    }
}

impl From<&Located> for control::Release {
    fn from(located: &Located) -> Self {
        Self {
            id: located.id.to_string(),
            previous: located.previous.as_ref().map(ToString::to_string),
            is_live: located.is_live,
        }
    }
}

impl TryFrom<&control::Release> for Located {
    type Error = Invalid;

    fn try_from(named: &control::Release) -> Result<Self, Invalid> {
        Ok(Self {
            id: named.id.clone().try_into()?,
            previous: named.previous.clone().map(Id::try_from).transpose()?,
            is_live: named.is_live,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::{fs, num::NonZeroU32, os::unix::fs::symlink};

    use super::*;
    use crate::{base::name::AbsPath, git::worktree::Clean};

    /// With releases, of which one is kept.
    pub(in crate::deploy::release) fn site(path: &Path, live: Live) -> Site {
        Site {
            path: AbsPath::resolve(Path::new("/"), path).unwrap(),
            git_dir: None,
            clean: Clean::Untracked,
            keep: Vec::new(),
            group: None,
            umask: None,
            fsync: false,
            releases: Some(Releases {
                keep: NonZeroU32::MIN,
                live,
                shared: Vec::new(),
            }),
        }
    }

    fn id(text: &str) -> Id {
        Id::try_from(text.to_owned()).unwrap()
    }

    const NEW: &str = "20261125T201500Z-5d6e7f8";
    const OLD: &str = "20261124T201500Z-1a2b3c4";

    #[test]
    fn where_releases_are() {
        let mut located = Located {
            id: id(NEW),
            previous: Some(id(OLD)),
            is_live: false,
        };
        let path = Path::new("/srv/site");
        let [link, swap] = [Live::Symlink("current".into()), Live::Exchange("www".into())];
        let [link, swap] = [link, swap].map(|live| site(path, live));
        let old = path.join("releases").join(OLD);
        for (site, before) in [(&link, &old), (&swap, &path.join("www"))] {
            assert_eq!(located.dir(site), path.join("releases").join(NEW));
            assert_eq!(located.previous(site).as_ref(), Some(before));
        }
        located.is_live = true;
        assert_eq!(
            [located.previous(&link), located.previous(&swap)],
            [Some(old.clone()), Some(old)]
        );
        assert_eq!(located.dir(&link), path.join("releases").join(NEW));
        assert_eq!(located.live(&link), path.join("current"));
        assert_eq!(
            [located.dir(&swap), located.live(&swap)],
            [path.join("www"), path.join("www")]
        );
        assert_eq!(
            located.index(&swap),
            path.join("repo.git/gitsocket/releases")
                .join(format!("{NEW}.index"))
        );
        let named = control::Release::from(&located);
        assert_eq!(Located::try_from(&named), Ok(located));
        for wrong in ["..", "", "current", "20261125T201500Z-5d6e7f8/.."] {
            for (id, previous) in [(wrong, OLD), (NEW, wrong)] {
                let named = control::Release {
                    id: id.into(),
                    previous: Some(previous.into()),
                    is_live: false,
                };
                assert!(Located::try_from(&named).is_err(), "{wrong}");
            }
        }
    }

    #[test]
    fn no_link_leads_to_a_release() {
        let dir = crate::machine::tempdir().unwrap();
        let site = site(dir.path(), Live::Symlink("current".into()));
        let located = Located {
            id: id(NEW),
            previous: None,
            is_live: true,
        };
        assert!(located.open(&site).is_err());
        let real = dir.path().join("releases").join(NEW);
        fs::create_dir_all(&real).unwrap();
        let open = located.open(&site).unwrap();
        let at = by_descriptor(&open, real.clone());
        // Another one is put in its place.
        fs::rename(&real, dir.path().join("moved")).unwrap();
        symlink("/", &real).unwrap();
        fs::write(dir.path().join("moved/file"), "").unwrap();
        assert!(at.join("file").exists(), "{}", at.display());
        assert!(located.open(&site).is_err());
        fs::remove_file(&real).unwrap();
        fs::remove_dir(dir.path().join("releases")).unwrap();
        fs::create_dir_all(dir.path().join("elsewhere").join(NEW)).unwrap();
        symlink("elsewhere", dir.path().join("releases")).unwrap();
        assert!(located.open(&site).is_err());
    }
}
