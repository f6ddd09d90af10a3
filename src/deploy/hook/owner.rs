//! The owner of a clone and of its `post-checkout`: a program that another user may have written is not run.
//!
//! As with git's `safe.directory`, the worktree, its git directory, `hooks` and the file, or the link that it is, all have to
//! belong to root or to the user of this process. Each is looked at through the open descriptor of its directory. The hook is
//! then started by its path: a user who could replace a part of that path would own one of these directories.

use std::{
    fmt,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
    process::geteuid,
};

use crate::config::Target;

/// Something belongs to another user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    path: PathBuf,
    owner: u32,
    we: u32,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, owner, we } = self;
        let path = path.display();
        write!(
            f,
            "the hook post-checkout was not run: {path} belongs to the user with the number {owner}, and gitsocket runs as {we}; \
             run it as that user, or give the clone to user {we} (chown -R {we}), or let the trigger's `hooks` name a program \
             with Exec"
        )
    }
}

/// An error if a part of the clone of `target`, whose git directory is `git_dir`, belongs to another user. A part that does not
/// exist, or cannot be looked at, is passed over: the hook cannot be started then.
pub(super) fn foreign(target: &Target, git_dir: &Path) -> Result<(), Foreign> {
    let we = geteuid().as_raw();
    let ours = |path: PathBuf, stat: Stat| match stat.st_uid {
        0 => Ok(()),
        owner if owner == we => Ok(()),
        owner => Err(Foreign { path, owner, we }),
    };
    let worktree = target.site.root().as_path();
    if let Ok(stat) = open(CWD, worktree, OFlags::empty()).and_then(fstat) {
        ours(worktree.into(), stat)?;
    }
    let Ok(dir) = open(CWD, git_dir, OFlags::NOFOLLOW) else {
        return Ok(());
    };
    if let Ok(stat) = fstat(&dir) {
        ours(git_dir.into(), stat)?;
    }
    let path = git_dir.join("hooks");
    let link = statat(&dir, "hooks", AtFlags::SYMLINK_NOFOLLOW);
    let Ok(hooks) = open(&dir, "hooks".as_ref(), OFlags::empty()) else {
        return Ok(());
    };
    for stat in [link, fstat(&hooks)].into_iter().flatten() {
        ours(path.clone(), stat)?;
    }
    let file = path.join("post-checkout");
    let at = |flags| statat(&hooks, "post-checkout", flags);
    for stat in [at(AtFlags::SYMLINK_NOFOLLOW), at(AtFlags::empty())]
        .into_iter()
        .flatten()
    {
        ours(file.clone(), stat)?;
    }
    Ok(())
}

fn open(dir: impl rustix::fd::AsFd, path: &Path, more: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | more;
    openat(dir, path, flags, Mode::empty())
}
