//! The path of a target with releases: which files in it are ours, and the commands that change to releases and back.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{Error, is_there};
use crate::{
    base::words::typed,
    config::{Releases, Target},
    deploy::release,
};

/// The git directory in the path of a target with releases.
const REPOSITORY: &str = "repo.git";
/// The setting of a git directory outside of the path: the path of the releases that are made of it.
pub(super) const SETTING: [&str; 2] = ["gitsocket", "releases"];

/// Whether the path of `target` may hold releases. Its git directory is at `git_dir`, or will be.
pub(super) fn check(target: &Target, releases: &Releases, git_dir: &Path) -> Result<(), Error> {
    let path = target.site.path.as_path();
    if is_there(git_dir)?.is_none() && is_there(&path.join(".git"))?.is_some() {
        let to = path.join(REPOSITORY);
        let words = [
            typed(["mv".into(), shown(&path.join(".git")), shown(&to)]),
            typed([
                "sed".into(),
                "-i".into(),
                "s/bare = false/bare = true/".into(),
                shown(&to.join("config")),
            ]),
        ];
        return Err(Error::InPlace {
            path: target.site.path.clone(),
            commands: words.join(" && "),
            then: format!(
                "{}the files in {} stay there: remove them once all programs read {}",
                shared(releases, path, path),
                path.display(),
                path.join(releases.live.name()).display()
            ),
        });
    }
    Ok(release::trees::check(&target.site, releases)?)
}

/// An error if the path of `target`, which is deployed in place, holds releases.
pub(super) fn check_none(target: &Target) -> Result<(), Error> {
    let path = target.site.path.as_path();
    match is_there(&path.join(REPOSITORY).join("gitsocket"))? {
        Some(kind) if kind.is_dir() => Err(has_releases(target)),
        _ => Ok(()),
    }
}

fn has_releases(target: &Target) -> Error {
    let apart = target.site.git_dir.iter().map(|dir| dir.as_path());
    // It may not have been made yet.
    let apart = apart.filter(|dir| is_there(dir).is_ok_and(|kind| kind.is_some()));
    let dirs = [target.site.path.as_path()].into_iter().chain(apart);
    Error::Releases {
        path: target.site.path.clone(),
        commands: moved(dirs, ".releases"),
    }
}

/// The commands that move `dirs` away, and make them again for the same user.
fn moved<'p>(dirs: impl Iterator<Item = &'p Path>, ending: &str) -> String {
    let words = dirs.map(|dir| {
        let mut away = dir.as_os_str().to_owned();
        away.push(ending);
        let (dir, away) = (shown(dir), shown(&PathBuf::from(away)));
        [
            typed(["mv".into(), dir.clone(), away.clone()]),
            typed(["mkdir".into(), dir.clone()]),
            typed(["chown".into(), format!("--reference={away}"), dir]),
        ]
        .join(" && ")
    });
    words.collect::<Vec<_>>().join(" && ")
}

/// The help that copies what is shared to `path` before the first release; after the move it is in `from`.
fn shared(releases: &Releases, from: &Path, path: &Path) -> String {
    let names = releases.shared.iter().map(|shared| {
        let slash = if shared.is_dir { "/" } else { "" };
        format!("{}{slash}", shared.path.display())
    });
    let names = names.collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        String::new()
    } else {
        format!(
            "then, before the first run, copy what is in `shared` ({names}) from {} to {} (cp -a); ",
            from.display(),
            path.join("shared").display()
        )
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Whether the repository outside of the path belongs to the releases of `target`; an error if the same path was deployed in the
/// other way.
pub(super) fn owned(repo: &gix::Repository, target: &Target) -> Result<bool, Error> {
    let config = repo.config_snapshot();
    let is_here = |path: &[u8]| {
        let [a, b] = [Path::new(OsStr::from_bytes(path)), target.site.path.as_path()]
            .map(|path| fs::canonicalize(path).ok());
        a.is_some() && a == b
    };
    let [ours, worktree] = [SETTING.join("."), "core.worktree".into()]
        .map(|name| config.string(name.as_str()).is_some_and(|path| is_here(&path)));
    match &target.site.releases {
        Some(_) if ours => Ok(true),
        Some(releases) if worktree => {
            let apart = target.site.git_dir.iter().map(|dir| dir.as_path());
            let dirs = [target.site.path.as_path()].into_iter().chain(apart);
            let path = target.site.path.as_path();
            let mut away = path.as_os_str().to_owned();
            away.push(".in-place");
            let shared = shared(releases, Path::new(&away), path);
            let path = path.display();
            Err(Error::InPlace {
                path: target.site.path.clone(),
                commands: moved(dirs, ".in-place"),
                then: format!(
                    "{shared}then let all programs that read {path} read {path}/{}; files that are in no commit are in {path}.in-place",
                    releases.live.name()
                ),
            })
        }
        None if ours => Err(has_releases(target)),
        _ => Ok(false),
    }
}
