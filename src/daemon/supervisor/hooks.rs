//! Hooks that are started for a worker, outside of its sandbox: those of its configuration, and no others.

use std::{io, os::fd::OwnedFd};

use rustix::process::Pid;

use crate::{base::control::Start, config::Config, deploy::hook};

/// A hook that was started for the worker `worker`, which calls it `id`.
pub(super) struct Started {
    pub(super) worker: Pid,
    pub(super) id: u64,
}

/// Start the hook, and give its process. What the worker says chooses among what the configuration has.
pub(super) fn spawn(config: &Config, start: &Start, outputs: Vec<OwnedFd>) -> io::Result<i32> {
    let refused = || io::Error::from(rustix::io::Errno::PERM);
    let target = config.triggers.get(&start.trigger).ok_or_else(refused)?;
    let [out, err] = <[_; 2]>::try_from(outputs).map_err(|_| refused())?;
    let git_dir = target.site.git_dir();
    let mut env = start.env.clone();
    // What of it the configuration says, the worker does not.
    env.retain(|name, _| name.starts_with("GITSOCKET_"));
    env.extend(hook::fixed(target));
    let mut command =
        hook::command(target, start.hook, &git_dir, &env, &start.old_new).ok_or_else(refused)?;
    let child = command.stdout(out).stderr(err).spawn()?;
    // It is waited for in `reap`, with all others.
    i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData.into())
}
