//! What is started for a hook: the program, its arguments and its environment.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Options, owner};
use crate::{
    base::control::Which,
    config::{Hook, Target},
    deploy::release::located::Located,
};

/// Whether a run of `target` may start a hook.
pub fn may_run(target: &Target, git_dir: &Path) -> bool {
    target.programs().any(|hook| match hook {
        Hook::Exec { .. } => true,
        Hook::PostCheckout => post_checkout(git_dir).exists(),
    })
}

fn post_checkout(git_dir: &Path) -> PathBuf {
    git_dir.join("hooks/post-checkout")
}

pub(super) fn program(target: &Target, which: Which) -> Option<&Hook> {
    match which {
        Which::Hook(number) => target.hooks.get(number),
        Which::Health => target.asked(),
    }
}

/// The variables that only targets with releases have.
pub const OF_RELEASES: [&str; 3] = ["GITSOCKET_RELEASE", "GITSOCKET_LIVE", "GITSOCKET_PREVIOUS"];

/// The variables of a hook's environment that do not depend on the run, but on where it is started.
pub fn fixed(target: &Target, located: Option<&Located>) -> BTreeMap<String, OsString> {
    let mut env: BTreeMap<&str, OsString> = BTreeMap::from([
        ("GITSOCKET_TRIGGER", target.trigger.as_str().into()),
        ("GITSOCKET_REPO", target.origin.repo.to_string().into()),
        ("GITSOCKET_PATH", target.site.root().as_path().into()),
    ]);
    let site = &target.site;
    if let Some(located) = located {
        let [release, live, previous] = OF_RELEASES;
        env.insert(release, located.dir(site).into());
        env.insert(live, located.live(site).into());
        env.extend(located.previous(site).map(|path| (previous, path.into())));
        env.insert("GIT_DIR", site.git_dir().into());
        env.insert("GIT_WORK_TREE", located.dir(site).into());
        env.insert("GIT_INDEX_FILE", located.index(site).into());
    } else if let Some(git_dir) = &site.git_dir {
        // As git does for its hooks: without a `.git` in the worktree, a hook's git would not find the repository.
        env.insert("GIT_DIR", git_dir.as_path().into());
        env.insert("GIT_WORK_TREE", target.site.root().as_path().into());
    }
    env.into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
}

/// The command for a program of `target`; `None` if there is no such program, or it must not run. Its working directory is
/// `located`, or the trigger's path. `env` and `old_new` are those of [`Options`].
pub fn command(
    target: &Target,
    (which, located): (Which, Option<&Located>),
    git_dir: &Path,
    env: &BTreeMap<String, OsString>,
    old_new: &(String, String),
) -> Option<Command> {
    let mut command = match program(target, which)? {
        Hook::Exec { run, user_env, .. } => {
            let (program, args) = run.split_first()?;
            let mut command = Command::new(program);
            command.args(args).envs(user_env);
            command
        }
        // Checked here as well, since this may be the supervisor, which does not trust its worker.
        Hook::PostCheckout if owner::foreign(target, git_dir).is_err() => return None,
        Hook::PostCheckout => {
            let (old, new) = old_new;
            let mut command = Command::new(post_checkout(git_dir));
            command.args([old, new, "1"]);
            command
        }
    };
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    let dir = located.map_or_else(
        || target.site.root().as_path().into(),
        |located| located.dir(&target.site),
    );
    command
        .current_dir(&dir)
        .envs(env)
        .env("PWD", &dir)
        .stdin(Stdio::null())
        .process_group(0);
    Some(command)
}

/// Whether `post-checkout` can be run. As in git, one that is not executable is skipped with a hint; so is one that another user
/// may have written.
pub(super) fn is_usable(options: &Options<'_>) -> bool {
    let file = post_checkout(options.git_dir);
    match std::fs::metadata(&file) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
            let foreign = owner::foreign(options.target, options.git_dir);
            if let Err(foreign) = &foreign {
                options.events.warn(foreign.to_string());
            }
            foreign.is_ok()
        }
        Ok(_) => {
            options.events.warn(format!(
                "{} is not executable, so it was not run; type: chmod +x {0}",
                file.display()
            ));
            false
        }
        Err(_) => false,
    }
}

/// Variables that systemd gave to the daemon, and a hook must not take for its own.
const NOT_INHERITED: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];
