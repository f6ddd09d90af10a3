//! Where paths lead. A link counts where only an administrator can have made it, and not below a target, where hooks write:
//! a link there is reported as planted, whatever it leads to.

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
    fs, io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2},
    io::Errno,
};

use crate::{
    base::fault::{Blame, Kind},
    config::Target,
};

/// How many links one path may lead through; Linux has the same bound.
const MAX_LINKS: usize = 40;

/// A path leads through a link that is in a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{} is a symlink in a target, where a hook may have put it; nothing was touched", .0.display())]
#[diagnostic(help(
    "remove it; or let the trigger's `path` and `git_dir` name the directories that it leads to"
))]
pub struct Planted(pub PathBuf);

impl Blame for Planted {
    fn kind(&self) -> Kind {
        Kind::Path
    }
}

/// The directories that hooks write to: those of all targets, as written in the configuration and without links.
#[derive(Debug, Clone, Default)]
pub struct Links(BTreeSet<PathBuf>);

impl Links {
    /// The directories `written`, as the configuration has them, of which `found` have been resolved.
    ///
    /// The directory that a path leads to counts only if no hook can have changed where it leads: none of the path's links is
    /// in another target, nor in the directory that the path itself leads to.
    pub fn of<'a>(
        written: impl IntoIterator<Item = PathBuf>,
        found: impl IntoIterator<Item = &'a Way>,
    ) -> Self {
        let mut links = Self(written.into_iter().collect());
        let found = found.into_iter();
        let sure: Vec<&Way> = found
            .filter(|way| links.planted(way).is_none() && !way.leads_through(&way.real))
            .collect();
        let among_sure = |way: &Way| sure.iter().any(|other| way.leads_through(&other.real));
        let sure = sure.iter().filter(|way| !among_sure(way));
        links.0.extend(sure.map(|way| way.real.clone()));
        links
    }

    /// Add directories that hooks write to.
    pub fn extend(&mut self, dirs: impl IntoIterator<Item = PathBuf>) {
        self.0.extend(dirs);
    }

    /// All directories that hooks write to.
    pub fn written(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(PathBuf::as_path)
    }

    /// Whether hooks may write to `real`, a path without links.
    pub fn is_written(&self, real: &Path) -> bool {
        real.ancestors().any(|dir| self.0.contains(dir))
    }

    /// The first link on `way` that a hook may have put there.
    pub fn planted<'w>(&self, way: &'w Way) -> Option<&'w Link> {
        let mut links = way.links.iter();
        links.find(|link| {
            let dirs = [link.dir(), link.called.as_deref().and_then(Path::parent)];
            dirs.into_iter().flatten().any(|dir| self.is_written(dir))
        })
    }

    /// The path without links that `path` leads to. What is missing at its end stays as it is.
    pub fn lead(&self, path: &Path) -> Result<PathBuf, Planted> {
        if is_plain(path) {
            return Ok(path.into());
        }
        let way = Way::of(path);
        let endless = way.links.get(MAX_LINKS - 1);
        match self.planted(&way).or(endless) {
            Some(link) => Err(Planted(link.at.clone())),
            None => Ok(way.real),
        }
    }

    /// Check that no directory of `target` is reached through a link that a hook may have made.
    pub fn look(&self, target: &Target) -> Result<(), Planted> {
        for dir in dirs(target).filter(|dir| !is_plain(dir)) {
            if let Some(link) = self.planted(&Way::of(dir)) {
                return Err(Planted(link.at.clone()));
            }
        }
        Ok(())
    }
}

/// The directories of `target` that hooks write to.
pub fn dirs(target: &Target) -> impl Iterator<Item = &Path> {
    let dirs = [Some(&target.site.path), target.site.git_dir.as_ref()];
    dirs.into_iter().flatten().map(|dir| dir.as_path())
}

/// Where a path leads, and through which links.
#[derive(Debug)]
pub struct Way {
    /// The path without links; what is missing at its end stays as it is.
    pub real: PathBuf,
    links: Vec<Link>,
}

/// A link on the way.
#[derive(Debug)]
pub struct Link {
    /// Where it is: a path without links.
    at: PathBuf,
    /// Its name as written in the path; none if another link led to it.
    called: Option<PathBuf>,
    /// Where the path would lead if this were a directory.
    pub instead: PathBuf,
}

impl Link {
    fn dir(&self) -> Option<&Path> {
        self.at.parent()
    }
}

impl Way {
    /// Where `path` leads now.
    pub fn of(path: &Path) -> Self {
        let mut left: VecDeque<OsString> = parts(path).collect();
        // The last `own` parts are those of `path`; the ones before come from links.
        let mut own = left.len();
        let (mut real, mut called) = (PathBuf::from("/"), PathBuf::from("/"));
        let mut links = Vec::new();
        while let Some(part) = left.pop_front() {
            let is_own = left.len() < own;
            own = own.min(left.len());
            if is_own {
                step(&mut called, &part);
            }
            let mut next = real.clone();
            step(&mut next, &part);
            let link = (part != ".." && links.len() < MAX_LINKS).then(|| fs::read_link(&next));
            let Some(Ok(link)) = link else {
                real = next;
                continue;
            };
            let mut instead = next.clone();
            left.iter().for_each(|part| step(&mut instead, part));
            links.push(Link {
                at: next,
                called: is_own.then(|| called.clone()),
                instead,
            });
            if link.is_absolute() {
                real = "/".into();
            }
            for part in parts(&link).collect::<Vec<_>>().into_iter().rev() {
                left.push_front(part);
            }
        }
        Self { real, links }
    }

    fn leads_through(&self, dir: &Path) -> bool {
        let mut links = self.links.iter().filter_map(Link::dir);
        links.any(|link| link.starts_with(dir))
    }
}

fn step(path: &mut PathBuf, part: &OsString) {
    if part == ".." {
        path.pop();
    } else {
        path.push(part)
    }
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.into()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// Whether `path` exists, and leads through no link.
fn is_plain(path: &Path) -> bool {
    !path.components().any(|part| part == Component::ParentDir) && open(path).is_ok()
}

/// Open `real`, unless there is a link in it.
pub fn open(real: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match openat2(CWD, real, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // systemd's RestrictSUIDSGID= denies openat2(2).
        Err(Errno::NOSYS) => open_by_steps(real),
        opened => Ok(opened?),
    }
}

/// The same, one name at a time.
fn open_by_steps(real: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = openat(CWD, "/", flags, Mode::empty())?;
    for part in real.components() {
        let name = match part {
            Component::RootDir | Component::CurDir => continue,
            part => part.as_os_str(),
        };
        here = openat(&here, name, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&here)?.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP.into());
        }
    }
    Ok(here)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_count_where_hooks_do_not_write() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let at = |name: &str| dir.join(name);
        fs::create_dir_all(at("data/a/sub")).unwrap();
        symlink("data", at("srv")).unwrap();
        symlink(at("data/a"), at("direct")).unwrap();
        symlink("..", at("data/a/up")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let links = Links([at("data/a")].into());
        for (path, real) in [
            ("data/a/sub", "data/a/sub"),
            ("srv/a/sub", "data/a/sub"),
            ("direct/sub/new/too", "data/a/sub/new/too"),
            ("srv/missing", "data/missing"),
            ("srv/../srv/b", "data/b"),
        ] {
            assert_eq!(links.lead(&at(path)), Ok(at(real)), "{path}");
        }
        for path in ["data/a/up", "srv/a/up/b", "direct/up"] {
            assert_eq!(links.lead(&at(path)), Err(Planted(at("data/a/up"))), "{path}");
        }
        assert_eq!(links.lead(&at("loop")), Err(Planted(at("loop"))));
        for open in [open, open_by_steps] {
            assert!(
                open(&at("data/a/sub")).is_ok()
                    && open(&at("srv/a")).is_err()
                    && open(&at("direct")).is_err()
            );
        }
        assert!(links.is_written(&at("data/a")) && !links.is_written(&at("data")));
    }

    #[test]
    fn what_hooks_plant_does_not_decide_what_is_planted() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let at = |name: &str| dir.join(name);
        fs::create_dir_all(at("data/a")).unwrap();
        symlink("data", at("srv")).unwrap();
        symlink("srv", at("www")).unwrap();
        let plant = at("data/a/sub");
        for (a, inner) in [
            ("srv/a", "srv/a/sub"),
            ("srv/a", "data/a/sub"),
            ("www/a", "srv/a/sub"),
        ] {
            for to in ["/", "..", "../..", "../b", "sub", "../../srv"] {
                symlink(to, &plant).unwrap();
                let written = [a, inner, "www/b"].map(at);
                let ways = written.each_ref().map(|path| Way::of(path));
                let links = Links::of(written.clone(), &ways);
                let found = ways
                    .each_ref()
                    .map(|way| links.planted(way).map(|link| &link.instead));
                assert_eq!(found, [None, Some(&plant), None], "{a}, {inner}, {to}");
                assert!(
                    links.is_written(&at("data/a")) && !links.is_written(&at("data")),
                    "{to}"
                );
                fs::remove_file(&plant).unwrap();
            }
        }
    }
}
