//! The directories of all targets, so that no run damages another target, whatever links lead there. `config` has checked that the
//! paths as written do not overlap; this module compares the real paths, and tells runs which directories are other targets'.
//!
//! A link that a hook may have made counts as the directory that it replaced: only the runs of the trigger whose path leads
//! through it are refused.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::{
    base::{
        fault::{Blame, Kind},
        identity::Identity,
        mutex,
        name::TriggerName,
    },
    config::{Config, SAME_PATH, Target},
    deploy::links::{self, Links, Way},
    git::worktree::Others,
};

/// How long the targets' file systems may take to answer, all together. A path that has not been resolved by then counts as written.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so long on one target, a new thread looks at the remaining ones.
const STEP: Duration = Duration::from_secs(1);

/// Two targets overlap.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// One is inside the other.
    #[error("the path of {inner} lies inside the path of {outer}, which would overwrite and clean it")]
    #[diagnostic(help("{help}"))]
    Inside {
        inner: Box<Named>,
        outer: Box<Named>,
        help: String,
    },
    /// Both are the same directory.
    #[error("the triggers {first} and {second} have the same path, but not the same `{differs}`")]
    #[diagnostic(help("{SAME_PATH}"))]
    Same {
        first: Box<Named>,
        second: Box<Named>,
        /// The field in which they differ.
        differs: &'static str,
    },
    /// A git directory is shared, or overlaps with a path.
    #[error("{what}: the git directory of {of}, and the {role} of {other}")]
    #[diagnostic(help("let `git_dir` name a place of its own, outside of every trigger's path"))]
    GitDir {
        /// The rule that is broken.
        what: &'static str,
        /// Whose git directory it is.
        of: Box<Named>,
        /// Path or git directory.
        role: &'static str,
        other: Box<Named>,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        Kind::Config
    }
}

/// A path of a trigger, as written and without links.
#[derive(Debug)]
pub struct Named {
    trigger: TriggerName,
    written: PathBuf,
    real: PathBuf,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({}", self.trigger, self.written.display())?;
        if self.written != self.real {
            write!(f, ", which is {}", self.real.display())?;
        }
        f.write_str(")")
    }
}

/// The directories of the targets of one process. Clones are cheap and share the content. The default has no targets.
#[derive(Debug, Clone, Default)]
pub struct TargetDirs {
    others: Others,
    links: Arc<Links>,
}

impl TargetDirs {
    /// The directories by their identities.
    pub fn others(&self) -> &Others {
        &self.others
    }

    /// Which links count in paths.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Record the directories of `target` again, since a run may have made them.
    pub fn note(&self, target: &Target) {
        // With a planted link, the directory is another target's, which has to keep it.
        if self.links.look(target).is_ok() {
            self.others.note(target.site.root().as_path());
            self.others.note(&target.site.git_dir());
        }
    }
}

/// The directories of all targets of `config`; an error if two targets overlap.
pub fn look(config: &Config) -> Result<TargetDirs, Error> {
    let targets: Vec<_> = config.triggers.values().cloned().collect();
    let written = targets.iter().flat_map(|target| links::dirs(target));
    let written: Vec<PathBuf> = written.map(Into::into).collect();
    if written.len() < 2 {
        return Ok(TargetDirs {
            others: Others::default(),
            links: Arc::new(Links::of(written, [])),
        });
    }
    let seen = look_at(targets);
    let links = Links::of(written, seen.iter().flat_map(Seen::ways));
    let found: Vec<_> = seen.into_iter().map(|seen| Found::of(seen, &links)).collect();
    check(&found)?;
    let dirs = found.into_iter().flat_map(|found| {
        let paths = [
            found.target.site.root().as_path().to_owned(),
            found.target.site.git_dir(),
        ];
        std::iter::zip(paths, found.identities)
    });
    Ok(TargetDirs {
        others: Others::new(dirs.filter_map(|(path, identity)| Some((path, identity?)))),
        links: Arc::new(links),
    })
}

/// A target, and where its paths lead if all links count.
struct Seen {
    target: Arc<Target>,
    root: Way,
    git_dir: Option<Way>,
    /// Of its path and its git directory, if they exist.
    identities: [Option<Identity>; 2],
}

impl Seen {
    fn of(target: Arc<Target>) -> Self {
        let root = Way::of(target.site.root().as_path());
        let apart = target.site.git_dir.as_ref();
        let git_dir = apart.map(|apart| Way::of(apart.as_path()));
        let identity = |path: &Path| Identity::at(path).ok();
        Self {
            identities: [
                identity(&root.real),
                identity(&git_dir_of(
                    &root.real,
                    git_dir.as_ref().map(|way| way.real.as_path()),
                    &target,
                )),
            ],
            root,
            git_dir,
            target,
        }
    }

    fn ways(&self) -> impl Iterator<Item = &Way> {
        [Some(&self.root), self.git_dir.as_ref()].into_iter().flatten()
    }
}

/// The git directory of `target`. A link `.git` in the worktree is not followed, since a hook may have made it; runs refuse it.
fn git_dir_of(root: &Path, apart: Option<&Path>, target: &Target) -> PathBuf {
    let inside = || root.join(target.site.git_dir().file_name().unwrap_or_default());
    apart.map_or_else(inside, Into::into)
}

/// A target, and where its paths lead if links count only where an administrator has put them.
struct Found {
    target: Arc<Target>,
    root: PathBuf,
    git_dir: PathBuf,
    /// Of both, if they exist.
    identities: [Option<Identity>; 2],
}

impl Found {
    fn of(seen: Seen, links: &Links) -> Self {
        let is_planted = seen.ways().any(|way| links.planted(way).is_some());
        let honest = |way: &Way| match links.planted(way) {
            Some(link) => link.instead.clone(),
            None => way.real.clone(),
        };
        let root = honest(&seen.root);
        let apart = seen.git_dir.as_ref().map(honest);
        Self {
            git_dir: git_dir_of(&root, apart.as_deref(), &seen.target),
            root,
            // With a planted link, the directory is another target's, which has to keep it.
            identities: seen.identities.map(|identity| identity.filter(|_| !is_planted)),
            target: seen.target,
        }
    }

    fn path(&self) -> Box<Named> {
        Box::new(Named {
            trigger: self.target.trigger.clone(),
            written: self.target.site.root().as_path().into(),
            real: self.root.clone(),
        })
    }

    fn git_dir(&self) -> Box<Named> {
        Box::new(Named {
            trigger: self.target.trigger.clone(),
            written: self.target.site.git_dir(),
            real: self.git_dir.clone(),
        })
    }
}

/// Look at the targets on separate threads, since a thread that a dead file system holds cannot be interrupted. Gives those that
/// answer in time.
fn look_at(targets: Vec<Arc<Target>>) -> Vec<Seen> {
    let until = Instant::now() + PATIENCE;
    let mut found = Vec::with_capacity(targets.len());
    let rest = Arc::new(Mutex::new(targets.into_iter()));
    let (say, heard) = mpsc::channel();
    while Instant::now() < until {
        let thread = thread::Builder::new().name("targets".into()).spawn({
            let (rest, say) = (rest.clone(), say.clone());
            move || {
                let next = || mutex::lock(&rest).next();
                while let Some(target) = next() {
                    if say.send(Some(Seen::of(target))).is_err() {
                        return;
                    }
                }
                say.send(None).ok();
            }
        });
        if thread.is_err() {
            break;
        }
        loop {
            match heard.recv_timeout(STEP) {
                Ok(Some(one)) => found.push(one),
                // Only targets whose threads hang are left.
                Ok(None) => return found,
                Err(_) => break,
            }
        }
    }
    found
}

fn check(all: &[Found]) -> Result<(), Error> {
    let mut roots = BTreeMap::<&Path, &Found>::new();
    for this in all {
        let Some(first) = roots.get(this.root.as_path()) else {
            roots.insert(&this.root, this);
            continue;
        };
        if let Some(differs) = first
            .target
            .disagrees(&this.target, first.git_dir == this.git_dir)
        {
            return Err(Error::Same {
                first: first.path(),
                second: this.path(),
                differs,
            });
        }
    }
    for inner in all {
        for (above, below) in above(&inner.root).filter(|(_, below)| !below.as_os_str().is_empty()) {
            if let Some(outer) = roots.get(above)
                && !outer.target.site.keeps(below)
            {
                return Err(Error::Inside {
                    inner: inner.path(),
                    outer: outer.path(),
                    help: outer.target.make_room(below),
                });
            }
        }
    }
    check_git_dirs(all, &roots)
}

/// A git directory has one worktree, and is inside of a worktree only as its `.git`.
fn check_git_dirs(all: &[Found], roots: &BTreeMap<&Path, &Found>) -> Result<(), Error> {
    const APART: &str = "a git directory and a worktree cannot lie inside each other";
    let error = |what, of: &Found, role, other| {
        Err(Error::GitDir {
            what,
            of: of.git_dir(),
            role,
            other,
        })
    };
    let mut git_dirs = BTreeMap::<&Path, &Found>::new();
    for this in all {
        if let Some(other) = git_dirs.insert(&this.git_dir, this)
            && other.root != this.root
        {
            let what = "two worktrees cannot share a git directory";
            return error(what, this, "git directory", other.git_dir());
        }
        if this.target.site.git_dir.is_some()
            && let Some(other) = above(&this.git_dir).find_map(|(above, _)| roots.get(above))
        {
            return error(APART, this, "path", other.path());
        }
    }
    for this in all {
        if let Some(other) = above(&this.root).find_map(|(above, _)| git_dirs.get(above)) {
            return error(APART, other, "path", this.path());
        }
    }
    Ok(())
}

/// `path` and its parents, each with the relative path from there to `path`.
fn above(path: &Path) -> impl Iterator<Item = (&Path, &Path)> {
    path.ancestors()
        .filter_map(move |above| Some((above, path.strip_prefix(above).ok()?)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::config::Source;

    #[test]
    fn links_hide_nothing() {
        let dir = crate::machine::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(base.join("a/sub")).unwrap();
        fs::create_dir_all(base.join("a/.git")).unwrap();
        fs::create_dir_all(base.join("other")).unwrap();
        symlink("a/sub", base.join("sub")).unwrap();
        symlink("a", base.join("same")).unwrap();
        symlink("a/.git", base.join("git")).unwrap();
        for (triggers, expected) in [
            (r#"path: "a"), "y": (repo: "r", path: "other/y""#, None),
            (
                r#"path: "a"), "y": (repo: "r", path: "sub/y""#,
                Some("BASE/sub/y, which is BASE/a/sub/y) lies inside the path of `x` (BASE/a)"),
            ),
            (
                r#"path: "a", keep: ["/sub/"]), "y": (repo: "r", path: "sub/y""#,
                None,
            ),
            (r#"path: "a"), "y": (repo: "r", path: "same""#, None),
            (
                r#"path: "a"), "y": (repo: "q", path: "same""#,
                Some("`y` (BASE/same, which is BASE/a) have the same path, but not the same `repo`"),
            ),
            (
                r#"path: "a"), "y": (repo: "r", path: "same", git_dir: "g""#,
                Some("the same `git_dir`"),
            ),
            (
                r#"path: "a"), "y": (repo: "r", path: "o", git_dir: "sub/g""#,
                Some("of `y` (BASE/sub/g, which is BASE/a/sub/g), and the path of `x` (BASE/a)"),
            ),
            (
                r#"path: "a", git_dir: "sub/g"), "y": (repo: "r", path: "o""#,
                Some("cannot lie inside each other"),
            ),
            (r#"path: "a"), "y": (repo: "r", path: "git/o""#, Some("inside")),
            (
                r#"path: "a", releases: ()), "y": (repo: "r", path: "sub/y""#,
                None,
            ),
            (
                r#"path: "a", releases: (live: Symlink("sub"))), "y": (repo: "r", path: "sub/y""#,
                Some("lies inside the path of `x`"),
            ),
            (
                r#"path: "a", releases: ()), "y": (repo: "r", path: "same""#,
                Some("not the same `releases`"),
            ),
            (
                r#"path: "a", releases: ()), "y": (repo: "r", path: "same", releases: (keep: 1)"#,
                Some("not the same `releases`"),
            ),
            (
                r#"path: "p", git_dir: "g"), "y": (repo: "r", path: "o", git_dir: "sub/../g""#,
                Some("share"),
            ),
        ] {
            let text = format!("(triggers: {{\"x\": (repo: \"r\", {triggers}) }})");
            let file = base.join("config.ron");
            let config = Config::parse(&Source { file, text });
            let found = match &config {
                Ok(config) => look(config).err().map(|err| err.to_string()),
                // As it is written, too.
                Err(err) => Some(format!("{err:?}")),
            };
            let expected = expected.map(|text| text.replace("BASE", base.to_str().unwrap()));
            match (&found, &expected) {
                (None, None) => {}
                (Some(found), Some(expected)) => assert!(found.contains(expected), "{triggers}: {found}"),
                _ => panic!("{triggers}: {found:?}"),
            }
        }
    }
}
